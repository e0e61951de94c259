"""What is exported: a network in evaluation mode as a function of images alone, with what surrounds it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from flax import nnx

from attgconv_jax import kernels
from attgconv_jax.checks import check_integer
from attgconv_jax.export.folding import folded
from attgconv_jax.models import NETWORKS
from attgconv_jax.preprocessing import Preprocessing


@dataclasses.dataclass(frozen=True)
class Program:
    """A function of one array of images, and what is known about it.

    Attributes:
      function: images to logits, or to probabilities where there is a preprocessing.
      images: shape, its first length a symbol, and type of what it takes.
      folded: the same function with all that depends on weights alone computed.
      description: what travels in the file, as JSON can hold it.
    """

    function: Callable
    images: jax.ShapeDtypeStruct
    folded: Callable
    description: dict[str, Any]


def program(
    network: Any,
    preprocessing: Preprocessing | None,
    class_names: Sequence[str] | None,
    shape: Sequence[int] | None,
    rewrites: Mapping[str, Callable] | None = None,
) -> Program:
    """The function of a network, or of a classifier that brings its preprocessing and class names.

    Options:
      rewrites: of the operations that remain; see `attgconv_jax.export.folding.folded`.
    """
    if all(hasattr(network, name) for name in ("network", "preprocessing", "class_names")):
        if preprocessing is not None or class_names is not None:
            raise ValueError("a classifier has preprocessing and class_names of its own: leave them out")
        network, preprocessing, class_names = network.network, network.preprocessing, network.class_names
    entry = next((entry for entry in NETWORKS.values() if entry.network is type(network)), None)
    name = entry.name if entry else getattr(type(network), "__name__", "network")
    network = _evaluating(network, name)
    (batch,) = jax.export.symbolic_shape("batch")
    images = _images(batch, network, entry, preprocessing, shape)

    def function(images):
        if preprocessing is None:
            return network(images)
        logits = network(preprocessing(images))
        return jax.nn.softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))

    try:
        with kernels.portable():
            fixed = folded(function, images, rewrites=rewrites)
        logits = jax.eval_shape(fixed, images)
    except Exception as error:
        raise ValueError(f"{name} cannot be exported for a batch of any length: {_first_line(error)}") from error
    if getattr(logits, "ndim", None) != 2 or logits.shape[0] != batch:
        raise ValueError(f"network must give one array [batch, classes], got {jax.tree.map(_type_of, logits)}")
    class_names = _checked_names(class_names, logits.shape[1])
    description = {
        "network": name,
        "settings": network.settings if entry else None,
        "input": {"shape": ["batch", *images.shape[1:]], "dtype": str(images.dtype)},
        "output": {"shape": ["batch", logits.shape[1]], "dtype": str(logits.dtype)},
        "gives": "logits" if preprocessing is None else "probabilities",
        "preprocessing": None if preprocessing is None else dataclasses.asdict(preprocessing),
        "class_names": class_names,
    }
    return Program(function, images, fixed, description)


def largest_difference(program: Program, run: Callable[[np.ndarray], Any], batch: int = 3) -> float:
    """How far what `run` gives for images of noise is from what the network gives; a `ValueError` if it is far."""
    generator, dtype = np.random.default_rng(0), np.dtype(program.images.dtype)
    noise = generator.random((batch, *program.images.shape[1:]))
    noise = noise * np.iinfo(dtype).max if dtype.kind == "u" else noise
    if program.description["preprocessing"] is None:
        noise = 4 * noise - 2
    images = noise.astype(dtype)
    wanted = np.asarray(jax.jit(program.function)(images), np.float64)
    difference = float(np.max(np.abs(np.asarray(run(images), np.float64) - wanted)))
    precision = max(_epsilon(program.description["output"]["dtype"]), _epsilon(program.description["settings"]))
    # Half of the digits: what is left out or in another order is farther away, another order of sums is nearer.
    allowed = precision**0.5 * max(1.0, float(np.max(np.abs(wanted))))
    if not difference <= allowed:
        raise ValueError(
            f"{program.description['network']} was not exported: the file's numbers are {difference:.2g} from the "
            f"network's, more than the {allowed:.2g} that rounding may do"
        )
    return difference


def _epsilon(of):
    """The distance of two numbers at 1, of a type or of what a network's settings say it computes in."""
    name = (of.get("dtype") if isinstance(of, Mapping) else of) or "float32"
    return float(jnp.finfo(name).eps)


def _evaluating(network, name):
    """The network in evaluation mode; the one that was given stays as it is."""
    if not callable(network):
        raise ValueError(f"network must be a module or a function of images, got {name}")
    if isinstance(network, nnx.Module):
        network = nnx.merge(*nnx.split(network))
        network.eval()
    return network


def _images(batch, network, entry, preprocessing, shape):
    """Shape and type of the images."""
    if shape is not None:
        axes = len(shape)
        shape = tuple(check_integer("shape", length) for length in shape)
        if axes != 3:
            raise ValueError(f"shape must be that of one image, [x, y, c], got {shape}")
    elif preprocessing is not None:
        shape = preprocessing.size, preprocessing.size, preprocessing.features
    elif entry is not None and entry.size is not None:
        shape = entry.size, entry.size, network.settings["in_features"]
    else:
        raise ValueError("shape must be given, [x, y, c] of one image, for a network without a preprocessing or a size")
    if preprocessing is not None:
        if shape[2] not in (1, preprocessing.features):
            raise ValueError(f"shape must have {preprocessing.features} channels, as the preprocessing, got {shape}")
        return jax.ShapeDtypeStruct((batch, *shape), jnp.dtype(preprocessing.dtype))
    arrays = jax.tree.leaves(nnx.state(network, nnx.Param)) if isinstance(network, nnx.Module) else []
    wide = any(array.dtype == jnp.float64 for array in arrays)
    return jax.ShapeDtypeStruct((batch, *shape[:2], 1, shape[2]), jnp.float64 if wide else jnp.float32)


def _checked_names(class_names, classes):
    if class_names is None:
        return [str(i) for i in range(classes)]
    class_names = [str(name) for name in class_names]
    if len(class_names) != classes:
        raise ValueError(f"class_names must be {classes}, as the network has logits, got {len(class_names)}")
    return class_names


def _type_of(array):
    return f"{array.dtype}{list(array.shape)}"


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
