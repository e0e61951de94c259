"""Where the steps of a run have their images from: from memory, many steps a call, or from a stream, batch by batch."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import numpy as np

from experiments.data import Dataset, Split
from experiments.data.stream import EvaluationBatches, Streamed, TrainingBatches, reading
from experiments.run.evaluation import evaluation_batch
from experiments.run.mesh import everywhere, from_processes, part_of_this_process, shaped
from experiments.run.training import Trainer, TrainState

BATCHES_PER_PROCESS = 8
"""That a split must have for every process that reads it."""
Program = Callable[[], jax.stages.Traced]


class Feed(Protocol):
    """The images of a run."""

    dataset: Dataset

    def start(self, step: int) -> None:
        """Begins with a step, counted from 0; called once, before the first `train`."""

    def train(self, state: TrainState, count: int) -> TrainState:
        """`count` steps within an epoch; `state` is used up."""

    def count_errors(self, params: Any, rest: Any, split: str) -> tuple[Any, Any]:
        """As `Trainer.count_errors`, of a split by name."""

    def programs(self, state: TrainState, evaluated: tuple[Any, Any]) -> list[Program]:
        """What is to be compiled before the first step, as functions that trace it."""

    def figures(self) -> dict[str, float]:
        """What the log has of the input since this was asked last."""


class FromMemory:
    """Images that are on every device whole."""

    def __init__(self, trainer: Trainer, dataset: Dataset):
        self.dataset, self._trainer = dataset, trainer
        self._splits = {name: everywhere((split.images, split.labels)) for name, split in dataset.splits().items()}

    def start(self, step: int) -> None:
        """Does nothing: the state holds its position."""

    def train(self, state: TrainState, count: int) -> TrainState:
        """See `Feed`."""
        return self._trainer.train(state, *self._splits["train"], count)

    def count_errors(self, params: Any, rest: Any, split: str) -> tuple[Any, Any]:
        """See `Feed`."""
        return self._trainer.count_errors(params, rest, *self._splits[split])

    def programs(self, state: TrainState, evaluated: tuple[Any, Any]) -> list[Program]:
        """See `Feed`."""
        programs = [functools.partial(Trainer.train.trace, self._trainer, state, *self._splits["train"], 1)]
        for name in ("validation", "test"):
            count_errors = functools.partial(Trainer.count_errors.trace, self._trainer, *evaluated)
            programs.append(functools.partial(count_errors, *self._splits[name]))
        return programs

    def figures(self) -> dict[str, float]:
        """Nothing: no step waits."""
        return {}


class FromStream:
    """Images that are read while the device computes.

    Args:
      trainer: of the run.
      dataset: whose splits are `Streamed`.
      seeds: of its networks.
      total: steps of the run.
      workers: processes that read.
      stack: closes what reads.
    """

    def __init__(
        self,
        trainer: Trainer,
        dataset: Dataset,
        seeds: tuple[int, ...],
        total: int,
        workers: int,
        stack: contextlib.ExitStack,
    ):
        self.dataset, self._trainer, self._workers, self._stack = dataset, trainer, workers, stack
        images, labels = dataset.train.images, dataset.train.labels
        self._training = TrainingBatches(images, labels, seeds, trainer.batch_size, total, part_of_this_process())
        self._steps_per_epoch, self._waited = len(images) // trainer.batch_size, 0.0
        self._batches: Iterator[Any] = iter(())

    def start(self, step: int) -> None:
        """See `Feed`."""
        self._batches = self._stack.enter_context(reading(self._training, self._workers, step))

    def train(self, state: TrainState, count: int) -> TrainState:
        """See `Feed`."""
        for _ in range(count):
            started = time.perf_counter()
            batch = next(self._batches)
            self._waited += time.perf_counter() - started
            # Steps are dispatched and not waited for: the next batch is fetched while the device computes.
            state = self._trainer.train_batch(state, *from_processes(batch, axis=1), self._steps_per_epoch)
        return state

    def count_errors(self, params: Any, rest: Any, split: str) -> tuple[Any, Any]:
        """See `Feed`."""
        return count_errors(self._trainer, params, rest, self.dataset.splits()[split], self._workers)

    def programs(self, state: TrainState, evaluated: tuple[Any, Any]) -> list[Program]:
        """See `Feed`."""
        pixels, seeds, size = self.dataset.train.images.shape[1:], len(state.step), self._trainer.batch_size
        batch = _shaped((seeds, size), pixels)
        tested = _shaped((evaluation_batch(),), pixels)
        return [
            functools.partial(Trainer.train_batch.trace, self._trainer, state, *batch, self._steps_per_epoch),
            functools.partial(Trainer.count_errors.trace, self._trainer, *evaluated, *tested),
        ]

    def figures(self) -> dict[str, float]:
        """Seconds in which a step waited for its images."""
        waited, self._waited = self._waited, 0.0
        return {"input_wait_seconds": waited}


def _shaped(shape, pixels):
    """Of images and of labels, whose last axis counts images."""
    axis = len(shape) - 1
    return shaped((*shape, *pixels), np.float32, axis), shaped(shape, np.int32, axis)


@contextlib.contextmanager
def feed_of(trainer: Trainer, dataset: Dataset, seeds: tuple[int, ...], total: int, workers: int) -> Iterator[Feed]:
    """The images of a run, until the context ends.

    Args:
      trainer: of the run.
      dataset: its images, in memory or streamed.
      seeds: of its networks.
      total: steps of the run.
      workers: processes that read a stream.
    """
    if not isinstance(dataset.train.images, Streamed):
        yield FromMemory(trainer, dataset)
        return
    with contextlib.ExitStack() as stack:
        yield FromStream(trainer, dataset, seeds, total, workers, stack)


def count_errors(trainer: Trainer, params: Any, rest: Any, split: Split, workers: int = 0) -> tuple[Any, Any]:
    """As `Trainer.count_errors`, of a split in memory or streamed."""
    if not isinstance(split.images, Streamed):
        return trainer.count_errors(params, rest, split.images, split.labels)
    source = EvaluationBatches(split.images, split.labels, evaluation_batch(), part_of_this_process())
    # Few batches are read before a process has started.
    total, last = (0, 0), None
    with reading(source, min(workers, len(source) // BATCHES_PER_PROCESS)) as batches:
        for batch in batches:
            counted = trainer.count_errors(params, rest, *from_processes(batch, axis=0))
            # One batch behind, so that the device has no more than two.
            total, last = _added(total, last), counted
    return _added(total, last)


def _added(total, counts):
    return total if counts is None else tuple(a + np.asarray(b) for a, b in zip(total, counts, strict=True))
