"""Kernel networks: functions from coordinates on a group to the values of convolution kernels.

Each takes coordinates `[..., d]` and its weights and returns values `[..., m]`. Weights of a linear layer are a matrix
`[d, hidden]` and a bias `[hidden]`.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


class Linear(NamedTuple):
    """`x @ w + b`."""

    w: Float[Array, "d_in d_out"]
    b: Float[Array, " d_out"]

    def __call__(self, x: Float[Array, "*shape d_in"]) -> Float[Array, "*shape d_out"]:
        """The layer's output."""
        return _matmul(x, self.w) + self.b


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


class FourierWeights(NamedTuple):
    """Of `random_fourier_features`; `frequencies` are drawn once and not trained."""

    frequencies: Float[Array, "d half"]
    hidden: tuple[Linear, ...]
    out: Linear


def random_fourier_features(x: Float[Array, "*shape d"], weights: FourierWeights) -> Float[Array, "*shape m"]:
    """A ReLU network on random waves: `z_0 = sqrt(2) [cos(x B), sin(x B)]`, `z_i = relu(z_{i-1} W_i + b_i)`, linear.

    Args:
      x: coordinates, of size about one.
      weights: the waves' frequencies `B`, in radians a unit, which are not trained, and the layers.

    Returns:
      Values of the kernel.

    Source: Tancik et al. 2020, section 4.
    """
    waves = _matmul(x, lax.stop_gradient(weights.frequencies))
    x = math.sqrt(2) * jnp.concatenate([jnp.cos(waves), jnp.sin(waves)], -1)
    for layer in weights.hidden:
        x = jax.nn.relu(layer(x))
    return weights.out(x)


class MultiplicativeWeights(NamedTuple):
    """Of `multiplicative_filter_network`: one filter more than hidden layers."""

    filters: tuple[Linear, ...]
    hidden: tuple[Linear, ...]
    out: Linear


def multiplicative_filter_network(
    x: Float[Array, "*shape d"], weights: MultiplicativeWeights
) -> Float[Array, "*shape m"]:
    """Products of sines: `z_0 = g_0(x)`, `z_i = (z_{i-1} W_i + b_i) g_i(x)` with `g_i(x) = sin(x F_i + p_i)`, linear.

    Args:
      x: coordinates, of size about one.
      weights: of the filters `g_i`, in radians a unit, and of the layers.

    Returns:
      Values of the kernel.

    Source: Fathony et al. 2021, section 3.1 (FourierNet).
    """
    first, *others = [jnp.sin(wave(x)) for wave in weights.filters]
    z = first
    for layer, wave in zip(weights.hidden, others, strict=True):
        z = layer(z) * wave
    return weights.out(z)


def b_spline(
    x: Float[Array, "*shape d"],
    coefficients: Float[Array, "*centres m"],
    *,
    degree: int = 2,
    periodic: tuple[bool, ...] = (),
) -> Float[Array, "*shape m"]:
    """A sum of shifted B-splines: `sum over i of coefficients[i] product over a of B((x_a - t_i_a) / s_a)`.

    The centres `t` of an axis lie uniformly on `[-1, 1]`, ends included, or on the circle `[-1, 1)`; `s` is what they
    are apart. Beyond the outermost centres the splines run out to zero.

    Args:
      x: coordinates; what lies in `[-1, 1]` is covered.
      coefficients: an axis for every coordinate, then the values.
      degree: of the piecewise polynomials, 0 to 3.
      periodic: which axes are circles; those left out are not.

    Returns:
      Values of the kernel.

    Raises:
      ValueError: unknown degree, axes that do not fit the coordinates, or too few centres on a circle.

    Source: Bekkers 2020 (1909.12057), section 3.2; on the circle our own.
    """
    if degree not in range(4):
        raise ValueError(f"degree must be 0, 1, 2 or 3, got {degree!r}")
    *counts, _ = coefficients.shape
    if len(counts) != x.shape[-1]:
        raise ValueError(f"coefficients need an axis for each of {x.shape[-1]} coordinates, got {coefficients.shape}")
    values = coefficients.reshape(counts[0], -1) if counts else coefficients
    for axis, count in enumerate(counts):
        circle = axis < len(periodic) and periodic[axis]
        if circle and count <= degree:
            raise ValueError(
                f"a spline of degree {degree} on a circle needs {degree + 1} centres at least, got {count}"
            )
        step = 2 / count if circle else 2 / max(count - 1, 1)
        offset = x[..., axis, None] - (step * jnp.arange(count, dtype=x.dtype) - 1 if count > 1 else 0)
        if circle:
            offset = (offset + 1) % 2 - 1
        weights = cardinal_b_spline(offset / step, degree)
        values = jnp.einsum("...c,...cr->...r", weights, values, precision="highest")
        values = values.reshape(*values.shape[:-1], counts[axis + 1], -1) if axis + 1 < len(counts) else values
    return values


def cardinal_b_spline(t: Float[Array, "*shape"], degree: int) -> Float[Array, "*shape"]:
    """The centred B-spline: the indicator of `[-1/2, 1/2)`, convolved `degree` times with itself.

    Args:
      t: where, in units of what neighbouring splines are apart.
      degree: of the piecewise polynomials, 0 to 3.

    Returns:
      Its values; over all integers `i` the sum of `B(t - i)` is one.

    Raises:
      ValueError: the degree is none of these.

    Source: Bekkers 2020 (1909.12057), section 3.2.
    """
    if degree not in range(4):
        raise ValueError(f"degree must be 0, 1, 2 or 3, got {degree!r}")
    far = jnp.abs(t)
    if degree == 0:
        return ((t >= -0.5) & (t < 0.5)).astype(t.dtype)
    if degree == 1:
        return jnp.maximum(0, 1 - far)
    if degree == 2:
        return jnp.where(far < 0.5, 0.75 - far**2, 0.5 * jnp.maximum(0, 1.5 - far) ** 2)
    return jnp.where(far < 1, 2 / 3 - far**2 + far**3 / 2, jnp.maximum(0, 2 - far) ** 3 / 6)


def _matmul(x, w):
    """In full precision: accelerators round factors to fewer digits, which high frequencies would magnify."""
    return jnp.matmul(x, w, precision="highest")
