"""Co-attention: attention as a 1x1 group convolution."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.attention.combination import attend
from attgconv_jax.attention.layers import check_weights, group_axis
from attgconv_jax.attention.operator import Operator, register
from attgconv_jax.checks import check_boolean, check_positive
from attgconv_jax.convolution import convolve_centred, project_max
from attgconv_jax.groups import Group
from attgconv_jax.initializers import FilterInitializer, filter_initializer, key_source


def co_attention(
    f: Float[Array, "*batch x y h c"], w: Float[Array, "1 1 h c 1"], group: Group, *, haar: bool = False
) -> Float[Array, "*batch x y h 1"]:
    """How much each position on the group matters, from all channels at once.

        alpha_X[x, h] = sigmoid(group_conv(f, w))

    On an image the filter is lifted and the maximum over the group taken before the sigmoid.

    Arguments: see `attgconv_jax.attention`.
    Source: Romero and Hoogendoorn 2020 (arXiv 1911.07849), as an input attention in Romero et al. 2020.
    """
    check_weights("co-attention", f, w, Float[Array, "1 1 h c 1"], group)
    check_boolean(haar=haar)
    logits = convolve_centred(f, w, group, haar=haar)
    return jax.nn.sigmoid(project_max(logits) if f.shape[-2] == 1 else logits)


def input_co_attention(
    f: Float[Array, "*batch x y h c"], w: Float[Array, "1 1 h c 1"], group: Group, *, haar: bool = False
) -> Float[Array, "*batch x y h c"]:
    """Suppresses what co-attention marks: `(1 - alpha_X) f`, with `alpha_X` of `co_attention`."""
    return attend(f, co_attention(f, w, group, haar=haar), "suppress")


def co_attention_weights(
    key, features, group, *, lifting=False, kernel_init: FilterInitializer = "paper_uniform", dtype=jnp.float32
) -> Float[Array, "1 1 h c 1"]:
    """Initial filter of `co_attention`."""
    check_positive(features=features)
    shape = (1, 1, group_axis(group, lifting), features, 1)
    return filter_initializer(kernel_init)(key_source(key)(), shape, dtype)


OPERATOR = register(
    Operator(
        "co", "CoAttention", "Co-attention", co_attention_weights, co_attention, combination="suppress", site="input"
    )
)
