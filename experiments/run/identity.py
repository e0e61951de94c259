"""What a run is known by: the fields of its configuration that decide its numbers, of earlier versions as well."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

from attgconv_jax import Sampling
from experiments.augmentation import AugmentConfig
from experiments.run.configuration import Config, DataConfig, OptimizerConfig
from experiments.run.fields import as_json, as_of_now
from experiments.run.model_configuration import config_class

_NO_IDENTITY = {"data.directory", "data.path", "data.workers", "augment.preview"}


def identity(config: Config) -> dict[str, Any]:
    """The fields that decide a run's numbers, by dotted name, as JSON holds them: no paths, workers and preview."""
    fields = as_json(dataclasses.asdict(config))
    fields = {name: value for name, value in fields.items() if name not in _NO_IDENTITY}
    if config.init_from is not None:
        fields["init_from"] = str(config.init_from)
    return fields


def from_identity(
    fields: Mapping[str, Any], directory: pathlib.Path | None = None, path: pathlib.Path | None = None
) -> Config:
    """The configuration that `identity` described, with its data in `directory` or at `path`.

    Fields that there were not yet when the run began have the values that stand for what was done then.

    Raises:
      ValueError: a field is missing, unknown or wrong; the message names it.
    """
    nested = _nested(as_of_now(fields))
    if "name" not in nested["model"]:
        raise ValueError("it lacks model.name")
    made = config_class(nested["model"]["name"])
    classes = {"data": DataConfig, "model": made, "optimizer": OptimizerConfig, "augment": AugmentConfig}
    sampling = nested["model"].get("sampling")
    if sampling is not None:
        nested["model"]["sampling"] = Sampling(**sampling)
    expected = {f"{part}.{field.name}" for part, of in classes.items() for field in dataclasses.fields(of)}
    expected |= {field.name for field in dataclasses.fields(Config)} - classes.keys()
    given = {f"{part}.{name}" for part in classes for name in nested[part]} | (nested.keys() - classes.keys())
    missing, unknown = sorted(expected - given - _NO_IDENTITY), sorted(given - expected)
    if missing or unknown:
        raise ValueError(
            f"a configuration has the fields {', '.join(sorted(expected))}; missing: {', '.join(missing) or 'none'}; "
            f"unknown: {', '.join(unknown) or 'none'}"
        )
    nested["data"] |= {"directory": directory, "path": path}
    if nested["init_from"] is not None:
        nested["init_from"] = pathlib.Path(nested["init_from"])
    return Config(**nested | {part: of(**nested[part]) for part, of in classes.items()})


def _nested(fields):
    """Fields by dotted name as dictionaries in dictionaries, lists as tuples."""
    nested = {"data": {}, "model": {}, "optimizer": {}, "augment": {}}
    for path, value in fields.items():
        *parents, name = path.split(".")
        inner = functools.reduce(lambda level, parent: level.setdefault(parent, {}), parents, nested)
        inner[name] = tuple(value) if isinstance(value, list) else value
    return nested
