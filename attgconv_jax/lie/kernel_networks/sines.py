"""SIREN: a network of sines."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.initializers import draw_uniform
from attgconv_jax.lie.kernel_networks.base import Axes, KernelNetwork, Linear, check_layers


class SirenWeights(NamedTuple):
    """Of `siren`."""

    hidden: tuple[Linear, ...]
    out: Linear


def siren(
    x: Float[Array, "*shape d"], weights: SirenWeights, *, first_frequency: float = 10.0, frequency: float = 10.0
) -> Float[Array, "*shape m"]:
    """A network of sines: `z_i = sin(frequency_i (z_{i-1} W_i + b_i))`, then a linear layer.

    Frequencies are in radians a unit: the first layer's, and that of the other hidden layers.

    Source: Sitzmann et al. 2020 (SIREN), section 3.1; Knigge et al. 2022, appendix B.
    """
    for i, layer in enumerate(weights.hidden):
        x = jnp.sin((frequency if i else first_frequency) * layer(x))
    return weights.out(x)


def siren_weights(
    key: Array,
    axes: Axes,
    m: int,
    fan: int,
    dtype=jnp.float32,
    *,
    hidden_features: int = 64,
    hidden_layers: int = 1,
    first_frequency: float = 10.0,
    frequency: float = 10.0,
) -> SirenWeights:
    """Of `siren`, with `d` coordinates: uniform in the bounds below; the other biases are zero.

        first layer   weights +-1 / d                       biases +-1 / sqrt(d)
        hidden layer  weights +-sqrt(6 / hidden) / frequency
        last layer    weights +-sqrt(6 / hidden) / sqrt(fan)

    Options:
      hidden_features: of every hidden layer.
      hidden_layers: after the first.
      first_frequency: of the first layer; not of its bounds. Kernels of a lower one vary less between pixels: from
        10 down to 5 fresh layers commute ever better with rotations and scalings that do not map pixels to pixels.
      frequency: of the hidden layers.

    Source: Sitzmann et al. 2020, section 3.2; Knigge et al. 2022, appendix B, and its code.
    """
    check_layers(hidden_features, hidden_layers, first_frequency=first_frequency, frequency=frequency)
    keys = iter(jax.random.split(key, hidden_layers + 3))
    d, n, zeros, bound = axes.count, hidden_features, jnp.zeros(hidden_features, dtype), math.sqrt(6 / hidden_features)
    w = draw_uniform(next(keys), (d, n), 1 / d, dtype)
    first = Linear(w, draw_uniform(next(keys), (n,), 1 / math.sqrt(d), dtype))
    hidden = [Linear(draw_uniform(next(keys), (n, n), bound / frequency, dtype), zeros) for _ in range(hidden_layers)]
    out = draw_uniform(next(keys), (n, m), bound / math.sqrt(fan), dtype)
    return SirenWeights((first, *hidden), Linear(out, jnp.zeros(m, dtype)))


SIREN = KernelNetwork("siren", siren, siren_weights, needs={"frequency": "hidden_layers"})
