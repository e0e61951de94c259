"""Data sets, checked where they enter: one file a source of images, which registers itself by name."""

import importlib
import os
import pkgutil
from typing import Any, Literal

from experiments.data.dataset import SOURCES, Dataset, Split, made_by, register
from experiments.data.digits import rotated_digits, rotated_scaled_digits

# The command beside the sources imports what needs them.
for _module in pkgutil.iter_modules(__path__):
    if not _module.ispkg and _module.name != "prepare":
        importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["NAMES", "Dataset", "DatasetName", "Split", "load", "register", "rotated_digits", "rotated_scaled_digits"]

NAMES: tuple[str, ...] = tuple(SOURCES)
DatasetName = Literal[NAMES]


def load(
    name: str,
    directory: str | os.PathLike | None = None,
    seed: int = 0,
    test_images: int | None = None,
    **options: Any,
) -> Dataset:
    """A data set by name, pixels in [0, 1], not standardised.

    Args:
      name: one of `NAMES`; all but those of digits must have been prepared (`experiments.data.prepare`).
      directory: TFDS' folder of prepared sets; None: `$TFDS_DATA_DIR`, else `~/tensorflow_datasets`.
      seed: of the digits' splits, angles and scales, and of the validation split of a set that has none.
      test_images: how many of the test split, the first; None: all.
      options: further arguments of the sources that take them.
    """
    if name not in SOURCES:
        raise ValueError(f"name must be one of {', '.join(SOURCES)}, got {name!r}")
    dataset = made_by(SOURCES[name], {"directory": directory, "seed": seed, **options})
    return dataset if test_images is None else dataset.with_fewer_test_images(test_images)
