"""Convolution over a few axes of every channel for itself: on CPU one channel at a time, elsewhere grouped.

| quantity | held for | elements an image |
|---|---|---|
| images and outputs with their channels in front | all images | `x y c (h_in + h)` |
| what `attgconv_jax.kernels.conv` makes | one channel | see there |
"""

import functools

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from attgconv_jax.kernels.chunks import choose, compiled, require_images
from attgconv_jax.kernels.convolution import IMPLEMENTATIONS, conv
from attgconv_jax.kernels.settings import Dense, chosen
from attgconv_jax.kernels.taps import Window, xla_conv


def channelwise_conv(
    f: Float[Array, "batch x y h_in c"],
    w: Float[Array, "k l h_in h c"],
    windows: tuple[Window, Window],
    implementation: Dense | None = None,
) -> Float[Array, "batch x_out y_out h c"]:
    """Cross-correlates every channel, an image with an axis `h` itself, with a filter of its own.

        out[x, y, h, c] = sum over a, b, h~ of  f[x s_x + a d_x - p_x, y s_y + b d_y - p_y, h~, c] w[a, b, h~, h, c]

    Arguments and gradients as of `attgconv_jax.kernels.conv`, whose implementation is that of every channel; with
    "xla", and with None where the computation is not lowered for a CPU, all channels are one grouped convolution.
    """
    require_images(f, w, ranks=(5, 5))
    implementation = chosen(implementation, IMPLEMENTATIONS)
    if f.shape[-2:] != (w.shape[2], w.shape[4]):
        raise ValueError(f"f has axes h_in and c {f.shape[-2:]}, but w is made for {(w.shape[2], w.shape[4])}")
    return _channelwise(f, w, windows, implementation)


@compiled("windows", "implementation")
def _channelwise(f, w, windows, implementation):
    one_by_one = functools.partial(_one_by_one, windows=windows, implementation=implementation)
    if implementation in ("rows", "fourier"):
        return one_by_one(f, w)
    at_once = functools.partial(_at_once, windows=windows)
    return choose(implementation, ("rows", one_by_one), ("xla", at_once), f)(f, w)


def _one_by_one(f, w, windows, implementation):
    """Channels in front: each lies in one piece, and is an image with `h_in` channels."""
    images, filters = jnp.moveaxis(f, -1, 0), jnp.moveaxis(w, -1, 0)
    out = lax.map(lambda channel: conv(*channel, windows, implementation), (images, filters))
    return jnp.moveaxis(out, 0, -1)


def _at_once(f, w, windows):
    """Groups are the slowest axis of a grouped convolution's channels."""
    *lengths, h_in, channels = f.shape
    *sizes, _, h, _ = w.shape
    images = jnp.swapaxes(f, -1, -2).reshape(*lengths, channels * h_in)
    filters = jnp.swapaxes(w, -1, -2).reshape(*sizes, h_in, channels * h)
    out = xla_conv(images, filters, windows, feature_group_count=channels)
    return jnp.swapaxes(out.reshape(*out.shape[:3], channels, h), -1, -2)
