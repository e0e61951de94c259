"""What leaves the layers of any NNX network, and their attention, recorded while the network runs."""

import dataclasses
import functools
import types
from collections.abc import Callable, Collection
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

_PATH, _RUN, _OUTPUT, _MAPS = "_recorded_path", "_recording", "_recorded_output_", "_recorded_maps_"


@functools.partial(jax.tree_util.register_dataclass, data_fields=["output", "maps"], meta_fields=["path", "name"])
@dataclasses.dataclass(frozen=True)
class Call:
    """A call of a layer.

    Attributes:
      path: of the layer in the network.
      name: in pictures: the path, and which call of the layer it is where there are several.
      output: what left the layer.
      maps: its attention, where wanted.
    """

    path: str
    name: str
    output: Any
    maps: Any


class _Record(nnx.Variable):
    """A value on its way out of whatever transformation the layer is called in."""


class _Run:
    """The calls so far: the path of each layer, the name of the call, the rank of the first array that left it.

    Every layer has it as a static attribute, so that no `nnx.jit` takes a network for one that it has compiled before.
    """

    def __init__(self, wanted: Callable[[str], bool]):
        self.wanted = wanted
        self.calls: list[tuple[str, str, int]] = []

    def add(self, path, output):
        count = 1 + sum(path == known for known, _, _ in self.calls)
        name = path if count == 1 else f"{path} (call {count})"
        self.calls.append((path, name, jax.tree.leaves(output)[0].ndim))
        return len(self.calls) - 1, name


def record(
    network: nnx.Module, images: Float[Array, "..."], layers: Collection[str], wanted: Callable[[str], bool]
) -> tuple[list[Call], Any]:
    """Calls the network, which is changed by it: give a copy that is made in the same trace.

    The class of every layer becomes a subclass whose calls keep what they return in variables of the layer. That is how
    values leave `nnx.jit` and `nnx.remat`, and `nnx.scan` and `nnx.vmap` over stacked layers, which have a call each.

    Args:
      network: a function of images.
      images: its argument.
      layers: their paths, as `named_modules` has them.
      wanted: whether attention maps are recorded of a call with this name.

    Returns:
      The calls in their order, and what the network returns.
    """
    recorded = {path: module for path, module in named_modules(network).items() if path in layers}
    run = _Run(wanted)
    for path, module in recorded.items():
        setattr(module, _PATH, path)
        setattr(module, _RUN, run)
        object.__setattr__(module, "__class__", _recording(type(module)))
    result = network(images)
    calls = []
    for number, (path, name, rank) in enumerate(run.calls):
        output, maps = (getattr(recorded[path], f"{kind}{number}", None) for kind in (_OUTPUT, _MAPS))
        if output is None:
            raise ValueError(f"what left {name} is lost")
        calls += _steps(path, name, output.get_value(), None if maps is None else maps.get_value(), rank)
    return calls, result


def named_modules(network: nnx.Module) -> dict[str, nnx.Module]:
    """All modules by path, such as `blocks.0.conv`; that of the network itself is the name of its class."""
    modules = ((path, node) for path, node in nnx.iter_graph(network) if isinstance(node, nnx.Module))
    return {".".join(map(str, path)) or type(network).__name__: module for path, module in modules}


def _steps(path, name, output, maps, rank):
    """The call, or one for every layer of those that were stacked."""
    first = jax.tree.leaves(output)[0]
    if first.ndim == rank:
        return [Call(path, name, output, maps)]
    parts = [jax.tree.map(lambda leaf, i=i: leaf[i], (output, maps)) for i in range(len(first))]
    return [Call(path, f"{name}[{i}]", *part) for i, part in enumerate(parts)]


@functools.cache
def _recording(kind: type[nnx.Module]) -> type[nnx.Module]:
    """The subclass of a layer's class whose calls are recorded."""

    def call(self, *args, **kwargs):
        output = super(subclass, self).__call__(*args, **kwargs)
        run = getattr(self, _RUN)
        if jax.tree.leaves(output):
            number, name = run.add(getattr(self, _PATH), output)
            setattr(self, f"{_OUTPUT}{number}", _Record(output))
            if hasattr(self, "attention_maps") and run.wanted(name):
                setattr(self, f"{_MAPS}{number}", _Record(self.attention_maps(*args, **kwargs)))
        return output

    body = dict(__call__=call, __module__=kind.__module__, __doc__=kind.__doc__)
    options = dict(pytree=getattr(kind, "_pytree__is_pytree", True))
    subclass = types.new_class(kind.__name__, (kind,), options, lambda namespace: namespace.update(body))
    return subclass
