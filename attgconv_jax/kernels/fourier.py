"""Dense convolution as products of frequencies: for CPUs, where filters are large and channels many.

A circular convolution of period `n = length + max(low, high)` holds the convolution of a padded image: the zeros on
one side are those on the other as well. With all frequencies `v` along `x` and the non-negative ones `m` along `y`,

    F[m, x, c] = sum over y of  f[x, y, c] e^(-i y m)
    G[v, m, c] = sum over x of  F[m, x, c] e^(-i x v)
    W[v, m, c, o] = sum over a, b of  w[a, b, c, o] e^(i (a d - p) v) e^(i (b d - p) m)
    P[v, m, o] = sum over c of  G[v, m, c] W[v, m, c, o]                 all that mixes channels
    Q[m, x, o] = 1 / n  sum over v of  P[v, m, o] e^(i x v)
    out[x, y, o] = 1 / n  sum over m of  2 Re Q[m, x, o] e^(i y m)       once where `m` is its own conjugate

so that a pair of channels takes about `2 n^2` real products where the convolution itself takes `k^2 x y`. The
transforms are products with small matrices: no length is better than another. Complex numbers are pairs of real ones.

| quantity | held for | elements |
|---|---|---|
| `F`, `Q`, and `f`, `out` with their axes turned | all images | `x y (c_in + c_out)` each |
| `W` along `y`, in the gradient twice | | `k l c_in c_out`, roughly, times `y / l` |
| `G`, `P` | one `m`, all images | `2 x (c_in + c_out)` an image |
| `W` | one `m` | `2 x c_in c_out` |

The gradient of a depthwise filter takes a few images at a time and holds no more than theirs.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from attgconv_jax.kernels.chunks import images_a_chunk, scan_chunks, sum_dtype
from attgconv_jax.kernels.taps import Window, count_outputs

# What else a convolution by frequencies costs, in operations: of making, writing and reading one number of `W`, and of
# moving one element of an image through the transforms. Measured on a CPU with two cores.
FILTER_COST, IMAGE_COST = 200, 530
# The most that `W` along `y` may take, for all its frequencies; the gradient takes it twice.
MOST_FILTER_BYTES = 700_000_000
# The fewest images at a time for the gradient of a depthwise filter: with fewer, its transforms are all overhead.
FEWEST_IMAGES = 8


class _Axis(NamedTuple):
    """The matrices of one axis, complex: of frequencies by pixels, by taps, and of outputs by frequencies."""

    images: np.ndarray
    filters: np.ndarray
    outputs: np.ndarray


def fourier_conv(
    f: Float[Array, "batch x y c_in"], w: Float[Array, "k l c_in c_out"], windows: tuple[Window, Window]
) -> Float[Array, "batch x_out y_out c_out"]:
    """Cross-correlates images with a filter; see `attgconv_jax.kernels.conv`."""
    dtype = sum_dtype(f)
    rows, columns = map(_axis, windows, f.shape[1:3])
    half = len(columns.images) // 2 + 1

    def mix(column):
        """`F[m]` and `W[m]` along `y`, `[2, x, batch, c_in]` and `[2, k, c_in, c_out]`, to `Q[m]`."""
        images, filters = column
        g = jnp.tensordot(jnp.asarray(_real(rows.images).swapaxes(0, 1), dtype), images, 2)
        parts = jnp.tensordot(jnp.asarray(_real(rows.filters), dtype), filters, 2)
        # Both parts of `G` are rows of one product with each part of `W`.
        rows_of_g = g.reshape(len(g), math.prod(g.shape[1:-1]), g.shape[-1])
        products = (jnp.matmul(rows_of_g, part) for part in parts)
        by_real, by_imaginary = (product.reshape(*g.shape[:-1], parts.shape[-1]) for product in products)
        p = jnp.stack([by_real[:, 0] - by_imaginary[:, 1], by_imaginary[:, 0] + by_real[:, 1]])
        return jnp.tensordot(jnp.asarray(_real(rows.outputs), dtype), p, 2)

    images = _along_y(columns.images[:half], f.astype(dtype).transpose(2, 1, 0, 3))
    filters = _along_y(columns.filters[:half], w.astype(dtype).swapaxes(0, 1))
    # What a frequency needs is computed again for the gradient rather than kept for all of them.
    mixed = lax.map(jax.checkpoint(mix), (images, filters))
    last = columns.outputs[:, :half] * _weights(columns)
    out = jnp.tensordot(jnp.asarray(np.stack([last.real, -last.imag], -1), dtype), mixed, 2)
    return out.transpose(2, 1, 0, 3).astype(w.dtype)


def fourier_depthwise_filter_gradient(
    f: Float[Array, "batch x y c"], d_out: Float[Array, "batch x_out y_out c"], windows: tuple[Window, Window]
) -> Float[Array, "k l c"]:
    """The gradient of a depthwise convolution by its filter; see `attgconv_jax.kernels.depthwise_conv`.

    The steps of the module in reverse, where `D` is to `d_out` what `P` is to `out`:

        d_W[v, m, c] = sum over the batch of  conj(G[v, m, c]) D[v, m, c]
        d_w[a, b, c] = sum over v, m of  Re d_W[v, m, c] e^(-i (a d - p) v) e^(-i (b d - p) m)

    In float32 at least.
    """
    dtype = sum_dtype(f)
    rows, columns = map(_axis, windows, f.shape[1:3])
    half = len(columns.images) // 2 + 1

    def multiply(column):
        images, gradients = column
        g = jnp.tensordot(jnp.asarray(_real(rows.images), dtype), images, 2)
        d = jnp.tensordot(jnp.asarray(_real(rows.outputs.conj().T), dtype), gradients, 2)
        d_w = jnp.stack([jnp.sum(g[0] * d[0] + g[1] * d[1], 1), jnp.sum(g[0] * d[1] - g[1] * d[0], 1)])
        return jnp.tensordot(jnp.asarray(_real(rows.filters.conj().T), dtype), d_w, 2)

    last = (columns.outputs[:, :half] * _weights(columns)).conj().T

    def step(columns_of_w, chunk):
        images, gradients = (x.astype(dtype).transpose(2, 1, 0, 3) for x in chunk)
        frequencies = _along_y(columns.images[:half], images), _along_y(last, gradients)
        return columns_of_w + lax.map(multiply, frequencies), ()

    zero = jnp.zeros((half, 2, rows.filters.shape[1], f.shape[-1]), dtype)
    columns_of_w, _ = scan_chunks(step, zero, (f, d_out), images_a_chunk(math.prod(f.shape[1:]), FEWEST_IMAGES))
    filters = jnp.asarray(_parts(columns.filters[:half]), dtype)
    return jnp.tensordot(filters, columns_of_w, ((0, 1), (0, 1))).swapaxes(0, 1)


def fourier_pays(f_shape: tuple[int, ...], w_shape: tuple[int, ...], windows: tuple[Window, Window]) -> bool:
    """Whether a convolution by frequencies costs a fifth less than one of patches, and their filter fits in memory."""
    # With strides, most of what frequencies compute is left out.
    if any(window.stride > 1 for window in windows):
        return False
    batch, *lengths, c_in = f_shape
    k, l, _, c_out = w_shape
    x_period, y_period = map(_period, windows, lengths)
    frequencies = x_period * (y_period // 2 + 1)
    direct = 2 * batch * math.prod(count_outputs(windows, lengths)) * k * l * c_in * c_out
    mixing = 8 * batch * frequencies * c_in * c_out
    others = FILTER_COST * 2 * frequencies * c_in * c_out + IMAGE_COST * batch * math.prod(lengths) * (c_in + c_out)
    filter_bytes = 8 * (y_period // 2 + 1) * k * c_in * c_out
    return direct > 1.25 * (mixing + others) and filter_bytes <= MOST_FILTER_BYTES


def _period(window, length):
    return length + max(window.low, window.high)


def _axis(window, length):
    n = _period(window, length)
    frequencies = 2 * np.pi * np.arange(n) / n
    taps = window.dilation * np.arange(window.size) - window.low
    return _Axis(
        np.exp(-1j * np.outer(frequencies, np.arange(length))),
        np.exp(1j * np.outer(frequencies, taps)),
        np.exp(1j * np.outer(window.stride * np.arange(window.outputs(length)), frequencies)) / n,
    )


def _weights(axis):
    """How often each non-negative frequency counts: for its conjugate as well, where that is another."""
    n = len(axis.images)
    return np.where(2 * np.arange(n // 2 + 1) % n == 0, 1, 2)


def _along_y(matrix, x):
    """`[y, ..] -> [m, 2, ..]`: a complex matrix times real numbers."""
    return jnp.tensordot(jnp.asarray(_parts(matrix), x.dtype), x, 1)


def _parts(matrix):
    """`[a, 2, b]`: real and imaginary parts of a matrix."""
    return np.stack([matrix.real, matrix.imag], 1)


def _real(matrix):
    """`[2, a, 2, b]`: a complex matrix on real and imaginary parts."""
    return np.stack([np.stack([matrix.real, -matrix.imag], 1), np.stack([matrix.imag, matrix.real], 1)])
