"""Networks on disk: Orbax for the arrays, JSON for the network they belong to."""

import json
import os
import pathlib
import shutil
import uuid
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from attgconv_jax.checks import check_boolean, check_path
from attgconv_jax.models.arrays import filled, first_line, read_arrays, write_arrays
from attgconv_jax.models.base import Network, check_module
from attgconv_jax.models.description import (
    NAME,
    builder,
    check_one_dtype,
    describe_arrays,
    describe_registered,
    describe_use,
    described,
    read_description,
    registered_name,
    stored_preprocessing,
    unrecorded,
)
from attgconv_jax.models.skeleton import ARRAYS, skeleton
from attgconv_jax.models.structure import differences, structure, text, text_differences
from attgconv_jax.preprocessing import Preprocessing

_STORE = "arrays"
_SHOWN = 4


def save_network(
    path: str | os.PathLike,
    network: nnx.Module,
    *,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
    metrics: Mapping[str, Any] | None = None,
    arrays_only: bool = False,
) -> None:
    """Writes a network's variables, and how to build it again and use it.

    The checkpoint is a directory: `network.json` and, beside it, `arrays/` in Orbax's format. It appears whole or not
    at all. Random streams (dropout's) are not part of it. A network of the registry is built again from its settings;
    one that was changed after it was made, so that they describe another, is refused. Of any other `nnx.Module` the
    arrays are kept alone, and `load_network(path, like=module)` fills a module of the same structure.

    >>> import tempfile
    >>> from flax import nnx
    >>> from attgconv_jax import cyclic
    >>> from attgconv_jax.models import RotMNISTNet, load_classifier, save_network
    >>> from attgconv_jax.preprocessing import Preprocessing
    >>> network = RotMNISTNet(cyclic(4), features=2, classes=2, rngs=nnx.Rngs(0))
    >>> preprocessing = Preprocessing(size=28, dtype="uint8", mean=0.13, deviation=0.31)
    >>> folder = f"{tempfile.mkdtemp()}/network"
    >>> save_network(folder, network, preprocessing=preprocessing, class_names=["cell", "dust"])
    >>> load_classifier(folder).class_names
    ('cell', 'dust')

    Of processes that `jax.distributed` joins, one calls this; it waits for no other.

    Args:
      path: of the directory to make, with its parents.
      network: in any mode.
      preprocessing: how pixels of a file become what the network takes; None: that with which the network was loaded,
        its attribute `preprocessing`, if it has one.
      class_names: of the logits, in order.
      metrics: what was measured of the network, as JSON can hold it.
      arrays_only: whether the arrays of a network of the registry are kept alone, too, whatever its settings say.

    Raises:
      FileExistsError: there is something at `path`.
      ValueError: the network would come back as another, the message says where they differ; its parameters are of
        several dtypes; JSON cannot hold one of its options, such as an initialiser that is a function; preprocessing or
        class names do not fit it.
    """
    check_module("network", network)
    check_boolean(arrays_only=arrays_only)
    path = check_path(path)
    if os.path.lexists(path):
        raise FileExistsError(f"{path} exists: choose another path, or remove it first")
    if preprocessing is None and isinstance(network, Network):
        preprocessing = network.preprocessing
    use = describe_use(network, preprocessing, class_names, metrics)
    name = registered_name(network)
    if name is None or arrays_only:
        description = describe_arrays(network)
    else:
        description = describe_registered(name, network)
        check_described(description, network)
        check_one_dtype(network)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise type(error)(f"{path} cannot be made: {error.strerror}") from error
    try:
        (partial / NAME).write_text(json.dumps(description | use, indent=2) + "\n")
        write_arrays(partial / _STORE, network)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_network(path: str | os.PathLike, like: nnx.Module | None = None) -> nnx.Module:
    """Reads a network that `save_network` wrote.

    The network is in evaluation mode, with the arrays bit for bit; its random streams start anew. It takes images that
    are standardised as those of its training were: a network of the registry has the `Preprocessing` that was saved
    with it as its attribute `preprocessing` (None: none was), and `network(network.preprocessing(pixels))` are the
    logits of pixels as they come out of a file. `load_classifier` does both in one; of networks that are not in the
    registry, `load_classifier(path, like=module).preprocessing` is what was saved.

    Checkpoints of versions that kept no preprocessing are loaded with a `UserWarning` that says what is missing; those
    that were saved without since are not.

    Args:
      path: of the checkpoint.
      like: a module of the same structure, which stays as it is; `nnx.eval_shape(lambda: MyNetwork(...))` will do. It
        is needed by networks that are not in the registry.

    Raises:
      FileNotFoundError: there is no such directory.
      ValueError: the directory is no checkpoint, or a damaged one; it holds an unknown network, or arrays that do not
        fit it; `like` is missing, or of another structure; float64 arrays without `jax_enable_x64`; a format of a later
        version.
    """
    path = check_path(path)
    description = read_description(path)
    network = described_network(path, description, like)
    if missing := unrecorded(description):
        warnings.warn(
            f"{path} was saved by an earlier version, without {' and '.join(missing)}: images must be standardised "
            "as those of its training were. To keep how, save it anew: save_network(another_path, network, "
            "preprocessing=Preprocessing(...), class_names=[...])",
            stacklevel=2,
        )
    return network


def described_network(path: pathlib.Path, description: Mapping[str, Any], like: nnx.Module | None = None) -> nnx.Module:
    """The network of a checkpoint's description, as `load_network` returns it."""
    network = _load_like(path, description, like) if like is not None else _load_registered(path, description)
    preprocessing = stored_preprocessing(path, description)
    if isinstance(network, Network) and preprocessing is not None:
        network.preprocessing = preprocessing
    return network


def check_described(description, network):
    """Raises a `ValueError` unless the description builds this network."""
    description = json.loads(json.dumps(description))
    try:
        rebuilt = structure(nnx.eval_shape(builder(pathlib.Path(), description)))
        different = differences(_structure(network), rebuilt)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        different = [f"they build none: {first_line(error)}"]
    if different:
        name = description["network"]
        raise ValueError(
            f"the settings of this {type(network).__name__} no longer describe it, and it would come back as another: "
            f"{_shortened(different)}. Change it by the arguments of {name}, or register a class that makes it so, or "
            "save it with arrays_only=True and load it with load_network(path, like=network)"
        )


def _structure(network):
    """Without the preprocessing that `load_network` sets."""
    entries = structure(network)
    if isinstance(network, Network):
        entries.pop("preprocessing", None)
    return entries


def _load_registered(path, description):
    if "class" in description:
        made = description["class"]
        raise ValueError(
            f"{path} holds the arrays of a {made} alone, and not how it is made: make one, and pass it as like=, for "
            f"example like=nnx.eval_shape(lambda: {made}(...))"
        )
    build = builder(path, description)
    stored_dtype = description["param_dtype"]
    if stored_dtype == "float64" and not jax.config.jax_enable_x64:
        raise ValueError(f'{path} is float64: call jax.config.update("jax_enable_x64", True) before it is loaded')
    parts = described(path / NAME, lambda: skeleton(build))
    return filled(path, parts, read_arrays(path / _STORE), f"does not hold the described {description['network']}")


def _load_like(path, description, like):
    check_module("like", like)
    found = _structure(like)
    if "class" in description:
        different = text_differences({name: text(value) for name, value in found.items()}, description["structure"])
    else:
        rebuilt = described(path / NAME, lambda: structure(nnx.eval_shape(builder(path, description))))
        different = differences(found, rebuilt)
    if different:
        raise ValueError(f"like must be the network that {path} holds: {_shortened(different)}")
    graphdef, arrays, streams = nnx.split(like, ARRAYS, ...)
    parts = graphdef, arrays, _with_numbers(streams)
    return filled(path, parts, read_arrays(path / _STORE), f"does not hold a {type(like).__name__} like this")


def _with_numbers(streams):
    """Random streams, new ones of seed 0 where there are shapes alone."""
    leaves, form = jax.tree.flatten(streams)
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, jax.ShapeDtypeStruct):
            is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            key = jax.random.fold_in(jax.random.key(0), i)
            leaves[i] = jax.random.split(key, leaf.shape) if is_key else jnp.zeros(leaf.shape, leaf.dtype)
    return jax.tree.unflatten(form, leaves)


def _shortened(different):
    rest = len(different) - _SHOWN
    return "; ".join(different[:_SHOWN]) + (f"; and {rest} more" if rest > 0 else "")
