"""Reductions of responses in blocks: several results in one pass, and maxima with their index."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from attgconv_jax.kernels.maxima import larger
from attgconv_jax.kernels.response.tiles import channel_dtype


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def sums(x, y, axis):
    """Along an axis, in one pass; XLA for GPUs would transpose what is summed alone."""
    zero = jnp.zeros((), x.dtype)
    return tuple(lax.reduce((x, y), (zero, zero), lambda a, b: (a[0] + b[0], a[1] + b[1]), (axis,)))


@sums.defjvp
def _sums_jvp(axis, primals, tangents):
    return sums(*primals, axis), tuple(jnp.sum(tangent, axis) for tangent in tangents)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def maximum(r, axis):
    """Maximum along an axis and the first index that has it."""
    start = jnp.array(-jnp.inf, r.dtype), jnp.int32(jnp.iinfo(jnp.int32).max)
    return tuple(lax.reduce((r, lax.broadcasted_iota(jnp.int32, r.shape, axis)), start, larger, (axis,)))


@maximum.defjvp
def _maximum_jvp(axis, primals, tangents):
    (r,), (r_dot,) = primals, tangents
    largest, index = maximum(r, axis)
    return (largest, index), (_at(index, r_dot, axis), jax.custom_derivatives.zero_from_primal(index))


@jax.custom_jvp
def sum_and_maximum(r):
    """Over the channels of `[h, c, b, n, m]`, and the first channel that has the maximum, in one pass."""
    index_dtype = channel_dtype(r.shape[1])
    start = jnp.zeros((), r.dtype), jnp.array(-jnp.inf, r.dtype), jnp.array(jnp.iinfo(index_dtype).max, index_dtype)

    def combine(left, right):
        return left[0] + right[0], *larger(left[1:], right[1:])

    return tuple(lax.reduce((r, r, lax.broadcasted_iota(index_dtype, r.shape, 1)), start, combine, (1,)))


@sum_and_maximum.defjvp
def _sum_and_maximum_jvp(primals, tangents):
    (r,), (r_dot,) = primals, tangents
    total, largest, channel = sum_and_maximum(r)
    zero = jax.custom_derivatives.zero_from_primal(channel)
    return (total, largest, channel), (jnp.sum(r_dot, axis=1), _at(channel, r_dot, 1), zero)


def _at(index, x, axis):
    """`x` at the index along an axis."""
    return jnp.sum(jnp.where(is_at(index, axis, x.shape[axis]), x, 0), axis)


def is_at(index, axis, count):
    """One-hot along an axis that the index lacks."""
    shape = [1] * (index.ndim + 1)
    shape[axis] = count
    return jnp.expand_dims(index, axis) == lax.broadcasted_iota(index.dtype, shape, axis)
