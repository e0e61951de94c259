"""Squeeze-and-Excitation: a weight a channel, from all channels' means."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.attention.layers import (
    MLPWeights,
    check_weights,
    group_axis,
    hidden_channels,
    mean_statistic,
    mlp,
    mlp_weights,
    over_space,
)
from attgconv_jax.attention.operator import Operator, register
from attgconv_jax.groups import Group
from attgconv_jax.initializers import key_source


def squeeze_excitation(
    f: Float[Array, "*batch x y h c"], weights: MLPWeights, group: Group, *, over_group: bool = False
) -> Float[Array, "*batch 1 1 #h c"]:
    """A weight for every channel of every group element, from the means of all.

        alpha[h, c] = sigmoid(mlp(mean over x of f)[h, c]),    mlp(s) = W2 relu(W1 s + b1) + b2

    On a group: each layer of `mlp` is a 1x1 group convolution over `(h', c)` jointly, with weights `W(g^-1 h')`; biases
    have no group axis. Over the group: the mean is over `x` and `h`, the network an ordinary one, and all group
    elements share a weight. Made to scale the last responses of a residual branch, `alpha f`.

    Arguments: see `attgconv_jax.attention`.
    Source: Hu et al. 2018 (arXiv 1709.01507), section 3.
    """
    check_weights("squeeze-and-excitation", f, weights, MLPWeights, group, over_group)
    return over_space(jax.nn.sigmoid(mlp(mean_statistic(f, over_group), weights, group))).astype(f.dtype)


def squeeze_excitation_weights(
    key,
    features,
    group,
    *,
    lifting=False,
    reduction: int | None = None,
    hidden_features: int | None = None,
    over_group: bool = False,
    dtype=jnp.float32,
) -> MLPWeights:
    """Initial weights of `squeeze_excitation`: `channel_uniform`, biases zero."""
    hidden, h = hidden_channels(features, reduction, hidden_features), group_axis(group, lifting, over_group)
    return mlp_weights(key_source(key), features, hidden, h, dtype)


OPERATOR = register(
    Operator("se", "SqueezeExcitation", "Squeeze-and-Excitation", squeeze_excitation_weights, squeeze_excitation)
)
