"""Layers, filters and groups of networks that the registry does not know, found among their modules."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.attention import ResponseMaps
from attgconv_jax.groups import Group, cyclic, trivial
from attgconv_jax.lie import LieGroup
from attgconv_jax.models.arrays import first_line
from attgconv_jax.models.base import Network
from attgconv_jax.models.lie_resnet import LieBlock
from attgconv_jax.models.residual import ResidualBlock
from attgconv_jax.nn import (
    AttentiveGroupConv,
    GroupConv,
    LieAttention,
    LieConv,
    OperatorAttention,
    SelectiveKernelGroupConv,
)
from attgconv_jax.plotting.recording import named_modules, record

_CONVOLUTIONS = GroupConv, AttentiveGroupConv, SelectiveKernelGroupConv, LieConv
_ATTENTIONS = OperatorAttention, LieAttention
# Their attention, if they have one, is a module of their own.
_CONTAINERS = Network, ResidualBlock, LieBlock


def find_layers(network: nnx.Module) -> dict[str, nnx.Module]:
    """Convolutions and attention by path, none inside another.

    Attention is also any module with a method `attention_maps` that has no such layer in it.
    """
    modules = named_modules(network)
    root = type(network).__name__

    def inside(path, other):
        return path != other and (other == root or path.startswith(f"{other}."))

    def outermost(layers):
        return {path: layer for path, layer in layers.items() if not any(inside(path, other) for other in layers)}

    own = outermost({p: module for p, module in modules.items() if isinstance(module, _CONVOLUTIONS + _ATTENTIONS)})
    attending = [path for path, layer in own.items() if hasattr(layer, "attention_maps")]
    others = {
        path: module
        for path, module in modules.items()
        if callable(getattr(module, "attention_maps", None)) and not isinstance(module, _CONTAINERS)
        if not any(inside(layer, path) for layer in attending)
    }
    found = own | others
    if len(found) > 1 and root not in own:
        found.pop(root, None)
    return outermost(found)


def find_convolutions(network: nnx.Module) -> dict[str, nnx.Module]:
    """Group convolutions with a filter `w` by path; one with attention has the path of both together."""
    found = {}
    for path, module in named_modules(network).items():
        if isinstance(module, AttentiveGroupConv):
            found[path] = module.conv
        elif hasattr(module, "w") and isinstance(getattr(module, "group", None), Group):
            found[path] = module
    # Children come before parents.
    return {path: conv for path, conv in found.items() if not any(path == f"{other}.conv" for other in found)}


def find_groups(network: nnx.Module) -> list[Group | LieGroup]:
    """The groups of all modules, as which they act on feature maps, without the trivial one.

    The rotations of a Lie group are a finite one, unless the paper's coordinates turn them the other way around.
    """
    groups = {}
    for module in named_modules(network).values():
        group = getattr(module, "group", None)
        if isinstance(group, Group) and group.order > 1:
            groups[group] = None
        elif isinstance(group, LieGroup) and isinstance(module, LieConv | LieAttention):
            clockwise = getattr(module, "clockwise", getattr(module, "coordinates", None) == "paper")
            groups[cyclic(group.angles) if group.scales is None and not clockwise else group] = None
    return list(groups)


def combination_of(module: Any) -> str | None:
    """How the operator in a layer combines its maps with what it attends to; None where there is none."""
    while getattr(module, "attention", None) is not None:
        module = module.attention
    return module.combination if isinstance(module, OperatorAttention) else None


class FoundLayers:
    """The layers of a network, named by their paths, in the order in which they are called."""

    def __init__(self, network: nnx.Module):
        self._layers = find_layers(network)
        if not self._layers:
            modules = named_modules(network).values()
            kinds = sorted({type(module).__name__ for module in modules if not isinstance(module, nnx.List | nnx.Dict)})
            raise ValueError(
                "network must have group convolutions or attention of attgconv_jax.nn among its modules, or modules "
                f"with a method attention_maps; found {', '.join(kinds)}"
            )
        self._groups = find_groups(network)
        self._graphdef, self._state = nnx.split(network)

    @property
    def group(self) -> Group | None:
        """The group of all layers, the trivial one if no layer has another; None: there are several, or a Lie group."""
        group = self._groups[0] if self._groups else trivial()
        return group if len(self._groups) < 2 and isinstance(group, Group) else None

    def check_group(self, group: Group | None, what: str) -> Group:
        """The group as which elements act on feature maps: the one given, None: the network's."""
        lie = [known for known in self._groups if not isinstance(known, Group)]
        if lie:
            needed = f"{lie[0]} acts there as no finite group"
        elif group is None and len(self._groups) > 1:
            needed = f"group must be given: layers have {' and '.join(map(str, self._groups))}"
        elif group is not None and self._groups and group not in self._groups:
            needed = f"group must be {' or '.join(map(str, self._groups))}, got {group}"
        else:
            return self.group if group is None else group
        raise ValueError(f"{what} needs to know how the group acts on the network's feature maps: {needed}")

    def attending_layer(self, layer: int | str | None, images: Float[Array, "*batch x y 1 c"]) -> str:
        """The name of a layer that has attention, given by its name or its number in the order of calls."""
        calls, _ = self._shapes(_flat(images), _all)
        attending = {i: call.name for i, call in enumerate(calls) if call.maps is not None}
        if not attending:
            raise ValueError(
                f"the network has no attention: none of its layers, {', '.join(call.name for call in calls)}, is such "
                "as AttentiveGroupConv"
            )
        if layer is None:
            return next(iter(attending.values()))
        name = attending.get(layer) if type(layer) is int else layer
        if name not in attending.values():
            known = ", ".join(f"{i} ({name})" for i, name in attending.items())
            raise ValueError(f"layer must be one of those with attention, {known}; got {layer!r}")
        return name

    def map_shapes(self, images: Float[Array, "*batch x y 1 c"]) -> dict[str, Any]:
        """Shapes of the attention maps by layer."""
        calls, _ = self._shapes(_flat(images), _all)
        return {call.name: call.maps for call in calls if call.maps is not None}

    def maps(self, images: Float[Array, "*batch x y 1 c"], layer: str, finish: Callable | None = None) -> Any:
        """`finish` of a layer's attention maps, in one compiled call."""
        return self._program(_maps, layer, finish)(self._state, images)

    def title(self, layer: str) -> str:
        """The layer in the title of a picture."""
        return f"layer {layer}"

    def attention(self, layer: str) -> str:
        """What the layer's attention is called."""
        return type(self._module(layer)).__name__

    def combination(self, layer: str) -> str:
        """How the layer combines its maps with what it attends to, as `Operator` has it."""
        module = self._module(layer)
        return "suppress" if isinstance(module, GroupConv) else combination_of(module) or "scale"

    def outputs(self, images: Float[Array, "*batch x y 1 c"]) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of what leaves every layer, and the network, by name."""
        calls, result = self._shapes(images, _none)
        arrays = {}
        for name, output in [*((call.name, call.output) for call in calls), ("output", result)]:
            leaves = jax.tree_util.tree_leaves_with_path(output)
            arrays |= {name + (jax.tree_util.keystr(path) if path else ""): leaf for path, leaf in leaves}
        return arrays

    def functions(self) -> Callable[[Array, int], Array]:
        """A compiled function of images, and of which of `outputs` it is to return."""
        compute = self._program(_outputs)
        return lambda images, i: compute(self._state, images)[i]

    def _module(self, layer):
        return self._layers[layer.split(" (call ")[0].split("[")[0]]

    def _program(self, function, *options):
        """A compiled function of the network's arrays and images."""
        static = (function, self._graphdef, tuple(self._layers), *options)
        try:
            return _compiled(*static)
        except TypeError:  # a network with an attribute that has no hash is compiled at every call
            return _compiled.__wrapped__(*static)

    def _run(self, state, images, wanted):
        return record(nnx.merge(self._graphdef, state), images, self._layers, wanted)

    def _shapes(self, images, wanted):
        """What `_run` returns, as shapes; a `ValueError` where values cannot be recorded."""
        try:
            calls, result = jax.eval_shape(functools.partial(self._run, wanted=wanted), self._state, images)
        except Exception as error:
            # The network's own errors, if it has any, are raised as they are.
            jax.eval_shape(lambda state, images: nnx.merge(self._graphdef, state)(images), self._state, images)
            cause = first_line(error)
            raise ValueError(
                "network must call its layers where what leaves them can be recorded: in Python, or in nnx.jit, "
                f"nnx.remat, nnx.scan or nnx.vmap, but not in jax.jit or nnx.cond; got {type(error).__name__}: {cause}"
            ) from error
        if not calls:
            raise ValueError(f"network must call its layers, {', '.join(self._layers)}; it called none")
        return calls, result


@functools.lru_cache(maxsize=32)
def _compiled(function, *static):
    """The function compiled with these first arguments, the same one for a network that was there before."""
    return jax.jit(functools.partial(function, *static))


def _outputs(graphdef, layers, state, images):
    """What leaves every layer, and the network."""
    calls, result = record(nnx.merge(graphdef, state), images, layers, _none)
    return jax.tree.leaves([*(call.output for call in calls), result])


def _maps(graphdef, layers, layer, finish, state, images):
    """`finish` of the maps of one layer."""
    flat = _flat(images)

    def wanted(name):
        # Of stacked layers, all are recorded together.
        return layer == name or layer.startswith(f"{name}[")

    calls, _ = record(nnx.merge(graphdef, state), flat, layers, wanted)
    (maps,) = (call.maps for call in calls if call.name == layer)
    maps = maps if isinstance(maps, ResponseMaps) else _as_map(maps, len(flat), f"attention_maps of {layer}")
    maps = jax.tree.map(lambda alpha: alpha.reshape(*images.shape[:-4], *alpha.shape[1:]), maps)
    return maps if finish is None else finish(maps)


def _all(name):
    return True


def _none(name):
    return False


def _flat(images):
    """The images with one batch axis, which is all that other people's networks may know."""
    return images.reshape(-1, *images.shape[-4:])


def _as_map(alpha, batch, name):
    """A map `[batch, x, y, h, c]`; of layers without a group axis, and of one map for all images, that."""
    shape = jnp.shape(alpha) if isinstance(alpha, Array) else type(alpha).__name__
    if not isinstance(alpha, Array) or alpha.ndim not in (4, 5) or len(alpha) not in (1, batch):
        raise ValueError(f"{name} must be [batch, x, y, h, c] of {batch} images, got {shape}")
    alpha = alpha[..., None, :] if alpha.ndim == 4 else alpha
    return jnp.broadcast_to(alpha, (batch, *alpha.shape[1:]))
