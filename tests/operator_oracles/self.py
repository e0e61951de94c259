"""Group self-attention."""

import itertools
import math

import numpy as np
from oracles import elements, rows_of, turn

from attgconv_jax import SelfAttentionWeights
from operator_oracles.common import HIDDEN, softmax

VARIANTS = {"self": {"heads": 2}}


def oracle(f, weights, group, heads=1):
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


def random_weights(array, c, h, order, variant):
    inner = [array(HIDDEN, c) for _ in range(3)]
    return SelfAttentionWeights(*inner, array(c, HIDDEN), array(3, 3, h, HIDDEN))
