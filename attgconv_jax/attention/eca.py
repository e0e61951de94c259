"""Efficient channel attention (ECA): each channel weighed by its neighbours' means."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.attention.layers import check_weights, group_axis, group_bank, mean_statistic, over_space
from attgconv_jax.attention.operator import Operator, register
from attgconv_jax.checks import check_odd, check_positive
from attgconv_jax.groups import Group
from attgconv_jax.initializers import channel_uniform, key_source


def efficient_channel_attention(
    f: Float[Array, "*batch x y h c"], w: Float[Array, " k #h"], group: Group, *, over_group: bool = False
) -> Float[Array, "*batch 1 1 #h c"]:
    """A weight for every channel from the means of its `k` neighbours, with one filter for all channels.

        s[h, c] = mean over x of f,    zero beyond the first and the last channel
        alpha[g, c] = sigmoid(sum over h', j of  w(g^-1 h')[j] s[h', c + j - (k - 1) / 2])

    On a group: the filter along the channels is a 1x1 group convolution over `h'`. Over the group: the mean is over `x`
    and `h`. Made to scale the last responses of a residual branch, `alpha f`.

    Arguments: see `attgconv_jax.attention`.
    Source: Wang et al. 2020 (arXiv 1910.03151), section 3.
    """
    check_weights("efficient channel attention", f, w, Float[Array, "k h"], group, over_group)
    k, c = len(w), f.shape[-1]
    s = mean_statistic(f, over_group)
    padded = jnp.pad(s, [(0, 0)] * (s.ndim - 1) + [(k // 2, k // 2)])
    neighbours = jnp.stack([padded[..., j : j + c] for j in range(k)])
    logits = jnp.einsum("j...hc,jgh->...gc", neighbours, group_bank(w.astype(s.dtype), group))
    return over_space(jax.nn.sigmoid(logits)).astype(f.dtype)


def efficient_channel_weights(
    key,
    features,
    group,
    *,
    lifting=False,
    kernel_size: int | None = None,
    min_kernel_size: int = 1,
    over_group: bool = False,
    dtype=jnp.float32,
) -> Float[Array, " k h"]:
    """Initial filter of `efficient_channel_attention`: `channel_uniform`.

    Options:
      kernel_size: of the filter along the channels, odd; None: the paper's, `(log2(features) + 1) / 2` made odd.
      min_kernel_size: the least that `kernel_size` None makes, odd; 3 in timm.
    """
    check_positive(features=features)
    check_odd(min_kernel_size=min_kernel_size)
    if kernel_size is not None and min_kernel_size > 1:
        raise ValueError(
            f"min_kernel_size is of kernel_size=None, got {min_kernel_size} and kernel_size={kernel_size!r}: give one"
        )
    if kernel_size is None:
        kernel_size = max(min_kernel_size, int((math.log2(features) + 1) / 2) // 2 * 2 + 1)
    check_odd(kernel_size=kernel_size)
    h = group_axis(group, lifting, over_group)
    return channel_uniform(key_source(key)(), (1, kernel_size, h), dtype)[0]


OPERATOR = register(
    Operator(
        "eca",
        "EfficientChannelAttention",
        "Efficient channel attention",
        efficient_channel_weights,
        efficient_channel_attention,
    )
)
