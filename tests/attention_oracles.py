"""Slow NumPy definitions of the attention operators on the trivial group, from the papers; no code is shared with it.

Feature maps are `[batch, x, y, c]`, `x` down the rows. Weights have the papers' shapes: a matrix is `[c_out, c_in]`,
the filter of a convolution `[c_out, c_in, k, k]`. What comes back is alpha: `[batch, x, y, c]`, or of length 1 in `x`,
`y` or `c` where it does not depend on them.
"""

import itertools
import math

import numpy as np


def no_norm(v):
    return v


def sigmoid(t):
    return 1 / (1 + np.exp(-t))


def relu(t):
    return np.where(t > 0, t, 0.0)


def hard_swish(t):
    """`t min(max(t + 3, 0), 6) / 6`."""
    return t * np.clip(t + 3, 0, 6) / 6


def softmax(scores):
    """`exp(s_i) / sum over j of exp(s_j)` of a list of scores."""
    powers = [math.exp(score - max(scores)) for score in scores]
    return [power / sum(powers) for power in powers]


def pixels(f):
    """Every position `(x, y)` of a feature map."""
    return list(itertools.product(range(f.shape[1]), range(f.shape[2])))


def space_mean(f):
    """`1 / (X Y) sum over x, y of f`, `[batch, c]`."""
    return sum(f[:, x, y] for x, y in pixels(f)) / len(pixels(f))


def space_max(f):
    """`max over x, y of f`, `[batch, c]`."""
    return np.maximum.reduce([f[:, x, y] for x, y in pixels(f)])


def linear(s, w, b=0.0):
    """`W s + b` of every vector of `s`, `[..., c_in] -> [..., c_out]`."""
    out = np.empty((*s.shape[:-1], len(w)))
    for index in np.ndindex(s.shape[:-1]):
        out[index] = w @ s[index] + b
    return out


def mlp(s, w1, w2, b1=0.0, b2=0.0):
    """`W2 relu(W1 s + b1) + b2`."""
    return linear(relu(linear(s, w1, b1)), w2, b2)


def conv(f, w, b=0.0, dilation=1):
    """`y[x, o] = b[o] + sum over u of w[o, :, u] . f[x + dilation (u - k // 2)]`, zero outside the map."""
    reach = w.shape[-1] // 2
    out = np.zeros((*f.shape[:3], len(w))) + b
    for (x, y), (i, j) in itertools.product(pixels(f), np.ndindex(w.shape[2:])):
        at_x, at_y = x + dilation * (i - reach), y + dilation * (j - reach)
        if 0 <= at_x < f.shape[1] and 0 <= at_y < f.shape[2]:
            out[:, x, y] += f[:, at_x, at_y] @ w[:, :, i, j].T
    return out


def squeeze_excitation(f, *weights):
    """1709.01507, (2) and (3): `sigmoid(W2 relu(W1 mean over x of f))`."""
    return sigmoid(mlp(space_mean(f), *weights))[:, None, None]


def gather_excite(f, extent=None, gather=None, excite=None):
    """1810.12348, section 3: `sigmoid(excite(gather(f)))`, the value of a window at each of its pixels.

    Gathering is the mean of `extent x extent` pixels (None: of all) or a depth-wise filter `gather [c, k, k]` of them.
    """
    height, width = f.shape[1:3] if extent is None else (extent, extent)
    alpha = np.empty_like(f)
    for x, y in itertools.product(range(0, f.shape[1], height), range(0, f.shape[2], width)):
        window = f[:, x : x + height, y : y + width]
        if gather is None:
            gathered = space_mean(window)
        else:
            gathered = sum(window[:, i, j] * gather[:, i, j] for i, j in pixels(window))
        excited = gathered if excite is None else mlp(gathered, *excite)
        alpha[:, x : x + height, y : y + width] = sigmoid(excited)[:, None, None]
    return alpha[:, :1, :1] if extent is None else alpha


def bottleneck_attention(f, channel, reduce, dilated, expand, biases, dilation, channel_norm, spatial_norm):
    """1807.06514, (2) to (4): `sigmoid(BN(mlp(mean over x of f)) + BN(f3(f2(f1(f0(f))))))`, relu after f0, f1 and f2.

    `f0` (`reduce [c_hid, c]`) and `f3` (`expand [1, c_hid]`) see one pixel, `dilated` are `[c_hid, c_hid, k, k]`.
    """
    first, *between, last = biases
    v = relu(linear(f, reduce, first))
    for w, b in zip(dilated, between, strict=True):
        v = relu(conv(v, w, b, dilation))
    along_channels = channel_norm(mlp(space_mean(f), *channel))
    return sigmoid(along_channels[:, None, None] + spatial_norm(linear(v, expand, last)))


def channel_factor(f, *weights):
    """1807.06521, (2): `sigmoid(mlp(mean over x of f) + mlp(max over x of f))`."""
    return sigmoid(mlp(space_mean(f), *weights) + mlp(space_max(f), *weights))[:, None, None]


def spatial_factor(f, w, dilation=1):
    """1807.06521, (3): `sigmoid(conv([mean over c of f; max over c of f]))` with a filter `[1, 2, k, k]`."""
    return sigmoid(conv(np.stack([f.sum(-1) / f.shape[-1], f.max(-1)], -1), w, 0.0, dilation))


def convolutional_block_attention(f, channel, spatial, dilation=1):
    """1807.06521, (1): `F' = M_c(F) F`, `F'' = M_s(F') F'`; alpha is `M_s(F') M_c(F)`.

    2002.03830 has the same alpha (alpha_F), with a dilation, as what to suppress.
    """
    along_channels = channel_factor(f, *channel)
    return spatial_factor(along_channels * f, spatial, dilation) * along_channels


def spatial_group_enhance(f, weight, bias, epsilon=1e-5):
    """1905.09646, section 3, on each of the groups into which the channels fall side by side.

    `g = mean over x of f`, `c[x] = g . f[x]`, `a[x] = weight (c[x] - mean) / (deviation + epsilon) + bias`, and
    `sigmoid(a)`. The deviation divides by `X Y - 1`, as in the authors' code.
    """
    alpha = np.empty_like(f)
    size = f.shape[-1] // len(weight)
    for n, i in np.ndindex(len(f), len(weight)):
        own = f[n, :, :, i * size : (i + 1) * size]
        mean_vector = space_mean(own[None])[0]
        c = np.array([[own[x, y] @ mean_vector for y in range(f.shape[2])] for x in range(f.shape[1])])
        mean = c.sum() / c.size
        deviation = math.sqrt(((c - mean) ** 2).sum() / (c.size - 1))
        a = weight[i] * (c - mean) / (deviation + epsilon) + bias[i]
        alpha[n, :, :, i * size : (i + 1) * size] = sigmoid(a)[:, :, None]
    return alpha


def selective_kernel(responses, w, heads, norm=no_norm):
    """1903.06586, (1) to (5): `s = mean over x of the sum of the responses`, `z = relu(B(W s))`, softmax over `A_b z`.

    `w [c_hid, c]`, one matrix of `heads` a branch (`A`, `B`, ...): `[c, c_hid]`. Gives one alpha a branch.
    """
    z = relu(norm(linear(space_mean(sum(responses)), w)))
    scores = np.array([linear(z, head) for head in heads])
    alpha = np.empty_like(scores)
    for n, c in np.ndindex(scores.shape[1:]):
        alpha[:, n, c] = softmax(scores[:, n, c])
    return alpha[:, :, None, None]


def global_context(f, key, w1, scale, shift, w2, b1=0.0, b2=0.0, epsilon=1e-5):
    """1904.11492, section 3: `W_v2 relu(LN(W_v1 sum over x of softmax_x(W_k f) f))`, to be added; `key [c]`."""
    alpha = np.empty((len(f), 1, 1, f.shape[-1]))
    for n in range(len(f)):
        vectors = [f[n, x, y] for x, y in pixels(f)]
        weights = softmax([key @ vector for vector in vectors])
        v = w1 @ sum(p * vector for p, vector in zip(weights, vectors, strict=True)) + b1
        mean = v.sum() / len(v)
        variance = ((v - mean) ** 2).sum() / len(v)
        alpha[n] = w2 @ relu(scale * (v - mean) / math.sqrt(variance + epsilon) + shift) + b2
    return alpha


def style_recalibration(f, w, norm=no_norm, epsilon=1e-5):
    """1903.10829, section 3: `z_c = w_c . (mean, deviation over x of f_c)`, `sigmoid(BN(z))`; `w [c, 2]`."""
    mean = space_mean(f)
    deviation = np.sqrt(space_mean((f - mean[:, None, None]) ** 2) + epsilon)
    return sigmoid(norm(w[:, 0] * mean + w[:, 1] * deviation))[:, None, None]


def efficient_channel_attention(f, w):
    """1910.03151, section 3: `sigmoid(C1D_k(mean over x of f))`, a filter `w [k]` along the channels, zero outside."""
    s = space_mean(f)
    z = np.zeros_like(s)
    for c, j in np.ndindex(s.shape[1], len(w)):
        if 0 <= c + j - len(w) // 2 < s.shape[1]:
            z[:, c] += w[j] * s[:, c + j - len(w) // 2]
    return sigmoid(z)[:, None, None]


def coordinate_attention(f, w1, first, second, b1=0.0, b_first=0.0, b_second=0.0, norm=no_norm):
    """2103.02907, (4) to (8): `v = delta(BN(F_1([mean over y; mean over x])))`, `sigmoid(F_h v_x) sigmoid(F_w v_y)`."""
    rows = sum(f[:, :, y] for y in range(f.shape[2])) / f.shape[2]
    columns = sum(f[:, x] for x in range(f.shape[1])) / f.shape[1]
    v = hard_swish(norm(linear(np.concatenate([rows, columns], 1), w1, b1)))
    down = sigmoid(linear(v[:, : f.shape[1]], first, b_first))
    across = sigmoid(linear(v[:, f.shape[1] :], second, b_second))
    return down[:, :, None] * across[:, None]


def co_attention(f, w):
    """1911.07849, one point-wise filter `w [c]`: `sigmoid(w . f[x])`."""
    return sigmoid(linear(f, w[None]))


def non_local(f, query, key, value, out):
    """1711.07971, (1), (3) and (6): `W_z sum over x~ of softmax_x~(theta(f[x]) . phi(f[x~])) g(f[x~])`, to be added."""
    alpha = np.empty_like(f)
    for n, (x, y) in itertools.product(range(len(f)), pixels(f)):
        others = [f[n, i, j] for i, j in pixels(f)]
        weights = softmax([(query @ f[n, x, y]) @ (key @ other) for other in others])
        alpha[n, x, y] = out @ sum(p * (value @ other) for p, other in zip(weights, others, strict=True))
    return alpha


def self_attention(f, query, key, value, out, position, heads=1):
    """1906.05909, (2) and (3): `out sum over u of softmax_u(q[x] . (k[x + u] + r[u]) / sqrt(d)) v[x + u]`, to be added.

    `u` runs over the `k x k` window where it meets the map; `position [k, k, c_hid]` is r; a head has the `d = c_hid /
    heads` channels beside each other.
    """
    alpha, reach, d = np.empty_like(f), len(position) // 2, len(query) // heads
    for n, (x, y) in itertools.product(range(len(f)), pixels(f)):
        near = [(i, j) for i, j in pixels(f) if abs(i - x) <= reach and abs(j - y) <= reach]
        heard = []
        for own in (slice(head * d, (head + 1) * d) for head in range(heads)):
            q = (query @ f[n, x, y])[own]
            keys = [(key @ f[n, i, j] + position[i - x + reach, j - y + reach])[own] for i, j in near]
            weights = softmax([q @ k / math.sqrt(d) for k in keys])
            heard.append(sum(p * (value @ f[n, i, j])[own] for p, (i, j) in zip(weights, near, strict=True)))
        alpha[n, x, y] = out @ np.concatenate(heard)
    return alpha
