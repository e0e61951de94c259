"""Selective Kernel."""

import numpy as np

from attgconv_jax import SelectiveKernelWeights
from operator_oracles.common import HIDDEN, linear, mean, softmax

VARIANTS = {"sk": {}, "sk over group": {"over_group": True}}


def oracle(f, weights, group, over_group=False):
    hidden = np.maximum(linear(mean(f, over_group), weights.w1, group), 0)
    return softmax(np.stack([linear(hidden, w, group) for w in weights.w2]), 0)


def random_weights(array, c, h, order, variant):
    pooled = 1 if VARIANTS[variant].get("over_group") else h
    return SelectiveKernelWeights(array(HIDDEN, c, pooled), array(2, c, HIDDEN, pooled))
