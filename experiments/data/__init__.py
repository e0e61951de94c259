"""Data sets, checked where they enter."""

import os
from typing import Literal, get_args

from experiments.data import prepared
from experiments.data.dataset import Dataset, Split
from experiments.data.digits import rotated_digits

__all__ = ["NAMES", "Dataset", "DatasetName", "Split", "load", "rotated_digits"]

DatasetName = Literal["digits", prepared.PreparedName]
NAMES: tuple[str, ...] = get_args(DatasetName)


def load(name: str, directory: str | os.PathLike | None = None, seed: int = 0) -> Dataset:
    """A data set by name.

    Args:
      name: one of `NAMES`; "digits" needs nothing, the others must have been prepared (`experiments.data.prepare`).
      directory: TFDS' folder of prepared sets; None: `$TFDS_DATA_DIR`, else `~/tensorflow_datasets`.
      seed: of the digits' splits and angles, and of the validation split of a set that has none.

    Returns:
      The data set, pixels in [0, 1], not standardised.

    Raises:
      ValueError: the name is unknown, or the set is not prepared.
    """
    if name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")
    return rotated_digits(seed) if name == "digits" else prepared.prepared(name, directory, seed)
