"""Convolutional block attention (CBAM): channels first, then positions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax import kernels
from attgconv_jax.attention import layers
from attgconv_jax.attention.operator import Operator, register
from attgconv_jax.attention.spatial import alpha_x
from attgconv_jax.bases import FilterBasis
from attgconv_jax.checks import check_odd
from attgconv_jax.filters import Sampling, check_sampling, former_sampling
from attgconv_jax.groups import Group
from attgconv_jax.initializers import key_source, paper_uniform
from attgconv_jax.kernels.chunks import wide


class ConvolutionalBlockWeights(NamedTuple):
    """The channel network and the filter on the two spatial statistics, the mean first."""

    channel: layers.MLPWeights
    spatial: Float[Array, "k k h_in 2 1"]


@former_sampling
def convolutional_block_attention(
    f: Float[Array, "*batch x y h c"],
    weights: ConvolutionalBlockWeights,
    group: Group,
    *,
    over_group: bool = False,
    sampling: Sampling | FilterBasis = Sampling(),
) -> Float[Array, "*batch x y h c"]:
    """A weight for every channel, and of what that leaves one for every position.

        alpha_C[h, c] = sigmoid(mlp(mean over x of f) + mlp(max over x of f))
        alpha_X[x, h] = sigmoid(group_conv([mean over c, max over c] of alpha_C f, spatial))
        alpha = alpha_X alpha_C

    On a group: `mlp` is two 1x1 group convolutions; the spatial filter is a group filter (on an image it is lifted and
    the maximum over the group taken before the sigmoid). Over the group: mean and maximum are over `x` and `h`. Made to
    scale the last responses of a residual branch, `alpha f`; the attentive paper's alpha_F is the same map, without
    biases, as what to suppress.

    Arguments: see `attgconv_jax.attention`.
    Source: Woo et al. 2018 (arXiv 1807.06521), section 3.
    """
    layers.check_weights("convolutional block attention", f, weights, ConvolutionalBlockWeights, group, over_group)
    check_sampling(sampling)
    *batch, x, y, h, c = f.shape
    highest = wide(kernels.maximum(f.reshape(*batch, x * y, h, c), axis=-3))
    highest = jnp.expand_dims(kernels.maximum(highest, axis=-2), -2) if over_group else highest
    logits = layers.mlp(jnp.stack([layers.mean_statistic(f, over_group), highest]), weights.channel, group)
    alpha_c = layers.over_space(jax.nn.sigmoid(logits[0] + logits[1]))
    return (alpha_x(alpha_c * wide(f), weights.spatial, group, sampling=sampling) * alpha_c).astype(f.dtype)


def convolutional_block_weights(
    key,
    features,
    group,
    *,
    lifting=False,
    reduction: int | None = None,
    kernel_size: int = 7,
    over_group: bool = False,
    dtype=jnp.float32,
) -> ConvolutionalBlockWeights:
    """Initial weights of `convolutional_block_attention`: `channel_uniform`, biases zero; `paper_uniform`."""
    hidden, next_key = layers.hidden_channels(features, reduction), key_source(key)
    check_odd(kernel_size=kernel_size)
    channel = layers.mlp_weights(next_key, features, hidden, layers.group_axis(group, lifting, over_group), dtype)
    shape = (kernel_size, kernel_size, layers.group_axis(group, lifting), 2, 1)
    return ConvolutionalBlockWeights(channel, paper_uniform(next_key(), shape, dtype))


OPERATOR = register(
    Operator("cbam", "ConvolutionalBlockAttention", "CBAM", convolutional_block_weights, convolutional_block_attention)
)
