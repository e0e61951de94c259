"""Random Fourier features: a ReLU network on random waves."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from attgconv_jax.initializers import draw_normal
from attgconv_jax.lie.kernel_networks.base import Axes, KernelNetwork, Linear, check_layers, matmul, normal


class FourierWeights(NamedTuple):
    """Of `random_fourier_features`."""

    frequencies: Float[Array, "d half"]
    hidden: tuple[Linear, ...]
    out: Linear


def random_fourier_features(x: Float[Array, "*shape d"], weights: FourierWeights) -> Float[Array, "*shape m"]:
    """A ReLU network on random waves: `z_0 = sqrt(2) [cos(x B), sin(x B)]`, `z_i = relu(z_{i-1} W_i + b_i)`, linear.

    Frequencies `B` are in radians a unit, and not trained.

    Source: Tancik et al. 2020, section 4.
    """
    waves = matmul(x, lax.stop_gradient(weights.frequencies))
    x = math.sqrt(2) * jnp.concatenate([jnp.cos(waves), jnp.sin(waves)], -1)
    for layer in weights.hidden:
        x = jax.nn.relu(layer(x))
    return weights.out(x)


def fourier_weights(
    key: Array,
    axes: Axes,
    m: int,
    fan: int,
    dtype=jnp.float32,
    *,
    hidden_features: int = 64,
    hidden_layers: int = 1,
    frequency: float = 3.0,
) -> FourierWeights:
    """Of `random_fourier_features`: normal frequencies of this deviation, He's normal weights, biases zero.

    Options:
      hidden_features: of every layer, even: the waves' sines and cosines together.
      hidden_layers: after the waves.
      frequency: deviation of the waves' frequencies, radians a unit.

    Source: Tancik et al. 2020, section 4; He et al. 2015.
    """
    check_layers(hidden_features, hidden_layers, frequency=frequency)
    if hidden_features % 2:
        raise ValueError(f"hidden_features must be even, a sine for every cosine, got {hidden_features}")
    keys = iter(jax.random.split(key, hidden_layers + 2))
    waves = frequency * draw_normal(next(keys), (axes.count, hidden_features // 2), dtype)
    n, zeros = hidden_features, jnp.zeros(hidden_features, dtype)
    gains = [1, *[2] * hidden_layers]  # of what enters: waves have variance 1, and a relu halves the second moment
    hidden = [Linear(normal(next(keys), (n, n), gains[i] / n, dtype), zeros) for i in range(hidden_layers)]
    out = normal(next(keys), (n, m), gains[-1] / n / fan, dtype)
    return FourierWeights(waves, tuple(hidden), Linear(out, jnp.zeros(m, dtype)))


FOURIER = KernelNetwork("fourier", random_fourier_features, fourier_weights, fixed=("frequencies",))
