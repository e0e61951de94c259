"""The one differentiable maximum of the library."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from attgconv_jax.kernels.chunks import largest_divisor, wide
from attgconv_jax.kernels.devices import positions
from attgconv_jax.kernels.platforms import on_cuda
from attgconv_jax.kernels.portability import is_portable

# How many slices one comparison tree holds; XLA:CPU's reduction over a long axis is several times slower.
_FOLD = 16


def maximum(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """`max over axis of x`, with a gradient that goes to the stored arg-max.

    JAX's own gradient compares the operand with the maximum. Under `jit` the operand may be computed twice with
    different rounding, no element then equals the maximum, and the gradient is lost without a warning. An index
    cannot be lost: every maximum that is differentiated stores one, here, in `window_maximum` and in the kernels of
    response attention. Where nothing is differentiated it is the plain maximum.

    Of several equal elements the first takes the whole gradient. NaN wins over every number. Differentiable to any
    order, forwards and in reverse.
    """
    _check(x, axis)
    return _maximum(x, axis % x.ndim)


def _check(x, axis):
    """Raises a `ValueError` unless `x` has a maximum along the axis."""
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis must be in [{-x.ndim}, {x.ndim}) for shape {x.shape}, got {axis}")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x must be floating, got {x.dtype}; cast it")
    if x.shape[axis] == 0:
        raise ValueError(f"axis {axis} of shape {x.shape} is empty and has no maximum")


def mean_and_maximum(x: Float[Array, "*shape c"]) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """The mean along the last axis, in float32 at least, and the `maximum`: on CUDA in one pass over `x`.

    Raises:
      ValueError: `x` is not floating, or its last axis is empty.
    """
    _check(x, -1)
    return _mean_and_maximum(x)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _maximum(x, axis):
    if is_portable():
        return jnp.max(x, axis)
    # XLA:CPU's own maximum loses NaN.
    tiles = _tiles(x, axis)
    best = functools.reduce(jnp.maximum, tiles)
    return lax.reduce(best, jnp.array(-jnp.inf, x.dtype), _larger_value, (axis,))


@_maximum.defjvp
def _maximum_jvp(axis, primals, tangents):
    best, index = _indexed(*primals, axis)
    return best, _selected(*tangents, index, axis)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _indexed(x, axis):
    """Maximum and index, with the rule of `_maximum`, so that higher derivatives use the index too."""
    if x.shape[axis] <= _FOLD:
        return _indexed_by_tiles(x, axis)
    return on_cuda(_indexed_at_once, _indexed_by_tiles, x, options=(axis,))


def _indexed_at_once(x, axis):
    """One reduction: with it XLA:GPU fuses what precedes it, which it computes twice for tiles."""
    return _reduce(x, axis, positions(x, axis))


def _indexed_by_tiles(x, axis):
    first, *others = _tiles(x, axis)
    pairs = [(first, jnp.zeros(first.shape, jnp.int32)), *((tile, jnp.int32(i)) for i, tile in enumerate(others, 1))]
    best, tile = functools.reduce(larger, pairs)
    index = tile * best.shape[axis] + positions(best, axis)
    return _reduce(best, axis, index)


@_indexed.defjvp
def _indexed_jvp(axis, primals, tangents):
    best, index = _indexed(*primals, axis)
    return (best, index), (_selected(*tangents, index, axis), jax.custom_derivatives.zero_from_primal(index))


@jax.custom_jvp
def _mean_and_maximum(x):
    if is_portable():
        return _mean(x), jnp.max(x, -1)
    return on_cuda(_mean_and_maximum_at_once, _mean_and_maximum_in_turn, x)


@_mean_and_maximum.defjvp
def _mean_and_maximum_jvp(primals, tangents):
    mean, best, index = _mean_and_indexed(*primals)
    return (mean, best), (_mean(*tangents), _selected(*tangents, index, index.ndim))


@jax.custom_jvp
def _mean_and_indexed(x):
    """`_mean_and_maximum` and the index, with the same rule."""
    return on_cuda(_mean_and_indexed_at_once, _mean_and_indexed_in_turn, x)


@_mean_and_indexed.defjvp
def _mean_and_indexed_jvp(primals, tangents):
    mean, best, index = _mean_and_indexed(*primals)
    no_tangent = jax.custom_derivatives.zero_from_primal(index)
    return (mean, best, index), (_mean(*tangents), _selected(*tangents, index, index.ndim), no_tangent)


def _mean_and_maximum_in_turn(x):
    return _mean(x), _maximum(x, x.ndim - 1)


def _mean_and_maximum_at_once(x):
    return _mean_and_indexed_at_once(x)[:2]


def _mean_and_indexed_in_turn(x):
    return _mean(x), *_indexed(x, x.ndim - 1)


def _mean_and_indexed_at_once(x):
    def step(left, right):
        return left[0] + right[0], *larger(left[1:], right[1:])

    dtype, x, index = x.dtype, wide(x), positions(x, x.ndim - 1)
    start = jnp.zeros((), x.dtype), *_least(x)
    mean, best, index = lax.reduce((x * (1 / x.shape[-1]), x, index), start, step, (x.ndim - 1,))
    return mean, best.astype(dtype), index


def _mean(x):
    return jnp.mean(wide(x), -1)


# Derivatives keep the index alone: without the checkpoint they keep a mask as large as `x`.
@functools.partial(jax.checkpoint, static_argnums=(2,), prevent_cse=False)
def _selected(x, index, axis):
    """`x` at the index along an axis; linear in `x`, and its transpose is a one-hot of the cotangent."""
    along = lax.broadcasted_iota(jnp.int32, [1] * axis + [x.shape[axis]] + [1] * (index.ndim - axis), axis)
    return jnp.sum(jnp.where(along == jnp.expand_dims(index, axis), x, 0), axis)


def _tiles(x, axis):
    """Slices of equal length along an axis, up to `_FOLD`; along the last axis, the whole."""
    fold = 1 if axis == x.ndim - 1 else largest_divisor(x.shape[axis], _FOLD)
    tiles = x.reshape(*x.shape[:axis], fold, x.shape[axis] // fold, *x.shape[axis + 1 :])
    return [lax.index_in_dim(tiles, i, axis, keepdims=False) for i in range(fold)]


def _reduce(x, axis, index):
    """Maximum along an axis and the index that comes with it."""
    return lax.reduce((x, index), _least(x), larger, (axis,))


def _least(x):
    """What every pair of a value of `x` and its index is larger than."""
    return jnp.array(-jnp.inf, x.dtype), jnp.int32(jnp.iinfo(jnp.int32).max)


def _larger_value(a, b):
    return jnp.where((a >= b) | jnp.isnan(a), a, b)


def larger(left, right):
    """The pair with the larger value; the smaller index among equals; NaN above all."""
    (a, i), (b, j) = left, right
    nan_a, nan_b = jnp.isnan(a), jnp.isnan(b)
    take = (b > a) | (nan_b & ~nan_a) | ((j < i) & ((a == b) | (nan_a & nan_b)))
    return jnp.where(take, b, a), jnp.where(take, j, i)
