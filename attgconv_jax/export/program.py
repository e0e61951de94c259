"""What is exported: a network in evaluation mode as a function of images alone, with what surrounds it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
from flax import nnx

from attgconv_jax import kernels
from attgconv_jax.checks import check_integer
from attgconv_jax.equivariance import check_mode
from attgconv_jax.export.folding import folded
from attgconv_jax.models import NETWORKS
from attgconv_jax.models.arrays import first_line
from attgconv_jax.models.description import check_use, describe_registered, registered_name
from attgconv_jax.preprocessing import Preprocessing


@dataclasses.dataclass(frozen=True)
class Program:
    """A function of one array of images, and what is known about it.

    Attributes:
      prepare: images to standardised ones.
      network: standardised images to logits.
      images: shape, its first length a symbol, and type of what it takes.
      folded: images to logits, or to probabilities where there is a preprocessing, with all that depends on weights
        alone computed.
      description: what travels in the file, as JSON can hold it.
    """

    prepare: Callable
    network: Callable
    images: jax.ShapeDtypeStruct
    folded: Callable
    description: dict[str, Any]

    @property
    def title(self) -> str:
        """The network's name, and its attention's if it has one, as messages have them."""
        attention = (self.description["settings"] or {}).get("attention")
        return self.description["network"] + (f" with attention {attention}" if attention else "")


def program(
    network: Any,
    preprocessing: Preprocessing | None,
    class_names: Sequence[str] | None,
    shape: Sequence[int] | None,
    rewrites: Mapping[str, Callable] | None = None,
) -> Program:
    """The function of a network, or of a classifier that brings its preprocessing and class names.

    Arguments are checked before anything is traced.

    Options:
      rewrites: of the operations that remain; see `attgconv_jax.export.folding.folded`.
    """
    if all(hasattr(network, name) for name in ("network", "preprocessing", "class_names")):
        if preprocessing is not None or class_names is not None:
            raise ValueError("a classifier has preprocessing and class_names of its own: leave them out")
        network, preprocessing, class_names = network.network, network.preprocessing, network.class_names
    check_use(network, preprocessing, class_names)
    registered = registered_name(network)
    name = registered or getattr(type(network), "__name__", "network")
    settings = describe_registered(name, network)["settings"] if registered else None
    network = _evaluating(network, name)
    (batch,) = jax.export.symbolic_shape("batch")
    images = _images(batch, network, NETWORKS.get(registered), preprocessing, shape)

    def prepare(images):
        return images if preprocessing is None else preprocessing.apply(images[..., None, :])

    def function(images):
        logits = network(prepare(images))
        if preprocessing is None:
            return logits
        return jax.nn.softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))

    try:
        with kernels.portable():
            fixed = folded(function, images, rewrites=rewrites)
        logits = jax.eval_shape(fixed, images)
    except Exception as error:
        _check_traced(function, images, name)
        raise ValueError(f"{name} cannot be exported for a batch of any length: {first_line(error)}") from error
    if getattr(logits, "ndim", None) != 2 or logits.shape[0] != batch:
        raise ValueError(f"network must give one array [batch, classes], got {jax.tree.map(_type_of, logits)}")
    if class_names is not None and len(class_names) != logits.shape[1]:
        raise ValueError(f"class_names must be {logits.shape[1]}, as the network has logits, got {len(class_names)}")
    description = {
        "network": name,
        "settings": settings,
        "input": {"shape": ["batch", *images.shape[1:]], "dtype": str(images.dtype)},
        "output": {"shape": ["batch", logits.shape[1]], "dtype": str(logits.dtype)},
        "gives": "logits" if preprocessing is None else "probabilities",
        "preprocessing": None if preprocessing is None else dataclasses.asdict(preprocessing),
        "class_names": [str(i) for i in range(logits.shape[1])] if class_names is None else list(class_names),
    }
    return Program(prepare, network, images, fixed, description)


def _evaluating(network, name):
    """The network in evaluation mode; the one that was given stays as it is."""
    if not callable(network) or isinstance(network, type):
        got = f"the class {network.__name__}: make one first" if isinstance(network, type) else name
        raise ValueError(f"network must be a module or a function of images, got {got}")
    if isinstance(network, nnx.Module):
        network = nnx.merge(*nnx.split(network))
        network.eval()
    else:
        check_mode(network, "network")
    return network


def _check_traced(function, images, name):
    """Raises a `ValueError` if a function cannot be traced for a batch of two images either."""
    try:
        with kernels.portable():
            jax.eval_shape(function, jax.ShapeDtypeStruct((2, *images.shape[1:]), images.dtype))
    except Exception as error:
        raise ValueError(f"{name} cannot be traced: {first_line(error)}") from error


def _images(batch, network, entry, preprocessing, shape):
    """Shape and type of the images."""
    if shape is not None:
        if not isinstance(shape, list | tuple) or len(shape) != 3:
            raise ValueError(f"shape must be that of one image, [x, y, c], got {shape!r}")
        try:
            shape = tuple(check_integer("shape", length) for length in shape)
        except ValueError as error:
            raise ValueError(f"shape must be three integers of at least 1, [x, y, c], got {shape!r}") from error
    elif preprocessing is not None:
        shape = preprocessing.size, preprocessing.size, preprocessing.features
    elif entry is not None and entry.size is not None:
        shape = entry.size, entry.size, network.settings["in_features"]
    else:
        raise ValueError("shape must be given, [x, y, c] of one image, for a network without a preprocessing or a size")
    if preprocessing is not None:
        if shape[2] not in (1, preprocessing.features):
            raise ValueError(f"shape must have {preprocessing.features} channels, as the preprocessing, got {shape}")
        return jax.ShapeDtypeStruct((batch, *shape), preprocessing.device_dtype)
    arrays = jax.tree.leaves(nnx.state(network, nnx.Param)) if isinstance(network, nnx.Module) else []
    wide = any(array.dtype == jnp.float64 for array in arrays)
    return jax.ShapeDtypeStruct((batch, *shape[:2], 1, shape[2]), jnp.float64 if wide else jnp.float32)


def _type_of(array):
    return f"{array.dtype}{list(array.shape)}"
