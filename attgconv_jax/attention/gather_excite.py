"""Gather-Excite: squeeze-and-excitation whose statistics may be of windows, be learnt, or need no weights."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax import kernels
from attgconv_jax.attention.mlp import MLPWeights, check_tuple, check_weights, mlp, mlp_shapes
from attgconv_jax.filters import Sampling, check_sampling, filter_bank, former_sampling
from attgconv_jax.groups import Group


class GatherExciteWeights(NamedTuple):
    """A depthwise filter that gathers, and the network that excites; both None: the operator has no weights."""

    gather: Float[Array, "k k h c"] | None = None
    excite: MLPWeights | None = None


@former_sampling
def gather_excite(
    f: Float[Array, "*batch x y h c"],
    weights: GatherExciteWeights,
    group: Group,
    *,
    extent: int | None = None,
    over_group: bool = False,
    sampling: Sampling = Sampling(),
) -> Float[Array, "*batch #x #y #h c"]:
    """A weight for every channel and group element in every window, from what the window holds.

        s[X, h, c] = mean over the window X of f,    or learnt
        s[X, g, c] = sum over u, h' of  gather[g^-1 u, g^-1 h', c] f[X extent + u, h', c]
        alpha[x, h, c] = sigmoid(excite(s)[X of x, h, c]),    excite(s) = s, or W2 relu(W1 s + b1) + b2

    Windows lie side by side. On a group: `gather` is a depthwise group filter, `excite` two 1x1 group convolutions. (On
    an image `gather` is lifted, and the maximum over the group taken.) Over the group: the mean is over `h` as well.
    Made to scale the last responses of a residual branch, `alpha f`.

    Args:
      f: feature map, or image.
      weights: the paper's GE-theta^- has none, GE-theta a filter, GE-theta^+ both.
      group: acts on the weights.
      extent: of a window, in pixels, a divisor of both sizes; None: the whole map.
      over_group: whether the mean is over space and group instead of space alone.
      sampling: of the filter, at other than right angles.

    Returns:
      The attention map, in (0, 1).

    Raises:
      ValueError: the windows do not tile the map, the weights do not fit `f` or `group`, or `over_group` beside a
        filter.

    Source: Hu et al. 2018 (arXiv 1810.12348), section 2. For extents below the map its code chains strided 3x3 filters
    and overlapping means, which no group commutes with on most sizes; windows side by side always do.
    """
    check_tuple("gather-excite", weights, GatherExciteWeights)
    *batch, x, y, h, c = f.shape
    window_x, window_y = _windows(x, y, extent, weights)
    if over_group and weights.gather is not None:
        raise ValueError("over_group is of the mean: a learnt gather weighs the group elements itself; leave out one")
    h_out = 1 if over_group else h
    shapes = {} if weights.excite is None else mlp_shapes(weights.excite, c, h_out, prefix="excite.")
    shapes["gather"] = weights.gather, (window_x, window_y, h, c)
    check_weights("gather-excite", f, group, shapes, optional=("gather",))
    check_sampling(sampling)
    tiles = f.reshape(*batch, x // window_x, window_x, y // window_y, window_y, h, c)
    if weights.gather is None:
        s = jnp.mean(tiles, axis=(-5, -3))
        s = jnp.mean(s, axis=-2, keepdims=True) if over_group else s
    else:
        bank = filter_bank(weights.gather[..., None], group, sampling=sampling)[..., 0]
        s = jnp.einsum("...xaybhc,abhcg->...xygc", tiles, bank)
        s = jnp.expand_dims(kernels.maximum(s, axis=-2), -2) if h == 1 else s
    alpha = jax.nn.sigmoid(s if weights.excite is None else mlp(s, weights.excite, group))
    if extent is None:
        return alpha
    everywhere = jnp.broadcast_to(alpha[..., :, None, :, None, :, :], (*tiles.shape[:-2], h_out, c))
    return everywhere.reshape(*batch, x, y, h_out, c)


def _windows(x, y, extent, weights):
    if extent is None:
        if weights.gather is not None and x != y:
            raise ValueError(f"a learnt gather over the whole map needs a square one, got {x}x{y} pixels; give extent")
        return x, y
    if isinstance(extent, bool) or not isinstance(extent, int) or extent < 1 or x % extent or y % extent:
        common = [n for n in range(1, min(x, y) + 1) if x % n == y % n == 0]
        raise ValueError(
            f"extent must tile the map of {x}x{y} pixels: one of {', '.join(map(str, common))}, or None for the whole "
            f"map; got {extent!r}"
        )
    return extent, extent
