"""Data sets, checked where they enter: one file a source of images, which registers itself by name."""

import importlib
import os
import pathlib
import pkgutil
from typing import Any, Literal

from experiments.data.arrays import Arrays, set_of_arrays
from experiments.data.dataset import SOURCES, Dataset, Split, made_by, register
from experiments.data.digits import rotated_digits, rotated_scaled_digits

# The command beside the sources imports what needs them.
for _module in pkgutil.iter_modules(__path__):
    if not _module.ispkg and _module.name != "prepare":
        importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "NAMES",
    "Arrays",
    "Dataset",
    "DatasetName",
    "Split",
    "load",
    "own_name",
    "register",
    "rotated_digits",
    "rotated_scaled_digits",
    "set_of_arrays",
]

OWN_NAMES = ("folder", "arrays")
"""Of sets of one's own, which are where a path says."""
NAMES: tuple[str, ...] = tuple(sorted(SOURCES, key=OWN_NAMES.__contains__))
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
      name: one of `NAMES`. Those of digits are embedded, "folder" and "arrays" take a `path`, "cifar10/binary" files of
        its archive; all others must have been prepared (`experiments.data.prepare`).
      directory: TFDS' folder of prepared sets, or that of those files; None: `$TFDS_DATA_DIR`, else
        `~/tensorflow_datasets`.
      seed: of the digits' splits, angles and scales, and of the validation split of a set that has none.
      test_images: how many of the test split, the first; None: all.
      options: further arguments of the sources that take them, such as `path`, `size_of`, `fit`, `shares` and `broken`
        of `picture_folder` in `experiments.data.folder`.
    """
    if name not in SOURCES:
        raise ValueError(f"name must be one of {', '.join(SOURCES)}, got {name!r}")
    options |= {"directory": directory, "seed": seed, "test_images": test_images}
    dataset = made_by(SOURCES[name], options)
    # `folder` and `arrays` limit the test split themselves, before they read images.
    return dataset if test_images is None or name in OWN_NAMES else dataset.with_fewer_test_images(test_images)


def own_name(path: str | os.PathLike) -> str:
    """Which source reads a set of one's own: arrays a `.npz` or a folder of `.npy`, folder one of class folders."""
    path = pathlib.Path(path)
    if path.is_dir():
        return "arrays" if any(path.glob("[!.]*.npy")) else "folder"
    if path.suffix.lower() == ".npz" and path.exists():
        return "arrays"
    what = "holds something else" if path.exists() else "is not there"
    raise ValueError(f"data.path must be a folder of class folders, or arrays in a .npz file, but {path} {what}")
