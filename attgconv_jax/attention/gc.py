"""Global Context: what the image holds where a filter finds it, added everywhere."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.attention.layers import check_weights, group_axis, group_linear, hidden_channels, over_space
from attgconv_jax.attention.operator import Operator, register
from attgconv_jax.checks import check_boolean, check_choice, check_finite_positive, check_integer
from attgconv_jax.convolution import add_bias
from attgconv_jax.groups import Group
from attgconv_jax.initializers import channel_uniform, key_source
from attgconv_jax.kernels.chunks import wide


class GlobalContextWeights(NamedTuple):
    """The key that weighs positions, and a network with a layer norm; `h` is 1 over the group, but for the key."""

    key: Float[Array, "1 c h_in"]
    w1: Float[Array, "c_hid c h"]
    scale: Float[Array, " c_hid"]
    shift: Float[Array, " c_hid"]
    w2: Float[Array, "c c_hid h"]
    b1: Float[Array, " c_hid"] | None = None
    b2: Float[Array, " c"] | None = None
    key_bias: Float[Array, " 1"] | None = None


def global_context(
    f: Float[Array, "*batch x y h c"],
    weights: GlobalContextWeights,
    group: Group,
    *,
    over_group: bool = False,
    epsilon: float = 1e-5,
    combination: Literal["add", "scale"] = "add",
) -> Float[Array, "*batch 1 1 #h c"]:
    """What is added to every position, or scales it, from a weighted mean over all.

        p[x, h] = softmax over x of ((key f)[x, h] + key_bias)
        s[h, c] = sum over x of p[x, h] f[x, h, c]
        alpha[h, c] = W2 relu(scale norm(W1 s + b1) + shift) + b2,    norm over the hidden channels

    On a group: `key`, `W1` and `W2` are 1x1 group convolutions. Over the group: softmax and sum are over `x` and `h`.
    Made for the last responses of a residual branch; it is no factor but a term, `f + alpha`. The softmax cancels
    `key_bias`, which is there to hold published weights.

    Options:
      epsilon: added to the variance of the layer norm.
      combination: "scale" makes the sigmoid of `alpha`, and `alpha f` of it.

    Other arguments: see `attgconv_jax.attention`.
    Source: Cao et al. 2019 (arXiv 1904.11492), section 3.
    """
    check_weights("global context", f, weights, GlobalContextWeights, group, over_group)
    if weights.w1.shape[0] < 2:
        raise ValueError("global context takes 2 hidden channels at least: a layer norm over one leaves nothing of it")
    check_finite_positive(epsilon=epsilon)
    check_choice("combination", combination, ("add", "scale"))
    axes = (-4, -3, -2) if over_group else (-4, -3)
    p = jax.nn.softmax(wide(group_linear(f, weights.key, group, weights.key_bias)), axis=axes)
    s = jnp.sum(p * wide(f), axis=(-4, -3))
    s = jnp.sum(s, axis=-2, keepdims=True) if over_group else s
    hidden = jax.nn.standardize(
        group_linear(s, weights.w1, group, weights.b1), axis=-1, epsilon=epsilon, algorithm="stable"
    )
    scale = jnp.expand_dims(wide(weights.scale), range(hidden.ndim - 1))
    hidden = jax.nn.relu(add_bias(scale * hidden, weights.shift))
    alpha = group_linear(hidden, weights.w2, group, weights.b2)
    return over_space(jax.nn.sigmoid(alpha) if combination == "scale" else alpha).astype(f.dtype)


def global_context_weights(
    key,
    features,
    group,
    *,
    lifting=False,
    reduction: int | None = None,
    hidden_features: int | None = None,
    use_key_bias: bool = False,
    over_group: bool = False,
    dtype=jnp.float32,
) -> GlobalContextWeights:
    """Initial weights of `global_context`: `channel_uniform`, the last layer zero.

    Options:
      reduction: channels over hidden channels; None: 16, or as many as leave four hidden channels. The layer norm takes
        the mean away and divides by the deviation: of two hidden channels it leaves little more than signs.
      use_key_bias: whether the key has a bias.
    """
    hidden = hidden_channels(features, reduction, hidden_features)
    check_boolean(use_key_bias=use_key_bias)
    if hidden_features is not None:
        check_integer("hidden_features", hidden_features, 2)
    elif reduction is None:
        hidden = max(hidden, min(4, features))
    if hidden < 2:
        raise ValueError(
            "global context needs 2 hidden channels at least, or its layer norm leaves nothing: reduction must be at "
            f"most half of the {features} channels, got {reduction}"
        )
    next_key, h = key_source(key), group_axis(group, lifting, over_group)
    return GlobalContextWeights(
        key=channel_uniform(next_key(), (1, features, group_axis(group, lifting)), dtype),
        w1=channel_uniform(next_key(), (hidden, features, h), dtype),
        scale=jnp.ones(hidden, dtype),
        shift=jnp.zeros(hidden, dtype),
        w2=jnp.zeros((features, hidden, h), dtype),
        b1=jnp.zeros(hidden, dtype),
        b2=jnp.zeros(features, dtype),
        key_bias=jnp.zeros(1, dtype) if use_key_bias else None,
    )


OPERATOR = register(
    Operator("gc", "GlobalContext", "Global Context", global_context_weights, global_context, combination="add")
)
