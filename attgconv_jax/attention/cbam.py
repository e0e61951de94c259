"""Convolutional block attention (CBAM): channels first, then positions."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax import kernels
from attgconv_jax.attention import layers
from attgconv_jax.attention.operator import Norm, Operator, register
from attgconv_jax.attention.spatial import alpha_x
from attgconv_jax.bases import FilterBasis
from attgconv_jax.checks import check_boolean, check_odd
from attgconv_jax.filters import Sampling, check_sampling, former_sampling
from attgconv_jax.groups import Group
from attgconv_jax.initializers import key_source, paper_uniform
from attgconv_jax.kernels.chunks import wide


class ConvolutionalBlockWeights(NamedTuple):
    """The channel network, and the filter on the two spatial statistics, the mean first, with its bias."""

    channel: layers.MLPWeights
    spatial: Float[Array, "k k h_in 2 1"]
    spatial_bias: Float[Array, " 1"] | None = None


@former_sampling
def convolutional_block_attention(
    f: Float[Array, "*batch x y h c"],
    weights: ConvolutionalBlockWeights,
    group: Group,
    *,
    over_group: bool = False,
    spatial_norm: Callable | None = None,
    sampling: Sampling | FilterBasis = Sampling(),
) -> Float[Array, "*batch x y h c"]:
    """A weight for every channel, and of what that leaves one for every position.

        alpha_C[h, c] = sigmoid(mlp(mean over x of f) + mlp(max over x of f))
        alpha_X[x, h] = sigmoid(norm(group_conv([mean over c, max over c] of alpha_C f, spatial) + spatial_bias))
        alpha = alpha_X alpha_C

    On a group: `mlp` is two 1x1 group convolutions; the spatial filter is a group filter (on an image it is lifted and
    the maximum over the group taken before the bias and the norm). Over the group: mean and maximum are over `x` and
    `h`. Made to scale the last responses of a residual branch, `alpha f`; the attentive paper's alpha_F is the same
    map, without biases, as what to suppress.

    Options:
      spatial_norm: batch norm or the like, of an array `[..., 1]`, as in the paper's code; None: none.

    Other arguments: see `attgconv_jax.attention`.
    Source: Woo et al. 2018 (arXiv 1807.06521), section 3.
    """
    layers.check_weights("convolutional block attention", f, weights, ConvolutionalBlockWeights, group, over_group)
    check_sampling(sampling)
    *batch, x, y, h, c = f.shape
    highest = wide(kernels.maximum(f.reshape(*batch, x * y, h, c), axis=-3))
    highest = jnp.expand_dims(kernels.maximum(highest, axis=-2), -2) if over_group else highest
    logits = layers.mlp(jnp.stack([layers.mean_statistic(f, over_group), highest]), weights.channel, group)
    alpha_c = layers.over_space(jax.nn.sigmoid(logits[0] + logits[1]))
    options = dict(bias=weights.spatial_bias, norm=spatial_norm, sampling=sampling)
    return (alpha_x(alpha_c * wide(f), weights.spatial, group, **options) * alpha_c).astype(f.dtype)


def convolutional_block_weights(
    key,
    features,
    group,
    *,
    lifting=False,
    reduction: int | None = None,
    hidden_features: int | None = None,
    kernel_size: int = 7,
    use_bias: bool = True,
    use_spatial_bias: bool = False,
    over_group: bool = False,
    dtype=jnp.float32,
) -> ConvolutionalBlockWeights:
    """Initial weights of `convolutional_block_attention`: `channel_uniform`, biases zero; `paper_uniform`.

    Options:
      use_bias: whether the channel network has biases.
      use_spatial_bias: whether the spatial filter has a bias.
    """
    hidden, next_key = layers.hidden_channels(features, reduction, hidden_features), key_source(key)
    check_odd(kernel_size=kernel_size)
    check_boolean(use_spatial_bias=use_spatial_bias)
    h = layers.group_axis(group, lifting, over_group)
    channel = layers.mlp_weights(next_key, features, hidden, h, dtype, use_bias=use_bias)
    shape = (kernel_size, kernel_size, layers.group_axis(group, lifting), 2, 1)
    filter_ = paper_uniform(next_key(), shape, dtype)
    return ConvolutionalBlockWeights(channel, filter_, *layers.zeros(use_spatial_bias, dtype, 1))


OPERATOR = register(
    Operator(
        "cbam",
        "ConvolutionalBlockAttention",
        "CBAM",
        convolutional_block_weights,
        convolutional_block_attention,
        norms={"spatial_norm": Norm(lambda weights: 1, default=None)},
    )
)
