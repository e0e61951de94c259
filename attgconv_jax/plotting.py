"""Attention maps and filter banks, for people who would rather look than read. Needs matplotlib."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.attentive import ResponseMaps
from attgconv_jax.equivariance import act
from attgconv_jax.groups import Group
from attgconv_jax.models.layers import Network


def attention_figure(
    network: Network,
    images: Float[Array, "image x y 1 c"],
    group: Group,
    *,
    elements: int | Sequence[int] | None = None,
    layer: int = 0,
    channels: int | Sequence[int] | None = None,
):
    """Images under group elements, each above the attention map that the network computes for it.

    Every map is computed from its own transformed image, not transformed itself: where the network is equivariant the
    maps turn with the image. Bright is suppressed. Attention on the input is shown as its mean over group and channels.
    Attention on responses is another for every output channel and group element: shown are some output channels, each
    as the mean over input channels and both group elements; `response_figure` shows the group elements. Images are
    shown as the mean over their channels, maps as in evaluation mode.

    Args:
      network: with attention.
      images: standardised.
      group: whose elements transform the images.
      elements: of the group, a column each; None: all.
      layer: whose attention is shown, from 0.
      channels: output channels shown, of attention on responses; None: the first three.

    Returns:
      A matplotlib figure.

    Raises:
      ImportError: matplotlib is not installed.
      ValueError: the network has no attention, no such layer or output channel (attention on the input has none to
        choose); the group has no such element; `images` is empty or has another number of axes.
    """
    pyplot = _pyplot()
    if images.ndim != 5 or len(images) == 0:
        raise ValueError(f"images must be [image, x, y, 1, c], one at least, got shape {images.shape}")
    elements = range(group.order) if elements is None else elements
    elements = _chosen_of(elements, group.order, f"elements of {group}")
    transformed = jnp.stack([act(images, group, element, "image") for element in elements])
    maps = _layer_maps(network, transformed, layer)
    if isinstance(maps, ResponseMaps):
        known = _channels(maps)
        channels = _chosen_of(range(min(3, known)) if channels is None else channels, known, "output channels")
        shown = {f"channel {o}": np.asarray(jnp.mean(_pair_maps(maps, o), axis=(-2, -1))) for o in channels}
    elif channels is not None:
        raise ValueError("attention on the input is the same for all output channels: leave out channels")
    else:
        shown = {"suppressed": np.asarray(jnp.mean(maps, axis=(-2, -1)))}
    block = 1 + len(shown)
    rows, columns = block * len(images), len(elements)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(1.5 * columns + 1, 1.5 * rows + 0.6), squeeze=False, layout="constrained"
    )
    for i in range(len(images)):
        for j in range(columns):
            axes[block * i, j].imshow(_grey(transformed[j, i]), cmap="gray_r")
        axes[block * i, 0].set_ylabel("image")
        for row, (label, pictures) in enumerate(shown.items(), block * i + 1):
            low, high = pictures[:, i].min(), pictures[:, i].max()
            for j in range(columns):
                mappable = axes[row, j].imshow(pictures[j, i], cmap="cividis", vmin=low, vmax=high)
            axes[row, 0].set_ylabel(label)
            figure.colorbar(mappable, ax=axes[row, :], shrink=0.8)
    for j, element in enumerate(elements):
        axes[0, j].set_title(_name(group, element))
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.suptitle(f"Attention of layer {layer + 1} under the group's elements")
    return figure


def response_figure(
    network: Network,
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
    pyplot = _pyplot()
    if image.ndim != 4:
        raise ValueError(f"image must be a single one, [x, y, 1, c], got shape {image.shape}")
    group = network.group
    elements = range(min(2, group.order)) if elements is None else elements
    elements = _chosen_of(elements, group.order, f"elements of {group}")
    transformed = jnp.stack([act(image, group, element, "image") for element in elements])
    maps = _layer_maps(network, transformed, layer)
    if not isinstance(maps, ResponseMaps):
        attention = network.settings["attention"]
        raise ValueError(f"the network attends to inputs, not to responses: its attention is {attention}")
    _chosen_of([channel], _channels(maps), "output channels")
    shown = np.asarray(_pair_maps(maps, channel))
    inputs, outputs = shown.shape[-2:]
    figure = pyplot.figure(figsize=(1.1 * (outputs + 1) * len(elements) + 0.8, 1.1 * inputs + 1), layout="constrained")
    for part, picture, values, element in zip(
        figure.subfigures(1, len(elements), squeeze=False)[0], transformed, shown, elements, strict=True
    ):
        axes = part.subplots(inputs, outputs + 1, squeeze=False)
        axes[0, 0].imshow(_grey(picture), cmap="gray_r")
        for h in range(inputs):
            for g in range(outputs):
                mappable = axes[h, g + 1].imshow(values[:, :, h, g], cmap="cividis", vmin=shown.min(), vmax=shown.max())
            axes[h, 1].set_ylabel("image" if inputs == 1 else f"from {_name(group, h)}")
        for g in range(outputs):
            axes[0, g + 1].set_title(f"to {_name(group, g)}")
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
        for axis in axes[1:, 0]:
            axis.axis("off")
        part.colorbar(mappable, ax=axes[:, 1:], shrink=0.8)
        part.suptitle(f"Image under {_name(group, element)}")
    return figure


def _layer_maps(network, images, layer):
    _chosen_of([layer], len(network.convolutions), "layers")
    evaluated = nnx.clone(network)
    evaluated.eval()
    return nnx.jit(lambda network, images: network.attention_maps(images)[layer])(evaluated, images)


def _channels(maps):
    return next(alpha for alpha in maps if alpha is not None).shape[-1]


def _chosen_of(chosen, known, what):
    """The numbers chosen, as a list; a `ValueError` unless all are known, and one is chosen at least."""
    chosen = np.atleast_1d(np.asarray(chosen)).tolist()
    if not chosen or not all(type(number) is int and 0 <= number < known for number in chosen):
        raise ValueError(f"{what} must be some of 0 to {known - 1}, got {chosen}")
    return chosen


def _grey(image):
    return np.asarray(jnp.mean(image, axis=(-2, -1)))


def _pair_maps(maps, o):
    """`alpha_X alpha_C` of output channel `o`, the mean over input channels: `[.., x, y, h', g]`."""
    channel, spatial = (1.0 if alpha is None else jnp.mean(alpha[..., o], axis=-2) for alpha in maps)
    return spatial * channel


def filter_bank_figure(bank: Float[Array, "k k h_in c_in h c_out"], group: Group, *, c_in: int = 0, c_out: int = 0):
    """One filter under every group element: a row an input group element, a column an output one.

    Args:
      bank: see `attgconv_jax.filter_bank`.
      group: that made the bank.
      c_in: input channel shown.
      c_out: output channel shown.

    Returns:
      A matplotlib figure.

    Raises:
      ImportError: matplotlib is not installed.
      ValueError: the bank has no such channel.
    """
    pyplot = _pyplot()
    _chosen_of([c_in], bank.shape[3], "input channels")
    _chosen_of([c_out], bank.shape[5], "output channels")
    shown = np.asarray(bank[:, :, :, c_in, :, c_out])
    limit = np.abs(shown).max()
    rows, columns = shown.shape[2:]
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(1.2 * columns + 1, 1.2 * rows + 0.6), squeeze=False, layout="constrained"
    )
    for i in range(rows):
        for j in range(columns):
            mappable = axes[i, j].imshow(shown[:, :, i, j], cmap="PuOr", vmin=-limit, vmax=limit)
            axes[i, j].set(xticks=[], yticks=[])
        axes[i, 0].set_ylabel("image" if rows == 1 else f"from {_name(group, i)}")
    for j in range(columns):
        axes[0, j].set_title(_name(group, j))
    figure.colorbar(mappable, ax=axes)
    return figure


def _name(group, element):
    """The element in words: degrees counter-clockwise, and whether a flip follows."""
    reflection, rotation = divmod(element, group.rotations)
    return f"{360 * rotation / group.rotations:g}°" + (", flipped" if reflection else "")


def _pyplot():
    try:
        from matplotlib import pyplot  # noqa: PLC0415 (an optional dependency)
    except ImportError as error:
        raise ImportError("plotting needs matplotlib: install attgconv_jax[experiments]") from error
    return pyplot
