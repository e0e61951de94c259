"""Pictures of one's own that are read when they are needed, for folders that memory does not hold."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from attgconv_jax.preprocessing import Preprocessing, resize
from experiments.data.dataset import Dataset, Split
from experiments.data.layout import layout_of
from experiments.data.own import common_size, describe_own, splits_of
from experiments.data.picture_files import inspected, say_mixture, say_skipped
from experiments.data.pictures import as_type, decode, decoders_quiet, file_bytes
from experiments.data.stream import Streamed

INSPECTED = 1000
"""Pictures of a larger folder of which sides, channels and type are looked at."""


@dataclasses.dataclass(frozen=True)
class PictureReader:
    """Makes images `[place, size, size, 1, c]` of the pictures at some places.

    Attributes:
      paths: of all pictures, as bytes `[picture]`, which a process is sent quickly.
      preprocessing: of size, channels and type.
    """

    paths: np.ndarray
    preprocessing: Preprocessing

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """Reads them one after the other."""
        kind, size = self.preprocessing, self.preprocessing.size
        images, white = np.empty([len(places), size, size, 1, kind.features], np.float32), np.float32(kind.white)
        with decoders_quiet:
            for image, name in zip(images, self.paths[places], strict=True):
                path = os.fsdecode(name)
                try:
                    # A grey picture among those of colour has it in all channels.
                    pixels = as_type(decode(path, file_bytes(path)).pixels, kind.dtype, kind.features)[:, :, None]
                except ValueError as error:
                    raise ValueError(str(error) if path in str(error) else f"{path}: {error}") from error
                if pixels.shape == image.shape:
                    np.divide(pixels, white, out=image, dtype=np.float32)
                else:
                    image[...] = resize(np.divide(pixels, white, dtype=np.float32), size, kind.fit, kind.background)
        return images


def streamed_folder(
    root: pathlib.Path,
    seed: int,
    size_of: Callable[[int], int],
    fit: str,
    shares: Mapping[str, float],
    test_images: int | None,
) -> Dataset:
    """As `experiments.data.folder.picture_folder`, but that pictures are read at every use.

    Size, channels and type are those of up to `INSPECTED` pictures; another that does not fit raises when it is read.
    What was trained on is known by names and bytes' counts, and copies are not looked for.
    """
    layout = layout_of(root)
    listed = [(file, label, split) for split, pairs in layout.splits.items() for file, label in pairs]
    labels = np.array([label for _, label, _ in listed], np.int32)
    names = [str(file.relative_to(root)).encode("utf-8", "replace").decode() for file, _, _ in listed]
    prints = [os.fsencode(file.relative_to(root)) + b" %d" % _length(file) for file, _, _ in listed]
    given = {split: np.flatnonzero([of == split for _, _, of in listed]) for split in layout.splits}
    options = dict(shares=shares, seed=seed, test_images=test_images)
    parts = splits_of(None if None in given else given, names, labels, prints, layout.class_names, **options)
    say_skipped(layout.skipped)
    spread = np.unique(np.linspace(0, len(listed) - 1, min(INSPECTED, len(listed))).round().astype(int))
    files = [inspected(*listed[i]) for i in spread]
    dtype, features = say_mixture(files)
    preprocessing = Preprocessing(common_size([file.sides for file in files], size_of, fit), features, dtype, fit)
    reader = PictureReader(np.array([os.fsencode(file) for file, _, _ in listed]), preprocessing)
    return Dataset(
        name=f"the pictures in {root}",
        classes=len(layout.class_names),
        **{
            split: Split(Streamed(reader, indices), labels[indices], [names[i] for i in indices])
            for split, indices in parts.items()
        },
        provenance=describe_own("folder, streamed", seed, layout.class_names, labels, prints, parts),
        class_names=layout.class_names,
        preprocessing=preprocessing,
    )


def _length(file):
    try:
        return file.stat().st_size
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error
