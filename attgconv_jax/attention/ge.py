"""Gather-Excite: squeeze-and-excitation whose statistics may be of windows, be learnt, or need no weights."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attgconv_jax import kernels
from attgconv_jax.attention.layers import MLPWeights, check_weights, group_axis, hidden_channels, mlp, mlp_weights
from attgconv_jax.attention.operator import Operator, register
from attgconv_jax.bases import FilterBasis
from attgconv_jax.checks import check_boolean, check_divisor, check_integer, check_positive
from attgconv_jax.filters import Sampling, check_sampling, former_sampling, transformed
from attgconv_jax.groups import Group
from attgconv_jax.initializers import key_source
from attgconv_jax.kernels.chunks import sum_dtype, wide
from attgconv_jax.kernels.taps import Window


class GatherExciteWeights(NamedTuple):
    """A depthwise filter that gathers, and the network that excites; both None: the operator has no weights."""

    gather: Float[Array, "extent extent h_in c"] | None = None
    excite: MLPWeights | None = None


@former_sampling
def gather_excite(
    f: Float[Array, "*batch x y h c"],
    weights: GatherExciteWeights,
    group: Group,
    *,
    extent: int | None = None,
    overlap: bool = False,
    exact: bool = True,
    over_group: bool = False,
    sampling: Sampling | FilterBasis = Sampling(),
) -> Float[Array, "*batch #x #y #h c"]:
    """A weight for every channel and group element in every window, from what the window holds.

        s[X, h, c] = mean over the window X of f,    or learnt
        s[X, g, c] = sum over u, h' of  gather[g^-1 u, g^-1 h', c] f[X extent + u, h', c]
        alpha[x, h, c] = sigmoid(excite(s)[X of x, h, c]),    excite(s) = s, or W2 relu(W1 s + b1) + b2

    Windows lie side by side, or overlap: then they are `2 extent - 1` pixels wide, one every `extent` pixels from the
    first, of which only pixels inside the map count, and `X of x` is the nearest below, `floor(x windows / size)`. On a
    group: `gather` is a depthwise group filter, `excite` two 1x1 group convolutions. (On an image `gather` is lifted,
    and the maximum over the group taken.) Over the group: the mean is over `h` as well. Made to scale the last
    responses of a residual branch, `alpha f`.

    Options:
      extent: of a window, in pixels, unless windows overlap a divisor of both sizes; None: the whole map.
      overlap: whether windows overlap; they take means.
      exact: whether overlapping windows that the group does not map to themselves raise.

    Other arguments: see `attgconv_jax.attention`.
    Source: Hu et al. 2018 (arXiv 1810.12348), section 2. For extents below the map its code has overlapping means, or
    chains strided 3x3 filters, which groups that reverse an axis commute with on few sizes; with windows side by side
    they always do.
    """
    _check_means(getattr(weights, "gather", None), over_group=over_group, overlap=overlap)
    check_weights("gather-excite", f, weights, GatherExciteWeights, group, over_group)
    check_sampling(sampling)
    _check_windows(extent, overlap, exact)
    if overlap:
        _check_overlap(extent, f.shape[-4:-2], group, exact)
        s = _overlapping_means(f, extent)
    else:
        s = _gathered(f, weights.gather, group, extent, sampling)
    s = jnp.mean(s, axis=-2, keepdims=True) if over_group else s
    alpha = jax.nn.sigmoid(s if weights.excite is None else mlp(s, weights.excite, group)).astype(f.dtype)
    if extent is None:
        return alpha
    *batch, x, y, _, _ = f.shape
    if overlap:
        for axis, length in ((-4, x), (-3, y)):
            alpha = jnp.take(alpha, _window_of(length, alpha.shape[axis]), axis, mode="clip")
        return alpha
    *_, windows_x, windows_y, h, c = alpha.shape
    sizes = windows_x, x // windows_x, windows_y, y // windows_y, h, c
    return jnp.broadcast_to(alpha[..., :, None, :, None, :, :], (*batch, *sizes)).reshape(*batch, x, y, h, c)


def _gathered(f, gather, group, extent, sampling):
    """What every window of windows side by side holds."""
    *batch, x, y, h, c = f.shape
    window_x, window_y = x, y
    if extent is not None:
        of = "pixels of the map, or be None for the whole map"
        window_x = window_y = check_divisor("extent", extent, x, y, of=of)
    tiles = f.reshape(*batch, x // window_x, window_x, y // window_y, window_y, h, c)
    if gather is None:
        return jnp.mean(wide(tiles), axis=(-5, -3))
    _check_gather(len(gather), window_x, window_y, math.gcd(x, y))
    bank = transformed(gather[..., None], group, sampling)[..., 0]
    s = jnp.einsum("...xaybhc,abhcg->...xygc", tiles, bank, preferred_element_type=sum_dtype(f))
    return jnp.expand_dims(kernels.maximum(s, axis=-2), -2) if h == 1 else s


def _overlapping_means(f, extent):
    """The mean over what every overlapping window has inside the map."""
    window = Window(2 * extent - 1, extent, extent - 1, extent - 1)
    sums = kernels.window_sum(wide(f), (window, window), f.ndim - 4)
    lengths = f.shape[-4:-2]
    pixels = [np.subtract(*_ends(np.arange(window.outputs(n)), n, extent)) for n in lengths]
    counts = jnp.asarray(np.multiply.outer(*pixels), sums.dtype)
    return sums / jnp.expand_dims(counts, (*range(f.ndim - 4), -2, -1))


def _window_of(length, windows):
    """For every pixel along an axis the window that it belongs to."""
    return np.arange(length) * windows // length


def _ends(windows, length, extent):
    """Where overlapping windows end, and where they begin, inside the map."""
    return np.minimum(windows * extent + extent, length), np.maximum(windows * extent + 1 - extent, 0)


def _is_symmetric(length, extent):
    """Whether an axis reversed has the same overlapping windows, and in them the same pixels."""
    ends, begins = _ends(_window_of(length, 1 + (length - 1) // extent), length, extent)
    return np.array_equal(length - ends[::-1], begins)


def _check_windows(extent, overlap, exact):
    """Raises a `ValueError` where an option of windows, or of those that overlap, has no effect."""
    check_boolean(overlap=overlap, exact=exact)
    if overlap and extent is None:
        raise ValueError("overlap=True is of windows, and extent=None is the whole map: give their extent, in pixels")
    if not (exact or overlap):
        raise ValueError("exact=False is of overlapping windows, got overlap=False: leave out exact or overlap windows")


def _check_overlap(extent, shape, group, exact):
    """Raises a `ValueError` unless windows of this extent may overlap on such a map."""
    extent = check_integer("extent", extent)
    for axis, is_reversed, length in zip("xy", group.reversed_axes, shape, strict=True):
        if exact and is_reversed and not _is_symmetric(length, extent):
            larger = [str((n - 1) * extent + 1) for n in range(2, extent) if (extent - 1) % n == 0]
            raise ValueError(
                f"{group} does not map overlapping windows of extent {extent} to themselves: on {length} pixels along "
                f"{axis} they are off centre. Sizes that work: {', '.join([f'up to {extent}', *larger])}; take windows "
                "side by side, or pass exact=False and give up exact equivariance"
            )


def _check_means(gather, **options):
    """Raises a `ValueError` where a learnt gather meets an option of means."""
    for name, value in options.items():
        if value and gather is not None:
            raise ValueError(f"{name} is of means: a learnt gather weighs what it gathers itself; leave out one")


def _check_gather(size, window_x, window_y, map_side):
    """Raises a `ValueError` unless a learnt gather of this size serves for these windows."""
    if not size == window_x == window_y:
        side = math.gcd(window_x, window_y)
        hint = f"a gather of {side}x{side} pixels and extent={side}" if map_side % size else f"extent={size}"
        raise ValueError(
            f"a learnt gather takes square windows of its size, {size}x{size} pixels, got {window_x}x{window_y}: give "
            f"{hint}"
        )


def gather_excite_weights(
    key,
    features,
    group,
    *,
    lifting=False,
    extent: int | None = None,
    overlap: bool = False,
    exact: bool = True,
    gather_size: int | None = None,
    excite: bool = True,
    reduction: int | None = None,
    hidden_features: int | None = None,
    over_group: bool = False,
    dtype=jnp.float32,
) -> GatherExciteWeights:
    """Initial weights of `gather_excite`: a filter that takes means, a network of `channel_uniform`, biases zero.

    Options:
      gather_size: of a filter that gathers, in pixels: the extent, or the map's size where that is None; None: means.
      excite: whether a network of channels excites. Without it and without a filter there are no weights.
    """
    _check_windows(extent, overlap, exact)
    check_boolean(excite=excite)
    if not excite and (hidden_features is not None or reduction is not None):
        name, value = ("reduction", reduction) if hidden_features is None else ("hidden_features", hidden_features)
        raise ValueError(f"{name} is of the network that excites, got {value!r} with excite=False: leave one out")
    hidden, h = hidden_channels(features, reduction, hidden_features), group_axis(group, lifting)
    check_positive(**{name: n for name, n in (("extent", extent), ("gather_size", gather_size)) if n is not None})
    if extent is not None and gather_size not in (None, extent):
        raise ValueError(f"gather_size must be the extent of a window, {extent}, got {gather_size}")
    _check_means(gather_size, over_group=over_group, overlap=overlap)
    gather = network = None
    if gather_size is not None:
        gather = jnp.full((gather_size, gather_size, h, features), 1 / (gather_size**2 * h), dtype)
    if excite:
        network = mlp_weights(key_source(key), features, hidden, 1 if over_group else h, dtype)
    return GatherExciteWeights(gather, network)


OPERATOR = register(Operator("ge", "GatherExcite", "Gather-Excite", gather_excite_weights, gather_excite))
