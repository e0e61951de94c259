"""Style-based Recalibration (SRM): each channel weighed by its own mean and deviation."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.attention.layers import check_weights, group_axis, group_bank, over_space
from attgconv_jax.attention.operator import Norm, Operator, register
from attgconv_jax.checks import check_boolean, check_finite_positive, check_positive
from attgconv_jax.groups import Group
from attgconv_jax.kernels.chunks import wide


def style_recalibration(
    f: Float[Array, "*batch x y h c"],
    w: Float[Array, "c 2 #h"],
    group: Group,
    *,
    over_group: bool = False,
    epsilon: float = 1e-5,
    unbiased: bool = False,
    norm: Callable | None = None,
) -> Float[Array, "*batch 1 1 #h c"]:
    """A weight for every channel from its own style: mean and deviation.

        t[h, c] = (mean over x of f, sqrt(variance over x of f + epsilon))
        alpha[g, c] = sigmoid(norm(sum over h', k of  w(g^-1 h')[c, k] t[h', c, k]))

    On a group: the sum is a channel-wise 1x1 group convolution, so a channel's group elements weigh each other. Over
    the group: mean and variance are over `x` and `h`. Made to scale the last responses of a residual branch, `alpha f`.

    Options:
      epsilon: added to the variance.
      unbiased: whether the variance is the sum of squares over one less than their number, as in the paper's code.
      norm: batch norm or the like, of an array `[..., c]`; None: none.

    Other arguments: see `attgconv_jax.attention`.
    Source: Lee et al. 2019 (arXiv 1903.10829), section 3; `epsilon` as in its code.
    """
    check_weights("style-based recalibration", f, w, Float[Array, "c 2 h"], group, over_group)
    check_finite_positive(epsilon=epsilon)
    check_boolean(unbiased=unbiased)
    axes = (-4, -3, -2) if over_group else (-4, -3)
    count = math.prod(f.shape[axis] for axis in axes)
    if unbiased and count == 1:
        raise ValueError("unbiased has no variance over one position: take a larger map, or unbiased=False")
    mean = jnp.mean(wide(f), axis=axes, keepdims=True)
    variance = jnp.sum(jnp.square(wide(f) - mean), axis=axes, keepdims=True) / (count - unbiased)
    style = jnp.stack([mean, jnp.sqrt(variance + epsilon)], axis=-1)[..., 0, 0, :, :, :]
    logits = jnp.einsum("...hck,ckgh->...gc", style, group_bank(wide(w), group))
    return over_space(jax.nn.sigmoid(logits if norm is None else norm(logits))).astype(f.dtype)


def style_weights(
    key, features, group, *, lifting=False, over_group: bool = False, dtype=jnp.float32
) -> Float[Array, "c 2 h"]:
    """Initial weights of `style_recalibration`: zero."""
    check_positive(features=features)
    return jnp.zeros((features, 2, group_axis(group, lifting, over_group)), dtype)


OPERATOR = register(
    Operator(
        "srm",
        "StyleRecalibration",
        "Style-based Recalibration",
        style_weights,
        style_recalibration,
        norms={"norm": Norm(len, pooled=1)},
    )
)
