"""Data sets, checked where they enter."""

import os
from typing import Literal, get_args

from experiments.data import prepared
from experiments.data.dataset import Dataset, Split
from experiments.data.digits import rotated_digits, rotated_scaled_digits

__all__ = ["NAMES", "Dataset", "DatasetName", "Split", "load", "rotated_digits", "rotated_scaled_digits"]

DatasetName = Literal["digits", "digits_rot_scale", prepared.PreparedName]
NAMES: tuple[str, ...] = get_args(DatasetName)
EMBEDDED = {"digits": rotated_digits, "digits_rot_scale": rotated_scaled_digits}


def load(
    name: str, directory: str | os.PathLike | None = None, seed: int = 0, test_images: int | None = None
) -> Dataset:
    """A data set by name.

    Args:
      name: one of `NAMES`; those of digits need nothing, the others must have been prepared
        (`experiments.data.prepare`).
      directory: TFDS' folder of prepared sets; None: `$TFDS_DATA_DIR`, else `~/tensorflow_datasets`.
      seed: of the digits' splits, angles and scales, and of the validation split of a set that has none.
      test_images: how many of the test split, the first; None: all.

    Returns:
      The data set, pixels in [0, 1], not standardised.

    Raises:
      ValueError: the name is unknown, the set is not prepared, or has fewer test images.
    """
    if name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")
    dataset = EMBEDDED[name](seed) if name in EMBEDDED else prepared.prepared_set(name, directory, seed)
    return dataset if test_images is None else dataset.with_fewer_test_images(test_images)
