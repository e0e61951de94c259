"""What a module is besides the numbers in its arrays, by name, so that two modules can be compared."""

import functools
import numbers
import re
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from attgconv_jax.models.arrays import key_name

_MODE = ("deterministic", "use_running_average")
# Endings of attributes of Flax's modules that decide initial values alone, or follow from others.
_OF_FLAX = ("param_dtype", "_init", "_length")


class Slot(NamedTuple):
    """A variable without its numbers."""

    kind: type
    shape: Any
    hook: Any
    """What Flax calls on its value whenever it is read."""

    def __repr__(self):
        return f"{self.kind.__name__} {self.shape}"


def structure(module: nnx.Module) -> dict[str, Any]:
    """By name the class of every module and container in it, a `Slot` for every variable, and what attributes are.

    Without the mode, whether it trains or evaluates. Names are those of arrays in checkpoints; the module's own is
    empty. A module that stands at several places has the name of the first.
    """
    entries = {}

    def visit(path, value, visited):
        entries[".".join(path)] = _entry(value)
        for name, child in _children(value):
            if not isinstance(child, nnx.Pytree | nnx.Variable) or id(child) not in visited:
                visited.add(id(child))
                visit((*path, name), child, visited)

    visit((), module, {id(module)})
    return entries


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """In words, where the structure `found` is not the one `expected`; nothing within what differs as a whole."""
    words, differing = [], set()
    for name in [*expected, *(name for name in found if name not in expected)]:
        parts = name.split(".")
        if differing & {".".join(parts[:i]) for i in range(len(parts))}:
            continue
        if name not in found:
            difference = "is missing"
        elif name not in expected:
            difference = f"({text(found[name])}) is new"
        elif not _same(found[name], expected[name]):
            here, there = text(found[name]), text(expected[name])
            difference = f"is {here} instead of {there}" if here != there else f"is another {here}"
        else:
            continue
        differing.add(name)
        words.append(f"{name or 'the network'} {difference}")
    # Private attributes last: they say least.
    return sorted(words, key=lambda word: word.startswith("_"))


def text(value: Any) -> str:
    """A value of a structure in words that are the same in every process."""
    value = _plain(value)
    if isinstance(value, functools.partial):
        return f"partial of {text(value.func)}"
    if isinstance(value, np.ndarray | jax.Array):
        return f"{value.dtype} {value.shape}"
    if isinstance(value, list | tuple) and not isinstance(value, Slot):
        return f"({', '.join(map(text, value))})"
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    words = type(value).__qualname__ if type(value).__repr__ is object.__repr__ else repr(value)
    return re.sub(r" at 0x[0-9a-f]+", "", " ".join(words.split()))


def _children(value):
    """What stands in a module or a container, by name."""
    if isinstance(value, nnx.Variable) or value is None:
        return
    if isinstance(value, nnx.Pytree):
        of_flax = type(value).__module__.startswith("flax.")
        for name, child in vars(value).items():
            if name not in _MODE and not name.startswith("_pytree__") and not (of_flax and name.endswith(_OF_FLAX)):
                yield name, child
    elif not jax.tree_util.all_leaves([value]):
        for keys, child in jax.tree_util.tree_flatten_with_path(value, is_leaf=lambda part: part is not value)[0]:
            yield key_name(keys[0]), child


def _entry(value):
    if isinstance(value, nnx.Variable):
        shape = None if isinstance(value, nnx.RngState) else jax.tree.map(jnp.shape, value.get_value())
        return Slot(type(value), shape, value.get_metadata().get("on_get_value"))
    if isinstance(value, np.ndarray | jax.Array | jax.ShapeDtypeStruct):
        return Slot(type(value) if isinstance(value, jax.core.Tracer) else jax.Array, value.shape, None)
    is_leaf = value is None or (not isinstance(value, nnx.Pytree) and jax.tree_util.all_leaves([value]))
    return value if is_leaf else type(value)


def _plain(value):
    """Numbers as Python's, and types of numbers as NumPy's."""
    if isinstance(value, np.generic):
        return value.item()
    is_dtype = isinstance(value, type(jnp.float32)) or (isinstance(value, type) and issubclass(value, np.generic))
    return jnp.dtype(value) if is_dtype else value


def _same(a, b):
    """Whether modules with these attributes compute the same; False where that cannot be told."""
    a, b = _plain(a), _plain(b)
    if isinstance(a, np.dtype) or isinstance(b, np.dtype):
        return all(isinstance(each, np.dtype | str) for each in (a, b)) and jnp.dtype(a) == jnp.dtype(b)
    if a is b or (isinstance(a, numbers.Number) and isinstance(b, numbers.Number)):
        return a is b or a == b
    return type(a) is type(b) and not isinstance(a, type) and _same_objects(a, b)


def _same_objects(a, b):
    """The same of two objects of one class."""
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    try:
        return _same(_parts(a), _parts(b)) if type(a).__eq__ is object.__eq__ else bool(a == b)
    except (RecursionError, TypeError, ValueError):
        return False


def _parts(value):
    """What decides the value of a function or an object that Python compares by identity alone."""
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return value.__code__, value.__defaults__, value.__kwdefaults__, cells
    if isinstance(value, functools.partial):
        return value.func, value.args, value.keywords
    parts = vars(value)
    if not parts:
        raise TypeError(f"nothing is known of {value!r}")
    return dict(parts)
