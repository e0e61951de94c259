"""Coordinate attention: a factor along each of the two axes."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.attention.layers import check_weights, group_axis, group_bank, group_linear, hidden_channels
from attgconv_jax.attention.operator import Operator, register
from attgconv_jax.convolution import project_max
from attgconv_jax.groups import Group
from attgconv_jax.initializers import channel_uniform, key_source
from attgconv_jax.kernels.chunks import wide


class CoordinateWeights(NamedTuple):
    """What reduces the channels, and what brings them back along the first and along the second axis."""

    w1: Float[Array, "c_hid c h"]
    first: Float[Array, "c c_hid h"]
    second: Float[Array, "c c_hid h"]
    b1: Float[Array, " c_hid"]
    b_first: Float[Array, " c"]
    b_second: Float[Array, " c"]


def coordinate_attention(
    f: Float[Array, "*batch x y h c"], weights: CoordinateWeights, group: Group, *, norm: Callable | None = None
) -> Float[Array, "*batch x y h c"]:
    """A weight for every position, the product of one for its row and one for its column.

        m_1[x, h, c] = mean over y of f,    m_2[y, h, c] = mean over x of f
        v = hard_swish(norm(W1 m + b1))                                              for both
        alpha[x, y, g, c] = sigmoid(first v_1[x] + b_first) sigmoid(second v_2[y] + b_second)

    The paper's operator knows which axis is which, and a quarter turn swaps them. It becomes equivariant by letting
    each group element have axes of its own: where `g` swaps the two axes, `second` takes the place of `first` and
    `first` that of `second`. Together with 1x1 group convolutions `W(g^-1 h')` that is the group acting on `H` and on
    the pair of axes at once. Rows and columns of pixels exist for right angles only: other groups raise. On an image
    the maximum of `alpha` over the group is taken. Made to scale the last responses of a residual branch, `alpha f`.

    Options:
      norm: batch norm or the like, of an array `[..., c_hid]` with the two statistics side by side; None: none.

    Other arguments: see `attgconv_jax.attention`.
    Source: Hou et al. 2021 (arXiv 2103.02907), section 3.2; the group acting on the axes is our own.
    """
    check_weights("coordinate attention", f, weights, CoordinateWeights, group)
    _check_right_angles(group)
    x, h = f.shape[-4], f.shape[-2]
    lines = jnp.concatenate([jnp.mean(wide(f), axis=axis) for axis in (-3, -4)], axis=-3)
    hidden = group_linear(lines, weights.w1, group, weights.b1)
    hidden = jax.nn.hard_swish(hidden if norm is None else norm(hidden))
    swaps = group.matrices[:, 0, 0] == 0
    first, second = (_bank(wide(weight), group) for weight in (weights.first, weights.second))
    rows = _axis(hidden[..., :x, :, :], first, second, weights.b_first, weights.b_second, swaps)
    columns = _axis(hidden[..., x:, :, :], second, first, weights.b_second, weights.b_first, swaps)
    alpha = (rows[..., :, None, :, :] * columns[..., None, :, :, :]).astype(f.dtype)
    return project_max(alpha) if h == 1 else alpha


def coordinate_weights(
    key,
    features,
    group,
    *,
    lifting=False,
    reduction: int | None = None,
    hidden_features: int | None = None,
    dtype=jnp.float32,
) -> CoordinateWeights:
    """Initial weights of `coordinate_attention`: `channel_uniform`, biases zero."""
    hidden, next_key = hidden_channels(features, reduction, hidden_features), key_source(key)
    h = group_axis(group, lifting)
    _check_right_angles(group)
    return CoordinateWeights(
        w1=channel_uniform(next_key(), (hidden, features, h), dtype),
        first=channel_uniform(next_key(), (features, hidden, h), dtype),
        second=channel_uniform(next_key(), (features, hidden, h), dtype),
        b1=jnp.zeros(hidden, dtype),
        b_first=jnp.zeros(features, dtype),
        b_second=jnp.zeros(features, dtype),
    )


OPERATOR = register(
    Operator(
        "coordinate",
        "CoordinateAttention",
        "Coordinate attention",
        coordinate_weights,
        coordinate_attention,
        norms={"norm": lambda weights: len(weights.w1)},
    )
)


def _check_right_angles(group: Group) -> None:
    """Raises a `ValueError` unless the group maps rows and columns of pixels to rows and columns."""
    if not group.is_exact:
        raise ValueError(
            f"coordinate attention has rows and columns of pixels, which {group} does not map to each other: take a "
            "group of right angles, such as cyclic(4) or dihedral(4)"
        )


def _bank(weight, group):
    """`bank[o, c, g, h'] = W(g^-1 h')[o, c]`, on an image too for every `g`."""
    bank = group_bank(weight, group)
    return jnp.broadcast_to(bank, (*bank.shape[:2], group.order, bank.shape[3]))


def _axis(hidden, kept, swapped, bias_kept, bias_swapped, swaps):
    """The factor of one axis: `kept` where a group element keeps the axes, `swapped` where it swaps them."""
    bank = jnp.where(swaps[None, None, :, None], swapped, kept)
    bias = wide(jnp.where(swaps[:, None], bias_swapped[None], bias_kept[None]))
    logits = jnp.einsum("...xhc,ocgh->...xgo", hidden, bank)
    return jax.nn.sigmoid(logits + jnp.expand_dims(bias, range(logits.ndim - 2)))
