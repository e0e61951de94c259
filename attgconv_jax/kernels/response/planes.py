"""Moves on planes `[..., x, y]`, spatial axes last: patches of a response, correlation of attention maps.

On a CPU a sum over taps is fast where the innermost loop runs along one contiguous axis and every tap is a constant
offset in it. So here the spatial axes come last, and attention maps of a few images stand side by side in one long row.
"""

import jax.numpy as jnp
from jax import lax

from attgconv_jax.kernels.devices import varying_alike
from attgconv_jax.kernels.taps import add_tap, count_outputs, pad, take_pixels

# How many rows of a map are multiplied with each other at once: more waste products, fewer are slow.
_ROWS = 4


def patches(f, windows):
    """`p[.., u, n] = f[.., x + u]` for every tap `u` and position `n`, from planes `[.., x, y]`."""
    x, y = counts = count_outputs(windows, f.shape[-2:])
    axis = f.ndim - 2
    taps = list(take_pixels(pad(f, windows, axis=axis), windows, counts, axis))
    return jnp.stack(taps, axis).reshape(*f.shape[:-2], len(taps), x * y)


def add_patches(p, windows, shape):
    """The adjoint of `patches`, to planes of `shape`."""
    rows, columns = windows
    padded = [length + window.low + window.high for window, length in zip(windows, shape, strict=True)]
    axis = p.ndim - 2
    taps = p.reshape(*p.shape[:-2], rows.size, columns.size, *count_outputs(windows, shape))
    bands = sum(add_tap(taps[..., b, :, :], columns, b, axis + 2, padded[1]) for b in range(columns.size))
    planes = sum(add_tap(bands[..., a, :, :], rows, a, axis, padded[0]) for a in range(rows.size))
    return pad(planes, windows, -1, axis)


class Strips:
    """Maps `[b, m, x, y]` as strips `[m, n]`, in which a shift by a tap of the attention filter is an offset.

    Rows of the maps follow each other, in a row the images, each with as many zeros after it as the filter reaches.
    Sums over taps end in the carry of a loop: XLA:CPU computes that on all cores and in the order of the strips, where
    it would compute what is written into the output of a loop on one core, and what is moved on in another order.
    """

    def __init__(self, shape, size, dilation):
        self.batch, self.x, self.y = shape
        self.reach = dilation * (size // 2)
        self.row = self.batch * (self.y + self.reach)
        self.length = self.x * self.row
        self.shifts = range(0, dilation * size, dilation)
        self.offsets = [a * self.row + b for a in self.shifts for b in self.shifts]

    def to_strips(self, maps):
        """`[b, m, n] -> [m, length]`."""
        m = maps.shape[1]
        maps = maps.reshape(self.batch, m, self.x, self.y).transpose(1, 2, 0, 3)
        widths = [(0, 0, 0)] * 3 + [(0, self.reach, 0)]
        return lax.pad(maps, jnp.zeros((), maps.dtype), widths).reshape(m, self.length)

    def widen(self, strips):
        """With zeros on both ends, so that every tap has something to read."""
        width = self.reach * (self.row + 1)
        return lax.pad(strips, jnp.zeros((), strips.dtype), [(0, 0, 0), (width, width, 0)])

    def from_strips(self, strips):
        """The adjoint of `to_strips`."""
        m = len(strips)
        maps = strips.reshape(m, self.x, self.batch, self.y + self.reach)[..., : self.y]
        return maps.transpose(2, 0, 1, 3).reshape(self.batch, m, self.x * self.y)

    def correlate(self, wide, filters):
        """`out[m, n] = sum over s, u of  wide[s, m, n + u] filters[s, m, u]`."""
        start = varying_alike(jnp.zeros((wide.shape[1], self.length), wide.dtype), wide)
        return lax.scan(lambda out, inputs: (out + self._sum_of_taps(*inputs), ()), start, (wide, filters))[0]

    def correlate_each(self, wide, filters):
        """`out[s, m, n] = sum over u of  wide[m, n + u] filters[s, m, u]` for two filters `s`."""
        start = varying_alike(jnp.zeros((wide.shape[0], self.length), wide.dtype), wide)
        # The carry is the last two sums.
        return lax.scan(lambda out, each: ((out[1], self._sum_of_taps(wide, each)), ()), (start, start), filters)[0]

    def inner_products(self, wide, strips):
        """The adjoint of `correlate` in its filters: `out[s, m, u] = sum over n of wide[s, m, n + u] strips[m, n]`.

        As matrix products of every row of a few with every other, of which the sums of the diagonals are kept: for a
        CPU that is less work than the inner products one by one.
        """
        maps, m, _ = wide.shape
        blocks = -(-self.x // _ROWS)
        missing = blocks * _ROWS - self.x
        zero = jnp.zeros((), strips.dtype)
        # Along a row the strips are moved, `reach` to either side; what leaves a row meets zeros of `wide`.
        padded = lax.pad(strips, zero, [(0, 0, 0), (self.reach, self.reach + missing * self.row, 0)])
        length = blocks * _ROWS * self.row
        moved = [padded[:, 2 * self.reach - b :][:, :length].reshape(m, blocks, _ROWS, self.row) for b in self.shifts]
        wide = lax.slice_in_dim(wide, self.reach, wide.shape[-1] - self.reach, axis=2)
        wide = lax.pad(wide, zero, [(0, 0, 0), (0, 0, 0), (0, missing * self.row, 0)])
        wide = wide.reshape(maps, m, self.x + missing + 2 * self.reach, self.row).swapaxes(0, 1)
        windows = [wide[:, :, i * _ROWS : (i + 1) * _ROWS + 2 * self.reach] for i in range(blocks)]
        # A product a block, added up afterwards: as one, its operands would be turned first.
        products = jnp.einsum("mispr,mibxr->mispbx", jnp.stack(windows, 1), jnp.stack(moved, 2))
        products = jnp.sum(products, axis=1)
        diagonals = [sum(products[:, :, a + x, :, x] for x in range(_ROWS)) for a in self.shifts]
        return jnp.stack(diagonals, 2).swapaxes(0, 1).reshape(maps, m, -1)

    def _sum_of_taps(self, wide, filters):
        return sum(wide[:, o : o + self.length] * filters[:, u, None] for u, o in enumerate(self.offsets))
