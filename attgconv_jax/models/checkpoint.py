"""Networks on disk: Orbax for the arrays, JSON for the network they belong to."""

import json
import os
import pathlib
import shutil
import uuid

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from attgconv_jax import __version__
from attgconv_jax.filters import Sampling
from attgconv_jax.groups import Group
from attgconv_jax.initializers import INITIALIZERS
from attgconv_jax.lie.groups import LieGroup
from attgconv_jax.models.base import NETWORKS, Network
from attgconv_jax.models.skeleton import ARRAYS, skeleton

_FORMAT = 2
_DESCRIPTION = "network.json"
_STORE = "arrays"

# Endings of arrays' names in version 0.1.0, and what they are where a network no longer has them.
FORMER_NAMES = {
    "attention.w1": "attention.weights.channel.w1",
    "attention.w2": "attention.weights.channel.w2",
    "attention.spatial": "attention.weights.spatial",
    "attention.w": "attention.weights",
}


def save_network(path: str | os.PathLike, network: Network) -> None:
    """Writes a network's parameters, running statistics and fixed waves, and the settings that make it again.

    The checkpoint is a directory: `network.json` and, beside it, `arrays/` in Orbax's format. It appears whole or not
    at all. Random streams (dropout's) are not part of it.

    Args:
      path: of the directory to make, with its parents.
      network: in any mode.

    Raises:
      FileExistsError: there is something at `path`.
      ValueError: the network's class is not in the registry, its parameters are of several dtypes, or JSON cannot hold
        one of its options, such as an initialiser that is a function.
    """
    import orbax.checkpoint as ocp  # noqa: PLC0415 (slow to import, and most users of networks need no checkpoint)

    names = [name for name, entry in NETWORKS.items() if entry.network is type(network)]
    if not names:
        raise ValueError(
            f"network must be one of {', '.join(NETWORKS)}, got {type(network).__name__}; "
            "attgconv_jax.models.register adds others"
        )
    path = pathlib.Path(path).absolute()
    if os.path.lexists(path):
        raise FileExistsError(f"{path} exists: choose another path, or remove it first")
    description = {
        "format": _FORMAT,
        "network": names[0],
        "settings": _json_settings(network),
        "param_dtype": _param_dtype(network),
        "version": __version__,
    }
    # As NumPy arrays, or Orbax also stores on which devices they were and looks for the same ones when reading.
    arrays = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(network, ARRAYS)))
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.mkdir(parents=True)
        (partial / _DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
            checkpointer.save(partial / _STORE, args=ocp.args.StandardSave(arrays))
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_network(path: str | os.PathLike) -> Network:
    """Reads a network that `save_network` wrote.

    The network is in evaluation mode, with the arrays bit for bit; its random streams start anew.

    Raises:
      FileNotFoundError: there is no such directory.
      ValueError: the directory is no checkpoint, or a damaged one; it holds an unknown network, or arrays that do not
        fit it; float64 arrays without `jax_enable_x64`; a format of a later version.
    """
    path = pathlib.Path(path).absolute()
    description = _read_description(path)
    if description["param_dtype"] == "float64" and not jax.config.jax_enable_x64:
        raise ValueError(f'{path} is float64: call jax.config.update("jax_enable_x64", True) before it is loaded')
    graphdef, arrays, rest = _described(path, description)
    expected = nnx.to_pure_dict(arrays)
    stored = _read_arrays(path, _by_name(expected), description["network"])
    nnx.replace_by_pure_dict(
        arrays, jax.tree_util.tree_map_with_path(lambda keys, _: jnp.asarray(stored[_name(keys)]), expected)
    )
    network = nnx.merge(graphdef, arrays, rest)
    network.eval()
    return network


def _json_settings(network):
    """The settings, if JSON can hold every option among them."""
    for setting, options in network.settings.items():
        for name, value in options.items() if isinstance(options, dict) else ():
            try:
                json.dumps(value)
            except TypeError as error:
                raise ValueError(
                    f"{setting} must be plain values to be saved, got {name}={value!r}: pass numbers, strings or "
                    f"booleans, and an initialiser by its name, one of {', '.join(INITIALIZERS)}"
                ) from error
    return network.settings


def _param_dtype(network):
    dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(nnx.state(network, nnx.Param))}
    if len(dtypes) != 1:
        raise ValueError(f"the network's parameters must be of one dtype, got {', '.join(sorted(dtypes))}")
    return dtypes.pop()


def _read_description(path):
    if not path.is_dir():
        raise FileNotFoundError(f"there is no directory {path}")
    file = path / _DESCRIPTION
    if not file.is_file():
        below = sorted(path.glob(f"*/*/{_DESCRIPTION}"))
        hint = f"; perhaps {below[0].parent}" if below else ""
        raise ValueError(f"{path} is not a checkpoint: it has no {_DESCRIPTION}, which save_network writes{hint}")
    try:
        description = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    kinds = {"network": str, "settings": dict, "param_dtype": str}
    stored = description if isinstance(description, dict) else {}
    if wrong := [key for key, kind in kinds.items() if type(stored.get(key)) is not kind]:
        raise ValueError(
            f"{file} must be an object with network, settings and param_dtype; missing: {', '.join(wrong)}"
        )
    if description.get("format", 1) == 1:
        description = _from_first_format(description)
    elif description["format"] != _FORMAT:
        raise ValueError(f"{file} has format {description['format']!r}, of a later version than this, {__version__}")
    if description["network"] not in NETWORKS:
        known = f"networks known here: {', '.join(NETWORKS)}; import what registers it"
        raise ValueError(f"{path} holds a {description['network']}; {known}")
    return description


def _from_first_format(description):
    """What version 0.1.0 wrote, in the names of now."""
    settings = dict(description["settings"])
    if "separable" in settings:
        form = settings.pop("separable")
        settings["kind"] = {None: "nonseparable", "g": "gseparable", "gc": "separable"}.get(form, form)
    options = dict(settings.get("attention_options") or {})
    names = {"interpolation": "kind", "disc_mask": "disc_mask"}
    if sampling := {names[name]: options.pop(name) for name in names.keys() & options.keys()}:
        options["sampling"] = sampling
    settings["attention_options"] = options
    networks, network = {entry.network.__name__: name for name, entry in NETWORKS.items()}, description["network"]
    return description | {"network": networks.get(network, network), "settings": settings}


def _described(path, description):
    """The described network, as `skeleton` gives it."""

    def build():
        entry, settings = NETWORKS[description["network"]], _with_sampling(description["settings"])
        settings["group"] = (LieGroup if entry.lie else Group)(**settings["group"])
        settings["dtype"] = None if settings["dtype"] is None else jnp.dtype(settings["dtype"])
        return entry.network(**settings, param_dtype=jnp.dtype(description["param_dtype"]), rngs=nnx.Rngs(0))

    try:
        return skeleton(build)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path / _DESCRIPTION} does not describe a network: {_first_line(error)}") from error


def _with_sampling(settings):
    """Settings from JSON with what was a `Sampling`, the attention's own included."""
    made = {name: _with_sampling(value) if name == "attention_options" else value for name, value in settings.items()}
    return made | ({"sampling": Sampling(**made["sampling"])} if "sampling" in made else {})


def _read_arrays(path, expected, network):
    """The stored arrays by the names in `expected`, whose shapes they must have."""
    import orbax.checkpoint as ocp  # noqa: PLC0415 (as above)

    try:
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
            metadata = checkpointer.metadata(path / _STORE).item_metadata
            if metadata is None or metadata.tree is None:
                raise ValueError("its arrays cannot be read")
            target = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), metadata.tree)
            stored = checkpointer.restore(path / _STORE, args=ocp.args.StandardRestore(target))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {_first_line(error)}") from error
    stored = _renamed(_by_name(stored), expected)
    _check_fit(path, stored, expected, network)
    return stored


def _renamed(stored, expected):
    """By the names of now what version 0.1.0 had under others."""

    def now(name):
        for former, ending in FORMER_NAMES.items():
            candidate = name.removesuffix(former) + ending
            if name not in expected and name.endswith(former) and candidate in expected:
                return candidate
        return name

    return {now(name): leaf for name, leaf in stored.items()}


def _check_fit(path, stored, expected, network):
    misfits = {
        "missing": sorted(expected.keys() - stored.keys()),
        "extra": sorted(stored.keys() - expected.keys()),
        "misshapen": [
            f"{name} is {tuple(stored[name].shape)} instead of {tuple(leaf.shape)}"
            for name, leaf in expected.items()
            if name in stored and tuple(stored[name].shape) != tuple(leaf.shape)
        ],
    }
    if problems := [f"{label}: {', '.join(names)}" for label, names in misfits.items() if names]:
        raise ValueError(f"{path} does not hold the described {network}; " + "; ".join(problems))


def _by_name(tree):
    return {_name(keys): leaf for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _name(keys):
    return ".".join(str(key.key) for key in keys)


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
