"""A run on the disk: what it is, what it measured, and that one process at a time works on it.

run.json          configuration, data, versions: written once, before the first step
metrics.jsonl     a line an epoch
tensorboard/      the same for TensorBoard
checkpoints/      the newest two; each holds the last and the best networks
networks/         of every seed the last and the best, for `attgconv_jax.models.load_classifier`
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

from experiments.data import Dataset, load
from experiments.run.configuration import Config, from_identity, identity
from experiments.run.metrics import read_metrics
from experiments.run.runtime import describe_device, writing


class Run:
    """A run in its work directory, which may not exist yet; a `ValueError` if a file in it is damaged."""

    def __init__(self, workdir: pathlib.Path):
        if os.path.lexists(workdir) and not workdir.is_dir():
            raise ValueError(f"--workdir {workdir} is no folder: name another")
        self.workdir = workdir
        self.description = self._read_description()
        again = "delete this file, and the command that trained writes it again"
        self.report = _read(workdir / "report.json", (), again)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.workdir.resolve().name

    @classmethod
    def open(cls, workdir: pathlib.Path) -> "Run":
        """A run that has begun; a `ValueError` if there is none."""
        run = cls(workdir)
        if run.description is None:
            raise ValueError(f"{workdir} holds no run; train one with: python -m experiments.train --workdir {workdir}")
        return run

    def config(self, directory: pathlib.Path | None = None) -> Config:
        """The configuration it began with, with its data in `directory`, which is no part of a run."""
        try:
            return from_identity(self.description["config"], directory)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{self.workdir / 'run.json'} is of no run that this version can read: {error}") from error

    def dataset(self, directory: pathlib.Path | None = None) -> Dataset:
        """The data it began with; a `ValueError` if they are not there, or are others by now."""
        dataset = dataset_of(self.config(directory))
        self._check_data(dataset)
        return dataset

    def metrics(self) -> list[dict[str, Any]]:
        """What was measured, a record an epoch."""
        return read_metrics(self.workdir)

    def check(self, config: Config) -> None:
        """Raises a `ValueError` if the folder holds something else or a run whose fields differ, which it names."""
        if self.description is None:
            if self.workdir.is_dir() and any(not path.name.startswith(".") for path in self.workdir.iterdir()):
                raise ValueError(f"--workdir {self.workdir} is not empty and holds no run: name another folder")
            return
        differing = _differences(identity(self.config()), identity(config), "{} is {} there and {} here")
        if differing:
            raise ValueError(
                f"--workdir {self.workdir} holds a run of another configuration: {differing}. Name another folder, or "
                "repeat the other command"
            )

    def begin(self, config: Config, dataset: Dataset) -> None:
        """Writes configuration and data, or checks that they are those that the run began with, while `locked`."""
        # Another process may have begun here since this one looked, while it read its data.
        self.description = self._read_description()
        self.check(config)
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
        """Keeps other processes from training in the same folder; a killed process lets go."""
        lock = filelock.FileLock(self.workdir / ".lock", timeout=0)
        with writing(self.workdir):
            self.workdir.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire()
            except filelock.Timeout as error:
                raise ValueError(f"another process trains in {self.workdir}; wait for it, or name another") from error
        try:
            yield
        finally:
            lock.release()

    def finish(self, report: Mapping[str, Any]) -> None:
        """Writes the report, which makes the run complete."""
        self.report = dict(report)
        write_json(self.workdir / "report.json", self.report)

    def _read_description(self):
        return _read(self.workdir / "run.json", ("config", "data"), f"delete {self.workdir} to start anew")

    def _check_data(self, dataset):
        differing = _differences(self.description["data"], dataset.provenance, "{} was {}, is {}")
        if differing:
            raise ValueError(f"{self.workdir} began with other data: {differing}")


def _differences(former, now, words):
    names = [name for name in now if former.get(name) != now[name]]
    return "; ".join(words.format(name, former.get(name), now[name]) for name in names)


def dataset_of(config: Config) -> Dataset:
    """The data of a configuration, not standardised, in the size that its network takes."""
    data = config.data
    return load(data.name, data.directory, data.seed, data.test_images).resized(config.model.image_size)


def write_json(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Writes a file that appears whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    with writing(path):
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
        os.replace(partial, path)


def _read(path, required, cure):
    """A JSON file's object; None if there is no file."""
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); {cure}") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(name), dict) for name in required):
        raise ValueError(f"{path} is damaged (it lacks {', '.join(required) or 'an object'}); {cure}")
    return content
