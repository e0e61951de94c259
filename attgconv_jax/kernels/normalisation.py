"""Batch norm with a gradient of its own: two sums over the batch, and nothing held but its input."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from attgconv_jax.kernels.chunks import wide


def normalised(
    x: Float[Array, "*positions c"], scale: Float[Array, " c"], bias: Float[Array, " c"], epsilon: float
) -> tuple[Float[Array, "*positions c"], Float[Array, " c"], Float[Array, " c"]]:
    """`scale (x - mean) / sqrt(variance + epsilon) + bias` over all positions, the means and the variances.

    In float32 at least; the variance is the mean of squared deviations. With `z` what is scaled,

        d_bias = sum of d,   d_scale = sum of d z
        d_x = scale (d - d_bias / n - z d_scale / n) / sqrt(variance + epsilon)

    which takes two sums that are made in one pass, where derivatives of one step after another take five. `z` is made
    again from `x`. Differentiable to any order, forwards and in reverse.
    """
    return _normalised(wide(x), wide(scale), wide(bias), epsilon)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def _normalised(x, scale, bias, epsilon):
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(x, axes)
    variance = jnp.mean(jnp.square(x - mean), axes)
    return (x - mean) * (lax.rsqrt(variance + epsilon) * scale) + bias, mean, variance


@_normalised.defjvp
def _normalised_jvp(epsilon, primals, tangents):
    y, mean, variance = _normalised(*primals, epsilon)
    x, scale, _ = primals
    return (y, mean, variance), _tangents(tangents, x, scale, mean, variance, epsilon)


@functools.partial(jax.checkpoint, static_argnums=(5,), prevent_cse=False)
def _tangents(tangents, x, scale, mean, variance, epsilon):
    """Linear in the tangents, ordered such that the transpose sums over positions before it scales."""
    x_dot, scale_dot, bias_dot = tangents
    axes = tuple(range(x.ndim - 1))
    inverse = lax.rsqrt(variance + epsilon)
    z = (x - mean) * inverse
    mean_dot, along_z = jnp.mean(x_dot, axes), jnp.mean(z * x_dot, axes)
    factor = scale * inverse
    y_dot = factor * x_dot + (bias_dot - factor * mean_dot) + z * (scale_dot - factor * along_z)
    return y_dot, mean_dot, 2 * along_z / inverse
