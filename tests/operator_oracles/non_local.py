"""Non-local attention."""

import numpy as np

from attgconv_jax import NonLocalWeights
from operator_oracles.common import HIDDEN, linear, softmax

VARIANTS = {"non_local": {}, "non_local per element": {"over_group": False}}


def oracle(f, weights, group, over_group=True):
    query, key, value = (linear(f, w, group) for w in (weights.query, weights.key, weights.value))
    out = np.empty_like(query)
    for n, x, y, h in np.ndindex(f.shape[:4]):
        near = (n,) if over_group else (n, slice(None), slice(None), h)
        keys, values = (a[near].reshape(-1, a.shape[-1]) for a in (key, value))
        out[n, x, y, h] = softmax(keys @ query[n, x, y, h], 0) @ values
    return linear(out, weights.out, group)


def random_weights(array, c, h, order, variant):
    return NonLocalWeights(*(array(HIDDEN, c, h) for _ in range(3)), array(c, HIDDEN, h))
