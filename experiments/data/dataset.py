"""Images and labels in three splits, checked before they reach a compiled step."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Split:
    """Images `[image, x, y, 1, c]` (float32) and their labels `[image]` (int32)."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A training, a validation and a test split.

    `provenance` says how it came to be (see `describe`), of the images before standardisation; `class_names` are by
    label, by default "0", "1" and so on.

    Raises:
      ValueError: an image is not finite, a label is no class, or shapes do not fit; the message names the split.
    """

    name: str
    classes: int
    train: Split
    validation: Split
    test: Split
    provenance: Mapping[str, str] = dataclasses.field(default_factory=dict)
    class_names: tuple[str, ...] = ()

    def __post_init__(self):
        for name, split in self.splits().items():
            _check(f"{self.name}, {name} split", split, self.classes)
        if not self.class_names:
            object.__setattr__(self, "class_names", tuple(map(str, range(self.classes))))

    def splits(self) -> dict[str, Split]:
        """The splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def in_features(self) -> int:
        """Channels of the images."""
        return self.train.images.shape[-1]

    def resized(self, size_of: Callable[[int], int]) -> "Dataset":
        """The set with square images of the size that `size_of` makes of the larger of their sides.

        Zeros are put around them; where as many on both sides do not do it, they are stretched linearly. Either
        commutes with quarter turns and reflections, up to rounding.
        """
        sides = self.train.images.shape[1:3]
        size = size_of(max(sides))
        return self if sides == (size, size) else self._with_images(lambda images: _resized(images, size))

    def standardised(self, by: "Dataset | None" = None) -> "Dataset":
        """Subtracts the training images' mean and divides by their deviation, one number each.

        Those of `by`, not standardised, if it is given: a network trained on one set sees another as it saw its own.
        """
        counted = by or self
        mean, deviation = counted.train.images.mean(), counted.train.images.std()
        if deviation == 0:
            raise ValueError(f"{counted.name}: all training pixels are equal to {mean}; there is nothing to learn from")
        return self._with_images(lambda images: ((images - mean) / deviation).astype(np.float32))

    def _with_images(self, change):
        """The set with changed images, its provenance as it was."""
        splits = {name: Split(change(split.images), split.labels) for name, split in self.splits().items()}
        return dataclasses.replace(self, **splits)

    def with_fewer_test_images(self, count: int) -> "Dataset":
        """The set with the first `count` images of its test split alone, and its provenance saying so."""
        if not 1 <= count <= len(self.test):
            raise ValueError(f"{self.name} has {len(self.test)} test images: take 1 to {len(self.test)}, got {count}")
        test = Split(self.test.images[:count], self.test.labels[:count])
        described = {"test_images": str(count), "test_sha256": fingerprint(test)}
        return dataclasses.replace(self, test=test, provenance={**self.provenance, **described})


Source = Callable[[int, str | os.PathLike | None], Dataset]
"""Makes or reads a data set from a seed and the folder of prepared sets; see `experiments.data.load`."""

SOURCES: dict[str, Source] = {}
"""The sources by name; filled by `register`."""


def register(name: str) -> Callable[[Source], Source]:
    """Decorates a source of images, which then is a name on the command line."""
    if name in SOURCES:
        raise ValueError(f"name must be that of no other data set, got {name!r}")

    def decorate(source):
        SOURCES[name] = source
        return source

    return decorate


def describe(name: str, version: str, seed: str, splits: Mapping[str, Split]) -> dict[str, str]:
    """How a set came to be, in words that can be compared and saved: also size and fingerprint of every split."""
    figures = {"set": name, "version": version, "seed": seed}
    for part in ("train", "validation", "test"):
        figures |= {f"{part}_images": str(len(splits[part])), f"{part}_sha256": fingerprint(splits[part])}
    return figures


def fingerprint(split: Split) -> str:
    """SHA-256 of the pixels (float32) followed by the labels (int32), both little-endian and in the split's order."""
    digest = hashlib.sha256(np.ascontiguousarray(split.images, "<f4"))
    digest.update(np.ascontiguousarray(split.labels, "<i4"))
    return digest.hexdigest()


def _resized(images, size):
    missing = [size - side for side in images.shape[1:3]]
    if all(count % 2 == 0 and count >= 0 for count in missing):
        return np.pad(images, [(0, 0), *((count // 2, count // 2) for count in missing), (0, 0), (0, 0)])
    shape = (images.shape[0], size, size, *images.shape[3:])
    return np.asarray(jax.image.resize(images, shape, "linear"))


def _check(name, split, classes):
    images, labels, shape = split.images, split.labels, split.images.shape
    if images.ndim != 5 or images.shape[3] != 1 or not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"{name}: images must be floating [image, x, y, 1, c], got {images.dtype} of shape {shape}")
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer) or len(labels) == 0:
        raise ValueError(
            f"{name}: labels must be integers, one an image and at least one, got {labels.dtype} of shape "
            f"{labels.shape} for {len(images)} images"
        )
    bad = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3, 4)))
    if len(bad):
        raise ValueError(
            f"{name}: image {bad[0]} holds NaN or infinity ({len(bad)} such images); pixels must be finite"
        )
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(bad):
        raise ValueError(f"{name}: label {labels[bad[0]]} of image {bad[0]} must be in 0 to {classes - 1}")
