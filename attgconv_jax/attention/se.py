"""Squeeze-and-Excitation: a weight a channel, from all channels' means."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.attention.layers import (
    MLPWeights,
    check_input,
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
from attgconv_jax.checks import check_boolean
from attgconv_jax.groups import Group
from attgconv_jax.initializers import KeySource, key_source


def squeeze_excitation(
    f: Float[Array, "*batch x y h c"], weights: MLPWeights, group: Group, *, over_group: bool = False
) -> Float[Array, "*batch 1 1 #h c"]:
    """A weight for every channel of every group element, from the means of all.

        alpha[h, c] = sigmoid(mlp(mean over x of f)[h, c]),    mlp(s) = W2 relu(W1 s + b1) + b2

    On a group: each layer of `mlp` is a 1x1 group convolution over `(h', c)` jointly, with weights `W(g^-1 h')`; biases
    have no group axis. Over the group: the mean is over `x` and `h`, the network an ordinary one, and all group
    elements share a weight. Made to scale the last responses of a residual branch, `alpha f`.

    Args:
      f: feature map, or image.
      weights: of the network; group axis 1 on images and over the group.
      group: acts on the weights.
      over_group: whether the mean is over space and group instead of space alone.

    Returns:
      The attention map, in (0, 1).

    Raises:
      ValueError: the weights do not fit `f` or `group`.

    Source: Hu et al. 2018 (arXiv 1709.01507), section 3.
    """
    check_input(f, group)
    check_boolean(over_group=over_group)
    h = 1 if over_group else f.shape[-2]
    check_weights("squeeze-and-excitation", f, group, mlp_shapes(weights, f.shape[-1], h))
    return over_space(jax.nn.sigmoid(mlp(mean_statistic(f, over_group), weights, group)))


def squeeze_excitation_weights(
    key: KeySource,
    features: int,
    group: Group,
    *,
    lifting: bool = False,
    reduction: int | None = None,
    over_group: bool = False,
    dtype=jnp.float32,
) -> MLPWeights:
    """Initial weights of `squeeze_excitation`: `channel_uniform`, biases zero.

    Options:
      reduction: channels over hidden channels; None: 16, or the number of channels where that is smaller.
    """
    hidden, h = hidden_channels(features, reduction), group_axis(group, lifting, over_group)
    return mlp_weights(key_source(key), features, hidden, h, dtype)


OPERATOR = register(
    Operator(
        name="se",
        module="SqueezeExcitation",
        title="Squeeze-and-Excitation",
        init=squeeze_excitation_weights,
        apply=squeeze_excitation,
        combination="scale",
        site="residual",
        source="Hu et al. 2018 (1709.01507)",
    )
)
