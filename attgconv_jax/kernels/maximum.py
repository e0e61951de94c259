"""The one differentiable maximum of the library."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# How many neighbours are compared at once.
_FOLD = 16


def maximum(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """`max over axis of x`, with a gradient that goes to the stored arg-max.

    JAX's own gradient compares the operand with the maximum. Under `jit` the operand may be computed twice with
    different rounding, no element then equals the maximum, and the gradient is lost without a warning. An index
    cannot be lost: every maximum that is differentiated goes through this function.

    Of several equal elements the first takes the whole gradient. NaN wins over every number. Differentiable in
    reverse mode, to any order.

    Args:
      x: any shape with at least one element along `axis`.
      axis: reduced.

    Returns:
      The maximum, without `axis`.

    Raises:
      ValueError: `x` is not floating, has no such axis, or nothing along it.

    Source: our own.
    """
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis must be in [{-x.ndim}, {x.ndim}) for shape {x.shape}, got {axis}")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x must be floating, got {x.dtype}; cast it")
    if x.shape[axis] == 0:
        raise ValueError(f"axis {axis} of shape {x.shape} is empty and has no maximum")
    return _maximum(x, axis % x.ndim, x.shape[axis])[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _maximum(x, axis, length):
    return maximum_and_index(x, axis)


def _forward(x, axis, length):
    # Through `_maximum`, so that a gradient of the gradient finds this rule again.
    best, index = _maximum(x, axis, length)
    return (best, index), index


def _backward(axis, length, index, d_outputs):
    d_best, _ = d_outputs
    positions = lax.broadcasted_iota(jnp.int32, [1] * axis + [length] + [1] * (index.ndim - axis), axis)
    return (jnp.where(positions == jnp.expand_dims(index, axis), jnp.expand_dims(d_best, axis), 0),)


_maximum.defvjp(_forward, _backward)


@functools.partial(jax.jit, static_argnames=("axis", "nan"), inline=True)
def maximum_and_index(x: Float[Array, "..."], axis: int, *, nan: bool = True) -> tuple[Array, Array]:
    """The maximum along a non-negative axis and the index of the first element that attains it; no gradient.

    Neighbours are compared elementwise, up to 16 at once, until one is left: XLA:CPU's reduction of pairs is several
    times slower. With `nan=False` NaN may get lost, and the comparison costs half.
    """
    best, index = x, lax.broadcasted_iota(jnp.int32, x.shape, axis)
    while best.shape[axis] > 1:
        best, index = _fold(best, index, axis, _larger_or_nan if nan else larger)
    return lax.squeeze(best, [axis]), lax.squeeze(index, [axis])


def _fold(best, index, axis, larger):
    """One element of every group of neighbours; a rest that fills no group is kept."""
    length = best.shape[axis]
    size = max(d for d in range(1, _FOLD + 1) if length % d == 0)
    size = min(_FOLD, length) if size == 1 else size
    whole = length // size * size

    def neighbours(values):
        groups = lax.slice_in_dim(values, 0, whole, axis=axis)
        groups = groups.reshape(*values.shape[:axis], whole // size, size, *values.shape[axis + 1 :])
        return [lax.index_in_dim(groups, i, axis + 1, keepdims=False) for i in range(size)]

    folded = functools.reduce(larger, zip(neighbours(best), neighbours(index), strict=True))
    if whole == length:
        return folded
    rest = (lax.slice_in_dim(values, whole, length, axis=axis) for values in (best, index))
    return tuple(lax.concatenate(pair, axis) for pair in zip(folded, rest, strict=True))


def larger(left, right):
    """The pair with the larger value, the left one among equals."""
    (a, i), (b, j) = left, right
    return jnp.where(b > a, b, a), jnp.where(b > a, j, i)


def _larger_or_nan(left, right):
    """The same, and NaN above all."""
    (a, i), (b, j) = left, right
    take = (b > a) | jnp.isnan(b)
    return jnp.where(take, b, a), jnp.where(take, j, i)
