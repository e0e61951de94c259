"""Channel attention on the input, `alpha_C` of the attentive paper."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax import kernels
from attgconv_jax.attention.layers import check_input, check_tuple, check_weights, group_linear
from attgconv_jax.groups import Group


class ChannelWeights(NamedTuple):
    """Weights of the attention's network `mlp(s) = w2 relu(w1 s)`; on images `h` is 1."""

    w1: Float[Array, "c_hid c h"]
    w2: Float[Array, "c c_hid h"]


def channel_attention(
    f: Float[Array, "*batch x y h c"], weights: ChannelWeights, group: Group
) -> Float[Array, "*batch 1 1 h c"]:
    """How much each channel of each group element matters.

        alpha_C[h, c] = sigmoid(mlp(mean over x of f) + mlp(max over x of f)),    mlp(s) = w2 relu(w1 s)

    Each layer of `mlp` is a 1x1 group convolution over `(h', c)` jointly: element `g` uses `W(g^-1 h')`, no bias, no
    Haar weight.

    Args:
      f: feature map, or image.
      weights: of the network.
      group: acts on the weights.

    Returns:
      The attention map, in (0, 1).

    Raises:
      ValueError: the weights do not fit `f` or `group`.

    Source: Romero et al. 2020, sections 3.2 and 3.3.
    """
    check_input(f, group)
    check_tuple("channel attention", weights, ChannelWeights)
    h, c = f.shape[-2:]
    shapes = {"w1": (weights.w1, ("c_hid", c, h)), "w2": (weights.w2, (c, "c_hid", h))}
    check_weights("channel attention", f, group, shapes)
    *batch, x, y, h, c = f.shape
    mean = jnp.mean(f, axis=(-4, -3))
    highest = kernels.maximum(f.reshape(*batch, x * y, h, c), axis=-3)
    hidden = jax.nn.relu(group_linear(jnp.stack([mean, highest]), weights.w1, group))
    mlp = group_linear(hidden, weights.w2, group)
    return jax.nn.sigmoid(mlp[0] + mlp[1])[..., None, None, :, :]
