"""What a folder of pictures holds: classes, or splits of classes, each a folder."""

import os
import pathlib
from collections import Counter
from typing import NamedTuple

from experiments.data.pictures import SUFFIXES

SPLIT_NAMES = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
"""What the folders of splits are called, in any case."""


class Layout(NamedTuple):
    """Pictures with their labels, by split, of all splits under None; and the files that are no pictures."""

    class_names: tuple[str, ...]
    splits: dict[str | None, list[tuple[pathlib.Path, int]]]
    skipped: list[pathlib.Path]


def layout_of(root: pathlib.Path) -> Layout:
    """The pictures of `ROOT/CLASS/*` or `ROOT/{train,val,test}/CLASS/*`, sorted by name.

    Names that begin with a dot are ignored. Folders called train, val or validation, and test are splits; beside other
    folders they are classes if they hold pictures themselves.

    Raises:
      ValueError: it is laid out in another way; the message says how, and what to do.
    """
    if not root.is_dir():
        what = f"is a file, of which arrays make a set only as {root.stem}.npz" if root.exists() else "is not there"
        raise ValueError(f"data.path must be a folder of class folders, but {root} {what}")
    folders, files = _listed(root)
    if not folders:
        pictures = [file for file in files if _is_picture(file)]
        held = f"holds {len(pictures)} pictures but no folders" if pictures else "holds no folders"
        raise ValueError(f"{root} {held}: put the pictures of each class in a folder of its own, {root}/CLASS/")
    splits = [folder for folder in folders if folder.name.lower() in SPLIT_NAMES]
    direct = [folder for folder in splits if any(map(_is_picture, _listed(folder)[1]))]
    others = [folder for folder in folders if folder not in splits]
    if not splits or (others and direct == splits):
        return _classes(root, None, files)
    if others:
        raise ValueError(
            f"{root} holds splits ({_names(splits)}) beside other folders ({_names(others)}): move the others away, or "
            "put all pictures into splits"
        )
    if direct:
        raise ValueError(
            f"{direct[0]} holds pictures, not class folders: folders called train, val or test are splits; put its "
            f"pictures into {direct[0]}/CLASS/, or rename it if it is a class"
        )
    return _given(root, splits, files)


def _given(root, folders, files):
    """The layout of splits that are given."""
    counts = Counter(SPLIT_NAMES[folder.name.lower()] for folder in folders)
    twice = [split for split, count in counts.items() if count > 1]
    if twice:
        raise ValueError(f"{root} holds {_names(folders)}, of which two are the {twice[0]} split: keep one")
    if set(counts) == {"train"}:
        raise ValueError(
            f"{root} holds {folders[0].name}/ alone: give {folders[0]} as the path to have a seed make the splits of "
            f"it, or add {root}/test/"
        )
    missing = [split for split in ("train", "test") if split not in counts]
    if missing:
        raise ValueError(
            f"{root} holds {_names(folders)} but no {missing[0]}/: add {root}/{missing[0]}/CLASS/, or put all pictures "
            "into class folders alone, and a seed makes the splits"
        )
    layouts = {
        SPLIT_NAMES[folder.name.lower()]: _classes(folder, folder.name, _listed(folder)[1]) for folder in folders
    }
    class_names = layouts["train"].class_names
    for split, folder in ((SPLIT_NAMES[folder.name.lower()], folder) for folder in folders):
        names = layouts[split].class_names
        for missing, there, here in (
            ([name for name in class_names if name not in names], "train", folder.name),
            ([name for name in names if name not in class_names], folder.name, "train"),
        ):
            if missing:
                raise ValueError(
                    f"class {missing[0]} is in {root}/{there} but not in {root}/{here}: every split needs pictures of "
                    "every class; add some, or leave the class out"
                )
    skipped = files + [file for layout in layouts.values() for file in layout.skipped]
    return Layout(class_names, {split: layout.splits[None] for split, layout in layouts.items()}, skipped)


def _classes(folder, split, files):
    """The layout of a folder of class folders."""
    classes, where = _listed(folder)[0], f" of the {split} split" if split else ""
    pictures, skipped = [], list(files)
    for label, each in enumerate(classes):
        inner, own = _listed(each)
        if inner:
            raise ValueError(
                f"{inner[0]} is nested too deep: the folders in {folder} are taken for classes{where}, and hold "
                f"pictures alone; perhaps {each} is the path to give"
            )
        found = [file for file in own if _is_picture(file)]
        skipped += [file for file in own if not _is_picture(file)]
        if not found:
            held = f"{len(own)} other files" if own else "nothing"
            raise ValueError(
                f"class {each.name}{where} holds no pictures ({', '.join(SUFFIXES)}) but {held}: fill {each} or remove "
                "it"
            )
        pictures += [(file, label) for file in found]
    if len(classes) < 2:
        raise ValueError(
            f"{folder} holds {'one class alone, ' + classes[0].name if classes else 'no class folders'}: at least two "
            "classes are needed, a folder each"
        )
    return Layout(tuple(each.name for each in classes), {None: pictures}, skipped)


def _listed(folder):
    """The folders and the files in a folder, sorted by name, but for those whose name begins with a dot."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
            folders = [pathlib.Path(entry.path) for entry in found if entry.is_dir()]
            return folders, [pathlib.Path(entry.path) for entry in found if not entry.is_dir()]
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be read ({error.strerror}): give yourself the right to, for example by chmod u+rx"
        ) from error


def _is_picture(file):
    return file.suffix.lower() in SUFFIXES


def _names(folders):
    return ", ".join(folder.name for folder in folders)
