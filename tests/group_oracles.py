"""Slow NumPy definitions of the attention operators on a group, from their docstrings' formulas; no code is shared.

Feature maps are `[batch, x, y, h, c]`, weights the library's tuples as NumPy arrays; `pooled` says `over_group`.
"""

import itertools
import math

import numpy as np
from oracles import assemble, elements, group_conv, hat, input_attention, project_max, rows_of, sigmoid, turn


def linear(s, weight, group, bias=0.0):
    """`out[g, o] = bias[o] + sum over h', c of W(g^-1 h')[o, c] s[h', c]`."""
    h = s.shape[-2]
    return np.stack(
        [
            sum(s[..., at, :] @ weight[:, :, row].T for at, row in enumerate(rows_of(group, g, h))) + bias
            for g in range(h)
        ],
        axis=-2,
    )


def mlp(s, weights, group):
    return linear(np.maximum(linear(s, weights.w1, group, weights.b1), 0), weights.w2, group, weights.b2)


def axes(pooled):
    return (1, 2, 3) if pooled else (1, 2)


def mean(f, pooled):
    return f.mean(axes(pooled), keepdims=True)


def softmax(scores, over):
    weights = np.exp(scores)
    return weights / weights.sum(over, keepdims=True)


def se(f, weights, group, over_group=False):
    return sigmoid(mlp(mean(f, over_group), weights, group))


def ge(f, weights, group, extent=None, over_group=False):
    extents = f.shape[1:3] if extent is None else (extent, extent)
    alpha = []
    for x, y in itertools.product(range(0, f.shape[1], extents[0]), range(0, f.shape[2], extents[1])):
        window = f[:, x : x + extents[0], y : y + extents[1]]
        if weights.gather is None:
            s = mean(window, over_group)
        else:
            turned = [
                turn(weights.gather, group, g)[:, :, rows_of(group, g, f.shape[3])] for g in range(len(elements(group)))
            ]
            s = np.stack([(window * w).sum((1, 2, 3)) for w in turned], axis=1)[:, None, None]
            s = project_max(s) if f.shape[3] == 1 else s
        alpha.append(((x // extents[0], y // extents[1]), sigmoid(mlp(s, weights.excite, group))[:, 0, 0]))
    alpha = assemble(dict(alpha))
    return alpha if extent is None else alpha.repeat(extent, 1).repeat(extent, 2)


def bam(f, weights, group, dilation=4, over_group=False):
    s = group_conv(f, weights.reduce, group) + weights.biases[0]
    for w, bias in zip(weights.dilated, weights.biases[1:-1], strict=True):
        s = group_conv(np.maximum(s, 0), w, group, padding=dilation * (len(w) // 2), dilation=dilation) + bias
    s = group_conv(np.maximum(s, 0), weights.expand, group) + weights.biases[-1]
    s = project_max(s) if f.shape[3] == 1 else s
    return sigmoid(mlp(mean(f, over_group), weights.channel, group) + s)


def cbam(f, weights, group, over_group=False):
    highest = f.max(axes(over_group), keepdims=True)
    channel = sigmoid(mlp(mean(f, over_group), weights.channel, group) + mlp(highest, weights.channel, group))
    statistics = np.stack([(channel * f).mean(-1), (channel * f).max(-1)], axis=-1)
    s = group_conv(statistics, weights.spatial, group, padding=len(weights.spatial) // 2)
    return sigmoid(project_max(s) if f.shape[3] == 1 else s) * channel


def sge(f, weights, group, grouping="element", over_group=False):
    groups = len(weights.weight)
    t = (f * mean(f, over_group)).reshape(*f.shape[:-1], groups, -1).sum(-1)
    t = t.sum(3, keepdims=True) if grouping == "joint" else t
    t = t - t.mean(axes(over_group), keepdims=True)
    t = t / (t.std(axes(over_group), ddof=1, keepdims=True) + 1e-5)
    return sigmoid(weights.weight * t + weights.bias).repeat(f.shape[-1] // groups, -1)


def sk(f, weights, group, over_group=False):
    hidden = np.maximum(linear(mean(f, over_group), weights.w1, group), 0)
    return softmax(np.stack([linear(hidden, w, group) for w in weights.w2]), 0)


def gc(f, weights, group, over_group=False):
    p = softmax(linear(f, weights.key, group), axes(over_group))
    hidden = linear((p * f).sum(axes(over_group), keepdims=True), weights.w1, group, weights.b1)
    hidden = (hidden - hidden.mean(-1, keepdims=True)) / np.sqrt(hidden.var(-1, keepdims=True) + 1e-5)
    return linear(np.maximum(weights.scale * hidden + weights.shift, 0), weights.w2, group, weights.b2)


def srm(f, w, group, over_group=False):
    style = mean(f, over_group), np.sqrt(f.var(axes(over_group), keepdims=True) + 1e-5)
    h = style[0].shape[3]
    logits = [
        sum(style[k][..., at, :] * w[:, k, row] for k in (0, 1) for at, row in enumerate(rows_of(group, g, h)))
        for g in range(h)
    ]
    return sigmoid(np.stack(logits, axis=-2))


def eca(f, w, group, over_group=False):
    s = mean(f, over_group)
    logits = np.zeros_like(s)
    for g, c, j in itertools.product(range(s.shape[3]), range(f.shape[-1]), range(len(w))):
        neighbour = c + j - len(w) // 2
        if 0 <= neighbour < f.shape[-1]:
            for at, row in enumerate(rows_of(group, g, s.shape[3])):
                logits[..., g, c] += w[j, row] * s[..., at, neighbour]
    return sigmoid(logits)


def coordinate(f, weights, group):
    def hidden(lines):
        v = linear(lines, weights.w1, group, weights.b1)
        return v * np.clip(v + 3, 0, 6) / 6

    def factor(v, weight, bias, g):
        rows = enumerate(rows_of(group, g, f.shape[3]))
        return sigmoid(sum(v[..., at, :] @ weight[:, :, row].T for at, row in rows) + bias)

    rows, columns = hidden(f.mean(2)), hidden(f.mean(1))
    alpha = []
    for g, matrix in enumerate(elements(group)):
        pair = [(weights.first, weights.b_first), (weights.second, weights.b_second)]
        along_x, along_y = pair[::-1] if abs(matrix[0, 0]) < 0.5 else pair
        alpha.append(factor(rows, *along_x, g)[:, :, None] * factor(columns, *along_y, g)[:, None])
    alpha = np.stack(alpha, axis=3)
    return project_max(alpha) if f.shape[3] == 1 else alpha


def non_local(f, weights, group, over_group=True):
    query, key, value = (linear(f, w, group) for w in (weights.query, weights.key, weights.value))
    out = np.empty_like(query)
    for n, x, y, h in np.ndindex(f.shape[:4]):
        near = (n,) if over_group else (n, slice(None), slice(None), h)
        keys, values = (a[near].reshape(-1, a.shape[-1]) for a in (key, value))
        out[n, x, y, h] = softmax(keys @ query[n, x, y, h], 0) @ values
    return linear(out, weights.out, group)


def self_attention(f, weights, group, heads=1):
    query, key, value = (f @ w.T for w in (weights.query, weights.key, weights.value))
    k, h, hidden = len(weights.position), f.shape[3], len(weights.query)
    parts = np.split(np.arange(hidden), heads)
    out = np.zeros((*f.shape[:3], len(elements(group)), hidden))
    for g in range(out.shape[3]):
        position = turn(weights.position, group, g)[:, :, rows_of(group, g, h)]
        for (n, x, y), part in itertools.product(np.ndindex(f.shape[:3]), parts):
            scores, values = [], []
            for a, b, at in np.ndindex(k, k, h):
                i, j = x + a - k // 2, y + b - k // 2
                if 0 <= i < f.shape[1] and 0 <= j < f.shape[2]:
                    answer = key[n, i, j, at, part] + position[a, b, at, part]
                    scores.append(query[n, x, y, g if h > 1 else 0, part] @ answer / math.sqrt(len(part)))
                    values.append(value[n, i, j, at, part])
            out[n, x, y, g, part] = softmax(np.array(scores), 0) @ np.array(values)
    out = out @ weights.out.T
    return out.mean(3, keepdims=True) if h == 1 else out


def co(f, w, group):
    s = group_conv(f, w, group, kernel=hat)
    return sigmoid(project_max(s) if f.shape[3] == 1 else s)


def alpha_f(f, weights, group):
    """From what is left of a map: `1 - input_attention(f) / f`."""
    return 1 - input_attention(f, weights.channel, weights.spatial, group) / f


ORACLES = {
    "input": alpha_f,
    "co": co,
    "se": se,
    "ge": ge,
    "bam": bam,
    "cbam": cbam,
    "sge": sge,
    "sk": sk,
    "gc": gc,
    "srm": srm,
    "eca": eca,
    "coordinate": coordinate,
    "non_local": non_local,
    "self": self_attention,
}
