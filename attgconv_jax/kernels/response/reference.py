"""Response attention as its formulas say it: every response is stored. For tests and for reading."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from attgconv_jax.kernels.maxima import maximum
from attgconv_jax.kernels.taps import Window, count_outputs, pad, take_pixels


def attended_responses(f, bank, channel, spatial, windows, dilation, memory_budget=None):
    """`out[x, m] = sum over h, c of alpha r`, stored whatever the budget; see `kernels.response_attention`."""
    r = responses(f, bank, windows)
    for alpha in _attention(r, channel, spatial, dilation):
        r = r if alpha is None else alpha * r
    return jnp.sum(r, axis=(3, 4))


def attention_maps(f, bank, channel, spatial, windows, dilation):
    """`alpha_C` and `alpha_X`, None where the weights are None."""
    return _attention(responses(f, bank, windows), channel, spatial, dilation)


def responses(f, bank, windows):
    """`r[x, h, c, m] = sum over u of f[x + u, h, c] bank[u, h, c, m]`."""
    return sum(tap[..., None] * bank[a, b] for a, b, tap in _taps(f, windows))


def _attention(r, channel, spatial, dilation):
    alpha_c = None if channel is None else channel_attention(r, channel)
    attended = r if channel is None else alpha_c * r
    return alpha_c, None if spatial is None else spatial_attention(attended, spatial, dilation)


def channel_attention(r, channel):
    """`alpha_C[h, c, m] = sigmoid(mlp(mean over x of r) + mlp(max over x of r))`."""
    batch, x, y, h, c, m = r.shape
    mean = jnp.mean(r, axis=(1, 2))
    highest = maximum(r.reshape(batch, x * y, h, c, m), axis=1)
    return jax.nn.sigmoid(_mlp(mean, channel) + _mlp(highest, channel))[:, None, None]


def _mlp(s, channel):
    """`w2 relu(w1 s)` over channels, with weights of its own for every `(h, m)`."""
    hidden = jax.nn.relu(jnp.einsum("bhcm,hmjc->bhjm", s, channel.w1))
    return jnp.einsum("bhjm,hmcj->bhcm", hidden, channel.w2)


def spatial_attention(attended, spatial, dilation):
    """`alpha_X[x, h, m] = sigmoid(sum over u, s of s[x + u, h, m] v[u, s, h, m])`, `s` the mean and max over `c`."""
    statistics = jnp.stack([jnp.mean(attended, axis=4), maximum(attended, axis=4)], axis=3)
    size, reach = spatial.shape[0], dilation * (spatial.shape[0] // 2)
    window = Window(size, 1, reach, reach, dilation)
    logits = sum(jnp.sum(tap * spatial[a, b], axis=3) for a, b, tap in _taps(statistics, (window, window)))
    return jax.nn.sigmoid(logits)[:, :, :, :, None]


def _taps(f, windows):
    """`(a, b, f[x s + a d - p, y s + b d - p])` for every tap of the windows."""
    batch, x, y, *rest = f.shape
    padded = pad(f.reshape(batch, x, y, math.prod(rest)), windows)
    taps = take_pixels(padded, windows, count_outputs(windows, (x, y)))
    for (a, b), tap in zip(np.ndindex(*(window.size for window in windows)), taps, strict=True):
        yield a, b, tap.reshape(*tap.shape[:3], *rest)
