"""`network.json`: which network a checkpoint is of, how to build it, and how it was used."""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from attgconv_jax import __version__
from attgconv_jax.filters import Sampling
from attgconv_jax.groups import Group
from attgconv_jax.initializers import INITIALIZERS
from attgconv_jax.lie.groups import LieGroup
from attgconv_jax.models.arrays import first_line
from attgconv_jax.models.base import NETWORKS, Network
from attgconv_jax.models.structure import structure, text
from attgconv_jax.nn.norm import set_running_variance
from attgconv_jax.preprocessing import Preprocessing

NAME = "network.json"

# Of networks in the registry, and of those that `like` stands for.
_FORMAT, _FORMAT_OF_ARRAYS = 2, 3

# Of the functions and scales of bases: those of development versions before were others.
_BASES = 1


def registered_name(network: Any) -> str | None:
    """The name of a network's class in the registry; None if it is in none."""
    return next((name for name, entry in NETWORKS.items() if entry.network is type(network)), None)


def describe_registered(name: str, network: Network) -> dict[str, Any]:
    """By what a network of the registry is built again; a `ValueError` if JSON cannot hold it."""
    return {
        "format": _FORMAT,
        "bases": _BASES,
        "network": name,
        "settings": _json_settings(network),
        "param_dtype": (_param_dtypes(network) or ["float32"])[0],
        "version": __version__,
    }


def check_one_dtype(network: nnx.Module) -> None:
    """Raises a `ValueError` unless a network's parameters are of one dtype."""
    if len(dtypes := _param_dtypes(network)) > 1:
        raise ValueError(f"the network's parameters must be of one dtype, got {', '.join(sorted(dtypes))}")


def describe_arrays(network: nnx.Module) -> dict[str, Any]:
    """What a module must be that takes a network's arrays."""
    entries = structure(network)
    if isinstance(network, Network):
        # Set by `load_network`; `save_network` writes it beside the structure, not as part of it.
        entries.pop("preprocessing", None)
    return {
        "format": _FORMAT_OF_ARRAYS,
        "class": type(network).__qualname__,
        "structure": {name: text(value) for name, value in entries.items()},
        "version": __version__,
    }


def describe_use(
    network: nnx.Module,
    preprocessing: Preprocessing | None,
    class_names: Sequence[str] | None,
    metrics: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """How a network is used, None for what is not given; a `ValueError` if the network is of another kind."""
    check_use(network, preprocessing, class_names)
    description = {
        "preprocessing": None if preprocessing is None else dataclasses.asdict(preprocessing),
        "class_names": None if class_names is None else list(class_names),
    }
    if metrics is not None:
        try:
            description["metrics"] = json.loads(json.dumps(dict(metrics), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ValueError(f"metrics must be finite plain values, got {metrics!r}: {first_line(error)}") from error
    return description


def check_use(network: Any, preprocessing: Any, class_names: Any) -> None:
    """Raises a `ValueError` unless these are None or fit the network, as far as its settings tell."""
    settings, name = getattr(network, "settings", {}), registered_name(network)
    if preprocessing is not None:
        if not isinstance(preprocessing, Preprocessing):
            raise ValueError(f"preprocessing must be a Preprocessing, got {type(preprocessing).__name__}")
        size = None if name is None else NETWORKS[name].size
        for field, wanted in {"size": size, "features": settings.get("in_features")}.items():
            if wanted not in (None, getattr(preprocessing, field)):
                got = getattr(preprocessing, field)
                raise ValueError(f"preprocessing.{field} must be {wanted}, which the network takes, got {got}")
    if class_names is not None:
        is_names = isinstance(class_names, list | tuple) and all(isinstance(each, str) for each in class_names)
        if not is_names or len({*class_names}) != len(class_names) or not class_names:
            raise ValueError(f"class_names must be different strings, one a class, got {class_names!r}")
        if settings.get("classes", len(class_names)) != len(class_names):
            raise ValueError(
                f"class_names must be {settings['classes']}, one a class of the network, got {len(class_names)}"
            )


def read_description(path: pathlib.Path) -> dict[str, Any]:
    """What stands in `network.json`, settings by their current names."""
    if not path.is_dir():
        raise FileNotFoundError(f"there is no directory {path}")
    file = path / NAME
    if not file.is_file():
        below = sorted(path.glob(f"*/*/{NAME}"))
        hint = f"; perhaps {below[0].parent}" if below else ""
        raise ValueError(f"{path} is not a checkpoint: it has no {NAME}, which save_network writes{hint}")
    try:
        description = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    stored = description if isinstance(description, dict) else {}
    kinds = {"network": str, "settings": dict, "param_dtype": str}
    if stored.get("format") == _FORMAT_OF_ARRAYS:
        kinds = {"class": str, "structure": dict}
    if wrong := [key for key, kind in kinds.items() if type(stored.get(key)) is not kind]:
        *names, last = kinds
        raise ValueError(f"{file} must be an object with {', '.join(names)} and {last}; missing: {', '.join(wrong)}")
    if description.get("format", 1) == 1:
        return _from_first_format(description)
    if description["format"] not in (_FORMAT, _FORMAT_OF_ARRAYS):
        raise ValueError(f"{file} has format {description['format']!r}, of a later version than this, {__version__}")
    return description


def builder(path: pathlib.Path, description: Mapping[str, Any]) -> Callable[[], Network]:
    """What makes the described network of the registry; a `ValueError` if that does not know it."""
    if description["network"] not in NETWORKS:
        known = f"networks known here: {', '.join(NETWORKS)}; import what registers it"
        raise ValueError(f"{path} holds a {description['network']}; {known}")

    sampling = description["settings"].get("sampling", {})
    if "tolerance" in sampling and sampling["kind"] not in ("bilinear", "cubic") and description.get("bases") != _BASES:
        group = description["settings"]["group"]
        if "rotations" in group and (sampling["kind"] is not None or not Group(**group).is_exact):
            raise ValueError(
                f"{path / NAME} is of a development version whose functions for {Group(**group)} had other scales: "
                "train the network again"
            )

    def build():
        entry, settings = NETWORKS[description["network"]], _with_sampling(description["settings"])
        settings["group"] = (LieGroup if entry.lie else Group)(**settings["group"])
        settings["dtype"] = None if settings["dtype"] is None else jnp.dtype(settings["dtype"])
        running_variance = settings.pop("running_variance", "biased")
        network = entry.network(**settings, param_dtype=jnp.dtype(description["param_dtype"]), rngs=nnx.Rngs(0))
        set_running_variance(network, running_variance)
        return network

    return build


def described(file: pathlib.Path, make: Callable[[], Any]) -> Any:
    """What `make` makes from a description; its errors are a `ValueError` that names the file."""
    try:
        return make()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} does not describe a network: {first_line(error)}") from error


def unrecorded(description: Mapping[str, Any]) -> list[str]:
    """What an earlier version did not write with a network; empty if it was saved since, with that or without."""
    names = {"preprocessing": "preprocessing", "class_names": "class names"}
    missing = [name for field, name in names.items() if field not in description]
    return missing if "preprocessing" not in description else []


def stored_preprocessing(path: pathlib.Path, description: Mapping[str, Any]) -> Preprocessing | None:
    """The preprocessing that was saved with a network; None if none was."""
    if description.get("preprocessing") is None:
        return None
    return described(path / NAME, lambda: Preprocessing(**description["preprocessing"]))


def _json_settings(network):
    """The settings, if JSON can hold every option among them."""
    for setting, options in network.settings.items():
        for name, value in (options if isinstance(options, dict) else {setting: options}).items():
            try:
                json.dumps(value)
            except TypeError as error:
                raise ValueError(
                    f"{setting} must be plain values to be saved, got {name}={value!r}: pass numbers, strings or "
                    f"booleans, and an initialiser by its name, one of {', '.join(INITIALIZERS)}"
                ) from error
    return network.settings


def _param_dtypes(network):
    """Those of the parameters, the most frequent first."""
    leaves = jax.tree.leaves(nnx.state(network, nnx.Param))
    return [name for name, _ in collections.Counter(str(leaf.dtype) for leaf in leaves).most_common()]


def _from_first_format(description):
    """What version 0.1.0 wrote, in the current names."""
    settings = dict(description["settings"])
    if "separable" in settings:
        form = settings.pop("separable")
        settings["kind"] = {None: "nonseparable", "g": "gseparable", "gc": "separable"}.get(form, form)
    options = dict(settings.get("attention_options") or {})
    names = {"interpolation": "kind", "disc_mask": "disc_mask"}
    if sampling := {names[name]: options.pop(name) for name in names.keys() & options.keys()}:
        options["sampling"] = sampling
    settings["attention_options"] = options
    settings.setdefault("sampling", {})
    networks, network = {entry.network.__name__: name for name, entry in NETWORKS.items()}, description["network"]
    return description | {"network": networks.get(network, network), "settings": settings}


def _with_sampling(settings):
    """Settings from JSON with what was a `Sampling`, the attention's own included."""
    made = {name: _with_sampling(value) if name == "attention_options" else value for name, value in settings.items()}
    return made | ({"sampling": Sampling(**{"kind": "bilinear"} | made["sampling"])} if "sampling" in made else {})
