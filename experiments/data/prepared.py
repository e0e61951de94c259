"""Sets that TFDS has prepared, read without TensorFlow."""

import contextlib
import dataclasses
import functools
import itertools
import logging
import os
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from attgconv_jax.preprocessing import Preprocessing
from experiments.data.amat import ARCHIVE
from experiments.data.dataset import Dataset, Split, describe, held_out, register
from experiments.data.regenerated import SEED, SIZES
from experiments.data.stream import Streamed

MNIST_FILES = tuple(f"{part}-{what}-ubyte.gz" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1"))
PCAM_FILES = tuple(
    f"camelyonpatch_level_2_split_{part}_{what}.h5.gz" for part in ("train", "valid", "test") for what in "xy"
)
FORMAT = "array_record"


class Published(NamedTuple):
    """What is known of a set before it is prepared."""

    sizes: Mapping[str, int]
    """Images by split."""
    files: tuple[str, ...]
    """As they are published."""
    url: str | None = None
    """Their host; None: that of TFDS' builder, or they are not downloaded."""
    named: bool = False
    """Whether classes have names. Digits and clothes are called by their numbers, as when the first runs were made."""


_MNIST = Published({"train": 60_000, "test": 10_000}, MNIST_FILES)
_CIFAR_SIZES, _CIFAR_URL = {"train": 50_000, "test": 10_000}, "https://www.cs.toronto.edu"
_PCAM_SIZES = {"train": 262_144, "validation": 32_768, "test": 32_768}
REGENERATED = ("rot_mnist/regenerated", "mnist_scale/regenerated", "mnist_rot_scale/regenerated")
PUBLISHED: dict[str, Published] = {
    **{name: Published(SIZES, MNIST_FILES) for name in REGENERATED},
    "rot_mnist/original": Published(SIZES, (ARCHIVE,)),
    "mnist": _MNIST,
    "fashion_mnist": _MNIST,
    "kmnist": _MNIST,
    "cifar10": Published(_CIFAR_SIZES, ("cifar-10-binary.tar.gz",), _CIFAR_URL, named=True),
    "cifar100": Published(_CIFAR_SIZES, ("cifar-100-binary.tar.gz",), _CIFAR_URL, named=True),
    "patch_camelyon": Published(_PCAM_SIZES, PCAM_FILES, "https://zenodo.org", named=True),
}
PREPARED_NAMES = tuple(PUBLISHED)
PreparedName = Literal[PREPARED_NAMES]
CHUNK = 1000

# TFDS advises to install OpenCV, which helps larger images than these.
logging.getLogger("absl").addFilter(lambda record: "opencv" not in record.getMessage().lower())


@dataclasses.dataclass(frozen=True)
class RecordReader:
    """Makes images `[place, x, y, 1, c]`, white at 1, of the records at some places of TFDS' data source."""

    source: Sequence[Mapping[str, np.ndarray]]

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """Reads them in one call, in which blocks of the files are read in parallel and once."""
        with _as_value_errors():
            return _floating(np.stack([example["image"] for example in self.source.__getitems__(places.tolist())]))


def prepared_set(name: str, seed: int = 0, directory: str | os.PathLike | None = None, stream: bool = False) -> Dataset:
    """A set as `python -m experiments.data.prepare` has left it.

    Sets without a validation split get one: 5,000 of their training images, by a permutation of that seed. Streamed,
    images are read when they are needed (`experiments.data.stream`), and the splits' fingerprints are of their labels.
    A `ValueError` if the set is not prepared, in a format which only TensorFlow reads, or damaged.
    """
    directory = data_directory(directory)
    builder = open_builder(name, directory)
    if not is_prepared(builder):
        raise ValueError(f"{name} is not prepared in {directory}; prepare it with: {command(name, directory)}")
    again = f"delete {builder.data_path} and run: {command(name, directory)}"
    try:
        with _as_value_errors():
            read = _streamed if stream else _read
            splits = {split: read(builder, split) for split in builder.info.splits}
    except ValueError as error:
        raise ValueError(f"{name} cannot be read ({error}); {again}") from error
    sizes = {split: len(read) for split, read in splits.items()}
    published = PUBLISHED[name]
    if sizes != published.sizes:
        raise ValueError(f"{name} must have {published.sizes} images, got {sizes}; {again}")
    if "validation" in splits:
        seed = SEED if name in REGENERATED else "none"
    else:
        splits |= held_out(splits["train"], seed)
    provenance = describe(f"{name}, streamed" if stream else name, str(builder.version), str(seed), splits)
    images, label = splits["train"].images, builder.info.features["label"]
    dtype = builder.info.features["image"].np_dtype
    preprocessing = Preprocessing(images.shape[1], images.shape[-1], np.dtype(dtype).name, "frame")
    names = tuple(label.names) if published.named else ()
    made = dict(provenance=provenance, class_names=names, preprocessing=preprocessing)
    return Dataset(name=name, classes=label.num_classes, **made, **splits)


def data_directory(directory: str | os.PathLike | None) -> pathlib.Path:
    """The folder of prepared sets: the one given, else `$TFDS_DATA_DIR`, else `~/tensorflow_datasets`."""
    return pathlib.Path(directory or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def open_builder(name: str, directory: pathlib.Path, file_format: str | None = None) -> Any:
    """TFDS' builder of a set, prepared or not; the format is that in which to prepare, None: in which the set is."""
    if name not in PREPARED_NAMES:
        raise ValueError(f"name must be one of {', '.join(PREPARED_NAMES)}, got {name!r}")
    # It takes nearly a second to import, and the embedded data set does without.
    import tensorflow_datasets as tfds  # noqa: PLC0415

    base, _, config = name.partition("/")
    if config:
        from experiments.data.builders.mnist_scale import MnistRotScale, MnistScale  # noqa: PLC0415
        from experiments.data.builders.rot_mnist import RotMnist  # noqa: PLC0415

        ours = {builder.name: builder for builder in (RotMnist, MnistScale, MnistRotScale)}
        return ours[base](config=config, data_dir=directory, file_format=file_format)
    return tfds.builder(name, data_dir=directory, file_format=file_format)


def is_prepared(builder: Any) -> bool:
    """Whether the set is there; a `ValueError` if only in a format which needs TensorFlow."""
    if not builder.data_path.exists():
        return False
    formats = sorted(found.value for found in builder.info.available_file_formats())
    if FORMAT not in formats:
        name, _, _ = builder.info.full_name.rpartition("/")
        raise ValueError(
            f"{builder.data_path} must hold {name} as {FORMAT} to be read without TensorFlow, but holds it as "
            f"{', '.join(formats)}; move that folder away or choose another directory, then run: "
            f"{command(name, builder.data_dir_root)}"
        )
    return True


def command(name: str, directory: str | os.PathLike) -> str:
    """The command that prepares the set."""
    return f"python -m experiments.data.prepare {name} --directory {shlex.quote(str(directory))}"


def _read(builder, split):
    source = builder.as_data_source(split)
    read = [[(e["image"], e["label"]) for e in examples] for examples in _chunks(source)]
    images, labels = zip(*itertools.chain(*read), strict=True)
    return Split(_floating(np.stack(images)), np.array(labels, np.int32))


def _streamed(builder, split):
    """The split, whose labels are read without decoding an image."""
    import tensorflow_datasets as tfds  # noqa: PLC0415

    undecoded = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    labels = [example["label"] for examples in _chunks(undecoded) for example in examples]
    images = Streamed(RecordReader(builder.as_data_source(split)), np.arange(len(labels)))
    return Split(images, np.array(labels, np.int32))


def _floating(images):
    if images.dtype == np.uint8:
        images = images.astype(np.float32) / np.float32(255)
    return images[:, :, :, None, :]


def _chunks(source):
    # One call for many records: the record file's blocks are read in parallel and once.
    for start in range(0, len(source), CHUNK):
        yield source.__getitems__(list(range(start, min(start + CHUNK, len(source)))))


@contextlib.contextmanager
def _as_value_errors():
    """So array_record reports a file which is missing, cut short or damaged: in a `RuntimeError`, here made a line."""
    try:
        yield
    except RuntimeError as error:
        raise ValueError(" ".join(str(error).split())) from error


for _name in PREPARED_NAMES:
    register(_name)(functools.partial(prepared_set, _name))
