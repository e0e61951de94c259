"""Training on several devices, each of which holds a part of the batch."""

from flax import nnx

from attgconv_jax.kernels.devices import AxisName
from attgconv_jax.nn.dropout import Dropout
from attgconv_jax.nn.norm import batch_norms


def set_axis_name(module: nnx.Module, axis_name: AxisName | None) -> None:
    """Makes a module see the whole batch inside of `jax.shard_map`, where a device has a part of it.

    Batch norms take their statistics over all devices along this axis of the mesh, and dropout draws each of them its
    part of one mask: training then has one device's numbers. With None, as modules are made, each device is on its own,
    and all draw the same mask. Under automatic and explicit meshes, where arrays are whole, nothing needs to be set.

    >>> import jax, jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax import cyclic
    >>> from attgconv_jax.models import RotMNISTNet
    >>> from attgconv_jax.nn import set_axis_name
    >>> network = RotMNISTNet(cyclic(4), rngs=nnx.Rngs(0))
    >>> set_axis_name(network, "data")
    >>> graph, state = nnx.split(network)
    >>> forward = lambda state, images: nnx.merge(graph, state)(images)
    >>> mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> mapped = jax.shard_map(forward, mesh=mesh, in_specs=(jax.P(), jax.P("data")), out_specs=jax.P("data"))
    >>> jax.eval_shape(mapped, state, jnp.ones([8, 28, 28, 1, 1], jnp.float32)).shape
    (8, 10)

    Args:
      module: of this library.
      axis_name: of the mesh, or several.
    """
    names = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    if axis_name is not None and not (names and all(isinstance(name, str) for name in names)):
        raise ValueError(
            f"axis_name must be a name of an axis of the mesh, a tuple of names, or None, got {axis_name!r}"
        )
    for norm in batch_norms(module):
        norm.axis_name = axis_name
    for _, part in nnx.iter_graph(module):
        if isinstance(part, Dropout) and part.axis_name != axis_name:
            if axis_name is None:
                del part.axis_name
            else:
                part.axis_name = axis_name
