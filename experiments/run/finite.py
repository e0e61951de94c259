"""Runs whose numbers stop being finite: they stop as well, and say where and what to do."""

import contextlib
from collections.abc import Callable, Iterator

import numpy as np

from experiments.run.workdir import Run

_ADVICE = "lower optimizer.learning_rate or set optimizer.clip_norm, in another --workdir"


def check_finite(first_bad_step: np.ndarray, run: Run, per_epoch: int) -> None:
    """Raises a `FloatingPointError` if a seed's loss, parameters or statistics were not finite at a step."""
    bad = np.flatnonzero(first_bad_step)
    if len(bad):
        seed, step = run.config().seeds[bad[0]], first_bad_step[bad[0]]
        raise FloatingPointError(
            f"loss or network of seed {seed} are not finite at step {step} (epoch {-(-step // per_epoch)}): {_ADVICE}"
        )


def check_logits(bad: np.ndarray, split: str, step: int, run: Run) -> None:
    """Raises a `FloatingPointError` if a seed's logits of images of a split are not finite; `bad` counts those."""
    if np.any(bad):
        seed = run.config().seeds[np.flatnonzero(bad)[0]]
        raise FloatingPointError(f"logits of seed {seed} on the {split} split are not finite at step {step}: {_ADVICE}")


@contextlib.contextmanager
def telling_what_stays(run: Run, wait: Callable[[], None]) -> Iterator[None]:
    """Within it, a `FloatingPointError` also names the last good checkpoint, once `wait` has seen it written."""
    try:
        yield
    except FloatingPointError as error:
        wait()
        step = run.newest_step
        stays = "there is no checkpoint yet" if step is None else f"the last good checkpoint, of step {step}, stays"
        raise FloatingPointError(f"{error}; {stays}") from error
