"""How well layers on Lie groups commute with the group, for every element of the grid.

The error is that of `attgconv_jax.band_limited_error`, on waves of at most 1/8 cycle a pixel and on the disc of radius
`size / 2 - m`, where `m` is 4, or as much more as filters reach out of the image.

Layers are linear and freshly initialised. A finite grid of scales is no group: an element `g` moves a feature map along
the scales, and `L_g f` is zero where nothing comes in. What the last scales hold leaves the grid. "error" is that of
inputs which are zero there: pixels and masks make it. "error_with_ends" is that of inputs with content everywhere, at
the scales that came from the grid. Images leave no grid.
"""

import math
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx

from attgconv_jax import band_limited_error
from attgconv_jax.lie import LieGroup
from attgconv_jax.nn import LieConv

MARGIN = 4


def errors(
    group: LieGroup, kind: str, kernel_size: int, size: int, features: int, seeds: Sequence[int], **options
) -> list[dict[str, float]]:
    """The error of fresh layers, one a seed, for every element of the grid but the identity; needs x64.

    A record an element: `angle` in degrees, `scale`, `error` and `error_with_ends`, means over the seeds. Further
    options are those of `LieConv`; `size` is of the images, in pixels.
    """
    options |= dict(lifting=True) if kind == "lifting" else dict(kind=kind)
    options |= dict(param_dtype=jnp.float64)
    layers = [LieConv(features, features, kernel_size, group, **options, rngs=nnx.Rngs(seed)) for seed in seeds]
    settings = dict(
        input="image" if kind == "lifting" else "feature_map",
        elements=range(1, group.order),
        channels=features,
        size=size,
        images=1,
        margin=margin(kernel_size),
        dtype=jnp.float64,
    )

    def mean_errors(ends):
        measured = [
            band_limited_error(lambda f, layer=layer: _apply(layer, f), group, ends=ends, **settings)
            for layer in layers
        ]
        return np.mean([each.by_element for each in measured], axis=0).tolist()

    staying = mean_errors(ends=False)
    with_ends = staying if kind == "lifting" or group.scales is None else mean_errors(ends=True)
    elements = np.asarray(group.grid())[1:]
    return [
        {
            "angle": math.degrees(element[0]) if group.angles else 0.0,
            "scale": float(element[-1]) if group.scales else 1.0,
            "error": error,
            "error_with_ends": error_with_ends,
        }
        for element, error, error_with_ends in zip(elements, staying, with_ends, strict=True)
    ]


@nnx.jit
def _apply(layer, f):
    return layer(f)


def margin(kernel_size: int) -> int:
    """Pixels from the image's edge to the disc, where filters do not reach out of the image."""
    return max(MARGIN, (kernel_size + 1) // 2)


def worst(records: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """The largest error under rotations by right angles, by others, and under changes of scale alone; None: no such."""
    turned = [record for record in records if record["scale"] == 1]
    right = [record for record in turned if math.isclose(math.remainder(record["angle"], 90), 0, abs_tol=1e-6)]
    scaled = [record for record in records if record["angle"] == 0 and record["scale"] > 1]
    return {
        "right": max((record["error"] for record in right), default=None),
        "other": max((record["error"] for record in turned if record not in right), default=None),
        "scaled": max((record["error"] for record in scaled), default=None),
        "scaled_with_ends": max((record["error_with_ends"] for record in scaled), default=None),
    }
