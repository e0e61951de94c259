"""Rotated MNIST as a TFDS builder: regenerated from MNIST, or read from the files of 2007."""

import hashlib
import io
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from experiments.data.amat import amat_rows
from experiments.data.builders.from_mnist import FromMnist
from experiments.data.regenerated import SEED, SIZES

ARCHIVE = "mnist_rotation_new.zip"
ARCHIVE_MD5 = "0f9a947ff3d30e95cd685462cbf3b847"
ARCHIVE_URL = f"http://www.iro.umontreal.ca/~lisa/icml2007data/{ARCHIVE}"
TRAIN_FILE = "mnist_all_rotation_normalized_float_train_valid.amat"
TEST_FILE = "mnist_all_rotation_normalized_float_test.amat"

_REGENERATED = f"""\
MNIST's digits, each turned once by an angle uniform over the full circle: 10,000 for training, 2,000 for validation,
50,000 for the test, disjoint. This is a *regenerated* set: sizes and angles follow Larochelle et al. 2007, but images,
angles and splits are not those of their files, so figures on it are not figures on theirs.

Made from all 70,000 images of TFDS' `mnist` (training and test set together), ordered by SHA-256 of pixels and label.
`numpy.random.default_rng({SEED})` draws first a permutation, whose first 62,000 images are the three splits, then the
angles. An image is turned counter-clockwise about its centre by `scipy.ndimage.affine_transform` (cubic splines,
order 3, zero outside), clipped to 0 to 255 and rounded to uint8. The feature `angle` is in radians.
"""

_ORIGINAL = f"""\
The files of 2007 (`{ARCHIVE}`): 10,000 images for training and 2,000 for validation, in this order in one file, and
50,000 for the test, as published: pixels are floats in [0, 1], read row by row.
"""

_CITATION = """\
@inproceedings{larochelle2007empirical,
  title={An empirical evaluation of deep architectures on problems with many factors of variation},
  author={Larochelle, Hugo and Erhan, Dumitru and Courville, Aaron and Bergstra, James and Bengio, Yoshua},
  booktitle={International Conference on Machine Learning},
  year={2007}
}
"""


class RotMnist(FromMnist):
    """Rotated MNIST: `rot_mnist/regenerated` from MNIST, `rot_mnist/original` from the archive of 2007."""

    BUILDER_CONFIGS = [  # noqa: RUF012 (TFDS reads a plain class attribute)
        tfds.core.BuilderConfig(name="regenerated", description=_REGENERATED),
        tfds.core.BuilderConfig(name="original", description=_ORIGINAL),
    ]
    CHANGES = ("angle",)
    CITATION = _CITATION
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"`rot_mnist/original` alone: put {ARCHIVE} (once at {ARCHIVE_URL}) there."

    def _info(self) -> tfds.core.DatasetInfo:
        if self.builder_config.name == "regenerated":
            return super()._info()
        return self._info_of(tfds.features.Tensor(shape=(28, 28, 1), dtype=np.float32), {})

    def _split_generators(self, dl_manager):
        if self.builder_config.name == "regenerated":
            return super()._split_generators(dl_manager)
        return self._original_splits(pathlib.Path(dl_manager.manual_dir) / ARCHIVE)

    def _original_splits(self, archive):
        check_archive(archive)
        boundary = SIZES["train"]
        end = boundary + SIZES["validation"]
        return {
            "train": self._generate_published(archive, TRAIN_FILE, range(boundary), end),
            "validation": self._generate_published(archive, TRAIN_FILE, range(boundary, end), end),
            "test": self._generate_published(archive, TEST_FILE, range(SIZES["test"]), SIZES["test"]),
        }

    def _generate_published(self, archive, file, rows, expected) -> Iterator[tuple[int, dict[str, Any]]]:
        found = 0
        with zipfile.ZipFile(archive) as opened, opened.open(file) as stream:
            for image, label in amat_rows(io.TextIOWrapper(stream, "ascii"), file):
                if found in rows:
                    yield found, {"image": image[:, :, None], "label": label}
                found += 1
        if found != expected:
            raise ValueError(f"{file} must hold {expected} rows, got {found}")


def check_archive(archive: pathlib.Path) -> None:
    """Refuses an archive which is not, byte for byte, that of 2007.

    Args:
      archive: where `mnist_rotation_new.zip` should be.

    Raises:
      ValueError: there is no such file, or its MD5 is not the published one.
    """
    if not archive.is_file():
        raise ValueError(
            f"{archive} must be the archive of 2007, but there is no such file; it was once at {ARCHIVE_URL}"
        )
    with archive.open("rb") as stream:
        found = hashlib.file_digest(stream, "md5").hexdigest()
    if found != ARCHIVE_MD5:
        raise ValueError(f"{archive} must have MD5 {ARCHIVE_MD5}, got {found}; fetch the archive again")
