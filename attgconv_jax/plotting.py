"""Attention maps and filter banks, for people who would rather look than read. Needs matplotlib."""

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.equivariance import act
from attgconv_jax.groups import Group
from attgconv_jax.models import RotMNISTNet


def attention_figure(
    network: RotMNISTNet,
    images: Float[Array, "image x y 1 c"],
    group: Group,
    *,
    elements: list[int] | None = None,
    layer: int = 0,
):
    """Images under group elements, each above the attention map that the network computes for it.

    Every map is computed from its own transformed image, not transformed itself: where the network is equivariant the
    maps turn with the image. A map on a feature map is shown as its mean over group and channels; bright is suppressed.

    Args:
      network: with attention, in evaluation mode.
      images: standardised.
      group: whose elements transform the images.
      elements: of the group, a column each; None: all.
      layer: whose attention is shown, 0 to 6.

    Returns:
      A matplotlib figure.

    Raises:
      ImportError: matplotlib is not installed.
      ValueError: the network has no attention, or no such layer.
    """
    pyplot = _pyplot()
    layers = len(network.convolutions)
    if not 0 <= layer < layers:
        raise ValueError(f"layer must be 0 to {layers - 1}, got {layer}")
    elements = list(range(group.order)) if elements is None else elements
    transformed = jnp.stack([act(images, group, element, "image") for element in elements])
    maps = nnx.jit(lambda network, images: network.attention_maps(images))(network, transformed)
    shown = np.asarray(jnp.mean(maps[layer], axis=(-2, -1)))
    rows, columns = 2 * len(images), len(elements)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(1.5 * columns + 1, 1.5 * rows + 0.6), squeeze=False, layout="constrained"
    )
    for i in range(len(images)):
        low, high = shown[:, i].min(), shown[:, i].max()
        for j in range(columns):
            axes[2 * i, j].imshow(np.asarray(transformed[j, i, :, :, 0, 0]), cmap="gray_r")
            mappable = axes[2 * i + 1, j].imshow(shown[j, i], cmap="cividis", vmin=low, vmax=high)
        axes[2 * i, 0].set_ylabel("image")
        axes[2 * i + 1, 0].set_ylabel("suppressed")
        figure.colorbar(mappable, ax=axes[2 * i + 1, :], shrink=0.8)
    for j, element in enumerate(elements):
        axes[0, j].set_title(_name(group, element))
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.suptitle(f"Attention of layer {layer + 1} under the group's elements")
    return figure


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
    """
    pyplot = _pyplot()
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
