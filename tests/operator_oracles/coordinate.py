"""Coordinate attention."""

import numpy as np
from oracles import elements, project_max, rows_of, sigmoid

from attgconv_jax import CoordinateWeights
from operator_oracles.common import HIDDEN, linear

VARIANTS = {"coordinate": {}}


def oracle(f, weights, group):
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


def random_weights(array, c, h, order, variant):
    w1, first, second = array(HIDDEN, c, h), array(c, HIDDEN, h), array(c, HIDDEN, h)
    return CoordinateWeights(w1, first, second, array(HIDDEN), array(c), array(c))
