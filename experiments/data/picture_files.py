"""Single pictures of a folder: what is known of each, and each as an image of the set."""

import collections
import hashlib
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from attgconv_jax.preprocessing import Preprocessing, resize
from experiments.data.own import plural
from experiments.data.pictures import as_type, decode, file_bytes, kind_of


class PictureFile(NamedTuple):
    """A picture's path, label, split (None: a seed decides), digest of its bytes, sides, channels and type."""

    path: pathlib.Path
    label: int
    split: str | None
    digest: bytes
    sides: tuple[int, int]
    features: int
    dtype: str


def inspected(path: pathlib.Path, label: int, split: str | None) -> PictureFile:
    """What is to be known of a picture before it is decoded."""
    content = file_bytes(path)
    return PictureFile(path, label, split, hashlib.sha256(content).digest(), *kind_of(path, content))


def resized_picture(path: pathlib.Path, preprocessing: Preprocessing) -> tuple[np.ndarray, bool, int]:
    """The picture `[size, size, 1, c]`, whether it had transparent pixels, and its largest pixel before resizing."""
    picture = decode(path, file_bytes(path))
    pixels = as_type(picture.pixels, preprocessing.dtype, picture.pixels.shape[-1])
    image = pixels[:, :, None].astype(np.float32) / np.float32(preprocessing.white)
    image = resize(image, preprocessing.size, preprocessing.fit, preprocessing.background)
    return image, picture.composed, int(pixels.max())


def say_mixture(files: Sequence[PictureFile]) -> tuple[str, int]:
    """Type and channels of all pictures together; printed where they are of several."""
    features = collections.Counter(file.features for file in files)
    dtypes = collections.Counter(file.dtype for file in files)
    if len(features) > 1:
        told = plural(features[1], "grey picture", "grey pictures")
        print(f"note: {told} among {features[3]} of colour become colour, with equal channels")
    if len(dtypes) > 1:
        told = plural(dtypes["uint8"], "picture", "pictures")
        print(f"note: {told} of 8 bits among {dtypes['uint16']} of 16 bits become 16 bits")
    return "uint16" if "uint16" in dtypes else "uint8", max(features)


def say_skipped(skipped: Sequence[pathlib.Path]) -> None:
    """Prints how many files are no pictures, if there are any."""
    if skipped:
        told = plural(len(skipped), "file is", "files are")
        print(f"note: {told} skipped, being no pictures in class folders, such as {skipped[0]}")
