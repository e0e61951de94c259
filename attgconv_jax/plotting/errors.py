"""How far every layer of a network is from equivariance, measured and drawn."""

import numbers
from collections.abc import Iterable, Mapping, Sequence

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.equivariance import equivariance_error
from attgconv_jax.groups import Group, check_group
from attgconv_jax.plotting.common import check_images, matplotlib
from attgconv_jax.plotting.layers import as_output, layers_of

Errors = Sequence[tuple[str, float]]

# Okabe and Ito 2008; bars of a series also have a hatching of their own.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
_HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo")

# Names of so many letters stand beside each other.
_SHORT_NAME = 9

# So many values can be read above bars.
_WRITTEN_BARS = 12


def layer_errors(
    network: nnx.Module, images: Float[Array, "*batch x y 1 c"], group: Group | None = None
) -> list[tuple[str, float]]:
    """The `equivariance_error` of every feature map on the way to the logits, and of the logits.

    A layer's error is that of all layers up to it: from the image to what enters the next. Logits are to be invariant.
    Of a network that the registry does not know it is from the image to what leaves the layer, a group convolution or
    attention by its path, in the order of calls, and to the network's "output"; shapes tell how the group acts there.

    Other than right angles interpolate the images, too, and leave zeros in their corners: part of such an error is
    that. In evaluation mode; everything is computed once for every layer and element: a few images are enough.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax import cyclic, plotting
    >>> from attgconv_jax.models import RotMNISTNet
    >>> network = RotMNISTNet(cyclic(2), features=1, rngs=nnx.Rngs(0))
    >>> image = jnp.arange(28 * 28, dtype=jnp.float32).reshape(28, 28, 1, 1) / 784
    >>> [name for name, error in plotting.layer_errors(network, image) if error < 1e-4]
    ['layer 1', 'layer 2', 'layer 3', 'layer 4', 'layer 5', 'layer 6', 'logits']

    Options:
      group: whose elements transform the images; None: the network's own. It may be another only if the network has
        the trivial one, as a comparison; it must be given where layers have several.
    """
    layers = layers_of(network)
    check_images("images", images, "[..., x, y, 1, c]")
    if group is not None:
        check_group(group)
    group = layers.check_group(group, "layer_errors")
    compute, errors = layers.functions(), []
    for i, (name, f) in enumerate(layers.outputs(images).items()):
        shape, kind = as_output(f, images.ndim - 4, group, name)
        errors.append((name, equivariance_error(lambda x, i=i, s=shape: compute(x, i).reshape(s), images, group, kind)))
    return errors


def equivariance_figure(
    networks: nnx.Module | Errors | Mapping[str, nnx.Module | Errors],
    images: Float[Array, "*batch x y 1 c"] | None = None,
    group: Group | None = None,
):
    """The equivariance error by layer, a bar a layer, on a logarithmic axis.

    Two lines say what the numbers mean: the rounding of float32, 1.2e-7, of which an exactly equivariant network is a
    few away; and 1, where the error is as large as the output. An error of zero has no bar but a 0.

    Options:
      networks: one network, its errors from `layer_errors`, or several of either by name, drawn side by side; all have
        the same layers.
      images: for networks.
      group: as of `layer_errors`.
    """
    series = networks if isinstance(networks, Mapping) else {"": networks}
    series = {name: _errors(known, images, group) for name, known in series.items()}
    layers = [[layer for layer, _ in errors] for errors in series.values()]
    if not layers or not layers[0]:
        raise ValueError("there is nothing to draw: networks must be one network at least, or errors of one layer")
    if any(names != layers[0] for names in layers):
        raise ValueError(f"networks compared must have the same layers, got {layers}")
    heights = np.array([[error for _, error in errors] for errors in series.values()], np.float64)
    if not np.all(np.isfinite(heights) & (heights >= 0)):
        raise ValueError(f"errors must be finite and at least 0, got {heights.tolist()}")

    rounding = float(np.finfo(np.float32).eps)
    bottom = 10 ** np.floor(np.log10(np.min(heights[heights > 0], initial=rounding)) - 0.5)
    count, bars = heights.shape
    width = 0.8 / count
    size = max(5.6, 1.2 + bars * max(0.75, 0.3 * count)), 3.8
    figure = matplotlib("pyplot").figure(figsize=size, layout="constrained")
    axis = figure.subplots()
    for i, (name, values) in enumerate(zip(series, heights, strict=True)):
        places = np.arange(bars) + (i - (count - 1) / 2) * width
        look = dict(color=_COLOURS[i % len(_COLOURS)], hatch=_HATCHES[i % len(_HATCHES)], edgecolor="white")
        axis.bar(places, np.maximum(values, bottom) - bottom, width, bottom=bottom, label=name, **look)
        for x, value in zip(places, values, strict=True):
            if value == 0 or bars * count <= _WRITTEN_BARS:
                text = f"{value:.1e}" if value else "0"
                place = dict(xytext=(0, 2), textcoords="offset points", ha="center")
                axis.annotate(text, (x, max(value, bottom)), fontsize=7, **place)
    lines = {rounding: f"rounding of float32, {rounding:.1e}", 1.0: "as large as the output"}
    for (height, text), style in zip(lines.items(), ("--", ":"), strict=True):
        axis.axhline(height, color="black", linestyle=style, linewidth=1, label=text)
    axis.set(yscale="log", ylabel="equivariance error,\nrelative to the largest output")
    axis.set_ylim(bottom, 10 * np.max(heights, initial=1))
    slanted = dict(rotation=40, ha="right", rotation_mode="anchor") if max(map(len, layers[0])) > _SHORT_NAME else {}
    axis.set_xticks(range(bars), layers[0], **slanted)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure


def _errors(known, images, group):
    if not isinstance(known, nnx.Module):
        pairs = list(known) if isinstance(known, Iterable) and not isinstance(known, str) else [known]
        for pair in pairs:
            if not _is_error(pair):
                plain = isinstance(pair, str | numbers.Number | list | tuple | None)
                got = repr(pair)[:60] if plain else getattr(pair, "__name__", type(pair).__name__)
                raise ValueError(
                    "networks must be a network, its errors [(layer, error), ...] from layer_errors, or a dictionary "
                    f"of either by name, got {got}"
                )
        return pairs
    if images is None:
        raise ValueError("images must be given to measure the errors of a network; or give errors from layer_errors")
    return layer_errors(known, images, group)


def _is_error(pair):
    """Whether this is the name of a layer and a number."""
    is_pair = isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)
    return is_pair and isinstance(pair[1], numbers.Real | jax.Array) and np.ndim(pair[1]) == 0
