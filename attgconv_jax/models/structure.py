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
# Attributes of modules that came later: None is as if there were none.
_LATER = ("implementation", "precision")
# Endings of attributes of Flax's modules that decide initial values alone, or follow from others.
_OF_FLAX = ("param_dtype", "_init", "_length")


class Same(NamedTuple):
    """A module or variable that stands at another place, too."""

    name: str
    """Of the first place."""

    def __repr__(self):
        return f"the same as {self.name or 'the network'}"


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
    empty. What stands at several places is at the first of them, in the order of names; the others say `Same`.
    """
    entries, visited = {}, {}

    def visit(path, value):
        name = ".".join(path)
        if isinstance(value, nnx.Pytree | nnx.Variable):
            if id(value) in visited:
                entries[name] = Same(visited[id(value)])
                return
            visited[id(value)] = name
        entries[name] = _entry(value)
        for child_name, child in _children(value):
            visit((*path, child_name), child)

    visit((), module)
    return entries


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """In words, where the structure `found` is not the one `expected`; nothing within what differs as a whole."""

    def differs(here, there):
        if _same(here, there):
            return None
        here, there = text(here), text(there)
        return f"is {here} instead of {there}" if here != there else f"is another {here}"

    return _outermost(found, expected, differs, text)


def text_differences(found: Mapping[str, str], stored: Mapping[str, str]) -> list[str]:
    """The same of structures whose values are in words, as `text` gives them."""
    stored = {name: words for name, words in stored.items() if words != "None" or name.split(".")[-1] not in _LATER}
    return _outermost(
        found, stored, lambda here, there: None if here == there else f"is {here} instead of {there}", str
    )


def text(value: Any) -> str:
    """A value of a structure in words that are the same in every process."""
    return _text(value, ())


def _text(value, outer):
    """`text` of a part of the objects `outer`; of one of those itself its class alone."""
    value = _plain(value)
    part = functools.partial(_text, outer=(*outer, id(value)))

    def arguments(args, keywords):
        return ", ".join([*map(part, args), *(f"{name}={part(keyword)}" for name, keyword in keywords.items())])

    if isinstance(value, np.ndarray | jax.Array):
        words = f"{value.dtype} {value.shape}"
    elif id(value) in outer:
        words = type(value).__qualname__
    elif isinstance(value, functools.partial):
        words = f"partial of {part(value.func)}({arguments(value.args, value.keywords)})"
    elif isinstance(value, list | tuple) and not isinstance(value, Slot | Same):
        words = f"({', '.join(map(part, value))})"
    elif isinstance(value, set | frozenset):
        words = f"{{{', '.join(sorted(map(part, value)))}}}"
    elif isinstance(value, dict):
        words = f"{{{', '.join(f'{part(key)}: {part(each)}' for key, each in value.items())}}}"
    elif hasattr(value, "__qualname__"):
        words = value.__qualname__
    elif type(value).__repr__ is object.__repr__:
        keywords = arguments((), getattr(value, "__dict__", {}))
        words = type(value).__qualname__ + (f"({keywords})" if keywords else "")
    else:
        words = re.sub(r" at 0x[0-9a-f]+", "", " ".join(repr(value).split()))
    return words


def _outermost(found, expected, differs, words_of):
    """Words of what is missing, new or `differs`, but of nothing within that."""
    words = {}
    for name in [*expected, *(name for name in found if name not in expected)]:
        parts = name.split(".")
        if words.keys() & {".".join(parts[:i]) for i in range(len(parts))}:
            continue
        if name not in found:
            difference = "is missing"
        elif name not in expected:
            difference = f"({words_of(found[name])}) is new"
        else:
            difference = differs(found[name], expected[name])
        if difference:
            words[name] = f"{name or 'the network'} {difference}"
    # Private attributes last: they say least.
    return sorted(words.values(), key=lambda word: word.startswith("_"))


def _children(value):
    """What stands in a module or a container, by name."""
    if isinstance(value, nnx.Variable) or value is None:
        return
    if isinstance(value, nnx.Pytree):
        of_flax = _is_layer_of_flax(type(value))
        # Sorted, as Flax has them once it has made a module of its parts.
        for name, child in sorted(vars(value).items(), key=_place):
            idle = name in _MODE or name.startswith("_pytree__") or (of_flax and name.endswith(_OF_FLAX))
            if not idle and not (child is None and name in _LATER):
                yield name, child
    elif not jax.tree_util.all_leaves([value]):
        for keys, child in jax.tree_util.tree_flatten_with_path(value, is_leaf=lambda part: part is not value)[0]:
            yield key_name(keys[0]), child


def _is_layer_of_flax(kind):
    """Whether a class is Flax's, or a layer of Flax's with another method."""
    modules = [base.__module__ for base in kind.__mro__]
    return modules[0].startswith("flax.") or any(module.startswith("flax.nnx.nn.") for module in modules)


def _place(item):
    name = str(item[0])
    return (0, int(name), "") if name.isdigit() else (1, 0, name)


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
