"""CIFAR-10 as its authors publish it for C programs: six binary files, read without TFDS."""

import os
import pathlib

import numpy as np

from attgconv_jax.preprocessing import Preprocessing
from experiments.data.dataset import Dataset, Split, describe, held_out, register
from experiments.data.prepared import data_directory

NAME = "cifar10/binary"
FOLDER = "cifar-10-batches-bin"
FILES = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}
IMAGES = 10_000
"""In every file."""
SIDE = 32
ROW = 1 + 3 * SIDE * SIDE
"""Bytes of an image: its label, then all of red, of green and of blue, each row by row."""
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@register(NAME)
def cifar10_binary(seed: int = 0, directory: str | os.PathLike | None = None) -> Dataset:
    """The 50,000 training and 10,000 test images in the order of their files; `seed` holds out 5,000 for validation.

    Args:
      seed: of the validation split.
      directory: holds the six files, or the folder `cifar-10-batches-bin` with them, as the archive
        `cifar-10-binary.tar.gz` leaves it; None: as of sets that TFDS prepares.

    Raises:
      ValueError: a file is not there, or is not 10,000 rows of a label in 0 to 9 and 3,072 pixels; it says which.

    Source: Krizhevsky 2009, Learning multiple layers of features from tiny images.
    """
    folder = _folder(data_directory(directory))
    read = {name: [_read(folder / file) for file in files] for name, files in FILES.items()}
    splits = {name: Split(*map(np.concatenate, zip(*parts, strict=True))) for name, parts in read.items()}
    splits |= held_out(splits["train"], seed)
    provenance = describe(NAME, "1.0.0", str(seed), splits)
    preprocessing = Preprocessing(SIDE, 3, "uint8", "frame")
    return Dataset(
        NAME, len(CLASSES), provenance=provenance, class_names=CLASSES, preprocessing=preprocessing, **splits
    )


def _folder(directory):
    """Where the files are; a `ValueError` that says which are missing."""
    files = [file for part in FILES.values() for file in part]
    places = directory, directory / FOLDER
    missing = [[file for file in files if not (place / file).is_file()] for place in places]
    lacking, place = min(zip(missing, places, strict=True), key=lambda found: len(found[0]))
    if lacking:
        raise ValueError(
            f"{NAME} needs {', '.join(lacking)} in {place}: unpack cifar-10-binary.tar.gz there, or name the folder "
            "that holds its files with --data.directory"
        )
    return place


def _read(file: pathlib.Path):
    """Images `[image, x, y, 1, c]` in [0, 1] and labels of one file."""
    content = file.read_bytes()
    if len(content) != IMAGES * ROW:
        raise ValueError(f"{file} must have {IMAGES * ROW:,} bytes, got {len(content):,}: fetch the archive again")
    rows = np.frombuffer(content, np.uint8).reshape(IMAGES, ROW)
    labels = rows[:, 0].astype(np.int32)
    if np.any(labels >= len(CLASSES)):
        row = np.argmax(labels >= len(CLASSES))
        raise ValueError(f"{file} must have labels in 0 to 9, got {labels[row]} in row {row}: fetch the archive again")
    images = np.moveaxis(rows[:, 1:].reshape(IMAGES, 3, SIDE, SIDE), 1, -1)
    return images[:, :, :, None].astype(np.float32) / np.float32(255), labels
