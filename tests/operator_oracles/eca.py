"""Efficient channel attention."""

import itertools

import numpy as np
from oracles import rows_of, sigmoid

from operator_oracles.common import mean

VARIANTS = {"eca": {}, "eca over group": {"over_group": True}}


def oracle(f, w, group, over_group=False):
    s = mean(f, over_group)
    logits = np.zeros_like(s)
    for g, c, j in itertools.product(range(s.shape[3]), range(f.shape[-1]), range(len(w))):
        neighbour = c + j - len(w) // 2
        if 0 <= neighbour < f.shape[-1]:
            for at, row in enumerate(rows_of(group, g, s.shape[3])):
                logits[..., g, c] += w[j, row] * s[..., at, neighbour]
    return sigmoid(logits)


def random_weights(array, c, h, order, variant):
    return array(3, 1 if VARIANTS[variant].get("over_group") else h)
