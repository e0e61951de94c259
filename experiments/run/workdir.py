"""A run on the disk: what it is, what it measured, and that one process at a time works on it.

run.json          configuration, data, command, versions: written before the first step, and when the run is extended
metrics.jsonl     a line an epoch
tensorboard/      the same for TensorBoard
checkpoints/      the newest two; each holds the last and the best networks
networks/         of every seed the last and the best, for `attgconv_jax.models.load_classifier`
report.json       written when the run is complete
report.html       written after it, with its pictures (see `experiments.report.pages`)
"""

import contextlib
import functools
import itertools
import os
import pathlib
import shutil
import time
from collections.abc import Iterator, Mapping
from typing import Any

import filelock
import jax

from attgconv_jax.models import NETWORKS
from attgconv_jax.nn.norm import RunningVariance
from experiments.data import OWN_NAMES, Arrays, Dataset, load, set_of_arrays
from experiments.run.configuration import Config, frame_note, steps_per_epoch
from experiments.run.extending import extension
from experiments.run.identity import from_identity, identity
from experiments.run.json_files import read_json, write_json
from experiments.run.metrics import read_metrics
from experiments.run.processes import is_first
from experiments.run.runtime import describe_device, given_command, writing

PAGE = "report.html"
PICTURES = ("angles", "attention", "attention-pairs", "confusion", "curves", "layers", "mistakes")
"""PNG files beside the page."""

_EPOCHS = "optimizer.epochs"
_THERE_AND_HERE = "{} is {} there and {} here"


class Run:
    """A run in its work directory, which may not exist yet; a `ValueError` if a file in it is damaged."""

    def __init__(self, workdir: pathlib.Path):
        if os.path.lexists(workdir) and not workdir.is_dir():
            raise ValueError(f"--workdir {workdir} is no folder: name another")
        self.workdir = workdir
        self.description = self._read_description()
        again = "delete this file, and the command that trained writes it again"
        report = read_json(workdir / "report.json", (), again)
        # A report from before the run was extended is not of the run as it is now.
        self.report = report if (report or {}).get("extensions", []) == self.extensions else None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.workdir.resolve().name

    @property
    def extensions(self) -> list[dict[str, Any]]:
        """Records of every time that it was extended; see `experiments.run.extending`."""
        return (self.description or {}).get("extensions", [])

    @property
    def running_variance(self) -> RunningVariance:
        """What its batch norms keep: as those of the network that it started from."""
        return (self.description or {}).get("start", {}).get("running_variance", "biased")

    @property
    def newest_step(self) -> int | None:
        """Of the newest checkpoint; None if there is none."""
        steps = [int(path.name) for path in (self.workdir / "checkpoints").glob("*") if path.name.isdigit()]
        return max(steps, default=None)

    @classmethod
    def open(cls, workdir: pathlib.Path) -> "Run":
        """A run that has begun; a `ValueError` if there is none."""
        run = cls(workdir)
        if run.description is None:
            raise ValueError(f"{workdir} holds no run; train one with: python -m experiments.train --workdir {workdir}")
        return run

    def config(self, directory: pathlib.Path | None = None, path: pathlib.Path | None = None) -> Config:
        """The configuration it began with, with its data in `directory`, or at `path` if not where they were then."""
        try:
            former = self.description.get("path")
            path = path or (None if former is None else pathlib.Path(former))
            return from_identity(self.description["config"], directory, path)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{self.workdir / 'run.json'} is of no run that this version can read: {error}") from error

    def dataset(self, directory: pathlib.Path | None = None, path: pathlib.Path | None = None) -> Dataset:
        """The data it began with, not standardised; a `ValueError` if they are not there, or are others by now."""
        dataset = dataset_of(self.config(directory, path))
        self.check_data(dataset)
        return dataset

    def metrics(self) -> list[dict[str, Any]]:
        """What was measured, a record an epoch."""
        return read_metrics(self.workdir)

    def check(self, config: Config, *, extend: bool = False) -> None:
        """Raises a `ValueError` if the folder holds something else or a run whose fields differ, which it names.

        With `extend` the number of epochs may differ. From where it started is compared by
        `experiments.run.transfer.check_start`, for weights may have moved.
        """
        if self.description is None:
            if self.workdir.is_dir() and any(not path.name.startswith(".") for path in self.workdir.iterdir()):
                raise ValueError(f"--workdir {self.workdir} is not empty and holds no run: name another folder")
            return
        former, now = identity(self.config()), identity(config)
        if None not in (former["init_from"], now["init_from"]):
            now["init_from"] = former["init_from"]
        differing = _differences(former, now | ({_EPOCHS: former[_EPOCHS]} if extend else {}), _THERE_AND_HERE)
        if differing:
            alone = differing == _differences({_EPOCHS: former[_EPOCHS]}, {_EPOCHS: now[_EPOCHS]}, _THERE_AND_HERE)
            longer = config.optimizer.epochs > former[_EPOCHS]
            hint = f"; --optimizer.epochs {config.optimizer.epochs} extends it" if alone and longer else ""
            raise ValueError(
                f"--workdir {self.workdir} holds a run of another configuration: {differing}. Name another folder, or "
                f"repeat the other command{hint}"
            )

    def is_finished(self, config: Config) -> bool:
        """Whether it has its report, and the epochs of this configuration."""
        begun = self.report is not None and self.description is not None
        return begun and self.config().optimizer.epochs == config.optimizer.epochs

    def begin(
        self,
        config: Config,
        dataset: Dataset,
        *,
        extend: bool = False,
        start: Mapping[str, Any] | None = None,
        devices: int = 1,
    ) -> None:
        """Writes configuration and data, or checks that they are those that the run began with, while `locked`.

        Of processes that train together the first writes, and then the others check.

        Args:
          config: the run's.
          dataset: its data.
          extend: whether a run of other epochs is extended, which is written as well.
          start: what is to be known of the weights that it starts from.
          devices: that share its batches.
        """
        # Another process may have begun here since this one looked, while it read its data.
        self.description = self._read_description()
        self.check(config, extend=extend)
        if self.description is not None:
            self.check_data(dataset)
            if self.has_moved(config) and is_first():
                self.description |= {"path": str(config.data.path.absolute())}
                write_json(self.workdir / "run.json", self.description)
            if config.optimizer.epochs != self.config().optimizer.epochs:
                self._extend(config, dataset)
            return
        if not is_first():
            raise ValueError(f"processes that train together must share --workdir {self.workdir}: this one sees no run")
        place = config.data.path
        self.description = {
            "config": identity(config),
            "data": dict(dataset.provenance),
            "class_names": list(dataset.class_names),
            **({} if place is None else {"path": str(place.absolute())}),
            **({} if start is None else {"start": dict(start)}),
            "date": time.strftime("%Y-%m-%d"),
            "command": given_command(),
            **describe_device(),
            **({} if devices == 1 else {"devices": devices, "processes": jax.process_count()}),
        }
        write_json(self.workdir / "run.json", self.description)

    def has_moved(self, config: Config) -> bool:
        """Whether a configuration names another place for the data than the one where they lay."""
        path = config.data.path
        return path is not None and str(path.absolute()) != self.description.get("path")

    def check_data(self, dataset: Dataset) -> None:
        """Raises a `ValueError` unless a set, standardised or not, is the one that the run began with."""
        differing = _differences(self.description["data"], dataset.provenance, "{} was {}, is {}")
        if differing:
            raise ValueError(f"{self.workdir} began with other data: {differing}")

    def _extend(self, config, dataset):
        """Writes that the run has other epochs; a report of those before is not the run's any more."""
        if self.newest_step is None and self.report is not None:
            raise ValueError(
                f"{self.workdir} has no checkpoint left to be extended from: train in another --workdir, or start from "
                f"its weights with --init-from {self.workdir}"
            )
        per_epoch = steps_per_epoch(config, len(dataset.train))
        record = extension(self.config(), config.optimizer.epochs, self.newest_step or 0, per_epoch)
        changed = self.description["config"] | {_EPOCHS: config.optimizer.epochs}
        self.description |= {"config": changed, "extensions": [*self.extensions, record]}
        write_json(self.workdir / "run.json", self.description)
        self.report = None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other runs from training in the same folder; a killed process lets go."""
        if not is_first():
            yield
            return
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

    def discard_results(self) -> None:
        """Removes a former page with its pictures, and the networks that were saved before the run was extended."""
        folder = self.workdir / "networks"
        with writing(self.workdir):
            for name in (PAGE, *(f"{name}.png" for name in PICTURES)):
                (self.workdir / name).unlink(missing_ok=True)
            if self.extensions and folder.is_dir():
                shutil.rmtree(folder)

    def finish(self, report: Mapping[str, Any]) -> None:
        """Writes the report, which makes the run complete."""
        self.report = dict(report)
        write_json(self.workdir / "report.json", self.report)

    def _read_description(self):
        return read_json(self.workdir / "run.json", ("config", "data"), f"delete {self.workdir} to start anew")


def _differences(former, now, words):
    names = [name for name in now if former.get(name) != now[name]]
    return "; ".join(words.format(name, former.get(name), now[name]) for name in names)


def dataset_of(config: Config, arrays: Arrays | None = None) -> Dataset:
    """The data of a configuration, or of arrays, not standardised, in the size that its network takes."""
    data, size_of = config.data, functools.partial(image_size, config)
    options = dict(seed=data.seed, size_of=size_of, fit=data.fit, shares=data.shares, test_images=data.test_images)
    if arrays is not None:
        return set_of_arrays(arrays, **options)
    dataset = load(data.name, data.directory, path=data.path, broken=data.broken, stream=data.stream, **options)
    if data.name in OWN_NAMES:
        return dataset
    resized = dataset.resized(size_of)
    note = frame_note(config, max(dataset.sides), max(resized.sides))
    if note is not None:
        print(f"note: {note}", flush=True)
    return resized


def image_size(config: Config, pixels: int) -> int:
    """The size of a configuration's images, of which the larger side has so many pixels.

    Raises:
      ValueError: its network does not take the size that it names, or only inexactly; the message has the nearest.
    """
    size, model = config.data.size, config.model
    largest = NETWORKS[model.name].size
    if size == "exact":
        return model.image_size(pixels if largest is None else min(pixels, largest))
    around = (near for away in itertools.count() for near in (size - away, size + away) if near >= 1)
    nearest = largest or next(near for near in around if model.image_size(near) == near)
    if size != nearest:
        raise ValueError(
            f"data.size must be one that {model.name} on {model.group} takes, got {size}: the nearest is {nearest}, "
            "and --data.size exact chooses for you"
        )
    return size


def standardised(config: Config, dataset: Dataset, by: Dataset | None = None) -> Dataset:
    """The set, standardised by its own training images or those of `by`, if the configuration says so.

    Raises:
      ValueError: by channel, and there is but one.
    """
    if config.data.channelwise and dataset.in_features == 1:
        raise ValueError(
            f"data.channelwise is of images with several channels, and {dataset.name} has one: leave it out, or add "
            "--data.no-channelwise"
        )
    return dataset.standardised(by, channelwise=config.data.channelwise) if config.data.standardise else dataset
