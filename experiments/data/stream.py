"""Images that are read when they are asked for, for sets that memory does not hold, and their batches through Grain."""

import contextlib
import dataclasses
import gc
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

SAMPLE = 1024
"""Images of a larger set from which mean, deviation and background are taken."""
BUFFER = 4
"""Batches that are read ahead, by every process that reads."""


class Streamed:
    """Images `[image, x, y, 1, c]` (float32) that are read at every indexing: by a number, a slice or an array.

    Args:
      read: makes images of places in the set, `[image]`; pickled for processes that read.
      places: of the images.
      changes: what is done to images that are read, one after the other.
    """

    def __init__(
        self,
        read: Callable[[np.ndarray], np.ndarray],
        places: np.ndarray,
        changes: tuple[Callable[[np.ndarray], np.ndarray], ...] = (),
    ):
        self.read, self.places, self.changes = read, places, changes
        first = self[:1]
        self.shape, self.dtype, self.ndim = (len(places), *first.shape[1:]), first.dtype, first.ndim

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> np.ndarray:
        if isinstance(index, int | np.integer):
            return self[index : index + 1 or None][0]
        images = self.read(self.places[index])
        for change in self.changes:
            images = change(images)
        return images

    def changed(self, change: Callable[[np.ndarray], np.ndarray]) -> "Streamed":
        """These images, with a further change."""
        return Streamed(self.read, self.places, (*self.changes, change))

    def at(self, index: Any) -> "Streamed":
        """Those at a slice or an array, not read."""
        return Streamed(self.read, self.places[index], self.changes)

    def sample(self) -> np.ndarray:
        """All of them, of more than `SAMPLE` so many, drawn by a fixed seed."""
        if len(self) <= SAMPLE:
            return self[:]
        return self[np.sort(np.random.default_rng(0).choice(len(self), SAMPLE, replace=False))]


@dataclasses.dataclass(frozen=True)
class Part:
    """The part of every batch that a process reads: of `count` equal parts, one after the other, that of `index`."""

    index: int = 0
    count: int = 1

    def of(self, start: int, stop: int) -> tuple[int, int]:
        """Where the part of the places from `start` to `stop` begins and ends."""
        size = (stop - start) // self.count
        return start + self.index * size, start + (self.index + 1) * size


@dataclasses.dataclass(frozen=True)
class TrainingBatches:
    """Images `[seed, image, x, y, 1, c]` and labels `[seed, image]` of every step of a training, by its number from 0.

    An epoch is a pseudo-random order, which depends on seed and epoch; a step is found without those before it, and
    by whatever process. Where several processes train together, each reads its part.
    """

    images: Streamed
    labels: np.ndarray
    seeds: tuple[int, ...]
    batch_size: int
    steps: int
    part: Part = Part()

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        places = np.stack([self._places(seed, int(step)) for seed in self.seeds])
        images = self.images[places.ravel()]
        return images.reshape(*places.shape, *images.shape[1:]), self.labels[places]

    def _places(self, seed, step):
        from grain.experimental import index_shuffle  # noqa: PLC0415

        count = len(self.images)
        epoch, position = divmod(step, count // self.batch_size)
        key = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
        start = position * self.batch_size
        options = dict(max_index=count - 1, seed=key, rounds=4)
        own = range(*self.part.of(start, start + self.batch_size))
        return np.array([index_shuffle(index, **options) for index in own])


@dataclasses.dataclass(frozen=True)
class EvaluationBatches:
    """Images and labels of a split, in its order; the last batch is filled up with images of label -1."""

    images: Streamed
    labels: np.ndarray
    batch_size: int
    part: Part = Part()

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.batch_size)

    def __getitem__(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        start, stop = self.part.of(batch * self.batch_size, (batch + 1) * self.batch_size)
        images, labels = self.images[start:stop], self.labels[start:stop]
        missing = stop - start - len(labels)
        images = np.concatenate([images, np.zeros([missing, *images.shape[1:]], images.dtype)])
        return images, np.concatenate([labels, np.full(missing, -1, labels.dtype)])


@contextlib.contextmanager
def reading(batches: Any, workers: int, start: int = 0) -> Iterator[Iterator[tuple[np.ndarray, np.ndarray]]]:
    """An iterator over batches from one on, which are read ahead; they are the same for any number of workers.

    Args:
      batches: `TrainingBatches` or `EvaluationBatches`.
      workers: processes that read; 0: threads of this one.
      start: the first batch.

    Raises:
      ValueError: an image cannot be read, which it names; or a worker has died.
    """
    # A second to import, and sets in memory do without.
    import grain  # noqa: PLC0415
    from absl import flags  # noqa: PLC0415

    if not flags.FLAGS.is_parsed():
        # Grain's workers are given the flags of absl, which a program without absl.app has not read.
        flags.FLAGS.mark_as_parsed()
    # More threads wait for each other, for most of a small picture's time is Python's.
    ahead = grain.ReadOptions(num_threads=1 if workers else 2, prefetch_buffer_size=BUFFER)
    dataset = grain.MapDataset.source(batches).slice(slice(start, None)).to_iter_dataset(ahead)
    if workers:
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=BUFFER)
        dataset = dataset.mp_prefetch(options, worker_init_fn=_begin_worker)
    iterator = iter(dataset)
    yielded = _with_clear_errors(iterator, len(batches) - start)
    try:
        yield yielded
    finally:
        # Or the iterator would live on in it, and complain when the interpreter ends.
        yielded.close()
        iterator.close()
        del iterator
        # Shared memory is given back with the last reference, and Grain's are in a circle.
        gc.collect()


def _with_clear_errors(iterator, count):
    """So many batches of an iterator of Grain; raises a `ValueError` that says what to do if a worker died."""
    for _ in range(count):
        try:
            batch = next(iterator)
        except RuntimeError as error:
            if "Worker process was terminated" not in str(error):
                raise
            raise ValueError(
                f"a process that reads images has ended ({' '.join(str(error).split())}): the same command continues "
                "at the newest checkpoint, with fewer --data.workers where memory was short"
            ) from error
        # Copies: what a program still holds when it ends would leave its shared memory behind.
        copies = tuple(np.array(array) for array in batch)
        del batch
        yield copies


def _begin_worker(index: int, count: int) -> None:
    """Has a worker leave signals of the terminal to the process that trains, and end with it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent):
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
