"""Where a run's figures go: a JSON-lines file, TensorBoard, and a progress bar."""

import json
import pathlib
import sys
from typing import Any

import tensorboardX
import tqdm

from experiments.runs import read_metrics


class Metrics:
    """Writes a record an epoch to `metrics.jsonl` and to TensorBoard event files. A context manager.

    Args:
      workdir: of the run.
      step: that the run continues from; what was written beyond it is taken back.
      seeds: name the curves.

    Raises:
      OSError: the files cannot be written.
    """

    def __init__(self, workdir: pathlib.Path, step: int, seeds: tuple[int, ...]):
        path = workdir / "metrics.jsonl"
        kept = read_metrics(path, step)
        partial = path.with_name(".metrics.jsonl.partial")
        partial.write_text("".join(json.dumps(record) + "\n" for record in kept))
        partial.replace(path)
        self._file = path.open("a")
        self._board = tensorboardX.SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)
        self._seeds = seeds

    def __enter__(self) -> "Metrics":
        """Itself."""
        return self

    def __exit__(self, kind, error, trace):
        """Closes the files."""
        self._file.close()
        self._board.close()

    def write(self, record: dict[str, Any]) -> None:
        """Writes a record: `step`, `epoch`, numbers, and lists of numbers with one a seed."""
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        for name, value in record.items():
            if isinstance(value, list):
                for seed, number in zip(self._seeds, value, strict=True):
                    self._board.add_scalar(f"{name}/seed_{seed}", number, record["step"])
            elif name not in ("step", "time"):
                self._board.add_scalar(name, value, record["step"])
        self._board.flush()


def progress_bar(total: int, done: int, shown: bool) -> tqdm.tqdm:
    """A bar over images, with images per second, on standard error."""
    return tqdm.tqdm(
        total=total, initial=done, unit="image", unit_scale=True, disable=not shown, file=sys.stderr, mininterval=0.5
    )
