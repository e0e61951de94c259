"""Squeeze-and-Excitation."""

from oracles import sigmoid

from operator_oracles.common import mean, mlp, network_weights

VARIANTS = {"se": {}, "se over group": {"over_group": True}}


def oracle(f, weights, group, over_group=False):
    return sigmoid(mlp(mean(f, over_group), weights, group))


def random_weights(array, c, h, order, variant):
    return network_weights(array, c, 1 if VARIANTS[variant].get("over_group") else h)
