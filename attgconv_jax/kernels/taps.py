"""Taps of a sliding window along one axis, and their adjoint: the moves the CPU convolutions are made of."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array


class Window(NamedTuple):
    """A filter's window along one axis, in pixels; `low` and `high` pad with zeros."""

    size: int
    stride: int = 1
    low: int = 0
    high: int = 0
    dilation: int = 1

    def outputs(self, length: int) -> int:
        """Number of positions of the window on an axis of `length` pixels."""
        return (length + self.low + self.high - self.dilation * (self.size - 1) - 1) // self.stride + 1


def pad(f: Array, windows: tuple[Window, Window], sign: int = 1) -> Array:
    """Pads the axes `x y` of `[batch, x, y, c]` for both windows, or crops where negative; `sign=-1` is the adjoint."""
    widths = [(sign * window.low, sign * window.high, 0) for window in windows]
    return lax.pad(f, jnp.zeros((), f.dtype), [(0, 0, 0), *widths, (0, 0, 0)])


def take_tap(f: Array, window: Window, a: int, axis: int, count: int) -> Array:
    """`tap[.., x, ..] = f[.., x stride + a dilation, ..]` for `count` outputs of a padded axis."""
    start = a * window.dilation
    return lax.slice_in_dim(f, start, start + (count - 1) * window.stride + 1, window.stride, axis)


def add_tap(tap: Array, window: Window, a: int, axis: int, length: int) -> Array:
    """The adjoint of `take_tap`: puts a tap where it was read on an axis of `length` pixels, zero elsewhere."""
    start = a * window.dilation
    config = [(0, 0, 0)] * tap.ndim
    span = (tap.shape[axis] - 1) * window.stride + 1
    config[axis] = (start, length - start - span, window.stride - 1)
    return lax.pad(tap, jnp.zeros((), tap.dtype), config)


def take_taps(f: Array, window: Window, axis: int, count: int) -> Array:
    """All taps of a window, side by side on the last axis."""
    return jnp.concatenate([take_tap(f, window, a, axis, count) for a in range(window.size)], -1)


def add_taps(taps: Array, window: Window, axis: int, length: int) -> Array:
    """The adjoint of `take_taps`: the sum of all taps, each where it was read."""
    return sum(add_tap(tap, window, a, axis, length) for a, tap in enumerate(jnp.split(taps, window.size, -1)))
