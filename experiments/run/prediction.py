"""Pictures through a classifier: found in folders, read, and classified in batches of one shape."""

import concurrent.futures
import dataclasses
import functools
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from attgconv_jax.models import Classifier
from attgconv_jax.preprocessing import Preprocessing, resize
from experiments.data.arrays import read_images
from experiments.data.pictures import SUFFIXES, as_type, read_picture
from experiments.run.scale import Scale


class Prediction(NamedTuple):
    """Of a picture the most probable classes and their probabilities, falling."""

    file: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


class Failure(NamedTuple):
    """A picture that was not classified, and why, in a line."""

    file: str
    message: str


@dataclasses.dataclass(frozen=True)
class Picture:
    """A file, or a row of a file of arrays, whose name then says which."""

    name: str
    read: Callable[[], np.ndarray]


def find_pictures(paths: Sequence[pathlib.Path]) -> tuple[list[Picture], int]:
    """The files among the paths, all pictures in the folders among them, the rows of files of arrays; no hidden ones.

    Returns them and the number of other files in the folders. A `ValueError` if a path is not there, or there are no
    pictures.
    """
    found, others = {}, 0
    for path in paths:
        if not path.exists():
            raise ValueError(f"there is no file or folder {path}")
        if path.suffix.lower() == ".npz":
            rows = read_images(path)
            found |= {
                (path, i): Picture(f"{path}[{i}]", functools.partial(rows.__getitem__, i)) for i in range(len(rows))
            }
            continue
        files = list(_below(path)) if path.is_dir() else [path]
        known = [file for file in files if not path.is_dir() or file.name.lower().endswith(SUFFIXES)]
        others += len(files) - len(known)
        found |= {file: Picture(str(file), functools.partial(read_picture, file)) for file in known}
    if not found:
        suffixes = ", ".join(SUFFIXES)
        raise ValueError(f"there are no pictures ({suffixes}) in {', '.join(map(str, paths))}")
    return list(found.values()), others


def standardised_picture(picture: Picture, preprocessing: Preprocessing, scale: Scale | None = None) -> np.ndarray:
    """A picture `[size, size, 1, c]` as the network takes it, computed on the host.

    Of a network that was trained on floating pixels, white of pictures in files is taken as 1, as `Preprocessing` does.
    A `ValueError` if the picture cannot be read, or would lose bits or colours. It is added to `scale`.
    """
    pixels = picture.read()
    if np.issubdtype(pixels.dtype, np.floating):
        return _standardised(_floating(picture, pixels, preprocessing), preprocessing, pixels.dtype.name, scale)
    dtype = pixels.dtype.name
    integers = pixels.dtype.name if np.issubdtype(preprocessing.dtype, np.floating) else preprocessing.dtype
    try:
        pixels = as_type(pixels, integers, preprocessing.features)
    except ValueError as error:
        raise ValueError(f"{picture.name}: {error}") from error
    pixels = pixels.astype(np.float32) / np.float32(np.iinfo(integers).max)
    return _standardised(pixels, preprocessing, dtype, scale)


def _floating(picture, pixels, preprocessing):
    """Pixels of an array with white at 1, which only a network that was trained on such takes."""
    if not np.issubdtype(preprocessing.dtype, np.floating):
        raise ValueError(
            f"{picture.name}: pixels must be {preprocessing.dtype}, as those of training, got {pixels.dtype}"
        )
    if pixels.shape[-1] not in (1, preprocessing.features):
        raise ValueError(f"{picture.name}: pixels must have {preprocessing.features} channels, got {pixels.shape[-1]}")
    return np.broadcast_to(pixels.astype(np.float32), (*pixels.shape[:2], preprocessing.features))


def _standardised(images, preprocessing, dtype, scale):
    """Resized about the centre, then standardised: `[x, y, c]` to `[size, size, 1, c]`; added to `scale`."""
    images = images[:, :, None]
    images = resize(images, preprocessing.size, preprocessing.fit, preprocessing.background)
    images = preprocessing.standardised(images)
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
    pictures: Sequence[Picture],
    batch_size: int,
    top: int,
    done: Callable[[int], object] = lambda count: None,
    scale: Scale | None = None,
) -> Iterator[Prediction | Failure]:
    """A prediction or failure for each picture, in order.

    `done` is called with each batch's number of pictures, and `scale` is told of every picture.
    """

    def read(picture):
        try:
            return standardised_picture(picture, classifier.preprocessing, scale)
        except ValueError as error:
            return Failure(picture.name, " ".join(str(error).split()))

    with concurrent.futures.ThreadPoolExecutor() as pool:
        for start in range(0, len(pictures), batch_size):
            batch = pictures[start : start + batch_size]
            images = list(pool.map(read, batch))
            good = [image for image in images if not isinstance(image, Failure)]
            probabilities = iter(_probabilities(classifier, good, batch_size))
            for picture, image in zip(batch, images, strict=True):
                is_read = not isinstance(image, Failure)
                yield _prediction(picture.name, next(probabilities), classifier, top) if is_read else image
            done(len(batch))


def _below(folder):
    """The files in a folder and in those in it, but hidden ones."""

    def fail(error):
        raise error

    for root, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield pathlib.Path(root, name)


def _probabilities(classifier, images, batch_size):
    """Of one shape, so that one program serves all: a batch is filled up, and the filling dropped."""
    if not images:
        return []
    filling = [np.zeros_like(images[0])] * (batch_size - len(images))
    return np.asarray(classifier.of_standardised(np.stack([*images, *filling])))[: len(images)]


def _prediction(name, probabilities, classifier, top):
    if not np.isfinite(probabilities).all():
        return Failure(name, f"{name}: the network has no finite logits of it")
    order = np.argsort(-probabilities, kind="stable")[:top]
    names = tuple(classifier.class_names[label] for label in order)
    return Prediction(name, names, tuple(float(probabilities[label]) for label in order))
