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
from attgconv_jax.groups import Group
from attgconv_jax.lie.groups import LieGroup
from attgconv_jax.models.all_cnn import AllCNN
from attgconv_jax.models.layers import Network
from attgconv_jax.models.lie_all_cnn import LieAllCNN
from attgconv_jax.models.lie_network import LieNetwork
from attgconv_jax.models.lie_resnet import LieResNet
from attgconv_jax.models.resnet import ResNet
from attgconv_jax.models.rot_mnist import RotMNISTNet
from attgconv_jax.models.skeleton import ARRAYS, skeleton

_NETWORKS = {each.__name__: each for each in (AllCNN, LieAllCNN, LieResNet, ResNet, RotMNISTNet)}
_DESCRIPTION = "network.json"
_STORE = "arrays"


def save_network(path: str | os.PathLike, network: Network | LieNetwork | ResNet) -> None:
    """Writes a network's parameters, running statistics and fixed waves, and the settings that make it again.

    The checkpoint is a directory: `network.json` and, beside it, `arrays/` in Orbax's format. It appears whole or not
    at all. Random streams (dropout's) are not part of it.

    Args:
      path: of the directory to make, with its parents.
      network: in any mode.

    Raises:
      FileExistsError: there is something at `path`.
      ValueError: no network of `attgconv_jax.models`, or parameters of several dtypes.

    Source: our own.
    """
    import orbax.checkpoint as ocp  # noqa: PLC0415 (slow to import, and most users of networks need no checkpoint)

    name = type(network).__name__
    if _NETWORKS.get(name) is not type(network):
        raise ValueError(f"network must be one of {', '.join(_NETWORKS)}, got {name}")
    path = pathlib.Path(path).absolute()
    if os.path.lexists(path):
        raise FileExistsError(f"{path} exists: choose another path, or remove it first")
    description = {
        "network": name,
        "settings": network.settings,
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


def load_network(path: str | os.PathLike) -> Network | LieNetwork | ResNet:
    """Reads a network that `save_network` wrote.

    Args:
      path: of the checkpoint's directory.

    Returns:
      The network in evaluation mode, with the arrays bit for bit; its random streams start anew.

    Raises:
      FileNotFoundError: there is no such directory.
      ValueError: the directory is no checkpoint, or a damaged one; it holds an unknown network, or arrays that do not
        fit it; float64 arrays without `jax_enable_x64`.

    Source: our own.
    """
    path = pathlib.Path(path).absolute()
    description = _read_description(path)
    if description["param_dtype"] == "float64" and not jax.config.jax_enable_x64:
        raise ValueError(f'{path} is float64: call jax.config.update("jax_enable_x64", True) before it is loaded')
    graphdef, arrays, rest = _described(path, description)
    stored = _read_arrays(path, nnx.to_pure_dict(arrays), description["network"])
    nnx.replace_by_pure_dict(arrays, jax.tree.map(jnp.asarray, stored))
    network = nnx.merge(graphdef, arrays, rest)
    network.eval()
    return network


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
        raise ValueError(f"{path} is not a checkpoint: it has no {_DESCRIPTION}, which save_network writes")
    try:
        description = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    kinds = {"network": str, "settings": dict, "param_dtype": str}
    wrong = [
        key
        for key, kind in kinds.items()
        if not isinstance(description, dict) or type(description.get(key)) is not kind
    ]
    if wrong:
        raise ValueError(
            f"{file} must be an object with network, settings and param_dtype; missing: {', '.join(wrong)}"
        )
    if description["network"] not in _NETWORKS:
        raise ValueError(f"{path} holds a {description['network']}; networks known here: {', '.join(_NETWORKS)}")
    return description


def _described(path, description):
    """The described network, as `skeleton` gives it."""
    settings = dict(description["settings"])

    def build():
        group = (LieGroup if "angles" in settings["group"] else Group)(**settings["group"])
        dtype = None if settings["dtype"] is None else jnp.dtype(settings["dtype"])
        options = settings | {"group": group, "dtype": dtype, "param_dtype": jnp.dtype(description["param_dtype"])}
        return _NETWORKS[description["network"]](**options, rngs=nnx.Rngs(0))

    try:
        return skeleton(build)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path / _DESCRIPTION} does not describe a network: {_first_line(error)}") from error


def _read_arrays(path, expected, network):
    """The stored arrays, in the tree `expected`, whose leaves have the shapes that fit."""
    import orbax.checkpoint as ocp  # noqa: PLC0415 (as above)

    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        try:
            metadata = checkpointer.metadata(path / _STORE).item_metadata
            stored = None if metadata is None else _by_name(metadata.tree)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} is damaged: {_first_line(error)}") from error
        if stored is None:
            raise ValueError(f"{path} is damaged: its arrays cannot be read")
        _check_fit(path, stored, _by_name(expected), network)
        target = jax.tree_util.tree_map_with_path(
            lambda keys, leaf: np.zeros(leaf.shape, stored[_name(keys)].dtype), expected
        )
        try:
            return checkpointer.restore(path / _STORE, args=ocp.args.StandardRestore(target))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} is damaged: {_first_line(error)}") from error


def _check_fit(path, stored, expected, network):
    problems = []
    for label, names in (("missing", expected.keys() - stored.keys()), ("extra", stored.keys() - expected.keys())):
        if names:
            problems.append(f"{label}: {', '.join(sorted(names))}")
    wrong = [
        f"{name} is {tuple(stored[name].shape)} instead of {tuple(leaf.shape)}"
        for name, leaf in expected.items()
        if name in stored and tuple(stored[name].shape) != tuple(leaf.shape)
    ]
    if wrong:
        problems.append(f"misshapen: {', '.join(wrong)}")
    if problems:
        raise ValueError(f"{path} does not hold the described {network}; " + "; ".join(problems))


def _by_name(tree):
    return {_name(keys): leaf for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _name(keys):
    return ".".join(str(key.key) for key in keys)


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
