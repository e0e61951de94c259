"""Co-attention."""

from oracles import group_conv, hat, project_max, sigmoid

VARIANTS = {"co": {}}


def oracle(f, w, group):
    s = group_conv(f, w, group, kernel=hat)
    return sigmoid(project_max(s) if f.shape[3] == 1 else s)


def random_weights(array, c, h, order, variant):
    return array(1, 1, h, c, 1)
