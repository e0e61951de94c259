"""Depthwise convolution: XLA's grouped convolution, and on CPU fused sums of shifted slices.

Of a large filter on a small image the gradient goes by frequencies there; see `attgconv_jax.kernels.fourier`.

| quantity | held for | elements an image |
|---|---|---|
| padded images and gradients | one chunk of images | `x y c` |
| frequencies along `y`, for the gradient of a large filter | a few images | `x y c` twice, roughly |
"""

import functools
import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from attgconv_jax.kernels import chunks
from attgconv_jax.kernels.fourier import fourier_depthwise_filter_gradient
from attgconv_jax.kernels.linear import bilinear
from attgconv_jax.kernels.settings import Depthwise, Settings
from attgconv_jax.kernels.taps import Window, count_outputs, pad, take_pixels, xla_conv

# From so many taps on, the sum goes by blocks of channels whose weights stay in the first cache, and the gradient of
# the filter by frequencies where images are no longer than the taps are many; elsewhere passes over more arrays, and
# longer transforms, cost more than that saves.
LARGE, BLOCK = 20, 64


def depthwise_conv(
    f: Float[Array, "batch x y c"],
    w: Float[Array, "k l c"],
    windows: tuple[Window, Window],
    implementation: Depthwise | None = None,
) -> Float[Array, "batch x_out y_out c"]:
    """Cross-correlates every channel with a filter of its own.

        out[x, y, c] = sum over a, b of  f[x s_x + a d_x - p_x, y s_y + b d_y - p_y, c] w[a, b, c]

    Arguments and gradients as of `attgconv_jax.kernels.conv`, but for the implementations: "shifts" (elementwise sums,
    for CPUs), "xla" (`lax.conv_general_dilated`), or None: "shifts" where the computation is lowered for a CPU, "xla"
    elsewhere.
    """
    chunks.require_images(f, w, ranks=(4, 3))
    return _depthwise(f, w, windows, Settings.of_kernel(implementation, _IMPLEMENTATIONS))


@bilinear
@chunks.compiled("step", "settings", "windows")
def _depthwise(step, settings, windows, f, w, *d_out):
    """The named step of the implementation."""
    steps = [(name, functools.partial(_IMPLEMENTATIONS[name][step], windows=windows)) for name in ("shifts", "xla")]
    with settings.restored():
        return chunks.choose(settings.implementation, *steps, f)(f, w, *d_out)


def _xla_forward(f, w, windows):
    return xla_conv(f, w[:, :, None, :], windows, feature_group_count=f.shape[-1])


def _shifts_forward(f, w, windows):
    counts = count_outputs(windows, f.shape[1:3])

    return chunks.map_chunks(lambda f: _sum_of_shifts(pad(f, windows), w, windows, counts), f, _chunk(f))


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

    def step(d_out):
        padded = lax.pad(d_out, jnp.zeros((), d_out.dtype), spread)
        return _sum_of_shifts(padded, w[::-1, ::-1], turned, f.shape[1:3])

    return chunks.map_chunks(step, d_out, _chunk(f))


def _shifts_backward_filter(f, w, d_out, windows):
    """An inner product a tap and channel, one image at a time: more of them leave the cache between the taps."""
    dtype = chunks.sum_dtype(w)
    taps = math.prod(w.shape[:2])
    if LARGE <= taps >= max(f.shape[1:3]) and all(window.stride == 1 for window in windows):
        return fourier_depthwise_filter_gradient(f, d_out, windows).astype(w.dtype)

    def step(d_w, chunk):
        f, d_out = chunk
        shifts = take_pixels(pad(f, windows), windows, d_out.shape[1:3])
        products = [jnp.sum(shift * d_out, axis=(0, 1, 2), dtype=dtype) for shift in shifts]
        return d_w + jnp.stack(products).reshape(w.shape), ()

    return chunks.scan_chunks(step, jnp.zeros(w.shape, dtype), (f, d_out), chunk=1)[0].astype(w.dtype)


_IMPLEMENTATIONS = {
    "shifts": {
        "forward": _shifts_forward,
        "backward": _shifts_backward,
        "backward_filter": _shifts_backward_filter,
    },
    "xla": chunks.by_transposition(_xla_forward),
}


def _sum_of_shifts(padded, w, windows, counts):
    channels = w.shape[-1]
    if channels <= BLOCK or math.prod(w.shape[:2]) < LARGE:
        return _sum_of_block(padded, w, windows, counts)
    blocks = [slice(start, start + BLOCK) for start in range(0, channels, BLOCK)]
    sums = [_sum_of_block(padded[..., block], w[..., block], windows, counts) for block in blocks]
    # Behind barriers, or XLA fuses the blocks into one pass again.
    return jnp.concatenate(lax.optimization_barrier(sums), -1)


def _sum_of_block(padded, w, windows, counts):
    dtype = chunks.sum_dtype(w)
    weights = w.reshape(-1, 1, 1, 1, w.shape[-1]).astype(dtype)
    shifts = take_pixels(padded, windows, counts)
    return sum(shift.astype(dtype) * weight for shift, weight in zip(shifts, weights, strict=True)).astype(w.dtype)


def _chunk(f):
    """Images a chunk: half at most, as only a loop keeps XLA from computing the sum again for each of its readers."""
    batch, *axes = f.shape
    most = chunks.images_a_chunk(math.prod(axes))
    return most if chunks.is_symbolic(batch) else min(most, math.ceil(batch / 2))
