"""BAM."""

import numpy as np
from oracles import group_conv, project_max, sigmoid

from attgconv_jax import BottleneckWeights
from operator_oracles.common import HIDDEN, mean, mlp, network_weights, norm

VARIANTS = {
    "bam": {"dilation": 2},
    "bam over group": {"over_group": True},
    "bam of the code": {"combine": "product", "hidden_norms": (norm, norm, lambda s: -s, norm)},
}


def oracle(f, weights, group, dilation=4, over_group=False, combine="sum", hidden_norms=(lambda s: s,) * 4):
    s = group_conv(f, weights.reduce, group) + weights.biases[0]
    for w, bias, normed in zip(weights.dilated, weights.biases[1:-1], hidden_norms[1:-1], strict=True):
        s = group_conv(np.maximum(normed(s), 0), w, group, padding=dilation * (len(w) // 2), dilation=dilation) + bias
    s = group_conv(np.maximum(hidden_norms[-1](s), 0), weights.expand, group) + weights.biases[-1]
    s = project_max(s) if f.shape[3] == 1 else s
    channel = mlp(mean(f, over_group), weights.channel, group, hidden_norms[0])
    return sigmoid(channel + s if combine == "sum" else channel * s)


def random_weights(array, c, h, order, variant):
    def small(*shape):
        # Through four layers ordinary numbers would grow until the sigmoid is flat.
        return 0.4 * array(*shape)

    return BottleneckWeights(
        network_weights(small, c, 1 if VARIANTS[variant].get("over_group") else h),
        small(1, 1, h, c, HIDDEN),
        tuple(small(3, 3, order, HIDDEN, HIDDEN) for _ in range(2)),
        small(1, 1, order, HIDDEN, 1),
        (small(HIDDEN), small(HIDDEN), small(HIDDEN), small(1)),
    )
