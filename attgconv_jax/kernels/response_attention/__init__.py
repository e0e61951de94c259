"""Response attention: attention during the convolution, without the responses."""

from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.kernels.response_attention import reference, xla
from attgconv_jax.kernels.taps import Window

Implementation = Literal["reference", "xla"]

_IMPLEMENTATIONS = {"xla": xla, "reference": reference}


class ChannelBank(NamedTuple):
    """Weights of `mlp(s) = w2 relu(w1 s)` for every input group element and filter."""

    w1: Float[Array, "h m c_hid c"]
    w2: Float[Array, "h m c c_hid"]
