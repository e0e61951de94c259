"""Gather-Excite."""

import itertools

import numpy as np
from oracles import assemble, elements, project_max, rows_of, sigmoid, turn

from attgconv_jax import GatherExciteWeights
from operator_oracles.common import mean, mlp, network_weights

VARIANTS = {
    "ge": {},
    "ge in windows": {"extent": 2},
    "ge learnt": {"extent": 2},
    "ge over group": {"over_group": True},
    # On 6 pixels two windows, of rows 0 to 4 and 1 to 5; on 2 and on 4 pixels one.
    "ge overlapping": {"extent": 5, "overlap": True},
}


def overlapping(f, weights, group, extent, over_group):
    """Pixel by pixel: the mean of the window that serves it, of which only what is inside the map counts."""
    alpha = np.empty((*f.shape[:3], 1 if over_group else f.shape[3], f.shape[4]))
    for x, y in np.ndindex(f.shape[1:3]):
        inside = []
        for at, length in zip((x, y), f.shape[1:3], strict=True):
            centre = extent * int(at / length * len(range(0, length, extent)) + 1e-9)
            inside.append([n for n in range(centre - extent + 1, centre + extent) if 0 <= n < length])
        s = mean(f[:, inside[0]][:, :, inside[1]], over_group)
        alpha[:, x, y] = sigmoid(mlp(s, weights.excite, group))[:, 0, 0]
    return alpha


def oracle(f, weights, group, extent=None, over_group=False, overlap=False):
    if overlap:
        return overlapping(f, weights, group, extent, over_group)
    extents = f.shape[1:3] if extent is None else (extent, extent)
    alpha = []
    for x, y in itertools.product(range(0, f.shape[1], extents[0]), range(0, f.shape[2], extents[1])):
        window = f[:, x : x + extents[0], y : y + extents[1]]
        if weights.gather is None:
            s = mean(window, over_group)
        else:
            turned = [
                turn(weights.gather, group, g)[:, :, rows_of(group, g, f.shape[3])] for g in range(len(elements(group)))
            ]
            s = np.stack([(window * w).sum((1, 2, 3)) for w in turned], axis=1)[:, None, None]
            s = project_max(s) if f.shape[3] == 1 else s
        alpha.append(((x // extents[0], y // extents[1]), sigmoid(mlp(s, weights.excite, group))[:, 0, 0]))
    alpha = assemble(dict(alpha))
    return alpha if extent is None else alpha.repeat(extent, 1).repeat(extent, 2)


def random_weights(array, c, h, order, variant):
    pooled = 1 if VARIANTS[variant].get("over_group") else h
    gather = array(2, 2, h, c) if variant == "ge learnt" else None
    return GatherExciteWeights(gather, network_weights(array, c, pooled))
