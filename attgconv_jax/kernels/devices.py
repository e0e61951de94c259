"""Images that are spread over several devices: what treats every image for itself, each device computes for its own."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType
from jaxtyping import Array, Float

AxisName = str | tuple[str, ...]
"""Of a mesh: one axis or several."""


def by_device(function: Callable, f: Any, *weights: Any, axes: int = 1) -> Any:
    """`function(f, *weights)`, where the images `f` are spread over devices on each of them for its own images.

    That is so where nothing but the axes that count images is spread over an explicit mesh; weights may be anywhere,
    and are brought to all devices. Elsewhere it is the function itself. Gradients of weights are added over devices as
    they are handed in: those of a filter, where the function makes a larger bank of it. So they are inside of
    `jax.shard_map`.

    Args:
      function: its outputs have the axes that count images first, and depend on each image alone.
      f: images, an array or a tree of arrays that share these axes.
      *weights: arrays, in trees or alone, that all images share.
      axes: how many axes count images; they are the first.
    """
    sharding = jax.typeof(jax.tree.leaves(f)[0]).sharding
    images, others = sharding.spec[:axes], sharding.spec[axes:]

    def own(f, *weights):
        return function(f, *varying_alike(weights, f))

    if all(axis is None for axis in images) or any(axis is not None for axis in others):
        return own(f, *weights)
    weights = jax.sharding.reshard(weights, jax.NamedSharding(sharding.mesh, jax.P()))
    mesh = sharding.mesh if jax.sharding.get_abstract_mesh().empty else None
    spread, everywhere = jax.P(*images), [jax.P()] * len(weights)
    return jax.shard_map(own, mesh=mesh, in_specs=(spread, *everywhere), out_specs=spread)(f, *weights)


def on_images(function: Callable, f: Any, *weights: Any) -> Float[Array, "*batch _x _y _h _c"]:
    """`by_device` of feature maps or images `[*batch, x, y, h, c]`, for a function of one axis that counts images."""
    batch_axes = jax.tree.leaves(f)[0].ndim - 4

    def flat(f, *weights):
        batch = jax.tree.leaves(f)[0].shape[:batch_axes]
        out = function(jax.tree.map(lambda x: x.reshape(math.prod(batch), *x.shape[batch_axes:]), f), *weights)
        return out.reshape(*batch, *out.shape[1:])

    return by_device(flat, f, *weights, axes=batch_axes)


def may_be_spread(f: Array | np.ndarray) -> bool:
    """Whether `f` is spread over several devices; over those of an automatic mesh nobody knows, and it may be."""
    sharding = jax.typeof(f).sharding
    automatic = any(
        size > 1 and kind == AxisType.Auto
        for size, kind in zip(sharding.mesh.axis_sizes, sharding.mesh.axis_types, strict=True)
    )
    return automatic or is_spread(f)


def is_spread(x: Array | np.ndarray) -> bool:
    """Whether `x` is spread over an explicit mesh, along whichever axis."""
    return any(axis is not None for axis in jax.typeof(x).sharding.spec)


def positions(x: Array | np.ndarray, axis: int, dtype: Any = jnp.int32) -> Array:
    """Positions along an axis, an array of the shape of `x` and spread as it is: else all devices would gather `x`."""
    return lax.broadcasted_iota(dtype, x.shape, axis, out_sharding=jax.typeof(x).sharding if is_spread(x) else None)


def varying_alike(arrays, others=()):
    """The arrays, which inside of `jax.shard_map` vary over the same axes of the mesh then, those of all and others."""
    axes = frozenset().union(*map(_varying, jax.tree.leaves((arrays, others))))

    def vary(x):
        missing = tuple(axes - _varying(x))
        return lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(vary, arrays) if axes else arrays


def _varying(x):
    return jax.typeof(x).manual_axis_type.varying
