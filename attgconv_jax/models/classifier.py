"""Networks with preprocessing and class names: pixels as they come out of a file go in, probabilities come out."""

import dataclasses
import functools
import os
import pathlib
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Shaped

from attgconv_jax.checks import check_path
from attgconv_jax.models.base import check_module
from attgconv_jax.models.checkpoint import described_network
from attgconv_jax.models.description import NAME, check_use, described, read_description, stored_preprocessing
from attgconv_jax.preprocessing import Preprocessing

_BEST = re.compile(r"seed-(\d+)-best")


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
    """A network, what its images go through before it, and what its logits are called.

        classifier(pixels) = softmax(network(preprocessing(pixels)))

    Attributes:
      network: evaluated in evaluation mode regardless of its current mode; its arrays may change, its structure
        must not.
      preprocessing: of the pixels.
      class_names: of the logits, in order.
      metrics: what was measured of the network when it was saved.
    """

    network: nnx.Module
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        check_module("network", self.network)
        for name in ("preprocessing", "class_names"):
            if getattr(self, name) is None:
                raise ValueError(f"{name} must be given, got None")
        check_use(self.network, self.preprocessing, self.class_names)

    def __repr__(self) -> str:
        errors = self.metrics.get("error_percent")
        error = errors.get("test") if isinstance(errors, Mapping) else None
        measured = f", {error:.3g} % test error" if isinstance(error, int | float) else ""
        size, features = self.preprocessing.size, self.preprocessing.features
        return (
            f"Classifier({type(self.network).__name__}, {self.preprocessing.dtype} pixels to {size}x{size}x{features}, "
            f"{len(self.class_names)} classes{measured})"
        )

    def __call__(self, images: Shaped[Array | np.ndarray, "..."]) -> Float[Array, "batch classes"]:
        """Probabilities of images `[batch, x, y]` or `[batch, x, y, c]`, of any size; compiled once a shape.

        A `ValueError` if type, axes or channels are others than those of the preprocessing.
        """
        images = self.preprocessing.checked(images)
        return self._compiled(nnx.split(self.network)[1], images, raw=True)

    def of_standardised(self, images: Float[Array | np.ndarray, "batch x y 1 c"]) -> Float[Array, "batch classes"]:
        """Probabilities of images that the preprocessing has been applied to; compiled once a shape."""
        return self._compiled(nnx.split(self.network)[1], images, raw=False)

    def names(self, images: Shaped[Array | np.ndarray, "..."]) -> list[str]:
        """The name of every image's most probable class; a `ValueError` if the network has no finite logits of one."""
        probabilities = np.asarray(self(images))
        bad = np.flatnonzero(~np.isfinite(probabilities).all(axis=-1))
        if len(bad):
            raise ValueError(
                f"image {bad[0]} has no finite logits ({len(bad)} such images): its pixels or the network's arrays "
                "hold NaN, infinity or too large numbers"
            )
        return [self.class_names[label] for label in probabilities.argmax(axis=-1)]

    @functools.cached_property
    def _compiled(self):
        graphdef = nnx.split(self.network)[0]

        @functools.partial(jax.jit, static_argnames="raw")
        def probabilities(state, images, raw):
            network = nnx.merge(graphdef, state, copy=True)
            network.eval()
            logits = network(self.preprocessing.apply(images) if raw else images)
            if logits.shape != (len(images), len(self.class_names)):
                raise ValueError(
                    f"class_names must be one a logit, got {len(self.class_names)} for logits of shape {logits.shape}"
                )
            return jax.nn.softmax(logits.astype(jnp.promote_types(logits.dtype, jnp.float32)))

        return probabilities


def load_classifier(
    path: str | os.PathLike,
    *,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
    like: nnx.Module | None = None,
) -> Classifier:
    """Reads a network with its preprocessing and class names; what is missing in old checkpoints can be given.

    Args:
      path: of a checkpoint; or of a run's folder, which means the best network of the lowest seed in it.
      preprocessing: in place of what was saved; needed where nothing was.
      class_names: in place of those saved. Where none were, classes are called "0", "1" and so on, and a `UserWarning`
        says so.
      like: see `load_network`.

    Raises:
      FileNotFoundError: there is no such directory.
      ValueError: no preprocessing was saved or given; the given ones do not fit; a run's folder holds no network yet;
        further as `load_network`.
    """
    path = network_folder(path)
    description = read_description(path)
    stored = stored_preprocessing(path, description)
    if preprocessing is None and stored is None:
        raise ValueError(
            f"{path} has no preprocessing, without which pixels would be standardised otherwise than in training: pass "
            "load_classifier(path, preprocessing=Preprocessing(size=..., dtype=..., mean=..., deviation=...)), with "
            "mean and deviation of the training images"
        )
    network = described_network(path, description, like)
    check_use(network, preprocessing, class_names)
    if class_names is None:
        class_names = description.get("class_names")
        described(path / NAME, lambda: check_use(network, None, class_names))
    if preprocessing is None:
        described(path / NAME, lambda: check_use(network, stored, None))
    if class_names is None:
        class_names = [str(label) for label in range(_classes(path, network))]
        warnings.warn(
            f'{path} has no class names: they are "0" to "{len(class_names) - 1}"; pass class_names=[...] to name them',
            stacklevel=2,
        )
    return Classifier(network, preprocessing or stored, tuple(class_names), description.get("metrics", {}))


def network_folder(path: str | os.PathLike) -> pathlib.Path:
    """The folder of a saved network: `path` itself, or in a run's folder the best network of the lowest seed.

    A `ValueError` if a run's folder holds no network.
    """
    path = check_path(path)
    if (path / NAME).exists() or not ((path / "networks").is_dir() or (path / "run.json").exists()):
        return path
    found = {int(match[1]): folder for folder in path.glob("networks/*") if (match := _BEST.fullmatch(folder.name))}
    if not found:
        raise ValueError(
            f"{path} holds no network yet: networks/ is written when a run is complete; train it to the end"
        )
    return found[min(found)]


def _classes(path, network):
    classes = getattr(network, "settings", {}).get("classes")
    if classes is None:
        raise ValueError(f"{path} has no class names: pass class_names=[...], one a logit")
    return classes
