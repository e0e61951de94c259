"""Style-based Recalibration."""

import numpy as np
from oracles import rows_of, sigmoid

from operator_oracles.common import axes, mean

VARIANTS = {
    "srm": {},
    "srm over group": {"over_group": True},
    "srm unbiased": {"unbiased": True},
}


def oracle(f, w, group, over_group=False, unbiased=False):
    style = mean(f, over_group), np.sqrt(f.var(axes(over_group), keepdims=True, ddof=int(unbiased)) + 1e-5)
    h = style[0].shape[3]
    logits = [
        sum(style[k][..., at, :] * w[:, k, row] for k in (0, 1) for at, row in enumerate(rows_of(group, g, h)))
        for g in range(h)
    ]
    return sigmoid(np.stack(logits, axis=-2))


def random_weights(array, c, h, order, variant):
    return array(c, 2, 1 if VARIANTS[variant].get("over_group") else h)
