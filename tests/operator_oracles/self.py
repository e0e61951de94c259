"""Group self-attention."""

import itertools
import math

import numpy as np
from oracles import elements, rows_of, turn

from attgconv_jax import SelfAttentionWeights
from operator_oracles.common import HIDDEN, softmax

VARIANTS = {"self": {"heads": 2}, "self of the code": {"scale": 0.5}}


def oracle(f, weights, group, heads=1, scale=None):
    biases = [0.0 if bias is None else bias for bias in weights[5:]]
    query, key, value = (f @ w.T + bias for w, bias in zip(weights[:3], biases[:3], strict=True))
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
                    score = query[n, x, y, g if h > 1 else 0, part] @ answer
                    scores.append(score / math.sqrt(len(part)) if scale is None else score * scale)
                    values.append(value[n, i, j, at, part])
            out[n, x, y, g, part] = softmax(np.array(scores), 0) @ np.array(values)
    out = out @ weights.out.T + biases[3]
    return out.mean(3, keepdims=True) if h == 1 else out


def random_weights(array, c, h, order, variant):
    inner = [array(HIDDEN, c) for _ in range(3)]
    biases = [array(n) for n in (HIDDEN, HIDDEN, HIDDEN, c)] if variant == "self of the code" else []
    return SelfAttentionWeights(*inner, array(c, HIDDEN), array(3, 3, h, HIDDEN), *biases)
