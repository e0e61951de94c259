"""Images that are spread over several devices: what treats every image for itself, each device computes for its own."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.sharding import AxisType
from jaxtyping import Array, Float


def by_device(function: Callable, f: Any, *weights: Any) -> Any:
    """`function(f, *weights)`, where the images `f` are spread over devices on each of them for its own images.

    That is so where the leading axis of `f` alone is spread over an explicit mesh; weights may be anywhere, and are
    brought to all devices. Elsewhere it is the function itself. Gradients of weights are added over devices as they are
    handed in: those of a filter, where the function makes a larger bank of it. So they are inside of `jax.shard_map`.

    Args:
      function: its outputs have the images along their leading axis, and depend on each image alone.
      f: images, an array or a tree of arrays that share their leading axis.
      *weights: arrays, in trees or alone, that all images share.
    """
    sharding = jax.typeof(jax.tree.leaves(f)[0]).sharding
    axis, *others = sharding.spec

    def own(f, *weights):
        return function(f, *varying_alike(weights, f))

    if axis is None or any(other is not None for other in others):
        return own(f, *weights)
    weights = jax.sharding.reshard(weights, jax.NamedSharding(sharding.mesh, jax.P()))
    mesh = sharding.mesh if jax.sharding.get_abstract_mesh().empty else None
    everywhere = [jax.P()] * len(weights)
    return jax.shard_map(own, mesh=mesh, in_specs=(jax.P(axis), *everywhere), out_specs=jax.P(axis))(f, *weights)


def on_images(
    function: Callable, f: Float[Array, "*batch x y h c"], *weights: Any
) -> Float[Array, "*batch _x _y _h _c"]:
    """`by_device` of feature maps or images with any number of batch axes, which are one for the function."""
    out = by_device(function, f.reshape(math.prod(f.shape[:-4]), *f.shape[-4:]), *weights)
    return out.reshape(*f.shape[:-4], *out.shape[1:])


def may_be_spread(f: Float[Array, "batch ..."]) -> bool:
    """Whether `f` is spread over several devices; over those of an automatic mesh nobody knows, and it may be."""
    sharding = jax.typeof(f).sharding
    automatic = any(
        size > 1 and kind == AxisType.Auto
        for size, kind in zip(sharding.mesh.axis_sizes, sharding.mesh.axis_types, strict=True)
    )
    return automatic or any(axis is not None for axis in sharding.spec)


def varying_alike(arrays, others=()):
    """The arrays, which inside of `jax.shard_map` vary over the same axes of the mesh then, those of all and others."""
    axes = frozenset().union(*map(_varying, jax.tree.leaves((arrays, others))))

    def vary(x):
        missing = tuple(axes - _varying(x))
        return lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(vary, arrays) if axes else arrays


def _varying(x):
    return jax.typeof(x).manual_axis_type.varying
