"""Style-based Recalibration (SRM): each channel weighed by its own mean and deviation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.attention.layers import check_input, check_weights, group_axis, group_bank, over_space
from attgconv_jax.attention.operator import Operator, register
from attgconv_jax.checks import check_boolean, check_finite_positive, check_positive
from attgconv_jax.groups import Group
from attgconv_jax.initializers import KeySource


def style_recalibration(
    f: Float[Array, "*batch x y h c"],
    w: Float[Array, "c 2 #h"],
    group: Group,
    *,
    over_group: bool = False,
    epsilon: float = 1e-5,
    norm: Callable | None = None,
) -> Float[Array, "*batch 1 1 #h c"]:
    """A weight for every channel from its own style: mean and deviation.

        t[h, c] = (mean over x of f, sqrt(variance over x of f + epsilon))        the biased variance
        alpha[g, c] = sigmoid(norm(sum over h', k of  w(g^-1 h')[c, k] t[h', c, k]))

    On a group: the sum is a channel-wise 1x1 group convolution, so a channel's group elements weigh each other. Over
    the group: mean and variance are over `x` and `h`. Made to scale the last responses of a residual branch, `alpha f`.

    Args:
      f: feature map, or image.
      w: of every channel for its mean and its deviation; group axis 1 on images and over the group.
      group: acts on `w`.
      over_group: whether the style is over space and group instead of space alone.
      epsilon: added to the variance.
      norm: batch norm or the like, of an array `[..., c]`; None: none.

    Returns:
      The attention map, in (0, 1).

    Raises:
      ValueError: `w` does not fit `f` or `group`.

    Source: Lee et al. 2019 (arXiv 1903.10829), section 3; `epsilon` as in its code.
    """
    check_input(f, group)
    check_boolean(over_group=over_group)
    h, c = 1 if over_group else f.shape[-2], f.shape[-1]
    check_weights("style-based recalibration", f, group, {"w": (w, (c, 2, h))})
    check_finite_positive(epsilon=epsilon)
    axes = (-4, -3, -2) if over_group else (-4, -3)
    mean = jnp.mean(f, axis=axes, keepdims=True)
    variance = jnp.mean(jnp.square(f - mean), axis=axes, keepdims=True)
    style = jnp.stack([mean, jnp.sqrt(variance + epsilon)], axis=-1)[..., 0, 0, :, :, :]
    logits = jnp.einsum("...hck,ckgh->...gc", style, group_bank(w, group))
    return over_space(jax.nn.sigmoid(logits if norm is None else norm(logits)))


def style_weights(
    key: KeySource,
    features: int,
    group: Group,
    *,
    lifting: bool = False,
    over_group: bool = False,
    dtype=jnp.float32,
) -> Float[Array, "c 2 h"]:
    """Initial weights of `style_recalibration`: zero."""
    check_positive(features=features)
    return jnp.zeros((features, 2, group_axis(group, lifting, over_group)), dtype)


OPERATOR = register(
    Operator(
        name="srm",
        module="StyleRecalibration",
        title="Style-based Recalibration",
        init=style_weights,
        apply=style_recalibration,
        combination="scale",
        site="residual",
        source="Lee et al. 2019 (1903.10829)",
        norms={"norm": len},
    )
)
