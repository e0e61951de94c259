"""Where a run's figures go: a JSON-lines file, TensorBoard, and a progress bar."""

import contextlib
import json
import os
import pathlib
import sys
import warnings
from typing import Any

import tqdm
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2
from tensorboardX.summary import scalar

from experiments.run.processes import is_first
from experiments.run.runtime import writing

NAME = "metrics.jsonl"


class Metrics:
    """Writes a record an epoch to `metrics.jsonl` and to a TensorBoard event file, which every start writes anew.

    Args:
      workdir: of the run.
      step: that the run continues from; what was written beyond it is taken back.
      seeds: name the curves.
    """

    def __init__(self, workdir: pathlib.Path, step: int, seeds: tuple[int, ...]):
        self._seeds = seeds
        self._path = workdir / NAME
        records = [record for record in read_metrics(workdir) if record["step"] <= step]
        board = workdir / "tensorboard"
        with writing(workdir):
            partial = self._path.with_name(f".{NAME}.partial")
            partial.write_text("".join(_line(record) for record in records))
            os.replace(partial, self._path)
            self._file = self._path.open("a")
            board.mkdir(exist_ok=True)
            for old in board.glob("events.out.tfevents.*"):
                old.unlink()
            # Its own thread, which a summary writer would start, dies of a full disk and leaves the run waiting.
            self._events = EventsWriter(str(board / "events"))
            for record in records:
                self._write_events(record)
            self._events.flush()

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, kind, error, trace):
        with contextlib.suppress(OSError) if error else writing(self._path):
            self._file.close()
            self._events.close()

    def write(self, record: dict[str, Any]) -> None:
        """Writes a record: `step`, `epoch`, `time`, numbers, and lists of numbers with one a seed."""
        with writing(self._path):
            self._file.write(_line(record))
            self._file.flush()
            self._write_events(record)
            self._events.flush()

    def _write_events(self, record):
        for name, value in record.items():
            numbers = zip(self._seeds, value, strict=True) if isinstance(value, list) else [(None, value)]
            for seed, number in numbers:
                if name not in ("step", "time"):
                    summary = scalar(name if seed is None else f"{name}/seed_{seed}", number)
                    event = event_pb2.Event(wall_time=record.get("time", 0.0), step=record["step"], summary=summary)
                    self._events.write_event(event)


class _Elsewhere:
    """In place of `Metrics`, in a process that writes none."""

    def write(self, record: dict[str, Any]) -> None:
        """Writes nothing."""


def metrics_of(workdir: pathlib.Path, step: int, seeds: tuple[int, ...]) -> contextlib.AbstractContextManager[Any]:
    """`Metrics` in the first of the processes that train together; in the others nothing is written."""
    return Metrics(workdir, step, seeds) if is_first() else contextlib.nullcontext(_Elsewhere())


def read_metrics(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The records of a run's metrics file; none if there is no file.

    A killed process may leave half a line at the end. Another line that is no record is passed over with a warning.
    """
    path = workdir / NAME
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
        elif number < len(lines):
            warnings.warn(f"{path}, line {number} is damaged and passed over", stacklevel=2)
    return records


def progress_bar(total: int, done: int) -> tqdm.tqdm:
    """A bar over images, with images per second, on standard error."""
    options = dict(unit="image", unit_scale=True, file=sys.stderr, mininterval=0.5, disable=not is_first())
    return tqdm.tqdm(total=total, initial=done, **options)


def _line(record):
    return json.dumps(record, allow_nan=False) + "\n"
