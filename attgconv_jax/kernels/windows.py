"""Maxima and sums over sliding windows, one axis at a time, so that the windows are never materialised."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from attgconv_jax.kernels.maxima import larger, maximum
from attgconv_jax.kernels.taps import Window, take_tap


def window_maximum(f: Float[Array, "..."], windows: tuple[Window, Window], axis: int) -> Float[Array, "..."]:
    """Maxima over windows on axes `axis` and `axis + 1`; padding counts as minus infinity.

    The gradient goes to the stored arg-max, the first of equal elements in row-major order; see `maximum`. NaN wins.
    """
    f = _padded(f, windows, axis, -jnp.inf)
    for i in (1, 0):
        f = _maximum_along(f, axis + i, windows[i]._replace(low=0, high=0))
    return f


def window_sum(f: Float[Array, "..."], windows: tuple[Window, Window], axis: int) -> Float[Array, "..."]:
    """Sums over windows on axes `axis` and `axis + 1`; padding counts as zero."""
    f = _padded(f, windows, axis, 0)
    for i in (1, 0):
        f = _sum_along(f, axis + i, windows[i]._replace(low=0, high=0))
    return f


def _padded(f, windows, axis, value):
    widths = [(0, 0, 0)] * f.ndim
    widths[axis : axis + 2] = [(window.low, window.high, 0) for window in windows]
    return lax.pad(f, jnp.array(value, f.dtype), widths)


def _maximum_along(f, axis, window):
    if window.stride == window.size:
        return maximum(_tiles(f, axis, window), axis + 1)
    return _maximum(f, axis, window)


def _sum_along(f, axis, window):
    if window.stride == window.size:
        return jnp.sum(_tiles(f, axis, window), axis + 1)
    return sum(_taps(f, axis, window))


def _tiles(f, axis, window):
    """Windows side by side on axis `axis`, their pixels on the next."""
    count = window.outputs(f.shape[axis])
    f = lax.slice_in_dim(f, 0, count * window.size, axis=axis)
    return f.reshape(*f.shape[:axis], count, window.size, *f.shape[axis + 1 :])


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _maximum(f, axis, window):
    """Maxima over a window on one padded axis, pixel by pixel of the window."""
    return functools.reduce(jnp.maximum, _taps(f, axis, window))


@_maximum.defjvp
def _maximum_jvp(axis, window, primals, tangents):
    best, index = _indexed(*primals, axis, window)
    return best, _selected(*tangents, index, axis, window)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _indexed(f, axis, window):
    """`_maximum` and the pixel that has it, with the same rule, so that higher derivatives use the pixel too."""
    first, *others = _taps(f, axis, window)
    pairs = [(first, jnp.zeros(first.shape, jnp.int32)), *((tap, jnp.int32(a)) for a, tap in enumerate(others, 1))]
    return functools.reduce(larger, pairs)


@_indexed.defjvp
def _indexed_jvp(axis, window, primals, tangents):
    best, index = _indexed(*primals, axis, window)
    tangent = _selected(*tangents, index, axis, window)
    return (best, index), (tangent, jax.custom_derivatives.zero_from_primal(index))


# Derivatives keep the index alone, as those of `maximum`.
@functools.partial(jax.checkpoint, static_argnums=(2, 3), prevent_cse=False)
def _selected(f, index, axis, window):
    """`f[index[i] + stride i]`, linear in `f`."""
    taps = _taps(f, axis, window)
    return sum(jnp.where(index == a, tap, 0) for a, tap in enumerate(taps))


def _taps(f, axis, window):
    count = window.outputs(f.shape[axis])
    return [take_tap(f, window, a, axis, count) for a in range(window.size)]
