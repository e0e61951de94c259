"""Rotated MNIST as a TFDS builder: regenerated from MNIST, or read from the files of 2007."""

import hashlib
import io
import pathlib
import zipfile

import numpy as np
import tensorflow_datasets as tfds

from experiments.data.amat import ARCHIVE, amat_rows
from experiments.data.builders.from_mnist import MADE, FromMnist
from experiments.data.regenerated import SIZES

ARCHIVE_MD5 = "0f9a947ff3d30e95cd685462cbf3b847"
ARCHIVE_URL = f"http://www.iro.umontreal.ca/~lisa/icml2007data/{ARCHIVE}"
TRAIN_FILE = "mnist_all_rotation_normalized_float_train_valid.amat"
TEST_FILE = "mnist_all_rotation_normalized_float_test.amat"

_REGENERATED = f"""\
MNIST's digits, each turned once by an angle uniform over the full circle. Sizes and angles follow Larochelle et al.
2007, but images, angles and splits are not those of their files, so figures on it are not figures on theirs.

{MADE}
"""

_ORIGINAL = f"""\
The files of 2007 (`{ARCHIVE}`): 10,000 images for training and 2,000 for validation, in this order in one file, and
50,000 for the test, as published: pixels are floats in [0, 1], read row by row.
"""


class RotMnist(FromMnist):
    """Rotated MNIST: `rot_mnist/regenerated` from MNIST, `rot_mnist/original` from the archive of 2007."""

    BUILDER_CONFIGS = [  # noqa: RUF012 (TFDS reads a plain class attribute)
        tfds.core.BuilderConfig(name="regenerated", description=_REGENERATED),
        tfds.core.BuilderConfig(name="original", description=_ORIGINAL),
    ]
    CHANGES = ("angle",)
    CITATION = (
        "Larochelle, Erhan, Courville, Bergstra, Bengio: An empirical evaluation of deep architectures on problems "
        "with many factors of variation. International Conference on Machine Learning, 2007."
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"`rot_mnist/original` alone: put {ARCHIVE} (once at {ARCHIVE_URL}) there."

    def _info(self):
        if self.builder_config.name == "regenerated":
            return super()._info()
        return self._info_of(tfds.features.Tensor(shape=(28, 28, 1), dtype=np.float32), {})

    def _split_generators(self, dl_manager):
        if self.builder_config.name == "regenerated":
            return super()._split_generators(dl_manager)
        archive = pathlib.Path(dl_manager.manual_dir) / ARCHIVE
        check_archive(archive)
        boundary, end = SIZES["train"], SIZES["train"] + SIZES["validation"]
        return {
            "train": self._generate_published(archive, TRAIN_FILE, range(boundary), end),
            "validation": self._generate_published(archive, TRAIN_FILE, range(boundary, end), end),
            "test": self._generate_published(archive, TEST_FILE, range(SIZES["test"]), SIZES["test"]),
        }

    def _generate_published(self, archive, file, rows, expected):
        found = 0
        with zipfile.ZipFile(archive) as opened, opened.open(file) as stream:
            for image, label in amat_rows(io.TextIOWrapper(stream, "ascii"), file):
                if found in rows:
                    yield found, {"image": image[:, :, None], "label": label}
                found += 1
        if found != expected:
            raise ValueError(f"{file} must hold {expected} rows, got {found}")


def check_archive(archive: pathlib.Path) -> None:
    """Raises a `ValueError` unless the file is, by its MD5, the archive of 2007."""
    if not archive.is_file():
        raise ValueError(
            f"{archive} must be the archive of 2007, but there is no such file; once it was at {ARCHIVE_URL}"
        )
    with archive.open("rb") as stream:
        found = hashlib.file_digest(stream, "md5").hexdigest()
    if found != ARCHIVE_MD5:
        raise ValueError(f"{archive} must have MD5 {ARCHIVE_MD5}, got {found}; fetch the archive again")
