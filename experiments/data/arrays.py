"""Arrays of one's own: images and labels in `.npz` or `.npy` files, or from Python."""

import dataclasses
import hashlib
import os
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from attgconv_jax.preprocessing import Preprocessing, resize
from experiments.data.dataset import Dataset, Split, images_at_a_time, register
from experiments.data.own import SHARES, by_shares, common_size, describe_own, say_small_range, splits_of


@dataclasses.dataclass(frozen=True, eq=False)
class Arrays:
    """Images and labels, of all splits, which a seed then divides, or of training beside other splits.

    Attributes:
      images: `[image, x, y]` or `[image, x, y, c]`, uint8, uint16 or floating with white at 1.
      labels: `[image]` or `[image, 1]`, integers from 0, or strings, which are the names of their classes.
      class_names: by label; None: the strings among the labels, or "0", "1" and so on.
      validation: images and labels; None beside `test`: some of training are held out for it.
      test: images and labels; None: a seed divides all images.
    """

    images: Any
    labels: Any
    class_names: Sequence[str] | None = None
    validation: tuple[Any, Any] | None = None
    test: tuple[Any, Any] | None = None


@register("arrays")
def array_file(
    path: str | os.PathLike | None = None,
    seed: int = 0,
    size_of: Callable[[int], int] = lambda pixels: pixels,
    fit: str = "pad",
    shares: Sequence[float] = SHARES,
    test_images: int | None = None,
    background: float | None = None,
) -> Dataset:
    """The set in a `.npz` file, or in a folder of `.npy` files that are called as the arrays of such a file.

    These are `images` and `labels`, which a seed divides; or, as in MedMNIST's files, `train_images` and
    `train_labels`, `val_images` and `val_labels` (or `validation_`), `test_images` and `test_labels`; and
    `class_names`, if there are any. See `Arrays` for their types, and `set_of_arrays` for the arguments.
    """
    if path is None:
        raise ValueError("the data set arrays needs data.path, a .npz file or a folder of .npy files, or Arrays")
    options = dict(seed=seed, size_of=size_of, fit=fit, shares=shares, test_images=test_images, background=background)
    return set_of_arrays(read_arrays(path), title=str(path), **options)


def set_of_arrays(
    arrays: Arrays,
    *,
    seed: int = 0,
    size_of: Callable[[int], int] = lambda pixels: pixels,
    fit: str = "pad",
    shares: Sequence[float] = SHARES,
    test_images: int | None = None,
    background: float | None = None,
    title: str = "the arrays",
) -> Dataset:
    """The set of arrays; they are checked first.

    Options (further ones: see `experiments.data.own`):
      background: beside images that are not square; None: black, of floating images the smallest training pixel.
      title: in messages.

    Raises:
      ValueError: arrays do not fit, pixels are not finite, or labels are none; the message is a line.
    """
    shares, pairs = by_shares(shares), {"train": (arrays.images, arrays.labels)}
    pairs |= {"validation": arrays.validation} if arrays.validation is not None else {}
    pairs |= {"test": arrays.test} if arrays.test is not None else {}
    if "validation" in pairs and "test" not in pairs:
        raise ValueError(f"{title}: there is a validation split but no test split: add one, or leave validation out")
    given = len(pairs) > 1
    where = {split: f"{title}, {split} split" if given else title for split in pairs}
    images = {split: _images(where[split], pair[0]) for split, pair in pairs.items()}
    kinds = {(each.dtype.name, each.shape[-1]) for each in images.values()}
    if len(kinds) > 1:
        raise ValueError(f"{title}: all splits must have pixels of one type and number of channels, got {kinds}")
    numbers = {split: _labels(where[split], pair[1], len(images[split])) for split, pair in pairs.items()}
    class_names, numbers = _classes(title, numbers, arrays.class_names)

    labels, ends = np.concatenate(list(numbers.values())), np.cumsum([len(each) for each in numbers.values()])
    prints = [hashlib.sha256(image.tobytes()).digest() for split in images for image in images[split]]
    names = [f"{split} image {i}" if given else f"image {i}" for split in numbers for i in range(len(numbers[split]))]
    places = {split: np.arange(end - len(numbers[split]), end) for split, end in zip(numbers, ends, strict=True)}
    options = dict(shares=shares, seed=seed, test_images=test_images)
    parts = splits_of(places if given else None, names, labels, prints, class_names, **options)
    size = common_size([each.shape[1:3] for each in images.values()], size_of, fit)
    ((dtype, features),) = kinds
    if background is None and np.issubdtype(dtype, np.floating):
        # Whose black is not known to be 0.
        smallest = np.concatenate([each.reshape(len(each), -1).min(axis=1) for each in images.values()])
        background = smallest[parts["train"]].min()
    if not np.issubdtype(dtype, np.floating):
        largest = np.concatenate([each.reshape(len(each), -1).max(axis=1) for each in images.values()])
        say_small_range(int(largest[parts["train"]].max()), dtype)
    preprocessing = Preprocessing(size, features, dtype, fit, background or 0.0)
    return Dataset(
        name=title,
        classes=len(class_names),
        **{
            split: Split(_resized(images, ends, indices, preprocessing), labels[indices], [names[i] for i in indices])
            for split, indices in parts.items()
        },
        provenance=describe_own("arrays", seed, class_names, labels, prints, parts),
        class_names=class_names,
        preprocessing=preprocessing,
    )


def read_arrays(path: str | os.PathLike) -> Arrays:
    """The arrays in a `.npz` file or in a folder of `.npy` files; a `ValueError` if there are none such.

    Objects are never unpickled.
    """
    path = pathlib.Path(path)
    if not path.is_dir() and path.suffix.lower() != ".npz":
        raise ValueError(f"data.path must be a .npz file, or a folder that holds images.npy and labels.npy, got {path}")
    try:
        if path.is_dir():
            files = {file.stem: file for file in sorted(path.glob("[!.]*.npy"))}
            return _paired(path, {name: _member(path, name, np.load, file) for name, file in files.items()})
        with path.open("rb") as file, np.lib.npyio.NpzFile(file) as arrays:
            names = arrays.files
            return _paired(
                path, {name: _member(path, name, arrays.get, name) for name in names if _is_known(name)}, names
            )
    # A RuntimeError: it is encrypted, or compressed in another way.
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        message = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read as arrays: {message}") from error


def read_images(path: pathlib.Path) -> np.ndarray:
    """The images `[image, x, y, c]` in a `.npz` file to be classified: its `images`, else its `test_images`.

    A `ValueError` if there are none, or they are no images.
    """
    try:
        with path.open("rb") as file, np.lib.npyio.NpzFile(file) as arrays:
            name = next((name for name in ("images", "test_images") if name in arrays.files), None)
            if name is None:
                raise ValueError(f"{path} must hold images or test_images; it holds {', '.join(arrays.files)}")
            return _images(f"{path}: {name}", _member(path, name, arrays.get, name))
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        message = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read as arrays: {message}") from error


def _is_known(name):
    return name in ("images", "labels", "class_names") or name.endswith(("_images", "_labels"))


def _member(path, name, load, where):
    try:
        return load(where)
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{path}: {name} holds Python objects, which are not loaded since they can run code; save it as "
                "numbers or strings (np.asarray(..., dtype=...))"
            ) from error
        raise ValueError(f"{path}: {name} cannot be read: {' '.join(str(error).split())}") from error


def _paired(path, members, names=()):
    """The arrays by the names that they have in the file, which may hold others, too."""
    prefixes = {"": "train", "train_": "train", "val_": "validation", "validation_": "validation", "test_": "test"}
    held = f"it holds {', '.join(names or members) or 'nothing'}"
    pairs = {}
    for prefix, split in prefixes.items():
        found = [name for name in (f"{prefix}images", f"{prefix}labels") if members.get(name) is not None]
        if len(found) == 1:
            missing = f"{prefix}{'labels' if found[0].endswith('images') else 'images'}"
            raise ValueError(f"{path} must hold {missing} beside {found[0]}; {held}")
        if found and split in pairs:
            raise ValueError(f"{path} holds the {split} split twice: keep one; {held}")
        if found:
            pairs[split] = tuple(members[name] for name in found)
    if "train" not in pairs:
        raise ValueError(f"{path} must hold images and labels, or train_images, train_labels and so on; {held}")
    class_names = members.get("class_names")
    class_names = None if class_names is None else [str(name) for name in class_names]
    return Arrays(*pairs["train"], class_names, pairs.get("validation"), pairs.get("test"))


def _images(where, images):
    """Images `[image, x, y, c]`, checked."""
    images = np.asarray(images)
    images = images.astype(images.dtype.newbyteorder("="), copy=False)
    if images.dtype not in (np.uint8, np.uint16) and not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"{where}: images must be uint8, uint16 or floating with white at 1, got {images.dtype}")
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise ValueError(f"{where}: images must be [image, x, y] or [image, x, y, c], got shape {images.shape}")
    if images.ndim == 4 and images.shape[1] <= 4 < min(images.shape[2:]):
        raise ValueError(
            f"{where}: channels must come last, [image, x, y, c], got shape {images.shape}; take "
            "images.transpose(0, 2, 3, 1)"
        )
    images = images if images.ndim == 4 else images[..., None]
    bad = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3))) if images.dtype.kind == "f" else ()
    if len(bad):
        raise ValueError(f"{where}: image {bad[0]} holds NaN or infinity ({len(bad)} such images); leave them out")
    return images


def _labels(where, labels, count):
    """Labels `[image]`, integers or strings."""
    labels = np.asarray(labels)
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1:
        hint = "; of one label in 0 and 1 a class take labels.argmax(axis=1)" if labels.ndim == 2 else ""
        raise ValueError(f"{where}: labels must be [image] or [image, 1], got shape {labels.shape}{hint}")
    if len(labels) != count:
        raise ValueError(f"{where}: there must be one label an image, got {len(labels)} labels for {count} images")
    if labels.dtype.kind not in "iuUS":
        raise ValueError(f"{where}: labels must be integers from 0, or strings, got {labels.dtype}")
    return np.char.decode(labels) if labels.dtype.kind == "S" else labels


def _classes(title, labels, names):
    """The names of the classes, and the labels by split as numbers (int32)."""
    if len({each.dtype.kind in "iu" for each in labels.values()}) > 1:
        raise ValueError(f"{title}: labels must be integers in all splits or strings in all")
    present = sorted(set().union(*(each.tolist() for each in labels.values())))
    if labels["train"].dtype.kind == "U":
        names = present if names is None else [*names]
        unknown = [name for name in present if name not in names]
        if unknown:
            raise ValueError(f"{title}: the label {unknown[0]!r} is none of class_names, {', '.join(names)}")
        numbers = {name: label for label, name in enumerate(names)}
        labels = {split: np.array([numbers[name] for name in each.tolist()]) for split, each in labels.items()}
    else:
        count = present[-1] + 1 if names is None else len(names)
        gap = next((i for i, label in enumerate(present) if i != label), None)
        if names is None and gap is not None and present[0] >= 0:
            raise ValueError(
                f"{title}: labels must be integers from 0 without gaps, but no image has the label {gap} and some have "
                f"{present[-1]}; number the classes that there are, or give labels as strings"
            )
        outside = [label for label in present if not 0 <= label < count]
        if outside:
            expected = f"0 to {count - 1}, the {count} class_names" if names is not None else "integers from 0"
            raise ValueError(f"{title}: labels must be {expected}, got {outside[0]}")
        names = list(map(str, range(count))) if names is None else [*names]
    missing = sorted({*range(len(names))} - set().union(*(each.tolist() for each in labels.values())))
    if missing:
        raise ValueError(
            f"{title}: no image is of class {names[missing[0]]} ({len(missing)} of the {len(names)} class_names have "
            "none); leave it out of class_names"
        )
    if len(names) < 2:
        raise ValueError(f"{title}: all labels are {names[0]}; at least two classes are needed")
    return tuple(map(str, names)), {split: each.astype(np.int32) for split, each in labels.items()}


def _resized(images, ends, indices, preprocessing):
    """The images of these indices among those of all splits, one after the other; resized, white at 1."""
    size = preprocessing.size
    resized = np.empty([len(indices), size, size, 1, preprocessing.features], np.float32)
    for pixels, end in zip(images.values(), ends, strict=True):
        places, step = np.flatnonzero((indices >= end - len(pixels)) & (indices < end)), images_at_a_time(pixels)
        for start in range(0, len(places), step):
            chosen = places[start : start + step]
            chunk = pixels[indices[chosen] - (end - len(pixels))][:, :, :, None].astype(np.float32)
            chunk /= np.float32(preprocessing.white)
            resized[chosen] = resize(chunk, size, preprocessing.fit, preprocessing.background)
    return resized
