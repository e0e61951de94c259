"""Global Context."""

import numpy as np
from oracles import sigmoid

from attgconv_jax import GlobalContextWeights
from operator_oracles.common import HIDDEN, axes, linear, network_weights, softmax

VARIANTS = {
    "gc": {},
    "gc over group": {"over_group": True},
    "gc that scales": {"combination": "scale", "epsilon": 1e-2},
}


def oracle(f, weights, group, over_group=False, combination="add", epsilon=1e-5):
    p = softmax(linear(f, weights.key, group), axes(over_group))
    hidden = linear((p * f).sum(axes(over_group), keepdims=True), weights.w1, group, weights.b1)
    hidden = (hidden - hidden.mean(-1, keepdims=True)) / np.sqrt(hidden.var(-1, keepdims=True) + epsilon)
    alpha = linear(np.maximum(weights.scale * hidden + weights.shift, 0), weights.w2, group, weights.b2)
    return alpha if combination == "add" else sigmoid(alpha)


def random_weights(array, c, h, order, variant):
    network = network_weights(array, c, 1 if VARIANTS[variant].get("over_group") else h)
    norm = array(HIDDEN), array(HIDDEN)
    key_bias = array(1) if variant == "gc that scales" else None
    return GlobalContextWeights(array(1, c, h), network.w1, *norm, network.w2, network.b1, network.b2, key_bias)
