"""Pictures through a classifier: found in folders, read, and classified in batches of one shape."""

import concurrent.futures
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from attgconv_jax.models import Classifier
from attgconv_jax.preprocessing import Preprocessing, resize
from experiments.data.pictures import SUFFIXES, as_type, read_picture
from experiments.run.scale import Scale


class Prediction(NamedTuple):
    """Of a file the most probable classes and their probabilities, falling."""

    file: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


class Failure(NamedTuple):
    """A file that was not classified, and why, in a line."""

    file: str
    message: str


def find_pictures(paths: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """The files among the paths, and all pictures in the folders among them, by name, without hidden ones.

    A `ValueError` if a path is not there, or there are no pictures.
    """
    found = {}
    for path in paths:
        if not path.exists():
            raise ValueError(f"there is no file or folder {path}")
        found |= dict.fromkeys(_below(path) if path.is_dir() else [path])
    if not found:
        suffixes = ", ".join(SUFFIXES)
        raise ValueError(f"there are no pictures ({suffixes}) in {', '.join(map(str, paths))}")
    return list(found)


def standardised_picture(path: pathlib.Path, preprocessing: Preprocessing, scale: Scale | None = None) -> np.ndarray:
    """A picture `[size, size, 1, c]` as the network takes it, computed on the host.

    Of a network that was trained on floating pixels, white is taken as 1, as `Preprocessing` does. A `ValueError` if
    the picture cannot be read, or would lose bits or colours. It is added to `scale`.
    """
    pixels = read_picture(path)
    dtype = pixels.dtype.name
    integers = pixels.dtype.name if np.issubdtype(preprocessing.dtype, np.floating) else preprocessing.dtype
    try:
        pixels = as_type(pixels, integers, preprocessing.features)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    images = (pixels.astype(np.float32) / np.float32(np.iinfo(integers).max))[:, :, None]
    images = resize(images, preprocessing.size, preprocessing.fit, preprocessing.background)
    images = (images - np.float32(preprocessing.mean)) / np.float32(preprocessing.deviation)
    if scale is not None:
        scale.add(dtype, images)
    return images


def compile_for(classifier: Classifier, batch_size: int) -> float:
    """Compiles a classifier for batches of this size; returns the seconds that it took."""
    started = time.perf_counter()
    size, features = classifier.preprocessing.size, classifier.preprocessing.features
    np.asarray(classifier.of_standardised(np.zeros([batch_size, size, size, 1, features], np.float32)))
    return time.perf_counter() - started


def predictions(
    classifier: Classifier,
    files: Sequence[pathlib.Path],
    batch_size: int,
    top: int,
    done: Callable[[int], object] = lambda count: None,
    scale: Scale | None = None,
) -> Iterator[Prediction | Failure]:
    """A prediction or failure for each file, in order.

    `done` is called with each batch's number of files, and `scale` is told of every picture.
    """

    def read(path):
        try:
            return standardised_picture(path, classifier.preprocessing, scale)
        except ValueError as error:
            return Failure(str(path), " ".join(str(error).split()))

    with concurrent.futures.ThreadPoolExecutor() as pool:
        for start in range(0, len(files), batch_size):
            batch = files[start : start + batch_size]
            images = list(pool.map(read, batch))
            good = [image for image in images if not isinstance(image, Failure)]
            probabilities = iter(_probabilities(classifier, good, batch_size))
            for path, image in zip(batch, images, strict=True):
                yield image if isinstance(image, Failure) else _prediction(path, next(probabilities), classifier, top)
            done(len(batch))


def _below(folder):
    """The pictures in a folder and in those in it."""

    def fail(error):
        raise error

    for root, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and name.lower().endswith(SUFFIXES):
                yield pathlib.Path(root, name)


def _probabilities(classifier, images, batch_size):
    """Of one shape, so that one program serves all: a batch is filled up, and the filling dropped."""
    if not images:
        return []
    filling = [np.zeros_like(images[0])] * (batch_size - len(images))
    return np.asarray(classifier.of_standardised(np.stack([*images, *filling])))[: len(images)]


def _prediction(path, probabilities, classifier, top):
    if not np.isfinite(probabilities).all():
        return Failure(str(path), f"{path}: the network has no finite logits of it")
    order = np.argsort(-probabilities, kind="stable")[:top]
    names = tuple(classifier.class_names[label] for label in order)
    return Prediction(str(path), names, tuple(float(probabilities[label]) for label in order))
