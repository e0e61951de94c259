"""Spatial Group-wise Enhance."""

from oracles import sigmoid

from attgconv_jax import GroupEnhanceWeights
from operator_oracles.common import axes, mean

VARIANTS = {"sge": {}, "sge joint": {"grouping": "joint"}, "sge over group": {"over_group": True}}


def oracle(f, weights, group, grouping="element", over_group=False):
    groups = len(weights.weight)
    t = (f * mean(f, over_group)).reshape(*f.shape[:-1], groups, -1).sum(-1)
    t = t.sum(3, keepdims=True) if grouping == "joint" else t
    t = t - t.mean(axes(over_group), keepdims=True)
    t = t / (t.std(axes(over_group), ddof=1, keepdims=True) + 1e-5)
    return sigmoid(weights.weight * t + weights.bias).repeat(f.shape[-1] // groups, -1)


def random_weights(array, c, h, order, variant):
    return GroupEnhanceWeights(array(c // 2), array(c // 2))
