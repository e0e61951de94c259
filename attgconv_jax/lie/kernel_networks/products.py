"""Multiplicative filter networks: products of sines."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.initializers import draw_uniform
from attgconv_jax.lie.kernel_networks.base import Axes, KernelNetwork, Linear, check_layers, normal


class MultiplicativeWeights(NamedTuple):
    """Of `multiplicative_filter_network`: one filter more than hidden layers."""

    filters: tuple[Linear, ...]
    hidden: tuple[Linear, ...]
    out: Linear


def multiplicative_filter_network(
    x: Float[Array, "*shape d"], weights: MultiplicativeWeights
) -> Float[Array, "*shape m"]:
    """Products of sines: `z_0 = g_0(x)`, `z_i = (z_{i-1} W_i + b_i) g_i(x)` with `g_i(x) = sin(x F_i + p_i)`, linear.

    Source: Fathony et al. 2021, section 3.1 (FourierNet).
    """
    first, *others = [jnp.sin(wave(x)) for wave in weights.filters]
    z = first
    for layer, wave in zip(weights.hidden, others, strict=True):
        z = layer(z) * wave
    return weights.out(z)


def multiplicative_weights(
    key: Array,
    axes: Axes,
    m: int,
    fan: int,
    dtype=jnp.float32,
    *,
    hidden_features: int = 64,
    hidden_layers: int = 1,
    frequency: float = 6.0,
) -> MultiplicativeWeights:
    """Of `multiplicative_filter_network`: waves uniform in frequency and phase, He's normal weights, biases zero.

    Frequencies are uniform in `+-frequency / (layers + 1)`, since a product of waves adds up their frequencies.

    Options:
      hidden_features: of every layer.
      hidden_layers: how many products of waves.
      frequency: the largest along one coordinate, radians a unit.

    Source: Fathony et al. 2021, section 3.1; the bounds are our own.
    """
    check_layers(hidden_features, hidden_layers, frequency=frequency)
    keys = iter(jax.random.split(key, 3 * hidden_layers + 3))
    bound, zeros, n = frequency / (hidden_layers + 1), jnp.zeros(hidden_features, dtype), hidden_features
    waves = [
        Linear(draw_uniform(next(keys), (axes.count, n), bound, dtype), draw_uniform(next(keys), (n,), math.pi, dtype))
        for _ in range(hidden_layers + 1)
    ]
    # The square of a sine is 1/2 on average.
    hidden = [Linear(normal(next(keys), (n, n), 2 / n, dtype), zeros) for _ in range(hidden_layers)]
    out = normal(next(keys), (n, m), 2 / n / fan, dtype)
    return MultiplicativeWeights(tuple(waves), tuple(hidden), Linear(out, jnp.zeros(m, dtype)))


MULTIPLICATIVE = KernelNetwork("multiplicative", multiplicative_filter_network, multiplicative_weights)
