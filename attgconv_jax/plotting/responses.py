"""Pictures of attention on responses, between group elements."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.attention import ResponseMaps
from attgconv_jax.groups import trivial
from attgconv_jax.plotting.common import (
    IMAGE_COLOURS,
    MAP_COLOURS,
    attending_layer,
    chosen_of,
    element_name,
    finite_group,
    layer_maps,
    maps_by_channel,
    matplotlib,
    shades,
    shown_image,
    turned_image,
)


def response_figure(
    network: nnx.Module,
    image: Float[Array, "x y 1 c"],
    *,
    elements: int | Sequence[int] | None = None,
    layer: int = 1,
    channel: int = 0,
):
    """Attention between group elements, `alpha(g, g~)`: a row an input element, a column an output element.

    For every transformation of the image one such grid, of one output channel, as the mean over input channels. Where
    the network is equivariant, transforming the image turns every map and permutes rows and columns; bright is
    suppressed. The image is shown as the mean over its channels, maps as in evaluation mode.

    Args:
      network: with attention on responses.
      image: standardised, a single one.
      elements: of the network's group, that transform the image, a grid each; None: the first two.
      layer: whose attention is shown, from 0.
      channel: output channel shown.

    Returns:
      A matplotlib figure.

    Raises:
      ImportError: matplotlib is not installed.
      ValueError: the network has no attention on responses, no such layer, group element or output channel; or `image`
        has another number of axes.
    """
    pyplot = matplotlib("pyplot")
    if image.ndim != 4:
        raise ValueError(f"image must be a single one, [x, y, 1, c], got shape {image.shape}")
    group = finite_group(network) or trivial()
    elements = range(min(2, group.order)) if elements is None else elements
    elements = chosen_of(elements, group.order, f"elements of {group}")
    transformed = jnp.stack([turned_image(image, group, element) for element in elements])
    maps = layer_maps(network, transformed, attending_layer(network, layer))
    if not isinstance(maps, ResponseMaps):
        attention = network.settings["attention"]
        raise ValueError(f"the network attends to inputs, not to responses: its attention is {attention}")
    shown = np.asarray(maps_by_channel(maps, [channel])[channel])
    inputs, outputs = shown.shape[-2:]
    figure = pyplot.figure(figsize=(1.1 * (outputs + 1) * len(elements) + 0.8, 1.1 * inputs + 1), layout="constrained")
    for part, picture, values, element in zip(
        figure.subfigures(1, len(elements), squeeze=False)[0], transformed, shown, elements, strict=True
    ):
        axes = part.subplots(inputs, outputs + 1, squeeze=False)
        axes[0, 0].imshow(shown_image(picture), cmap=IMAGE_COLOURS)
        for h in range(inputs):
            for g in range(outputs):
                mappable = axes[h, g + 1].imshow(values[:, :, h, g], cmap=MAP_COLOURS, **shades(shown))
            axes[h, 1].set_ylabel("image" if inputs == 1 else f"from {element_name(group, h)}")
        for g in range(outputs):
            axes[0, g + 1].set_title(f"to {element_name(group, g)}")
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
        for axis in axes[1:, 0]:
            axis.axis("off")
        part.colorbar(mappable, ax=axes[:, 1:], shrink=0.8, label="suppressed")
        part.suptitle(f"Image under {element_name(group, element)}")
    return figure
