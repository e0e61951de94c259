"""Selective Kernel: which of several filter sizes each channel listens to."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.attention.layers import (
    check_input,
    check_tuple,
    check_weights,
    group_axis,
    group_linear,
    hidden_channels,
    mean_statistic,
    over_space,
)
from attgconv_jax.attention.operator import Operator, register
from attgconv_jax.checks import check_boolean, check_integer
from attgconv_jax.groups import Group
from attgconv_jax.initializers import KeySource, channel_uniform, key_source


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

    Args:
      f: sum of the branches' responses.
      weights: of the choice; group axis 1 on images and over the group.
      group: acts on the weights.
      over_group: whether the mean is over space and group instead of space alone.
      norm: batch norm or the like, of an array `[..., c_hid]`; None: none.

    Returns:
      A map a branch; they add up to 1.

    Raises:
      ValueError: the weights do not fit `f` or `group`.

    Source: Li et al. 2019 (arXiv 1903.06586), section 3.1.
    """
    check_input(f, group)
    check_boolean(over_group=over_group)
    check_tuple("selective kernel", weights, SelectiveKernelWeights)
    h, c = 1 if over_group else f.shape[-2], f.shape[-1]
    shapes = {"w1": (weights.w1, ("c_hid", c, h)), "w2": (weights.w2, ("branches", c, "c_hid", h))}
    check_weights("selective kernel", f, group, shapes)
    hidden = group_linear(mean_statistic(f, over_group), weights.w1, group)
    hidden = jax.nn.relu(hidden if norm is None else norm(hidden))
    logits = jnp.stack([group_linear(hidden, w, group) for w in weights.w2])
    return over_space(jax.nn.softmax(logits, axis=0))


def selective_kernel_weights(
    key: KeySource,
    features: int,
    group: Group,
    *,
    branches: int = 2,
    reduction: int | None = None,
    over_group: bool = False,
    dtype=jnp.float32,
) -> SelectiveKernelWeights:
    """Initial weights of `selective_kernel`: `channel_uniform`.

    Options:
      branches: how many, 2 at least.
      reduction: channels over hidden channels; None: 16, or the number of channels where that is smaller.
    """
    check_integer("branches", branches, 2)
    hidden, h, next_key = hidden_channels(features, reduction), group_axis(group, False, over_group), key_source(key)
    w1 = channel_uniform(next_key(), (hidden, features, h), dtype)
    w2 = [channel_uniform(next_key(), (features, hidden, h), dtype) for _ in range(branches)]
    return SelectiveKernelWeights(w1, jnp.stack(w2))


OPERATOR = register(
    Operator(
        name="sk",
        module="SelectiveKernelGroupConv",
        title="Selective Kernel",
        init=selective_kernel_weights,
        apply=selective_kernel,
        combination="choose",
        site="response",
        source="Li et al. 2019 (1903.06586)",
        norms={"norm": lambda weights: len(weights.w1)},
    )
)
