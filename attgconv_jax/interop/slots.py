"""Where the arrays of a published network are in ours, and the checks that they fit."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import ArrayLike

from attgconv_jax.interop.arrays import check_finite, common_dtype, native, plain_arrays
from attgconv_jax.models.arrays import check_shapes, listed, shown


class Slot(NamedTuple):
    """A variable of ours, and the original's array: our axes split, in another order, reshaped, and one reversed."""

    variable: nnx.Variable
    shape: tuple[int, ...]
    """Of the original's array."""
    order: tuple[int, ...] | None = None
    """Of our axes in the original; None: as they are."""
    reversed_axis: int | None = None
    """Of the original's array; None: none."""
    split: tuple[int, ...] | None = None
    """Our shape with more axes, those that `order` is of; None: as it is."""

    def to_ours(self, array: np.ndarray) -> np.ndarray:
        """The original's array as our variable has it."""
        if self.reversed_axis is not None:
            array = np.flip(array, self.reversed_axis)
        axes = self._axes()
        order = self.order or range(len(axes))
        return array.reshape([axes[axis] for axis in order]).transpose(np.argsort(order)).reshape(self.variable.shape)

    def to_theirs(self) -> np.ndarray:
        """Our variable's numbers as the original has them."""
        array = np.asarray(self.variable.get_value()).reshape(self._axes())
        array = array.transpose(self.order or range(array.ndim)).reshape(self.shape)
        return np.ascontiguousarray(array if self.reversed_axis is None else np.flip(array, self.reversed_axis))

    def _axes(self):
        return self.split or self.variable.shape


def plain(variable: nnx.Variable, *shape: int) -> Slot:
    """A slot with our axes as they are; `shape` is the original's where it is another."""
    return Slot(variable, shape or variable.shape)


def filters(variable: nnx.Variable, **options: int) -> Slot:
    """Theirs is `[c_out, c_in, (h,) k, k]`, without `h` where it is 1; ours `[k, k, h, c_in, c_out]`."""
    k, _, h, c_in, c_out = variable.shape
    return Slot(variable, (c_out, c_in, *([h] if h > 1 else []), k, k), (4, 3, 2, 0, 1), **options)


def pointwise(variable: nnx.Variable) -> Slot:
    """A 1x1 convolution on the trivial group: theirs is `[c_out, c_in, 1, 1]`, ours `[.., c_in, 1]`."""
    c_in = variable.shape[-2]
    return Slot(variable, (math.prod(variable.shape) // c_in, c_in, 1, 1))


def matrix(variable: nnx.Variable) -> Slot:
    """As `pointwise`, of a linear layer: theirs is `[c_out, c_in]`."""
    return Slot(variable, pointwise(variable).shape[:2])


def two_layers(first: str, second: str, weights: Any, layer: Callable[[nnx.Variable], Slot]) -> dict[str, Slot]:
    """The slots of two layers with biases; `layer` is `matrix` or `pointwise`."""
    slots = {f"{first}.weight": layer(weights.w1), f"{second}.weight": layer(weights.w2)}
    return slots | {f"{first}.bias": plain(weights.b1), f"{second}.bias": plain(weights.b2)}


def linear(name: str, layer: nnx.Linear) -> dict[str, Slot]:
    """The slots of a linear layer, with a bias if it has one."""
    slots = {f"{name}.weight": Slot(layer.kernel, layer.kernel.shape[::-1], (1, 0))}
    return slots | ({f"{name}.bias": plain(layer.bias)} if layer.bias is not None else {})


def norm(name: str, layer: nnx.BatchNorm) -> dict[str, Slot]:
    """The slots of a batch norm, whose counter PyTorch does without."""
    variables = {"weight": layer.scale, "bias": layer.bias, "running_mean": layer.mean, "running_var": layer.var}
    return {f"{name}.{label}": plain(variable) for label, variable in variables.items()}


def fill(
    network: nnx.Module,
    slots: Mapping[str, Slot],
    state: Mapping[str, ArrayLike],
    origin: str,
    constants: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Puts the arrays of a state dict into a network, which is then in evaluation mode and of their dtype.

    Running statistics beside bfloat16 and float16 are float32, as batch norms keep them. A `ValueError` names arrays
    that are missing, left over or misshapen, of several types, or not finite. Constants may stand in the state dict, if
    with these values.
    """
    arrays = plain_arrays(state)
    for name, value in (constants or {}).items():
        if name in arrays and not np.array_equal(found := arrays.pop(name), value):
            raise ValueError(
                f"state is not one of {origin} on this group; {name} is {shown(str(found))} instead of {value}"
            )
    check_complete(network, slots, origin)
    shapes = {name: array.shape for name, array in arrays.items()}
    check_shapes(shapes, {name: slot.shape for name, slot in slots.items()}, f"state is not one of {origin}")
    dtype = common_dtype(arrays)
    check_finite(arrays)
    for name, slot in slots.items():
        kept = jnp.promote_types(dtype, jnp.float32) if isinstance(slot.variable, nnx.BatchStat) else dtype
        slot.variable.set_value(jnp.asarray(slot.to_ours(native(arrays[name])), kept))
    network.eval()


def check_complete(network: nnx.Module, slots: Mapping[str, Slot], origin: str) -> None:
    """Raises a `ValueError` unless every array of the network has a place in the original."""
    known = {id(slot.variable) for slot in slots.values()}
    others = [
        ".".join(map(str, path))
        for path, node in nnx.iter_graph(network)
        if isinstance(node, nnx.Variable) and not isinstance(node, nnx.RngState) and id(node) not in known
    ]
    if others:
        raise ValueError(f"network has arrays that are none of {origin}: {listed(others)}")
