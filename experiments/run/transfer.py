"""Training that starts from the weights of another network: which, whether they fit, and what is made anew."""

import hashlib
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from attgconv_jax.models import NETWORKS, Network
from attgconv_jax.models.checkpoint import described_network
from attgconv_jax.models.skeleton import ARRAYS
from experiments.data import Dataset
from experiments.run.configuration import Config
from experiments.run.head import head_of, named
from experiments.run.saved import registered_description
from experiments.run.training import TrainState, make_network
from experiments.run.workdir import Run

# Settings that decide no weight's shape or meaning, only how it is trained or rounded; the classes make a new head.
_FREE = {"classes", "dtype", "random_grids"}


class Weights(NamedTuple):
    """A network on the disk, and what is to be known of it before it is trained further."""

    folder: pathlib.Path
    network: Network
    class_names: tuple[str, ...] | None
    """None where nothing says what they are called."""
    sha256: str
    """Of the names, shapes and bytes of all parameters, running statistics and fixed waves."""


class Start(NamedTuple):
    """What a run starts from: arrays by name, and a record of it."""

    arrays: Mapping[str, np.ndarray]
    record: Mapping[str, Any]

    def __call__(self, state: TrainState) -> TrainState:
        """The first state with these arrays, the same for every seed; those that are new stay as they are."""
        return state._replace(params=self._in(state.params), rest=self._in(state.rest))

    def _in(self, variables):
        changed = []
        for name, variable in named(variables).items():
            if name in self.arrays:
                variable = variable.replace(jnp.stack([self.arrays[name]] * len(variable.get_value())))  # noqa: PLW2901
            changed.append(variable)
        return nnx.from_flat_state(zip([path for path, _ in nnx.to_flat_state(variables)], changed, strict=True))


def read_weights(path: pathlib.Path) -> Weights:
    """The weights of a saved network, or of a run: of its first seed the network best on validation.

    Raises:
      ValueError: there is neither, or the run is not complete; or what `load_network` raises.
    """
    folder, names = path, None
    if (path / "run.json").is_file():
        run = Run.open(path)
        folder, names = path / "networks" / f"seed-{run.config().seeds[0]}-best", run.description.get("class_names")
        if not folder.is_dir():
            raise ValueError(f"init_from: {path} is not complete and has saved no network yet: train it to its end")
    elif not (path / "network.json").is_file():
        raise ValueError(f"init_from must be the folder of a run or of a saved network, got {path}")
    description = registered_description(folder)
    if description["param_dtype"] == "float64" and not jax.config.jax_enable_x64:
        raise ValueError(f"init_from: the weights of {folder} are float64; take --model.dtype float64")
    # Networks that were saved before they had class names have those of their run.
    network, names = described_network(folder.absolute(), description), description.get("class_names") or names
    return Weights(folder, network, None if names is None else tuple(names), _fingerprint(_arrays(network)))


def start_of(config: Config, dataset: Dataset) -> Start:
    """What a run of this configuration starts from.

    The head is new where there are more or fewer classes, or where they have other names.

    Raises:
      ValueError: the weights are not there, or of a network that differs in more than its classes; it says in what.
    """
    weights = read_weights(config.init_from)
    ours = nnx.eval_shape(lambda: make_network(config.model, dataset.classes, 0, dataset.in_features))
    _check_same(config.init_from, weights.network, ours)
    arrays, expected = _arrays(weights.network), _shapes(ours)
    other = weights.class_names not in (None, dataset.class_names)
    head = head_of(config.model, dataset.classes, dataset.in_features)
    new = head if other or weights.network.settings["classes"] != dataset.classes else frozenset()
    wrong = sorted(
        name
        for name in (expected.keys() | arrays.keys()) - new
        if name not in arrays or expected.get(name) != (arrays[name].shape, arrays[name].dtype)
    )
    if wrong:
        raise ValueError(
            f"init_from: {len(wrong)} arrays of {config.init_from} do not fit, {wrong[0]} for one: "
            f"{_described(arrays.get(wrong[0]))} there and {_described(expected.get(wrong[0]))} here"
        )
    sizes = {name: variable.get_value().size for name, variable in named(nnx.state(ours, nnx.Param)).items()}
    record = {
        "network": str(weights.folder),
        "sha256": weights.sha256,
        "classes": weights.network.settings["classes"],
        "new_head": sorted(new),
        "running_variance": weights.network.settings.get("running_variance", "biased"),
        "trained": sorted(head) if config.freeze == "body" else "all",
        "trained_parameters": sum(size for name, size in sizes.items() if config.freeze != "body" or name in head),
        "parameters": sum(sizes.values()),
    }
    return Start({name: array for name, array in arrays.items() if name not in new}, record)


def check_start(run: Run, config: Config) -> None:
    """Raises a `ValueError` unless a run that has begun started from the weights that the configuration names.

    From the same path is enough, whether or not anything is there by now: a run that has a checkpoint needs the weights
    no more. A warning says that there are others by now. Other paths must hold weights with the same bits.
    """
    if run.description is None or config.init_from is None:
        return
    there, recorded = run.description["config"]["init_from"], run.description["start"]["sha256"]
    if str(config.init_from) != there:
        if read_weights(config.init_from).sha256 != recorded:
            raise ValueError(
                f"--workdir {run.workdir} holds a run that started from other weights: init_from is {there} there and "
                f"{config.init_from} here. Name another folder, or repeat the other command"
            )
        return
    try:
        same = read_weights(config.init_from).sha256 == recorded
    except (OSError, ValueError):
        if run.newest_step is None:
            raise
        return
    if not same and run.newest_step is None:
        raise ValueError(
            f"{run.workdir} has no checkpoint yet, and {there} holds other weights than when it began: delete "
            f"{run.workdir} to start anew"
        )
    if not same:
        warnings.warn(f"{there} holds other weights by now than those that {run.workdir} started from", stacklevel=2)


def start_message(config: Config, record: Mapping[str, Any], classes: int) -> str:
    """From what a run starts, and which arrays are new or trained, in words."""
    words = [f"starts from {record['network']}"]
    if record["new_head"]:
        count = record["classes"]
        difference = f"{count} classes there, {classes} here" if count != classes else f"other {classes} classes"
        words.append(f"with a new head ({difference}): {', '.join(record['new_head'])}")
    else:
        words.append("with its head, since the classes are the same")
    message = " ".join(words)
    if config.freeze != "body":
        return message
    return f"{message}; trains {record['trained_parameters']:,} of {record['parameters']:,} parameters, the head's"


def _check_same(path, theirs, ours):
    """Raises a `ValueError` that names the settings in which networks differ, but for those that do not matter."""
    names = {entry.network: name for name, entry in NETWORKS.items()}
    there, here = (
        {"name": names[type(network)], "group": str(network.group)}
        | {name: value for name, value in network.settings.items() if name != "group" and not _is_free(name)}
        for network in (theirs, ours)
    )
    known = [name for name in here if name in there] if there["name"] == here["name"] else ["name"]
    differing = [f"{name} is {there[name]} there and {here[name]} here" for name in known if there[name] != here[name]]
    if differing:
        raise ValueError(
            f"init_from: {path} holds another network: {'; '.join(differing)}. Take --model options and data as of "
            "that network, or other weights"
        )


def _is_free(name):
    return name in _FREE or name.endswith("dropout_rate")


def _arrays(network):
    state = nnx.state(network, ARRAYS)
    return {name: np.asarray(variable.get_value()) for name, variable in named(state).items()}


def _shapes(network):
    variables = {name: variable.get_value() for name, variable in named(nnx.state(network, ARRAYS)).items()}
    return {name: (value.shape, np.dtype(value.dtype)) for name, value in variables.items()}


def _described(array):
    if array is None:
        return "none"
    shape, dtype = array if isinstance(array, tuple) else (array.shape, array.dtype)
    return f"{dtype} of shape {shape}"


def _fingerprint(arrays):
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
