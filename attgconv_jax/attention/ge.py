"""Gather-Excite: squeeze-and-excitation whose statistics may be of windows, be learnt, or need no weights."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax import kernels
from attgconv_jax.attention.layers import MLPWeights, check_weights, group_axis, hidden_channels, mlp, mlp_weights
from attgconv_jax.attention.operator import Operator, register
from attgconv_jax.bases import FilterBasis
from attgconv_jax.checks import check_divisor, check_positive
from attgconv_jax.filters import Sampling, check_sampling, former_sampling, transformed
from attgconv_jax.groups import Group
from attgconv_jax.initializers import key_source
from attgconv_jax.kernels.chunks import sum_dtype, wide


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
    over_group: bool = False,
    sampling: Sampling | FilterBasis = Sampling(),
) -> Float[Array, "*batch #x #y #h c"]:
    """A weight for every channel and group element in every window, from what the window holds.

        s[X, h, c] = mean over the window X of f,    or learnt
        s[X, g, c] = sum over u, h' of  gather[g^-1 u, g^-1 h', c] f[X extent + u, h', c]
        alpha[x, h, c] = sigmoid(excite(s)[X of x, h, c]),    excite(s) = s, or W2 relu(W1 s + b1) + b2

    Windows lie side by side. On a group: `gather` is a depthwise group filter, `excite` two 1x1 group convolutions. (On
    an image `gather` is lifted, and the maximum over the group taken.) Over the group: the mean is over `h` as well.
    Made to scale the last responses of a residual branch, `alpha f`.

    Options:
      extent: of a window, in pixels, a divisor of both sizes; None: the whole map.

    Other arguments: see `attgconv_jax.attention`.
    Source: Hu et al. 2018 (arXiv 1810.12348), section 2. For extents below the map its code chains strided 3x3 filters
    and overlapping means, which no group commutes with on most sizes; windows side by side always do.
    """
    _check_means(getattr(weights, "gather", None), over_group)
    check_weights("gather-excite", f, weights, GatherExciteWeights, group, over_group)
    check_sampling(sampling)
    *batch, x, y, h, c = f.shape
    window_x, window_y = x, y
    if extent is not None:
        of = "pixels of the map, or be None for the whole map"
        window_x = window_y = check_divisor("extent", extent, x, y, of=of)
    if weights.gather is not None:
        _check_gather(len(weights.gather), window_x, window_y, math.gcd(x, y))
    h_out = 1 if over_group else h
    tiles = f.reshape(*batch, x // window_x, window_x, y // window_y, window_y, h, c)
    if weights.gather is None:
        s = jnp.mean(wide(tiles), axis=(-5, -3))
        s = jnp.mean(s, axis=-2, keepdims=True) if over_group else s
    else:
        bank = transformed(weights.gather[..., None], group, sampling)[..., 0]
        s = jnp.einsum("...xaybhc,abhcg->...xygc", tiles, bank, preferred_element_type=sum_dtype(f))
        s = jnp.expand_dims(kernels.maximum(s, axis=-2), -2) if h == 1 else s
    alpha = jax.nn.sigmoid(s if weights.excite is None else mlp(s, weights.excite, group)).astype(f.dtype)
    if extent is None:
        return alpha
    everywhere = jnp.broadcast_to(alpha[..., :, None, :, None, :, :], (*tiles.shape[:-2], h_out, c))
    return everywhere.reshape(*batch, x, y, h_out, c)


def _check_means(gather, over_group):
    """Raises a `ValueError` where a learnt gather meets statistics over the group."""
    if over_group and gather is not None:
        raise ValueError("over_group is of means: a learnt gather weighs the group elements itself; leave out one")


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
    gather_size: int | None = None,
    excite: bool = True,
    reduction: int | None = None,
    over_group: bool = False,
    dtype=jnp.float32,
) -> GatherExciteWeights:
    """Initial weights of `gather_excite`: a filter that takes means, a network of `channel_uniform`, biases zero.

    Options:
      gather_size: of a filter that gathers, in pixels: the extent, or the map's size where that is None; None: means.
      excite: whether a network of channels excites. Without it and without a filter there are no weights.
    """
    hidden, h = hidden_channels(features, reduction), group_axis(group, lifting)
    check_positive(**{name: n for name, n in (("extent", extent), ("gather_size", gather_size)) if n is not None})
    if extent is not None and gather_size not in (None, extent):
        raise ValueError(f"gather_size must be the extent of a window, {extent}, got {gather_size}")
    _check_means(gather_size, over_group)
    gather = network = None
    if gather_size is not None:
        gather = jnp.full((gather_size, gather_size, h, features), 1 / (gather_size**2 * h), dtype)
    if excite:
        network = mlp_weights(key_source(key), features, hidden, 1 if over_group else h, dtype)
    return GatherExciteWeights(gather, network)


OPERATOR = register(Operator("ge", "GatherExcite", "Gather-Excite", gather_excite_weights, gather_excite))
