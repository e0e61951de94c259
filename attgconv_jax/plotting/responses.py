"""Pictures of attention on responses, between group elements."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.attention import ResponseMaps
from attgconv_jax.groups import trivial
from attgconv_jax.plotting import common
from attgconv_jax.plotting.common import element_name
from attgconv_jax.plotting.layers import layers_of


def response_figure(
    network: nnx.Module,
    image: Float[Array, "x y 1 c"],
    *,
    elements: int | Sequence[int] | None = None,
    layer: int | str | None = None,
    channel: int = 0,
    unstandardise: Callable[[Array], Array] | None = None,
):
    """Attention between group elements, `alpha(g, g~)`: a row an input element, a column an output element.

    For every transformation of the image one such grid, of one output channel, as the mean over input channels. Where
    the network is equivariant, transforming the image turns every map and permutes rows and columns; bright is
    suppressed.

    Options:
      network: with attention on responses.
      elements: of the network's group, that transform the image, a grid each; None: the first two.
      layer: whose attention is shown, from 0, or by path; None: the first of feature maps, if there is one.
      channel: output channel shown.
      unstandardise: see `attention_figure`.
    """
    pyplot = common.matplotlib("pyplot")
    common.check_images("image", image, "[x, y, 1, c]")
    if image.ndim != 4:
        raise ValueError(f"image must be a single one, [x, y, 1, c], got shape {image.shape}")
    layers = layers_of(network)
    group = layers.group or trivial()
    elements = range(min(2, group.order)) if elements is None else elements
    elements = common.chosen_of(elements, group.order, f"elements of {group}")
    transformed = jnp.stack([common.turned_image(image, group, element) for element in elements])
    if layer is None:
        layer = _first_layer(layers, transformed)
    layer = layers.attending_layer(layer, transformed)
    maps = layers.maps(transformed, layer)
    if not isinstance(maps, ResponseMaps):
        attention = layers.attention(layer)
        raise ValueError(f"the network attends to inputs, not to responses: its attention is {attention}")
    shown = np.asarray(common.maps_by_channel(maps, [channel])[channel])
    pictures = common.shown_images(common.before_standardisation(transformed, unstandardise))
    inputs, outputs = shown.shape[-2:]
    size = 1.1 * (outputs + 1) * len(elements) + 0.8, 1.1 * inputs + 1
    figure = pyplot.figure(figsize=size, layout="constrained")
    parts = figure.subfigures(1, len(elements), squeeze=False)[0]
    for part, picture, values, element in zip(parts, pictures, shown, elements, strict=True):
        axes = part.subplots(inputs, outputs + 1, squeeze=False)
        axes[0, 0].imshow(picture, **common.IMAGE_LOOK)
        for h, g in np.ndindex(inputs, outputs):
            mappable = axes[h, g + 1].imshow(values[:, :, h, g], cmap=common.MAP_COLOURS, **common.shades(shown))
        for h in range(inputs):
            axes[h, 1].set_ylabel("image" if inputs == 1 else f"from {element_name(group, h)}")
        for g in range(outputs):
            axes[0, g + 1].set_title(f"to {element_name(group, g)}")
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
        for axis in axes[1:, 0]:
            axis.axis("off")
        common.colour_bar(part, mappable, axes[:, 1:], shown, "suppressed", shrink=0.8)
        part.suptitle(f"Image under {element_name(group, element)}")
    return figure


def _first_layer(layers, images):
    """The first layer with attention on responses to a feature map, else to an image; None: there is none."""
    layers.attending_layer(None, images)
    orders = {
        layer: next(alpha for alpha in maps if alpha is not None).shape[-4]
        for layer, maps in layers.map_shapes(images).items()
        if isinstance(maps, ResponseMaps)
    }
    return next((layer for layer, order in orders.items() if order > 1), next(iter(orders), None))
