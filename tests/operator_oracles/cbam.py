"""CBAM."""

import numpy as np
from oracles import group_conv, project_max, sigmoid

from attgconv_jax import ConvolutionalBlockWeights
from operator_oracles.common import axes, mean, mlp, network_weights, norm

VARIANTS = {
    "cbam": {},
    "cbam over group": {"over_group": True},
    "cbam of the code": {"spatial_norm": norm},
}


def oracle(f, weights, group, over_group=False, spatial_norm=lambda s: s):
    highest = f.max(axes(over_group), keepdims=True)
    channel = sigmoid(mlp(mean(f, over_group), weights.channel, group) + mlp(highest, weights.channel, group))
    statistics = np.stack([(channel * f).mean(-1), (channel * f).max(-1)], axis=-1)
    s = group_conv(statistics, weights.spatial, group, padding=len(weights.spatial) // 2)
    s = project_max(s) if f.shape[3] == 1 else s
    return sigmoid(spatial_norm(s if weights.spatial_bias is None else s + weights.spatial_bias)) * channel


def random_weights(array, c, h, order, variant):
    pooled = 1 if VARIANTS[variant].get("over_group") else h
    network, spatial = network_weights(array, c, pooled), array(3, 3, h, 2, 1)
    if variant == "cbam of the code":
        return ConvolutionalBlockWeights(network._replace(b1=None, b2=None), spatial, array(1))
    return ConvolutionalBlockWeights(network, spatial)
