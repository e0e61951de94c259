"""The devices of a run: the images of every batch are spread over them, and all else is whole on each."""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh
from jaxtyping import Array, Int

from experiments.data.stream import Part
from experiments.run.checks import check

AXIS = "data"
"""Of the mesh: along it batches are spread."""


def mesh_of(count: int | None, batch_size: int, accumulate: int = 1) -> Mesh | None:
    """The mesh of so many devices, whose numbers are those of one device up to rounding; None for one.

    Args:
      count: how many; None: all where several processes train together, else one.
      batch_size: images a step.
      accumulate: parts in which a batch is computed, each of which is spread.

    Raises:
      ValueError: there are fewer devices, or they cannot share a batch evenly.
    """
    there, together = jax.device_count(), jax.process_count() > 1
    count = (there if together else 1) if count is None else count
    expected = f"{there}, all devices of all processes" if together else f"in 1 to {there}, which JAX finds"
    check("--devices", count, expected, count == there if together else 1 <= count <= there)
    if batch_size % (count * accumulate):
        parts = f", each of {accumulate} parts," if accumulate > 1 else ""
        larger = -(-batch_size // (count * accumulate)) * count * accumulate
        raise ValueError(
            f"optimizer.batch_size must be a multiple of {count * accumulate}, for {count} devices share a batch"
            f"{parts} evenly, got {batch_size}: for instance {larger}"
        )
    if count == 1:
        return None
    # Those of a process lie together, for it reads one part of a batch.
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))[:count]
    # Explicit: over an automatic mesh nobody knows where arrays are, and gradients are added up of filter banks.
    return Mesh(devices, (AXIS,), axis_types=(AxisType.Explicit,))


def within(mesh: Mesh | None) -> contextlib.AbstractContextManager[Any]:
    """The context in which arrays are on a mesh."""
    return contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh)


def device_count() -> int:
    """How many devices share a batch here, also in what is being traced."""
    return jax.sharding.get_abstract_mesh().size or 1


def spread(tree: Any, axis: int = 0) -> Any:
    """Arrays whose images lie along an axis, which devices share; on one device, the arrays themselves."""
    return jax.tree.map(lambda x: jax.sharding.reshard(x, _along(axis)), tree) if device_count() > 1 else tree


def taken(array: Array, places: Int[Array, " image"]) -> Array:
    """`array[places]`, of which each device takes its own part."""
    return array.at[places].get(out_sharding=_along(0)) if device_count() > 1 else array[places]


def in_parts(array: Array, parts: int) -> Array:
    """A batch as `[part, image, ...]`, each part of which is shared by all devices."""
    shape = parts, len(array) // parts, *array.shape[1:]
    return jax.lax.reshape(array, shape, out_sharding=_along(1) if device_count() > 1 else None)


def everywhere(tree: Any) -> Any:
    """Arrays of this process, the same in all of them, whole on every device."""
    if device_count() == 1:
        return jax.device_put(tree)
    sharding = jax.NamedSharding(jax.sharding.get_mesh(), jax.P())
    return jax.tree.map(lambda x: _put(x, lambda x: _placed(x, sharding)), tree)


def from_processes(tree: Any, axis: int) -> Any:
    """Arrays of which each process has its part of the images, which lie along an axis; spread over devices."""
    if device_count() == 1:
        return jax.device_put(tree)
    sharding = jax.NamedSharding(jax.sharding.get_mesh(), _along(axis))
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree)


def shaped(shape: tuple[int, ...], dtype: Any, axis: int) -> jax.ShapeDtypeStruct:
    """What `from_processes` makes, described."""
    if device_count() == 1:
        return jax.ShapeDtypeStruct(shape, dtype)
    return jax.ShapeDtypeStruct(shape, dtype, sharding=jax.NamedSharding(jax.sharding.get_mesh(), _along(axis)))


def own(tree: Any) -> Any:
    """What is whole on every device, as arrays on the first device of this process."""
    return jax.tree.map(lambda x: _put(x, lambda x: jnp.asarray(np.asarray(x))), tree)


def part_of_this_process() -> Part:
    """Which part of every batch this process reads: that of its devices."""
    return Part(jax.process_index(), jax.process_count()) if device_count() > 1 else Part()


def _along(axis):
    return jax.P(*[None] * axis, AXIS)


def _placed(array, sharding):
    array = np.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def _put(x, put):
    """An array, or a key of random numbers, put somewhere else."""
    if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return put(x)
    return jax.random.wrap_key_data(put(jax.random.key_data(x)), impl=jax.random.key_impl(x))
