"""Bottleneck attention (BAM): channels and positions side by side."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.attention import layers
from attgconv_jax.attention.operator import Operator, register
from attgconv_jax.bases import FilterBasis
from attgconv_jax.checks import check_integer, check_odd
from attgconv_jax.convolution import add_bias, convolve_centred, project_max
from attgconv_jax.filters import Sampling, check_sampling, former_sampling
from attgconv_jax.groups import Group
from attgconv_jax.initializers import he_normal, key_source
from attgconv_jax.kernels.chunks import wide


class BottleneckWeights(NamedTuple):
    """The channel network, and the filters of the spatial branch with a bias each."""

    channel: layers.MLPWeights
    reduce: Float[Array, "1 1 h_in c c_mid"]
    dilated: tuple[Float[Array, "k k order c_mid c_mid"], ...]
    expand: Float[Array, "1 1 order c_mid 1"]
    biases: tuple[Float[Array, " _"], ...]


@former_sampling
def bottleneck_attention(
    f: Float[Array, "*batch x y h c"],
    weights: BottleneckWeights,
    group: Group,
    *,
    dilation: int = 4,
    over_group: bool = False,
    channel_norm: Callable | None = None,
    spatial_norm: Callable | None = None,
    sampling: Sampling | FilterBasis = Sampling(),
) -> Float[Array, "*batch x y h c"]:
    """A weight for every channel and position, from a channel network and a stack of convolutions.

        alpha[x, h, c] = sigmoid(norm(mlp(mean over x of f))[h, c] + norm(spatial(f))[x, h])
        spatial(f) = expand * relu(dilated * .. relu(dilated * relu(reduce * f)))

    On a group: `mlp` is two 1x1 group convolutions, `*` a group convolution plus a bias. On an image `reduce` lifts,
    and the maximum over the group is taken before the norm. Over the group: the mean is over `x` and `h` and the
    channel weights have a group axis of 1. Made for the end of a stage of a network, where it emphasises,
    `(1 + alpha) f`.

    Options:
      channel_norm: batch norm or the like, of an array `[..., c]`; None: none.
      spatial_norm: batch norm or the like, of an array `[..., 1]`; None: none.

    Other arguments: see `attgconv_jax.attention`.
    Source: Park et al. 2018 (arXiv 1807.06514), section 3; relus between the convolutions as in its code.
    """
    layers.check_weights("bottleneck attention", f, weights, BottleneckWeights, group, over_group)
    dilation = check_integer("dilation", dilation)
    check_sampling(sampling)
    wanted = [weights.expand.shape[3]] * (1 + len(weights.dilated)) + [1]
    if (got := [len(bias) for bias in weights.biases]) != wanted:
        raise ValueError(
            f"bottleneck attention of {len(wanted)} convolutions takes {len(wanted)} biases, of lengths {wanted}; got "
            f"{len(got)}, of lengths {got}"
        )
    channel = layers.mlp(layers.mean_statistic(f, over_group), weights.channel, group)
    channel = layers.over_space(channel if channel_norm is None else channel_norm(channel))
    # Wide, because rounding moves some responses across the relu's kink, which changes gradients by several percent.
    spatial = add_bias(convolve_centred(wide(f), wide(weights.reduce), group), weights.biases[0])
    for w, bias in zip(weights.dilated, weights.biases[1:-1], strict=True):
        spatial = add_bias(convolve_centred(jax.nn.relu(spatial), wide(w), group, dilation, sampling=sampling), bias)
    spatial = add_bias(convolve_centred(jax.nn.relu(spatial), wide(weights.expand), group), weights.biases[-1])
    spatial = project_max(spatial) if f.shape[-2] == 1 else spatial
    return jax.nn.sigmoid(channel + (spatial if spatial_norm is None else spatial_norm(spatial))).astype(f.dtype)


def bottleneck_weights(
    key,
    features,
    group,
    *,
    lifting=False,
    reduction: int | None = None,
    kernel_size: int = 3,
    over_group: bool = False,
    dtype=jnp.float32,
) -> BottleneckWeights:
    """Initial weights of `bottleneck_attention`: `channel_uniform`, filters `he_normal`, biases zero."""
    hidden, next_key = layers.hidden_channels(features, reduction), key_source(key)
    check_odd(kernel_size=kernel_size)

    def filters(*shape):
        return he_normal(next_key(), shape, dtype)

    return BottleneckWeights(
        channel=layers.mlp_weights(next_key, features, hidden, layers.group_axis(group, lifting, over_group), dtype),
        reduce=filters(1, 1, layers.group_axis(group, lifting), features, hidden),
        dilated=tuple(filters(kernel_size, kernel_size, group.order, hidden, hidden) for _ in range(2)),
        expand=filters(1, 1, group.order, hidden, 1),
        biases=tuple(jnp.zeros(n, dtype) for n in (hidden, hidden, hidden, 1)),
    )


NORMS = {"channel_norm": lambda weights: len(weights.channel.w2), "spatial_norm": lambda weights: 1}
OPERATOR = register(
    Operator(
        "bam",
        "BottleneckAttention",
        "BAM",
        bottleneck_weights,
        bottleneck_attention,
        combination="emphasise",
        site="stage",
        norms=NORMS,
    )
)
