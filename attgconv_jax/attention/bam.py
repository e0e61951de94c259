"""Bottleneck attention (BAM): channels and positions side by side."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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
from attgconv_jax.checks import check_boolean, check_integer, check_odd
from attgconv_jax.convolution import add_bias, group_conv, project_max
from attgconv_jax.filters import Sampling, former_sampling
from attgconv_jax.groups import Group
from attgconv_jax.initializers import KeySource, he_normal, key_source


class BottleneckWeights(NamedTuple):
    """The channel network, and the filters of the spatial branch with a bias each."""

    channel: MLPWeights
    reduce: Float[Array, "1 1 h c c_hid"]
    dilated: tuple[Float[Array, "k k order c_hid c_hid"], ...]
    expand: Float[Array, "1 1 order c_hid 1"]
    biases: tuple[Float[Array, " c_out"], ...]


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
    sampling: Sampling = Sampling(),
) -> Float[Array, "*batch x y h c"]:
    """A weight for every channel and position, from a channel network and a stack of convolutions.

        alpha[x, h, c] = sigmoid(norm(mlp(mean over x of f))[h, c] + norm(spatial(f))[x, h])
        spatial(f) = expand * relu(dilated * .. relu(dilated * relu(reduce * f)))

    On a group: `mlp` is two 1x1 group convolutions, `*` a group convolution plus a bias. On an image `reduce` lifts,
    and the maximum over the group is taken before the norm. Over the group: the mean is over `x` and `h` and the
    channel weights have a group axis of 1. Made for the end of a stage of a network, where it emphasises,
    `(1 + alpha) f`.

    Args:
      f: feature map, or image.
      weights: of both branches; the filters `dilated` of odd size.
      group: acts on the weights.
      dilation: of the filters `dilated`, in pixels.
      over_group: whether the mean is over space and group instead of space alone.
      channel_norm: batch norm or the like, of an array `[..., c]`; None: none.
      spatial_norm: batch norm or the like, of an array `[..., 1]`; None: none.
      sampling: of filters, at other than right angles.

    Returns:
      The attention map, in (0, 1).

    Raises:
      ValueError: the weights do not fit `f` or `group`, or filters are of even size.

    Source: Park et al. 2018 (arXiv 1807.06514), section 3; relus between the convolutions as in its code.
    """
    check_input(f, group)
    check_boolean(over_group=over_group)
    dilation = check_integer("dilation", dilation)
    check_tuple("bottleneck attention", weights, BottleneckWeights)
    h, c = f.shape[-2:]
    order, layers = group.order, 2 + len(weights.dilated)
    if len(weights.biases) != layers:
        raise ValueError(
            f"bottleneck attention of {layers} convolutions takes {layers} biases, got {len(weights.biases)}"
        )
    hidden = [f"dilated[{i}]" for i in range(layers - 2)]
    filters = zip(hidden, weights.dilated, strict=True)
    biases = zip(["reduce", *hidden], weights.biases, strict=False)
    check_weights(
        "bottleneck attention",
        f,
        group,
        {
            **mlp_shapes(weights.channel, c, 1 if over_group else h, prefix="channel."),
            "reduce": (weights.reduce, (1, 1, h, c, "c_mid")),
            **{name: (w, ("k", "k", order, "c_mid", "c_mid")) for name, w in filters},
            "expand": (weights.expand, (1, 1, order, "c_mid", 1)),
            **{f"bias of {name}": (bias, ("c_mid",)) for name, bias in biases},
            "bias of expand": (weights.biases[-1], (1,)),
        },
    )
    if any(w.shape[0] % 2 == 0 for w in weights.dilated):
        raise ValueError("bottleneck attention takes dilated filters of odd size, or attention is off centre")
    channel = over_space(_normed(mlp(mean_statistic(f, over_group), weights.channel, group), channel_norm))
    spatial = add_bias(group_conv(f, weights.reduce, group), weights.biases[0])
    for w, bias in zip(weights.dilated, weights.biases[1:-1], strict=True):
        padding = dilation * (w.shape[0] // 2)
        options = dict(padding=padding, dilation=dilation, sampling=sampling)
        spatial = add_bias(group_conv(jax.nn.relu(spatial), w, group, **options), bias)
    spatial = add_bias(group_conv(jax.nn.relu(spatial), weights.expand, group), weights.biases[-1])
    return jax.nn.sigmoid(channel + _normed(project_max(spatial) if h == 1 else spatial, spatial_norm))


def _normed(logits, norm):
    return logits if norm is None else norm(logits)


def bottleneck_weights(
    key: KeySource,
    features: int,
    group: Group,
    *,
    lifting: bool = False,
    reduction: int | None = None,
    kernel_size: int = 3,
    over_group: bool = False,
    dtype=jnp.float32,
) -> BottleneckWeights:
    """Initial weights of `bottleneck_attention`: `channel_uniform`, filters `he_normal`, biases zero.

    Options:
      reduction: channels over hidden channels; None: 16, or the number of channels where that is smaller.
      kernel_size: of the two dilated filters, odd, in pixels.
    """
    hidden, next_key = hidden_channels(features, reduction), key_source(key)
    check_odd(kernel_size=kernel_size)

    def filters(*shape):
        return he_normal(next_key(), shape, dtype)

    return BottleneckWeights(
        channel=mlp_weights(next_key, features, hidden, group_axis(group, lifting, over_group), dtype),
        reduce=filters(1, 1, group_axis(group, lifting), features, hidden),
        dilated=tuple(filters(kernel_size, kernel_size, group.order, hidden, hidden) for _ in range(2)),
        expand=filters(1, 1, group.order, hidden, 1),
        biases=tuple(jnp.zeros(n, dtype) for n in (hidden, hidden, hidden, 1)),
    )


OPERATOR = register(
    Operator(
        name="bam",
        module="BottleneckAttention",
        title="BAM",
        init=bottleneck_weights,
        apply=bottleneck_attention,
        combination="emphasise",
        site="stage",
        source="Park et al. 2018 (1807.06514)",
        norms={"channel_norm": lambda weights: len(weights.channel.w2), "spatial_norm": lambda weights: 1},
    )
)
