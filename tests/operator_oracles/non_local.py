"""Non-local attention."""

import numpy as np

from attgconv_jax import NonLocalWeights
from operator_oracles.common import HIDDEN, linear, norm, softmax

VARIANTS = {
    "non_local": {},
    "non_local per element": {"over_group": False},
    "non_local of the code": {"scale": 0.5, "norm": norm},
}


def oracle(f, weights, group, over_group=True, scale=1.0, norm=lambda s: s):
    biases = [0.0 if bias is None else bias for bias in weights[4:]]
    query, key, value = (linear(f, w, group, bias) for w, bias in zip(weights[:3], biases[:3], strict=True))
    out = np.empty_like(query)
    for n, x, y, h in np.ndindex(f.shape[:4]):
        near = (n,) if over_group else (n, slice(None), slice(None), h)
        keys, values = (a[near].reshape(-1, a.shape[-1]) for a in (key, value))
        out[n, x, y, h] = softmax(scale * (keys @ query[n, x, y, h]), 0) @ values
    return norm(linear(out, weights.out, group, biases[3]))


def random_weights(array, c, h, order, variant):
    weights = [array(HIDDEN, c, h) for _ in range(3)] + [array(c, HIDDEN, h)]
    biases = [array(n) for n in (HIDDEN, HIDDEN, HIDDEN, c)] if variant == "non_local of the code" else []
    return NonLocalWeights(*weights, *biases)
