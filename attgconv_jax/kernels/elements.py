"""Group elements of an output that are shared by devices, each of which computes its part."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType
from jaxtyping import Array, Float

from attgconv_jax.kernels.devices import on_images, varying_alike
from attgconv_jax.kernels.settings import Settings


def on_elements(function: Callable, f: Any, *weights: Any, order: int) -> Float[Array, "*batch _x _y h _c"]:
    """`on_images`, where each device also computes its own part of the output's group elements if so many share them.

    That is so inside of `attgconv_jax.computing(group_axis=...)`: every device along this axis of an explicit mesh has
    the images and weights whole, and a part of what is computed from them, until the outputs are gathered.

    Args:
      function: of `f`, the weights, and a function `own(x, axis)`, which takes a device's part of an axis that counts
        group elements, or those of them and something else, the elements before it.
      f: feature map or image.
      *weights: arrays that all images share.
      order: how many group elements the output has.
    """
    axis = Settings.current().group_axis
    if axis is None:
        return on_images(lambda f, *weights: function(f, *weights, lambda x, axis: x), f, *weights)
    mesh = jax.sharding.get_abstract_mesh()
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    if kinds.get(axis) != AxisType.Explicit:
        named = {name: kind.name for name, kind in kinds.items()}
        raise ValueError(
            f"computing(group_axis={axis!r}) needs an explicit mesh with this axis around it, as of jax.set_mesh("
            f'jax.make_mesh((2, 4), ("data", {axis!r}))); the mesh here has {named or "no axes"}'
        )
    parts = mesh.shape[axis]
    if order % parts:
        raise ValueError(f"{order} group elements cannot be shared evenly by the {parts} devices along {axis!r}")

    def own(x, along):
        return lax.dynamic_slice_in_dim(
            x, lax.axis_index(axis) * (x.shape[along] // parts), x.shape[along] // parts, along
        )

    def part(*arrays):
        arrays = varying_alike(arrays, lax.axis_index(axis))
        return on_images(lambda f, *weights: function(f, *weights, own), *arrays)

    f = jnp.asarray(f)
    images = jax.typeof(f).sharding.spec[: f.ndim - 4]
    if axis in jax.tree.leaves(images):
        raise ValueError(
            f"computing(group_axis={axis!r}) names the axis along which the images are spread: take another"
        )
    weights = jax.sharding.reshard(weights, jax.P())
    spread = jax.P(*images, None, None, axis, None)
    f = jax.sharding.reshard(f, jax.P(*images))
    specs = jax.P(*images), *[jax.P()] * len(weights)
    return jax.sharding.reshard(jax.shard_map(part, in_specs=specs, out_specs=spread)(f, *weights), jax.P(*images))
