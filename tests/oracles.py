"""Slow NumPy definitions of what the library computes, from the formulas of DESIGN.md; no code is shared with it.

A group is anything with `rotations` and `reflections`. Feature maps are `[batch, x, y, h, c]`.
"""

import functools
import itertools

import numpy as np


@functools.cache
def _elements(rotations, reflections):
    turn = 2 * np.pi / rotations
    flip = np.array([[-1.0, 0.0], [0.0, 1.0]])
    identity = np.eye(2)
    return [
        flips @ np.array([[np.cos(r * turn), -np.sin(r * turn)], [np.sin(r * turn), np.cos(r * turn)]])
        for flips in ([identity, flip] if reflections else [identity])
        for r in range(rotations)
    ]


def elements(group):
    """Every element as a matrix on `(x, y)`: `M^m R^r` stands at `m n + r`."""
    return _elements(group.rotations, group.reflections)


@functools.cache
def _product(rotations, reflections):
    matrices = np.array(_elements(rotations, reflections))
    table = np.empty((len(matrices),) * 2, int)
    for (g, a), (h, b) in itertools.product(enumerate(matrices), repeat=2):
        (table[g, h],) = np.flatnonzero(np.abs(matrices - a @ b).max(axis=(1, 2)) < 1e-9)
    return table


def product(group):
    """`product[g, h]`: the element whose matrix is the product of the matrices."""
    return _product(group.rotations, group.reflections)


def inverse(group, g):
    """The element that undoes `g`."""
    return list(product(group)[g]).index(0)


def rows_of(group, g, h):
    """`g^-1 h'` for every `h'` of a group axis of length `h`; an image has nothing to act on."""
    return [product(group)[inverse(group, g), row] for row in range(h)] if h > 1 else [0]


def turn(a, group, g, axes=(0, 1)):
    """`a[g^-1 u]` on two spatial axes, for right angles."""
    flips, turns = divmod(g, group.rotations)
    turned = np.rot90(a, turns * 4 // group.rotations, axes=axes)
    return np.flip(turned, axis=axes[0]) if flips else turned


def hat(t):
    return max(0.0, 1 - abs(t))


def keys(t):
    t = abs(t)
    if t <= 1:
        return 1.5 * t**3 - 2.5 * t**2 + 1
    return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0.0


def resample(a, group, g, kernel):
    """`a[g^-1 u]` on the first two axes, zero outside, one pixel and one tap at a time."""
    k = len(a)
    centre = (k - 1) / 2
    back = np.linalg.inv(elements(group)[g])
    out = np.zeros_like(a)
    for x, y in itertools.product(range(k), repeat=2):
        at_x, at_y = back @ (x - centre, y - centre) + centre
        for i, j in itertools.product(range(k), repeat=2):
            out[x, y] += kernel(at_x - i) * kernel(at_y - j) * a[i, j]
    return out


def disc(k):
    """One up to `(k - 1) / 2` pixels from the centre; all four taps of a filter of size 2."""
    doubled = [2 * i - (k - 1) for i in range(k)]
    return np.array([[float(k == 2 or x * x + y * y <= (k - 1) ** 2) for y in doubled] for x in doubled])


def filter_bank(w, group, kernel=None, masked=False):
    """`bank[u, h', c, g, o] = w[g^-1 u, g^-1 h', c, o]`; without a kernel by `rot90` and `flip`."""
    w = w * disc(len(w))[:, :, None, None, None] if masked else w
    moved = [
        (turn(w, group, g) if kernel is None else resample(w, group, g, kernel))[:, :, rows_of(group, g, w.shape[2])]
        for g in range(len(elements(group)))
    ]
    return np.stack(moved, axis=4)


def same_padding(length, size, stride, dilation):
    """The fewest pixels that make `ceil(length / stride)` windows fit, the odd one at the end."""
    for total in itertools.count():
        starts = range(0, length + total - dilation * (size - 1), stride)
        if len(starts) >= -(-length // stride):
            return total // 2, total - total // 2


def paddings(shape, size, stride, padding, dilation):
    """`(low, high)` along `x` and `y`."""
    if padding == "SAME":
        return [same_padding(length, size, stride, dilation) for length in shape]
    return [(0, 0) if padding == "VALID" else (padding, padding)] * 2


def windows(f, sizes, strides, pads, dilations, fill=0.0):
    """Every position of a window on the axes 1 and 2, and what it sees: `(i, j), [batch, k, l, ...]`."""
    (k, l), (d_x, d_y) = sizes, dilations
    f = np.pad(f, [(0, 0), *pads] + [(0, 0)] * (f.ndim - 3), constant_values=fill)
    starts = [
        range(0, f.shape[axis] - dilation * (size - 1), stride)
        for axis, size, stride, dilation in zip((1, 2), sizes, strides, dilations, strict=True)
    ]
    for (i, x), (j, y) in itertools.product(enumerate(starts[0]), enumerate(starts[1])):
        rows, columns = [x + a * d_x for a in range(k)], [y + b * d_y for b in range(l)]
        yield (i, j), f[:, rows][:, :, columns]


def assemble(pixels):
    """`{(i, j): [batch, ...]} -> [batch, x, y, ...]`."""
    x, y = 1 + max(i for i, _ in pixels), 1 + max(j for _, j in pixels)
    return np.stack([np.stack([pixels[i, j] for j in range(y)], 1) for i in range(x)], 1)


def dense_conv(f, w, strides, pads, dilations):
    """`out[x, y, o] = sum over a, b, c of f[x s + a d - p, y s + b d - p, c] w[a, b, c, o]`."""
    seen = windows(f, w.shape[:2], strides, pads, dilations)
    return assemble({at: np.einsum("nabc,abco->no", patch, w) for at, patch in seen})


def depthwise_conv(f, w, strides, pads, dilations):
    """`out[x, y, c] = sum over a, b of f[x s + a d - p, y s + b d - p, c] w[a, b, c]`."""
    seen = windows(f, w.shape[:2], strides, pads, dilations)
    return assemble({at: np.einsum("nabc,abc->nc", patch, w) for at, patch in seen})


def conv_gradients(conv, f, w, d_out, *geometry):
    """Gradients of `sum(conv(f, w) * d_out)`, one input number at a time: the convolution is linear in each."""
    d_f = np.array([np.sum(conv(unit, w, *geometry) * d_out) for unit in _units(f.shape)]).reshape(f.shape)
    d_w = np.array([np.sum(conv(f, unit, *geometry) * d_out) for unit in _units(w.shape)]).reshape(w.shape)
    return d_f, d_w


def _units(shape):
    for index in np.ndindex(shape):
        unit = np.zeros(shape)
        unit[index] = 1
        yield unit


def group_conv(f, w, group, stride=1, padding="VALID", dilation=1, haar=False, kernel=None, masked=False):
    """`y[x, g, o] = weight * sum over u, h', c of f[x + u, h', c] (L_g w)[u, h', c, o]`."""
    bank = filter_bank(w, group, kernel, masked)
    weight = 1.0
    if haar and w.shape[2] > 1:
        weight = 2 * np.pi / group.rotations * (2 if group.reflections else 1)
    pads = paddings(f.shape[1:3], len(w), stride, padding, dilation)
    seen = windows(f, w.shape[:2], (stride,) * 2, pads, (dilation,) * 2)
    return assemble({at: weight * np.einsum("nabhc,abhcgo->ngo", patch, bank) for at, patch in seen})


def max_pool(f, window, stride, padding):
    seen = windows(f, (window,) * 2, (stride,) * 2, [(padding,) * 2] * 2, (1, 1), fill=-np.inf)
    return assemble({at: patch.max(axis=(1, 2)) for at, patch in seen})


def mean_pool(f, window, stride, padding):
    seen = windows(f, (window,) * 2, (stride,) * 2, [(padding,) * 2] * 2, (1, 1))
    return assemble({at: patch.sum(axis=(1, 2)) / window**2 for at, patch in seen})


def project_max(f):
    return np.array([max(column) for column in np.moveaxis(f, -2, -1).reshape(-1, f.shape[-2])]).reshape(
        *f.shape[:-2], 1, f.shape[-1]
    )


def project_mean(f):
    return sum(f[..., h : h + 1, :] for h in range(f.shape[-2])) / f.shape[-2]


def sigmoid(t):
    return 1 / (1 + np.exp(-t))


def channel_attention(f, w1, w2, group):
    """`sigmoid(mlp(mean over x, y of f) + mlp(max over x, y of f))`, `[batch, 1, 1, h, c]`."""

    def layer(s, weight):
        out = np.zeros((*s.shape[:2], len(weight)))
        for g in range(s.shape[1]):
            for h, row in enumerate(rows_of(group, g, s.shape[1])):
                out[:, g] += s[:, h] @ weight[:, :, row].T
        return out

    def mlp(s):
        return layer(np.maximum(layer(s, w1), 0), w2)

    return sigmoid(mlp(f.mean(axis=(1, 2))) + mlp(f.max(axis=(1, 2))))[:, None, None]


def spatial_attention(f, w, group, dilation=1, haar=False, kernel=None, masked=False):
    """`sigmoid(group_conv([mean over c, max over c], w))`; on an image the maximum over `h` before the sigmoid."""
    statistics = np.stack([f.mean(axis=-1), f.max(axis=-1)], axis=-1)
    padding = dilation * (len(w) // 2)
    logits = group_conv(statistics, w, group, 1, padding, dilation, haar, kernel, masked)
    return sigmoid(project_max(logits) if f.shape[-2] == 1 else logits)


def co_attention(f, w, group, haar=False):
    """`sigmoid(group_conv(f, w))` with a filter of one pixel, which no rotation moves."""
    logits = group_conv(f, w, group, haar=haar, kernel=hat)
    return sigmoid(project_max(logits) if f.shape[-2] == 1 else logits)


def input_attention(f, channel, spatial, group, **settings):
    """`(1 - alpha_X alpha_C) f`: `alpha_C` from `f`, `alpha_X` from `alpha_C f`; a missing factor is left out."""
    if channel is None and spatial is None:
        return f
    alpha = np.ones_like(f)
    if channel is not None:
        alpha = alpha * channel_attention(f, *channel, group)
    if spatial is not None:
        alpha = alpha * spatial_attention(alpha * f, spatial, group, **settings)
    return (1 - alpha) * f


def act(f, group, g):
    """`f[g^-1 x, g^-1 h, c]`, for right angles; an image has no group axis to act on."""
    return turn(f, group, g, axes=(1, 2))[..., rows_of(group, g, f.shape[-2]), :]


def response_attentive_group_conv(f, w, channel, spatial, group, *, haar=False, attention_dilation=1, **settings):
    """`weight * sum over h', c of (1 - alpha_X alpha_C) r`, with every response; also `alpha_C` and `alpha_X`."""
    geometry = {"stride": 1, "padding": "VALID", "dilation": 1, "kernel": None, "masked": False, **settings}
    bank = filter_bank(w, group, geometry["kernel"], geometry["masked"])
    h_in, order, c_out = w.shape[2], len(elements(group)), w.shape[4]
    pads = paddings(f.shape[1:3], len(w), geometry["stride"], geometry["padding"], geometry["dilation"])
    seen = windows(f, w.shape[:2], (geometry["stride"],) * 2, pads, (geometry["dilation"],) * 2)
    # [batch, x, y, h', c, g, o]
    r = assemble({at: np.einsum("nabhc,abhcgo->nhcgo", patch, bank) for at, patch in seen})
    alpha_c, alpha_x = np.ones_like(r[:, :1, :1]), np.ones_like(r[:, :, :, :, :1])
    for h, g, o in itertools.product(range(h_in), range(order), range(c_out)):
        at = rows_of(group, g, h_in)[h]
        if channel is not None:
            w1, w2 = channel[0][o, :, :, at], channel[1][o, :, :, at]
            statistics = r[..., h, :, g, o].mean((1, 2)), r[..., h, :, g, o].max((1, 2))
            alpha_c[:, 0, 0, h, :, g, o] = sigmoid(sum(np.maximum(s @ w1.T, 0) @ w2.T for s in statistics))
        if spatial is not None:
            attended = alpha_c[..., h, :, g, o] * r[..., h, :, g, o]
            statistics = np.stack([attended.mean(-1), attended.max(-1)], -1)
            v = filter_bank(spatial, group, geometry["kernel"], geometry["masked"])[:, :, h, :, g, o]
            reach = attention_dilation * (len(v) // 2)
            spread = (attention_dilation,) * 2
            logits = dense_conv(statistics, v[..., None], (1, 1), [(reach, reach)] * 2, spread)
            alpha_x[..., h, 0, g, o] = sigmoid(logits[..., 0])
    suppressed = 1 - alpha_x * alpha_c if channel is not None or spatial is not None else 1
    weight = 2 * np.pi / order if haar and h_in > 1 else 1
    return weight * np.sum(suppressed * r, axis=(3, 4)), alpha_c, alpha_x
