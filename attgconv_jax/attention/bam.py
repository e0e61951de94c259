"""Bottleneck attention (BAM): channels and positions side by side."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.attention import layers
from attgconv_jax.attention.operator import Norm, Operator, register
from attgconv_jax.bases import FilterBasis
from attgconv_jax.checks import check_choice, check_integer, check_odd
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
    combine: Literal["sum", "product"] = "sum",
    hidden_norms: Sequence[Callable] | None = None,
    channel_norm: Callable | None = None,
    spatial_norm: Callable | None = None,
    sampling: Sampling | FilterBasis = Sampling(),
) -> Float[Array, "*batch x y h c"]:
    """A weight for every channel and position, from a channel network and a stack of convolutions.

        alpha[x, h, c] = sigmoid(norm(mlp(mean over x of f))[h, c] + norm(spatial(f))[x, h])
        spatial(f) = expand * relu(norm(dilated * .. relu(norm(dilated * relu(norm(reduce * f))))))

    On a group: `mlp` is two 1x1 group convolutions, `*` a group convolution plus a bias. On an image `reduce` lifts,
    and the maximum over the group is taken before the norm. Over the group: the mean is over `x` and `h` and the
    channel weights have a group axis of 1. Made for the end of a stage of a network, where it emphasises,
    `(1 + alpha) f`.

    Options:
      combine: the branches; "product" multiplies them.
      hidden_norms: batch norms or the like, before the relu in `mlp` and before each in `spatial`, of arrays
        `[..., c_hid]` and `[..., c_mid]`; None: none. The paper's code has these, no others, and the product.
      channel_norm: batch norm or the like, of an array `[..., c]`; None: none.
      spatial_norm: batch norm or the like, of an array `[..., 1]`; None: none.

    Other arguments: see `attgconv_jax.attention`.
    Source: Park et al. 2018 (arXiv 1807.06514), section 3; relus between the convolutions as in its code.
    """
    layers.check_weights("bottleneck attention", f, weights, BottleneckWeights, group, over_group)
    dilation = check_integer("dilation", dilation)
    check_sampling(sampling)
    check_choice("combine", combine, ("sum", "product"))
    wanted = [weights.expand.shape[3]] * (1 + len(weights.dilated)) + [1]
    if (got := [len(bias) for bias in weights.biases]) != wanted:
        raise ValueError(
            f"bottleneck attention of {len(wanted)} convolutions takes {len(wanted)} biases, of lengths {wanted}; got "
            f"{len(got)}, of lengths {got}"
        )
    norms = [None] * len(wanted) if hidden_norms is None else list(hidden_norms)
    if len(norms) != len(wanted):
        raise ValueError(f"hidden_norms must be {len(wanted)}, one for each layer before a relu, got {len(norms)}")
    channel = layers.mlp(layers.mean_statistic(f, over_group), weights.channel, group, norms[0])
    channel = layers.over_space(channel if channel_norm is None else channel_norm(channel))

    def activated(spatial, norm):
        return jax.nn.relu(spatial if norm is None else norm(spatial))

    # Wide, because rounding moves some responses across the relu's kink, which changes gradients by several percent.
    spatial = add_bias(convolve_centred(wide(f), wide(weights.reduce), group), weights.biases[0])
    for w, bias, norm in zip(weights.dilated, weights.biases[1:-1], norms[1:-1], strict=True):
        hidden = activated(spatial, norm)
        spatial = add_bias(convolve_centred(hidden, wide(w), group, dilation, sampling=sampling), bias)
    hidden = activated(spatial, norms[-1])
    spatial = add_bias(convolve_centred(hidden, wide(weights.expand), group), weights.biases[-1])
    spatial = project_max(spatial) if f.shape[-2] == 1 else spatial
    spatial = spatial if spatial_norm is None else spatial_norm(spatial)
    return jax.nn.sigmoid(channel + spatial if combine == "sum" else channel * spatial).astype(f.dtype)


def bottleneck_weights(
    key,
    features,
    group,
    *,
    lifting=False,
    reduction: int | None = None,
    hidden_features: int | None = None,
    kernel_size: int = 3,
    over_group: bool = False,
    dtype=jnp.float32,
) -> BottleneckWeights:
    """Initial weights of `bottleneck_attention`: `channel_uniform`, filters `he_normal`, biases zero."""
    hidden, next_key = layers.hidden_channels(features, reduction, hidden_features), key_source(key)
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


def _hidden(weights):
    """The channels of the layers before a relu."""
    return len(weights.channel.w1), *(weights.expand.shape[3] for _ in weights.biases[:-1])


NORMS = {
    "hidden_norms": Norm(_hidden, default=None, pooled=1),
    "channel_norm": Norm(lambda weights: len(weights.channel.w2), pooled=1),
    "spatial_norm": lambda weights: 1,
}
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
