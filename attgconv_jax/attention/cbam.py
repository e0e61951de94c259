"""Convolutional block attention (CBAM): channels first, then positions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax import kernels
from attgconv_jax.attention.layers import (
    MLPWeights,
    check_input,
    check_tuple,
    check_weights,
    group_axis,
    hidden_channels,
    mean_statistic,
    mlp,
    mlp_shapes,
    mlp_weights,
    over_space,
)
from attgconv_jax.attention.operator import Operator, register
from attgconv_jax.attention.spatial import spatial_attention
from attgconv_jax.checks import check_boolean, check_odd
from attgconv_jax.filters import Sampling, former_sampling
from attgconv_jax.groups import Group
from attgconv_jax.initializers import KeySource, key_source, paper_uniform


class ConvolutionalBlockWeights(NamedTuple):
    """The channel network and the filter on the two spatial statistics, the mean first."""

    channel: MLPWeights
    spatial: Float[Array, "k k h 2 1"]


@former_sampling
def convolutional_block_attention(
    f: Float[Array, "*batch x y h c"],
    weights: ConvolutionalBlockWeights,
    group: Group,
    *,
    over_group: bool = False,
    sampling: Sampling = Sampling(),
) -> Float[Array, "*batch x y h c"]:
    """A weight for every channel, and of what that leaves one for every position.

        alpha_C[h, c] = sigmoid(mlp(mean over x of f) + mlp(max over x of f))
        alpha_X[x, h] = sigmoid(group_conv([mean over c, max over c] of alpha_C f, spatial))
        alpha = alpha_X alpha_C

    On a group: `mlp` is two 1x1 group convolutions; the spatial filter is a group filter (on an image it is lifted and
    the maximum over the group taken before the sigmoid). Over the group: mean and maximum are over `x` and `h`. Made to
    scale the last responses of a residual branch, `alpha f`; the attentive paper's alpha_F is the same map, without
    biases, as what to suppress.

    Args:
      f: feature map, or image.
      weights: of both factors; the spatial filter of odd size.
      group: acts on the weights.
      over_group: whether the channels' statistics are over space and group instead of space alone.
      sampling: of filters, at other than right angles.

    Returns:
      The attention map, in (0, 1).

    Raises:
      ValueError: the weights do not fit `f` or `group`, or the spatial filter is of even size.

    Source: Woo et al. 2018 (arXiv 1807.06521), section 3.
    """
    check_input(f, group)
    check_boolean(over_group=over_group)
    check_tuple("convolutional block attention", weights, ConvolutionalBlockWeights)
    *batch, x, y, h, c = f.shape
    check_weights(
        "convolutional block attention",
        f,
        group,
        {
            **mlp_shapes(weights.channel, c, 1 if over_group else h, prefix="channel."),
            "spatial": (weights.spatial, ("k", "k", h, 2, 1)),
        },
    )
    highest = kernels.maximum(f.reshape(*batch, x * y, h, c), axis=-3)
    highest = jnp.expand_dims(kernels.maximum(highest, axis=-2), -2) if over_group else highest
    logits = mlp(jnp.stack([mean_statistic(f, over_group), highest]), weights.channel, group)
    alpha_c = over_space(jax.nn.sigmoid(logits[0] + logits[1]))
    return spatial_attention(alpha_c * f, weights.spatial, group, sampling=sampling) * alpha_c


def convolutional_block_weights(
    key: KeySource,
    features: int,
    group: Group,
    *,
    lifting: bool = False,
    reduction: int | None = None,
    kernel_size: int = 7,
    over_group: bool = False,
    dtype=jnp.float32,
) -> ConvolutionalBlockWeights:
    """Initial weights of `convolutional_block_attention`: `channel_uniform`, biases zero; `paper_uniform`.

    Options:
      reduction: channels over hidden channels; None: 16, or the number of channels where that is smaller.
      kernel_size: of the spatial filter, odd, in pixels.
    """
    hidden, next_key = hidden_channels(features, reduction), key_source(key)
    check_odd(kernel_size=kernel_size)
    channel = mlp_weights(next_key, features, hidden, group_axis(group, lifting, over_group), dtype)
    shape = (kernel_size, kernel_size, group_axis(group, lifting), 2, 1)
    return ConvolutionalBlockWeights(channel, paper_uniform(next_key(), shape, dtype))


OPERATOR = register(
    Operator(
        name="cbam",
        module="ConvolutionalBlockAttention",
        title="CBAM",
        init=convolutional_block_weights,
        apply=convolutional_block_attention,
        combination="scale",
        site="residual",
        source="Woo et al. 2018 (1807.06521)",
    )
)
