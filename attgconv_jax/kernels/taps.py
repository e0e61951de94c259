"""Taps of a sliding window along one axis, and their adjoint: the moves the CPU convolutions are made of."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
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


def count_outputs(windows: Sequence[Window], lengths: Sequence[int]) -> list[int]:
    """Number of positions of the windows on axes of these lengths."""
    return [window.outputs(length) for window, length in zip(windows, lengths, strict=True)]


def xla_conv(f: Array, w: Array, windows: tuple[Window, Window], **options) -> Array:
    """`lax.conv_general_dilated` of images `[batch, x, y, c]` and filters `[k, l, c_in, c_out]`."""
    return lax.conv_general_dilated(
        f,
        w,
        window_strides=[window.stride for window in windows],
        padding=[(window.low, window.high) for window in windows],
        rhs_dilation=[window.dilation for window in windows],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        **options,
    )


def pad(f: Array, windows: tuple[Window, Window], sign: int = 1, axis: int = 1) -> Array:
    """Pads axes `x y`, of which `axis` is the first, or crops where negative; `sign=-1` is the adjoint."""
    widths = [(0, 0, 0)] * f.ndim
    widths[axis : axis + 2] = [(sign * window.low, sign * window.high, 0) for window in windows]
    return lax.pad(f, jnp.zeros((), f.dtype), widths)


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


def take_pixels(f: Array, windows: Sequence[Window], counts: Sequence[int], axis: int = 1) -> Iterator[Array]:
    """Padded images as every tap of both windows sees them, in the order of the filter's taps."""
    for a in range(windows[0].size):
        row = take_tap(f, windows[0], a, axis, counts[0])
        for b in range(windows[1].size):
            yield take_tap(row, windows[1], b, axis + 1, counts[1])


def permuted(x: Array, permutation: np.ndarray, axis: int) -> Array:
    """`x` taken along an axis in the order of a static permutation, in which every position occurs once.

    It is cut into pieces that are put together again, and so is a cotangent: a gather would transpose to a scatter.
    """
    runs = _runs(permutation)
    pieces = sorted(runs)
    parts = dict(zip(pieces, lax.split(x, [stop - start for start, stop, _ in pieces], axis), strict=True))
    ordered = [lax.rev(parts[run], [axis]) if run.falling else parts[run] for run in runs]
    return lax.concatenate(ordered, axis)


class _Run(NamedTuple):
    """Positions from `start` to `stop` that stay together, in reverse order where it is falling."""

    start: int
    stop: int
    falling: bool


def _runs(permutation):
    """What the permutation is made of, in its order."""
    steps = np.diff(permutation)
    runs, first = [], 0
    for last in range(len(permutation)):
        if last < len(steps) and abs(steps[last]) == 1 and steps[last] == steps[first]:
            continue
        ends = permutation[[first, last]]
        runs.append(_Run(int(min(ends)), int(max(ends)) + 1, falling=bool(ends[0] > ends[1])))
        first = last + 1
    return runs
