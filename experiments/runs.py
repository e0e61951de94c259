"""A run on the disk: what it is, what it measured, and that one process at a time works on it.

run.json          configuration, data, versions: written once, before the first step
metrics.jsonl     a line an epoch
tensorboard/      the same for TensorBoard
checkpoints/      the newest two; each holds the last and the best networks
networks/         of every seed the last and the best, for `attgconv_jax.models.load_network`
report.json       written when the run is complete
"""

import contextlib
import json
import os
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import filelock

from experiments.config import Config, from_identity, identity
from experiments.data import Dataset, load
from experiments.runtime import describe_device


class Run:
    """A run in its work directory.

    Args:
      workdir: may not exist yet.
    """

    def __init__(self, workdir: pathlib.Path):
        self.workdir = workdir
        self.description = _read(workdir / "run.json")
        self.report = _read(workdir / "report.json")

    @classmethod
    def open(cls, workdir: pathlib.Path) -> "Run":
        """A run that has begun.

        Raises:
          ValueError: there is none.
        """
        run = cls(workdir)
        if run.description is None:
            raise ValueError(f"{workdir} holds no run; train one with: python -m experiments.train --workdir {workdir}")
        return run

    def config(self, directory: pathlib.Path | None = None) -> Config:
        """The configuration it began with; `directory` holds prepared data sets."""
        try:
            return from_identity(self.description["config"], directory)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{self.workdir / 'run.json'} is of no run that this version can read: {error}") from error

    def dataset(self, directory: pathlib.Path | None = None) -> Dataset:
        """The data it began with.

        Raises:
          ValueError: the data are not there, or are others by now.
        """
        config = self.config(directory).data
        dataset = load(config.name, config.directory, config.seed)
        self._check_data(dataset)
        return dataset

    def metrics(self) -> list[dict[str, Any]]:
        """What was measured, a record an epoch."""
        return read_metrics(self.workdir / "metrics.jsonl")

    def check(self, config: Config) -> None:
        """Refuses a work directory that is another run's, or no run's.

        Raises:
          ValueError: names the fields that differ.
        """
        others = [name for name in _names(self.workdir) if not name.startswith(".")]
        if self.description is None and others:
            raise ValueError(f"--workdir {self.workdir} is not empty and holds no run: name another folder")
        if self.description is None:
            return
        there, here = identity(self.config()), identity(config)
        differing = [
            f"{name} is {there[name]} there and {here[name]} here" for name in here if there[name] != here[name]
        ]
        if differing:
            raise ValueError(
                f"--workdir {self.workdir} holds a run of another configuration: {'; '.join(differing)}. Name another "
                "folder, or repeat the other command"
            )

    def begin(self, config: Config, dataset: Dataset) -> None:
        """Writes down what this run is, or checks that it still is.

        Raises:
          ValueError: the data are not those that the run began with.
        """
        if self.description is not None:
            self._check_data(dataset)
            return
        self.description = {
            "config": identity(config),
            "data": dict(dataset.provenance),
            "date": time.strftime("%Y-%m-%d"),
            **describe_device(),
        }
        write_json(self.workdir / "run.json", self.description)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training in the same folder; a killed process lets go.

        Raises:
          ValueError: another process has it.
        """
        self.workdir.mkdir(parents=True, exist_ok=True)
        try:
            with filelock.FileLock(self.workdir / ".lock", timeout=0):
                yield
        except filelock.Timeout as error:
            raise ValueError(
                f"another process trains in {self.workdir}; wait for it, or name another folder"
            ) from error

    def finish(self, report: Mapping[str, Any]) -> None:
        """Writes the report, which makes the run complete."""
        self.report = dict(report)
        write_json(self.workdir / "report.json", self.report)

    def _check_data(self, dataset):
        began, now = self.description["data"], dict(dataset.provenance)
        differing = [
            f"{name} was {began.get(name)}, is {now.get(name)}" for name in now if began.get(name) != now[name]
        ]
        if differing:
            raise ValueError(f"{self.workdir} began with other data: {'; '.join(differing)}")


def read_metrics(path: pathlib.Path, last_step: int | None = None) -> list[dict[str, Any]]:
    """The records of a metrics file, up to a step; the half line that a killed process may leave is none."""
    records = []
    if path.exists():
        for line in path.read_text(errors="replace").splitlines():
            try:
                records.append(json.loads(line))
            except ValueError:
                break
    return [record for record in records if last_step is None or record["step"] <= last_step]


def write_json(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Writes a file that appears whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(partial, path)


def _read(path):
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); delete {path.parent} to start anew") from error


def _names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
