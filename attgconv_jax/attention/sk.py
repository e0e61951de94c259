"""Selective Kernel: which of several filter sizes each channel listens to."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.attention import layers
from attgconv_jax.attention.operator import Norm, Operator, register
from attgconv_jax.checks import check_integer
from attgconv_jax.groups import Group
from attgconv_jax.initializers import channel_uniform, key_source


class SelectiveKernelWeights(NamedTuple):
    """What reduces the channels, and for every branch what brings them back."""

    w1: Float[Array, "c_hid c h"]
    w2: Float[Array, "branches c c_hid h"]


def selective_kernel(
    f: Float[Array, "*batch x y h c"],
    weights: SelectiveKernelWeights,
    group: Group,
    *,
    over_group: bool = False,
    norm: Callable | None = None,
) -> Float[Array, "branches *batch 1 1 #h c"]:
    """The share of every branch in every channel, from the sum `f` of the branches' responses `r_b`.

        alpha_b[h, c] = softmax over b of  W2_b relu(norm(W1 mean over x of f)),     y = sum over b of alpha_b r_b

    On a group: `W1` and `W2` are 1x1 group convolutions over `(h', c)`. Over the group: the mean is over `x` and `h`,
    and all group elements share the choice. Acts on responses: it takes the place of a convolution by several.

    Arguments: see `attgconv_jax.attention`.
    Source: Li et al. 2019 (arXiv 1903.06586), section 3.1.
    """
    layers.check_weights("selective kernel", f, weights, SelectiveKernelWeights, group, over_group)
    hidden = layers.group_linear(layers.mean_statistic(f, over_group), weights.w1, group)
    hidden = jax.nn.relu(hidden if norm is None else norm(hidden))
    logits = jnp.stack([layers.group_linear(hidden, w, group) for w in weights.w2])
    return layers.over_space(jax.nn.softmax(logits, axis=0)).astype(f.dtype)


def selective_kernel_weights(
    key,
    features,
    group,
    *,
    branches: int = 2,
    reduction: int | None = None,
    hidden_features: int | None = None,
    over_group: bool = False,
    dtype=jnp.float32,
) -> SelectiveKernelWeights:
    """Initial weights of `selective_kernel`: `channel_uniform`.

    Options:
      branches: how many, 2 at least.
    """
    check_integer("branches", branches, 2)
    hidden, next_key = layers.hidden_channels(features, reduction, hidden_features), key_source(key)
    h = layers.group_axis(group, lifting=False, over_group=over_group)
    w1 = channel_uniform(next_key(), (hidden, features, h), dtype)
    w2 = [channel_uniform(next_key(), (features, hidden, h), dtype) for _ in range(branches)]
    return SelectiveKernelWeights(w1, jnp.stack(w2))


OPERATOR = register(
    Operator(
        "sk",
        "SelectiveKernelGroupConv",
        "Selective Kernel",
        selective_kernel_weights,
        selective_kernel,
        combination="choose",
        site="response",
        norms={"norm": Norm(lambda weights: len(weights.w1), pooled=1)},
    )
)
