"""Arrays of modules on disk, by name, in Orbax's format."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from attgconv_jax.models.skeleton import ARRAYS

# Of names in a list, and of characters in a name, so that errors stay lines that can be read.
_SHOWN, _LONGEST = 4, 100

# Endings of arrays' names in version 0.1.0, and what they are where a network no longer has them.
FORMER_NAMES = {
    "attention.w1": "attention.weights.channel.w1",
    "attention.w2": "attention.weights.channel.w2",
    "attention.spatial": "attention.weights.spatial",
    "attention.w": "attention.weights",
}


def write_arrays(path: pathlib.Path, module: nnx.Module) -> None:
    """Writes all arrays of a module but those of its random streams to a new directory.

    A `ValueError` if there are none, a variable holds something else, or two arrays have one name.
    """
    import orbax.checkpoint as ocp  # noqa: PLC0415 (as below)

    arrays = nnx.to_pure_dict(nnx.state(module, ARRAYS))
    for name, leaf in by_name(arrays).items():
        if not isinstance(leaf, np.ndarray | jax.Array | int | float):
            raise ValueError(f"network must hold arrays, got {type(leaf).__name__} under {name}")
    if not jax.tree.leaves(arrays):
        raise ValueError(f"network must hold arrays, got a {type(module).__name__} without any")
    # As NumPy arrays, or Orbax also stores on which devices they were and looks for the same ones when reading.
    arrays = jax.tree.map(lambda leaf: leaf if isinstance(leaf, np.ndarray) else np.asarray(jnp.asarray(leaf)), arrays)
    with _checkpointer() as checkpointer:
        checkpointer.save(path, args=ocp.args.StandardSave(arrays))


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays by name; a `ValueError` if they cannot be read."""
    import orbax.checkpoint as ocp  # noqa: PLC0415 (as below)

    try:
        with _checkpointer() as checkpointer:
            metadata = checkpointer.metadata(path).item_metadata
            if metadata is None or metadata.tree is None:
                raise ValueError("its arrays cannot be read")
            target = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), metadata.tree)
            return by_name(checkpointer.restore(path, args=ocp.args.StandardRestore(target)))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.parent} is damaged: {first_line(error)}") from error


def _checkpointer():
    """Orbax's, which waits for no other process: the one that calls writes or reads alone."""
    import orbax.checkpoint as ocp  # noqa: PLC0415 (slow to import, and most users of networks need no checkpoint)

    own = jax.process_index()
    options = ocp.options.MultiprocessingOptions(primary_host=own, active_processes={own})
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=options)
    return ocp.Checkpointer(handler, multiprocessing_options=options)


def filled(path: pathlib.Path, parts: tuple, stored: Mapping[str, np.ndarray], problem: str) -> nnx.Module:
    """The module of these parts, as `skeleton` gives them, with the arrays stored at `path`, in evaluation mode.

    A `ValueError` if they are float64 and x64 is off, or, after the problem's words, which are not the module's.
    """
    graphdef, arrays, rest = parts
    expected = nnx.to_pure_dict(arrays)
    stored = _renamed(stored, by_name(expected))
    shapes = ({name: np.shape(leaf) for name, leaf in each.items()} for each in (stored, by_name(expected)))
    check_shapes(*shapes, f"{path} {problem}")

    def array_of(keys, leaf):
        array = stored[_name(keys)]
        if isinstance(leaf, np.ndarray):
            return array
        on_device = jnp.asarray(array)
        if on_device.dtype != array.dtype and not (array.dtype.kind in "iu" and np.array_equal(on_device, array)):
            raise ValueError(
                f'{path} is {array.dtype}: call jax.config.update("jax_enable_x64", True) before it is loaded'
            )
        return on_device

    nnx.replace_by_pure_dict(arrays, jax.tree_util.tree_map_with_path(array_of, expected))
    module = nnx.merge(graphdef, arrays, rest, copy=True)
    module.eval()
    return module


def by_name(tree: Any) -> dict[str, Any]:
    """The leaves of nested dictionaries by their keys, joined by dots; a `ValueError` if two have one name."""
    named = {}
    for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        if _name(keys) in named:
            raise ValueError(f"network must have a name of its own for each array, got two {_name(keys)}: avoid dots")
        named[_name(keys)] = leaf
    return named


def key_name(key: Any) -> str:
    """What JAX's key of an entry of a container, of whatever kind, is called."""
    return str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key))))


def first_line(error: Exception) -> str:
    """Of an error's message, or its class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def check_shapes(found: Mapping[str, tuple], expected: Mapping[str, tuple], problem: str) -> None:
    """Raises a `ValueError`, after the problem's words, unless arrays of these names and shapes are the expected."""
    both = {name: (shown(name), found[name], shape) for name, shape in expected.items() if name in found}
    misfits = {
        "missing": map(shown, sorted(expected.keys() - found.keys())),
        "extra": map(shown, sorted(found.keys() - expected.keys())),
        "misshapen": (f"{name} is {got} instead of {good}" for name, got, good in both.values() if got != good),
    }
    misfits = {label: [*words] for label, words in misfits.items()}
    if problems := [f"{label}: {listed(words)}" for label, words in misfits.items() if words]:
        raise ValueError(f"{problem}; " + "; ".join(problems))


def listed(words: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    return ", ".join(words[:_SHOWN]) + (f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else "")


def shown(name: Any) -> str:
    """A name from a file as a message may hold it: in a line, without control characters, not too long."""
    words = name if isinstance(name, str) and name.isprintable() else ascii(name)
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}..."


def _renamed(stored, expected):
    """By the current names what version 0.1.0 had under others."""

    def now(name):
        for former, ending in FORMER_NAMES.items():
            candidate = name.removesuffix(former) + ending
            if name not in expected and name.endswith(former) and candidate in expected:
                return candidate
        return name

    return {now(name): leaf for name, leaf in stored.items()}


def _name(keys):
    return ".".join(map(key_name, keys))
