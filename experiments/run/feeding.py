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
from experiments.run.training import EVALUATION_BATCH, Trainer, TrainState

WORTH_A_PROCESS = 8
"""Batches of evaluation that a process must have to read."""
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
    """Images that are on the device whole."""

    def __init__(self, trainer: Trainer, dataset: Dataset):
        self.dataset, self._trainer = dataset, trainer
        self._splits = {name: jax.device_put((split.images, split.labels)) for name, split in dataset.splits().items()}

    def start(self, step: int) -> None:
        """The state knows."""

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
        """None."""
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
        self._training = TrainingBatches(images, labels, seeds, trainer.batch_size, total)
        self._steps_per_epoch, self._waited = len(images) // trainer.batch_size, 0.0

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
            state = self._trainer.train_batch(state, *jax.device_put(batch), self._steps_per_epoch)
        return state

    def count_errors(self, params: Any, rest: Any, split: str) -> tuple[Any, Any]:
        """See `Feed`."""
        return count_errors(self._trainer, params, rest, self.dataset.splits()[split], self._workers)

    def programs(self, state: TrainState, evaluated: tuple[Any, Any]) -> list[Program]:
        """See `Feed`."""
        shape, seeds = self.dataset.train.images.shape[1:], len(state.step)
        images, labels = (functools.partial(jax.ShapeDtypeStruct, dtype=dtype) for dtype in (np.float32, np.int32))
        size = self._trainer.batch_size
        batch = images((seeds, size, *shape)), labels((seeds, size))
        tested = images((EVALUATION_BATCH, *shape)), labels((EVALUATION_BATCH,))
        return [
            functools.partial(Trainer.train_batch.trace, self._trainer, state, *batch, self._steps_per_epoch),
            functools.partial(Trainer.count_errors.trace, self._trainer, *evaluated, *tested),
        ]

    def figures(self) -> dict[str, float]:
        """Seconds in which a step waited for its images."""
        waited, self._waited = self._waited, 0.0
        return {"input_wait_seconds": waited}


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
    source = EvaluationBatches(split.images, split.labels, EVALUATION_BATCH)
    # Few batches are read before a process has started.
    with reading(source, min(workers, len(source) // WORTH_A_PROCESS)) as batches:
        counts = [trainer.count_errors(params, rest, *batch) for batch in batches]
    return jax.tree.map(lambda *parts: sum(parts), *counts)
