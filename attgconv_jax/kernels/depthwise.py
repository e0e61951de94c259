"""Depthwise convolution: XLA's grouped convolution, and on CPU fused sums of shifted slices.

Of a large filter on a small image the gradient goes by frequencies there; see `attgconv_jax.kernels.fourier`.

| quantity | held for | elements an image |
|---|---|---|
| padded images and gradients | one chunk of images | `x y c` |
| frequencies along `y`, for the gradient of a large filter | a few images | `x y c` twice, roughly |
| anything else | not stored | |
"""

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from attgconv_jax.kernels.chunks import choose, images_a_chunk, require_images, scan_chunks, sum_dtype
from attgconv_jax.kernels.fourier import fourier_depthwise_filter_gradient
from attgconv_jax.kernels.taps import Window, pad, take_tap

Implementation = Literal["shifts", "xla"]

# From so many taps on, the sum goes by blocks of channels whose weights stay in the first cache, and the gradient of
# the filter by frequencies where images are no longer than the taps are many; elsewhere passes over more arrays, and
# longer transforms, cost more than that saves.
LARGE, BLOCK = 20, 64


def depthwise_conv(
    f: Float[Array, "batch x y c"],
    w: Float[Array, "k l c"],
    windows: tuple[Window, Window],
    implementation: Implementation | None = None,
) -> Float[Array, "batch x_out y_out c"]:
    """Cross-correlates every channel with a filter of its own.

        out[x, y, c] = sum over a, b of  f[x s_x + a d_x - p_x, y s_y + b d_y - p_y, c] w[a, b, c]

    Differentiable in reverse mode, to any order. bfloat16 accumulates in float32.

    Args:
      f: images.
      w: filters, of the same dtype.
      windows: sizes, strides `s`, paddings `p` and dilations `d` along `x` and `y`.
      implementation: "shifts" (elementwise sums, for CPUs), "xla" (`lax.conv_general_dilated`), or None:
        "shifts" where the computation is lowered for a CPU, "xla" elsewhere.

    Returns:
      The convolved images.

    Raises:
      ValueError: unknown implementation, or wrong ranks or dtypes.

    Source: our own.
    """
    require_images(f, w, ranks=(4, 3))
    return _depthwise(f, w, windows, implementation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(f, w, windows, implementation):
    shifts = functools.partial(_shifts_forward, windows=windows)
    xla = functools.partial(_xla_forward, windows=windows)
    return choose(implementation, ("shifts", shifts), ("xla", xla), f)(f, w)


def _forward(f, w, windows, implementation):
    return _depthwise(f, w, windows, implementation), (f, w)


def _backward(windows, implementation, residuals, d_out):
    shifts = functools.partial(_shifts_backward, windows=windows)
    xla = functools.partial(_xla_backward, windows=windows)
    return choose(implementation, ("shifts", shifts), ("xla", xla), residuals[0])(*residuals, d_out)


_depthwise.defvjp(_forward, _backward)


def _xla_forward(f, w, windows):
    return lax.conv_general_dilated(
        f,
        w[:, :, None, :],
        window_strides=[window.stride for window in windows],
        padding=[(window.low, window.high) for window in windows],
        rhs_dilation=[window.dilation for window in windows],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=f.shape[-1],
    )


def _xla_backward(f, w, d_out, windows):
    return jax.vjp(functools.partial(_xla_forward, windows=windows), f, w)[1](d_out)


def _shifts_forward(f, w, windows):
    counts = [window.outputs(length) for window, length in zip(windows, f.shape[1:3], strict=True)]

    def step(carry, f):
        return carry, _sum_of_shifts(pad(f, windows), w, windows, counts)

    return scan_chunks(step, (), f, _chunk(f))[1]


def _shifts_backward(f, w, d_out, windows):
    return _shifts_backward_images(f, w, d_out, windows), _shifts_backward_filter(f, w, d_out, windows)


def _shifts_backward_images(f, w, d_out, windows):
    """Correlates the gradient, spread by the strides, with the filter turned by half a turn."""
    spread, turned = [(0, 0, 0)], []
    for window, length, count in zip(windows, f.shape[1:3], d_out.shape[1:3], strict=True):
        low = window.dilation * (window.size - 1) - window.low
        high = length + window.low - (count - 1) * window.stride - 1
        spread.append((low, high, window.stride - 1))
        turned.append(Window(window.size, dilation=window.dilation))
    spread.append((0, 0, 0))

    def step(carry, d_out):
        padded = lax.pad(d_out, jnp.zeros((), d_out.dtype), spread)
        return carry, _sum_of_shifts(padded, w[::-1, ::-1], turned, f.shape[1:3])

    return scan_chunks(step, (), d_out, _chunk(f))[1]


def _shifts_backward_filter(f, w, d_out, windows):
    """An inner product a tap and channel, one image at a time: more of them leave the cache between the taps."""
    dtype = sum_dtype(w)
    taps = math.prod(w.shape[:2])
    if LARGE <= taps >= max(f.shape[1:3]) and all(window.stride == 1 for window in windows):
        return fourier_depthwise_filter_gradient(f, d_out, windows).astype(w.dtype)

    def step(d_w, chunk):
        f, d_out = chunk
        shifts = _shifts(pad(f, windows), windows, d_out.shape[1:3])
        products = [jnp.sum(shift * d_out, axis=(0, 1, 2), dtype=dtype) for shift in shifts]
        return d_w + jnp.stack(products).reshape(w.shape), ()

    return scan_chunks(step, jnp.zeros(w.shape, dtype), (f, d_out), chunk=1)[0].astype(w.dtype)


def _sum_of_shifts(padded, w, windows, counts):
    channels = w.shape[-1]
    if channels <= BLOCK or math.prod(w.shape[:2]) < LARGE:
        return _sum_of_block(padded, w, windows, counts)
    starts = range(0, channels, BLOCK)
    blocks = [
        _sum_of_block(padded[..., start : start + BLOCK], w[..., start : start + BLOCK], windows, counts)
        for start in starts
    ]
    # Behind barriers, or XLA fuses the blocks into one pass again.
    return jnp.concatenate(lax.optimization_barrier(blocks), -1)


def _sum_of_block(padded, w, windows, counts):
    dtype = sum_dtype(w)
    weights = w.reshape(-1, 1, 1, 1, w.shape[-1]).astype(dtype)
    shifts = _shifts(padded, windows, counts)
    return sum(shift.astype(dtype) * weight for shift, weight in zip(shifts, weights, strict=True)).astype(w.dtype)


def _shifts(padded, windows, counts):
    """The padded images as every tap sees them, in the order of the filter's taps."""
    rows, columns = windows
    for a in range(rows.size):
        row = take_tap(padded, rows, a, 1, counts[0])
        for b in range(columns.size):
            yield take_tap(row, columns, b, 2, counts[1])


def _chunk(f):
    """Images a chunk: of two or more half at most, for only a loop keeps XLA from fusing the sum with all its readers.

    Fused, it is computed in their order and once for each of them.
    """
    return min(images_a_chunk(math.prod(f.shape[1:])), math.ceil(len(f) / 2))
