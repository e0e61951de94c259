"""Global Context: what the image holds where a filter finds it, added everywhere."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.attention.mlp import check_epsilon, check_tuple, check_weights, group_linear, over_space
from attgconv_jax.groups import Group


class GlobalContextWeights(NamedTuple):
    """The key that weighs positions, and a network with a layer norm; `h` is 1 over the group, but for the key."""

    key: Float[Array, "1 c h_in"]
    w1: Float[Array, "c_hid c h"]
    scale: Float[Array, " c_hid"]
    shift: Float[Array, " c_hid"]
    w2: Float[Array, "c c_hid h"]
    b1: Float[Array, " c_hid"] | None = None
    b2: Float[Array, " c"] | None = None


def global_context(
    f: Float[Array, "*batch x y h c"],
    weights: GlobalContextWeights,
    group: Group,
    *,
    over_group: bool = False,
    epsilon: float = 1e-5,
) -> Float[Array, "*batch 1 1 #h c"]:
    """What is added to every position, from a weighted mean over all.

        p[x, h] = softmax over x of (key f)[x, h]
        s[h, c] = sum over x of p[x, h] f[x, h, c]
        alpha[h, c] = W2 relu(scale norm(W1 s + b1) + shift) + b2,    norm over the hidden channels

    On a group: `key`, `W1` and `W2` are 1x1 group convolutions. Over the group: softmax and sum are over `x` and `h`.
    Made for the last responses of a residual branch; it is no factor but a term, `f + alpha`.

    Args:
      f: feature map, or image.
      weights: of key and network.
      group: acts on the weights.
      over_group: whether the mean is over space and group instead of space alone.
      epsilon: added to the variance of the layer norm.

    Returns:
      The term.

    Raises:
      ValueError: the weights do not fit `f` or `group`, or there is one hidden channel, of which the norm leaves
        nothing.

    Source: Cao et al. 2019 (arXiv 1904.11492), section 3.
    """
    check_tuple("global context", weights, GlobalContextWeights)
    h_in, c = f.shape[-2:]
    h = 1 if over_group else h_in
    check_weights(
        "global context",
        f,
        group,
        {
            "key": (weights.key, (1, c, h_in)),
            "w1": (weights.w1, ("c_hid", c, h)),
            "scale": (weights.scale, ("c_hid",)),
            "shift": (weights.shift, ("c_hid",)),
            "w2": (weights.w2, (c, "c_hid", h)),
            "b1": (weights.b1, ("c_hid",)),
            "b2": (weights.b2, (c,)),
        },
        optional=("b1", "b2"),
    )
    if weights.w1.shape[0] < 2:
        raise ValueError("global context takes 2 hidden channels at least: a layer norm over one leaves nothing of it")
    check_epsilon(epsilon)
    axes = (-4, -3, -2) if over_group else (-4, -3)
    p = jax.nn.softmax(group_linear(f, weights.key, group), axis=axes)
    s = jnp.sum(p * f, axis=(-4, -3))
    s = jnp.sum(s, axis=-2, keepdims=True) if over_group else s
    hidden = jax.nn.standardize(
        group_linear(s, weights.w1, group, weights.b1), axis=-1, epsilon=epsilon, algorithm="stable"
    )
    hidden = jax.nn.relu(weights.scale * hidden + weights.shift)
    return over_space(group_linear(hidden, weights.w2, group, weights.b2))
