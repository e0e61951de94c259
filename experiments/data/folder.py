"""Pictures of one's own: a folder of class folders."""

import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import tqdm

from attgconv_jax.preprocessing import Preprocessing
from experiments.data.dataset import Dataset, Split, register
from experiments.data.folder_stream import streamed_folder
from experiments.data.layout import layout_of
from experiments.data.own import SHARES, by_shares, common_size, describe_own, plural, say_small_range, splits_of
from experiments.data.picture_files import inspected, resized_picture, say_mixture, say_skipped


@register("folder")
def picture_folder(
    path: str | os.PathLike | None = None,
    seed: int = 0,
    size_of: Callable[[int], int] = lambda pixels: pixels,
    fit: str = "pad",
    shares: Sequence[float] = SHARES,
    broken: str = "raise",
    test_images: int | None = None,
    stream: bool = False,
) -> Dataset:
    """The pictures in `PATH/CLASS/*`, which a seed divides, or in `PATH/{train,val,test}/CLASS/*`, as given.

    They are read one at a time and resized at once: memory is that of the resized set. Nothing depends on the file
    system's order. Pictures with the same bytes stay in one split where a seed divides, else they are warned about.

    Options (further ones: see `experiments.data.own`):
      path: of the folder; see `experiments.data.layout`, for pictures `experiments.data.pictures.read_picture`.
      broken: "raise", or "skip" for leaving out what cannot be read, which is counted.
      stream: whether pictures are read when they are needed; see `experiments.data.folder_stream`.

    Raises:
      ValueError: a picture cannot be read, or the folder is laid out in another way; the message is a line.
    """
    if path is None:
        raise ValueError("the data set folder needs data.path, the folder of class folders")
    if broken not in ("raise", "skip"):
        raise ValueError(f"data.broken must be raise or skip, got {broken!r}")
    if stream:
        if broken == "skip":
            raise ValueError("data.broken skip needs pictures that are read beforehand: leave out data.stream, or skip")
        return streamed_folder(pathlib.Path(path), seed, size_of, fit, by_shares(shares), test_images)
    root, shares = pathlib.Path(path), by_shares(shares)
    layout, broken_files = layout_of(root), _Broken(broken)
    listed = [(file, label, split) for split, pairs in layout.splits.items() for file, label in pairs]
    files = [
        file
        for file in (broken_files.caught(inspected, *each) for each in _progress(listed, "looking at pictures"))
        if file
    ]
    labels, digests = np.array([file.label for file in files], np.int32), [file.digest for file in files]
    # Bytes that are no UTF-8 can be in a file's name, but not in a page.
    names = [str(file.path.relative_to(root)).encode("utf-8", "replace").decode() for file in files]
    given = {split: np.flatnonzero([file.split == split for file in files]) for split in layout.splits}
    options = dict(shares=shares, seed=seed, test_images=test_images)
    parts = splits_of(None if None in given else given, names, labels, digests, layout.class_names, **options)
    say_skipped(layout.skipped)
    dtype, features = say_mixture(files)
    size = common_size([file.sides for file in files], size_of, fit)
    preprocessing = Preprocessing(size, features, dtype, fit)
    parts, images = _decoded(files, parts, preprocessing, broken_files)
    for split, indices in parts.items():
        missing = sorted({*range(len(layout.class_names))} - {*labels[indices].tolist()})
        if missing and test_images is None:
            raise ValueError(
                f"class {layout.class_names[missing[0]]} has no picture that can be read in the {split} split: see to "
                f"{broken_files.paths[0]}"
            )
    return Dataset(
        name=f"the pictures in {root}",
        classes=len(layout.class_names),
        **{
            split: Split(images[split], labels[indices], [names[i] for i in indices])
            for split, indices in parts.items()
        },
        provenance=describe_own("folder", seed, layout.class_names, labels, digests, parts),
        class_names=layout.class_names,
        preprocessing=preprocessing,
    )


class _Broken:
    """Raises for files that cannot be read, or collects them."""

    def __init__(self, rule):
        self.rule, self.paths = rule, []

    def caught(self, function, path, *arguments):
        """What a function makes of a file; None if it cannot be read and is left out."""
        try:
            return function(path, *arguments)
        except ValueError as error:
            if self.rule == "raise":
                raise ValueError(f"{error} (data.broken skip leaves such files out)") from error
            self.paths.append(path)
            return None

    def say(self):
        if self.paths:
            told = plural(len(self.paths), "picture cannot be read and is", "pictures cannot be read and are")
            print(f"warning: {told} left out, such as {self.paths[0]}")


def _decoded(files, parts, preprocessing, broken_files):
    """The images of every part, resized, with white at 1, and the parts without what cannot be read."""
    size, features = preprocessing.size, preprocessing.features
    images = {split: np.zeros([len(parts[split]), size, size, 1, features], np.float32) for split in parts}
    read, composed, largest = {split: [] for split in parts}, [], 0
    places = [(split, index) for split, indices in parts.items() for index in indices]
    for split, index in _progress(places, "reading pictures"):
        picture = broken_files.caught(resized_picture, files[index].path, preprocessing)
        if picture is not None:
            # A grey picture among those of colour has it in all channels.
            images[split][len(read[split])], transparent, brightest = picture
            largest = max(largest, brightest) if split == "train" else largest
            read[split].append(index)
            composed += [files[index].path] if transparent else []
    broken_files.say()
    if composed:
        told = plural(len(composed), "picture has", "pictures have")
        print(f"note: {told} transparent pixels, which are laid over black, such as {composed[0]}")
    if read["train"]:
        say_small_range(largest, preprocessing.dtype)
    kept = {split: np.array(indices, int) for split, indices in read.items()}
    return kept, {split: images[split][: len(indices)] for split, indices in kept.items()}


def _progress(items, what):
    """A progress bar, on a terminal, of what takes longer than two seconds."""
    return tqdm.tqdm(items, desc=what, unit="picture", delay=2, disable=None, leave=False)
