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

    Args:
      x: coordinates, of size about one.
      weights: of the hidden layers and the last.
      first_frequency: of the first layer, radians a unit.
      frequency: of the other hidden layers.

    Returns:
      Values of the kernel.

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

    Args:
      key: of the draws.
      axes: the coordinates.
      m: values of the kernel.
      fan: products that the kernel's convolution adds up.
      dtype: of the weights.
      hidden_features: of every hidden layer.
      hidden_layers: after the first.
      first_frequency: of the first layer; not of its bounds. Kernels of a lower one vary less between pixels: from
        10 down to 5 fresh layers commute ever better with rotations and scalings that do not map pixels to pixels.
      frequency: of the hidden layers.

    Returns:
      The weights.

    Raises:
      ValueError: an option is out of range.

    Source: Sitzmann et al. 2020, section 3.2; Knigge et al. 2022, appendix B, and its code.
    """
    check_layers(hidden_features, hidden_layers, first_frequency=first_frequency, frequency=frequency)
    d, keys = axes.count, iter(jax.random.split(key, hidden_layers + 3))
    zeros = jnp.zeros(hidden_features, dtype)
    bound = math.sqrt(6 / hidden_features)
    first = Linear(
        draw_uniform(next(keys), (d, hidden_features), 1 / d, dtype),
        draw_uniform(next(keys), (hidden_features,), 1 / math.sqrt(d), dtype),
    )
    hidden = [
        Linear(draw_uniform(next(keys), (hidden_features, hidden_features), bound / frequency, dtype), zeros)
        for _ in range(hidden_layers)
    ]
    out = draw_uniform(next(keys), (hidden_features, m), bound / math.sqrt(fan), dtype)
    return SirenWeights((first, *hidden), Linear(out, jnp.zeros(m, dtype)))


SIREN = KernelNetwork(
    name="siren",
    function=siren,
    init=siren_weights,
    needs={"frequency": "hidden_layers"},
)
