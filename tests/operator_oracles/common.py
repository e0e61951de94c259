"""What oracles of several operators share."""

import numpy as np
from oracles import rows_of

from attgconv_jax import MLPWeights

HIDDEN = 4


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


def mlp(s, weights, group, norm=lambda s: s):
    hidden = norm(linear(s, weights.w1, group, _bias(weights.b1)))
    return linear(np.maximum(hidden, 0), weights.w2, group, _bias(weights.b2))


def _bias(bias):
    return 0.0 if bias is None else bias


def norm(s):
    """In place of a batch norm, whose statistics are tested with its module."""
    return 1.5 * s - 0.25


def axes(pooled):
    return (1, 2, 3) if pooled else (1, 2)


def mean(f, pooled):
    return f.mean(axes(pooled), keepdims=True)


def softmax(scores, over):
    weights = np.exp(scores)
    return weights / weights.sum(over, keepdims=True)


def network_weights(array, c, h):
    """Of a network of statistics on `h` group elements."""
    return MLPWeights(array(HIDDEN, c, h), array(c, HIDDEN, h), array(HIDDEN), array(c))
