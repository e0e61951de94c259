"""Images and labels in three splits, checked before they reach a compiled step."""

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from attgconv_jax.preprocessing import Preprocessing, resize
from experiments.data.stream import Streamed

HELD_OUT = 5000
"""Training images that validate, where a published set has no split for it."""
CHUNK = 2**22
"""Pixels, of all channels, that are resized at a time."""


@dataclasses.dataclass(frozen=True)
class Split:
    """Images `[image, x, y, 1, c]` (float32), their labels `[image]` (int32) and, if they have any, their names.

    Images may be such that are read when they are asked for; see `experiments.data.stream`.
    """

    images: np.ndarray | Streamed
    labels: np.ndarray
    names: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A training, a validation and a test split.

    Attributes:
      name: in messages.
      classes: how many there are.
      train: the images that a network is trained on.
      validation: those that choose the epoch.
      test: those that decide nothing.
      provenance: how the set came to be, of the images before resizing and standardisation; left out, `describe` of
        the images as they are.
      class_names: by label; left out, "0", "1" and so on.
      preprocessing: how pixels in a file became these images; left out, they are floating and as they were.

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
    preprocessing: Preprocessing | None = None

    def __post_init__(self):
        for name, split in self.splits().items():
            _check(f"{self.name}, {name} split", split, self.classes)
        if not self.class_names:
            object.__setattr__(self, "class_names", tuple(map(str, range(self.classes))))
        if len(set(self.class_names)) != len(self.class_names) or len(self.class_names) != self.classes:
            raise ValueError(
                f"{self.name}: class_names must be {self.classes} different names, got {', '.join(self.class_names)}"
            )
        if self.preprocessing is None:
            as_they_were = Preprocessing(max(self.sides), self.in_features, "float32", "frame")
            object.__setattr__(self, "preprocessing", as_they_were)
        if not self.provenance:
            object.__setattr__(self, "provenance", describe(self.name, "1", "none", self.splits()))

    def splits(self) -> dict[str, Split]:
        """The splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def in_features(self) -> int:
        """Channels of the images."""
        return self.train.images.shape[-1]

    @property
    def sides(self) -> tuple[int, int]:
        """Pixels of the images along x and y."""
        return self.train.images.shape[1:3]

    @property
    def background(self) -> np.ndarray:
        """The darkest training pixel, `[]`; of images that are standardised by channel `[c]`."""
        by_channel = isinstance(self.preprocessing.mean, tuple)
        return np.asarray(sample_of(self.train.images).min(axis=(0, 1, 2, 3) if by_channel else None))

    def resized(self, size_of: Callable[[int], int]) -> "Dataset":
        """The set with square images of the size that `size_of` makes of the larger of their sides.

        `preprocessing.fit` decides how: of the named sets zeros are put around the images; where as many on both
        sides do not do it, they are stretched. Either commutes with quarter turns and reflections, up to rounding.
        """
        size = size_of(max(self.sides))
        if self.sides == (size, size):
            return self
        changed = self._with_images(functools.partial(_resized, size=size, preprocessing=self.preprocessing))
        return dataclasses.replace(changed, preprocessing=dataclasses.replace(self.preprocessing, size=size))

    def standardised(self, by: "Dataset | Preprocessing | None" = None, *, channelwise: bool = False) -> "Dataset":
        """Subtracts the training images' mean and divides by their deviation, one number each or one per channel.

        Those of `by`, not standardised, or as they were kept with a network, if it is given: a network trained on one
        set sees another as it saw its own.
        """
        if isinstance(by, Preprocessing):
            mean, deviation = np.asarray(by.mean, np.float32), np.asarray(by.deviation, np.float32)
        else:
            mean, deviation = _statistics(by or self, channelwise)
        changed = self._with_images(functools.partial(_standardised, mean=mean, deviation=deviation))
        preprocessing = dataclasses.replace(self.preprocessing, mean=mean.tolist(), deviation=deviation.tolist())
        return dataclasses.replace(changed, preprocessing=preprocessing)

    def unstandardised(self, images: np.ndarray) -> np.ndarray:
        """Images `[..., c]` of a standardised set as they were before."""
        return images * np.asarray(self.preprocessing.deviation) + np.asarray(self.preprocessing.mean)

    def with_features(self, features: int) -> "Dataset":
        """The set with so many channels: grey images have the same in all; a `ValueError` if channels would be lost."""
        if self.in_features == features:
            return self
        if self.in_features != 1:
            raise ValueError(f"{self.name} has images of {self.in_features} channels, but {features} are needed")
        changed = self._with_images(functools.partial(np.repeat, repeats=features, axis=-1))
        return dataclasses.replace(changed, preprocessing=dataclasses.replace(self.preprocessing, features=features))

    def _with_images(self, change):
        """The set with changed images, its provenance as it was."""
        splits = {}
        for name, split in self.splits().items():
            images = split.images
            images = images.changed(change) if isinstance(images, Streamed) else change(images)
            splits[name] = dataclasses.replace(split, images=images)
        return dataclasses.replace(self, **splits)

    def with_fewer_test_images(self, count: int) -> "Dataset":
        """The set with the first `count` images of its test split alone, and its provenance saying so."""
        if not 1 <= count <= len(self.test):
            raise ValueError(
                f"data.test_images must be 1 to {len(self.test)}, the images of the test split, got {count}"
            )
        names = None if self.test.names is None else self.test.names[:count]
        test = Split(_at(self.test.images, slice(count)), self.test.labels[:count], names)
        described = {"test_images": str(count), "test_sha256": fingerprint(test)}
        return dataclasses.replace(self, test=test, provenance={**self.provenance, **described})


def sample_of(images: np.ndarray | Streamed) -> np.ndarray:
    """The images, or of those that are read when they are asked for some; see `Streamed.sample`."""
    return images.sample() if isinstance(images, Streamed) else images


Source = Callable[..., Dataset]
"""Makes or reads a data set; its arguments are those options of `experiments.data.load` that it takes, by name."""

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


def made_by(source: Source, options: Mapping[str, Any]) -> Dataset:
    """The set that a source makes of those of the options that it takes."""
    taken = inspect.signature(source).parameters
    return source(**{name: value for name, value in options.items() if name in taken})


def describe(name: str, version: str, seed: str, splits: Mapping[str, Split]) -> dict[str, str]:
    """How a set came to be, in words that can be compared and saved: also size and fingerprint of every split."""
    figures = {"set": name, "version": version, "seed": seed}
    for part in ("train", "validation", "test"):
        figures |= {f"{part}_images": str(len(splits[part])), f"{part}_sha256": fingerprint(splits[part])}
    return figures


def held_out(train: Split, seed: int) -> dict[str, Split]:
    """A validation split of `HELD_OUT` training images, by a permutation of that seed, and the others for training."""
    order = np.random.default_rng(seed).permutation(len(train))
    parts = {"validation": order[:HELD_OUT], "train": order[HELD_OUT:]}
    return {name: Split(_at(train.images, part), train.labels[part]) for name, part in parts.items()}


def _at(images, index):
    """The images at some places, read or not."""
    return images.at(index) if isinstance(images, Streamed) else images[index]


def fingerprint(split: Split) -> str:
    """SHA-256 of the pixels (float32) followed by the labels (int32), both little-endian and in the split's order.

    Of images that are read when they are asked for, of the labels alone.
    """
    streamed = isinstance(split.images, Streamed)
    digest = hashlib.sha256(b"" if streamed else np.ascontiguousarray(split.images, "<f4"))
    digest.update(np.ascontiguousarray(split.labels, "<i4"))
    return digest.hexdigest()


def _resized(images, size, preprocessing):
    resized, step = np.empty([len(images), size, size, *images.shape[3:]], images.dtype), images_at_a_time(images)
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        resized[part] = resize(images[part], size, preprocessing.fit, preprocessing.background)
    return resized


def images_at_a_time(images: np.ndarray) -> int:
    """How many of these images are resized at a time, so that little memory is needed beside them."""
    return max(1, CHUNK // max(1, images[0].size))


def _statistics(dataset, channelwise):
    """Mean and deviation of the training images, of all channels together or `[c]`; deviations are not zero."""
    images = sample_of(dataset.train.images)
    if not channelwise:
        mean, deviation = images.mean(), images.std()
        equal = ["all training pixels"] if deviation == 0 else []
    else:
        channels = np.moveaxis(images, -1, 0)
        # In float64: along one channel NumPy adds number by number.
        mean = np.array([channel.mean(dtype=np.float64) for channel in channels], np.float32)
        deviation = np.array([channel.std(dtype=np.float64) for channel in channels], np.float32)
        equal = [f"all training pixels of channel {c}" for c in np.flatnonzero(deviation == 0)]
    if equal:
        least = np.ravel(mean)[np.argmin(deviation)]
        raise ValueError(f"{dataset.name}: {equal[0]} are equal to {least}; there is nothing to learn from")
    return mean, deviation


def _standardised(images, mean, deviation):
    changed = images - mean
    changed /= deviation
    return changed.astype(np.float32, copy=False)


def _check(name, split, classes):
    images, labels, shape = split.images, split.labels, split.images.shape
    if images.ndim != 5 or images.shape[3] != 1 or not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"{name}: images must be floating [image, x, y, 1, c], got {images.dtype} of shape {shape}")
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer) or len(labels) == 0:
        raise ValueError(
            f"{name}: labels must be integers, one an image and at least one, got {labels.dtype} of shape "
            f"{labels.shape} for {len(images)} images"
        )
    if split.names is not None and len(split.names) != len(images):
        raise ValueError(f"{name}: names must be one an image, got {len(split.names)} for {len(images)} images")
    # Those of pictures are finite, and those that are read later cannot be looked at now.
    finite = np.ones(len(labels), bool) if isinstance(images, Streamed) else np.isfinite(images).all(axis=(1, 2, 3, 4))
    bad = np.flatnonzero(~finite)
    if len(bad):
        raise ValueError(
            f"{name}: image {bad[0]} holds NaN or infinity ({len(bad)} such images); pixels must be finite"
        )
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(bad):
        raise ValueError(f"{name}: label {labels[bad[0]]} of image {bad[0]} must be in 0 to {classes - 1}")
