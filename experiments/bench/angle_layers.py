"""How well two layers with what stands between them follow a turn by 45 degrees."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from attgconv_jax import FilterBasis, Group, Sampling, band_limited_error, max_pool, oversampled, smooth_max_pool
from attgconv_jax.nn import GroupConv

BAND = 1 / 8
"""The largest frequency, in cycles a pixel."""


def _relu(lift, conv, f):
    return conv(jax.nn.relu(lift(f)))


def _oversampled(lift, conv, f):
    return conv(oversampled(jax.nn.relu)(lift(f)))


def _pooled(pool, **options):
    def layers(lift, conv, f):
        return conv(pool(jax.nn.relu(lift(f)), conv.group, window=3, stride=2, padding=1, **options))

    return layers


WITHOUT_STRIDE = ("relu", "oversampled")
LAYERS: dict[str, tuple[Callable, dict[str, Any]]] = {
    "relu": (_relu, {}),
    "oversampled": (_oversampled, {}),
    "stride": (_relu, {"stride": 2}),
    "stride_antialiased": (_relu, {"stride": 2, "antialiased": True}),
    "max_pool": (_pooled(max_pool), {}),
    "max_pool_antialiased": (_pooled(max_pool, antialiased=True), {}),
    "smooth_max_pool": (_pooled(smooth_max_pool), {}),
}
"""What two layers are: the function of both, and options of the second."""


@functools.cache
def several_layers(
    group: Group,
    size: int,
    sampling: Sampling | FilterBasis,
    names: tuple[str, ...],
    *,
    draws: int,
    pixels: int,
    features: int,
) -> dict[str, float]:
    """The errors of two layers under a turn by 45 degrees, means over the draws, and the largest floor of the measure.

    The other elements of C8 add quarter turns, which are exact. Kept, for tolerances may choose the same functions.
    """
    errors, floors = {}, []
    for name in names:
        layers, options = LAYERS[name]
        function, strided, errors[name] = nnx.jit(layers), name not in WITHOUT_STRIDE, []
        for seed in range(draws):
            shared = dict(padding=size // 2, sampling=sampling, rngs=nnx.Rngs(seed))
            lift = GroupConv(1, features, size, group, lifting=True, **shared)
            conv = GroupConv(features, features, size, group, **options, **shared)
            found = band_limited_error(
                lambda f, lift=lift, conv=conv, function=function: function(lift, conv, f),
                group,
                elements=[1],
                size=pixels + 32 * strided,
                images=2,
                band=BAND,
                seed=100 + 2 * seed,
            )
            errors[name].append(found.error)
            floors.append(found.floor)
    return {name: float(np.mean(of)) for name, of in errors.items()} | {"floor": max(floors)}
