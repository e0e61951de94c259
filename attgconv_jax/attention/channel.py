"""Channel attention on the input, `alpha_C` of the attentive paper."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax import kernels
from attgconv_jax.attention.layers import check_weights, over_space, statistic_linear
from attgconv_jax.groups import Group
from attgconv_jax.kernels.chunks import wide


class ChannelWeights(NamedTuple):
    """Weights of the attention's network `mlp(s) = w2 relu(w1 s)`; on images `h` is 1."""

    w1: Float[Array, "c_hid c h"]
    w2: Float[Array, "c c_hid h"]


def channel_attention(
    f: Float[Array, "*batch x y h c"], weights: ChannelWeights, group: Group
) -> Float[Array, "*batch 1 1 h c"]:
    """How much each channel of each group element matters.

        alpha_C[h, c] = sigmoid(mlp(mean over x of f) + mlp(max over x of f)),    mlp(s) = w2 relu(w1 s)

    Each layer of `mlp` is a 1x1 group convolution over `(h', c)` jointly: element `g` uses `W(g^-1 h')`, no bias, no
    Haar weight.

    Arguments: see `attgconv_jax.attention`.
    Source: Romero et al. 2020, sections 3.2 and 3.3.
    """
    check_weights("channel attention", f, weights, ChannelWeights, group)
    return alpha_c(f, weights, group).astype(f.dtype)


def alpha_c(f, weights, group):
    """`channel_attention` of checked arguments, in float32 at least."""
    *batch, x, y, h, c = f.shape
    mean = jnp.mean(wide(f), axis=(-4, -3))
    highest = wide(kernels.maximum(f.reshape(*batch, x * y, h, c), axis=-3))
    hidden = jax.nn.relu(statistic_linear(jnp.stack([mean, highest]), weights.w1, group))
    return over_space(jax.nn.sigmoid(statistic_linear(hidden[0] + hidden[1], weights.w2, group)))
