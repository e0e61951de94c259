"""What a run is made of: frozen dataclasses, which `tyro` turns into a command line."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import tyro

from attgconv_jax import Sampling
from experiments.data import DatasetName
from experiments.run.checks import check, check_choice, check_seed
from experiments.run.groups import is_lie
from experiments.run.model_configuration import MAX_SCALE, ModelConfig, config_class, model

Schedule = Literal["constant", "cosine", "step"]
SeedsMode = Literal["auto", "loop", "vmap"]
Directory = Annotated[
    pathlib.Path | None,
    tyro.conf.arg(
        metavar="DIR", help="Folder of prepared sets. Default: TFDS' own, $TFDS_DATA_DIR or ~/tensorflow_datasets."
    ),
]


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The images: `digits*` are embedded, every other set is prepared once by `python -m experiments.data.prepare`."""

    name: DatasetName = "digits"
    """Which data set."""

    directory: Directory = None
    test_images: int | None = None
    """How many images of the test split count, the first. Default: all."""

    seed: int = 0
    """Of digits*: decides split, angles, scales. Of mnist, fashion_mnist, kmnist: which training images validate."""

    def __post_init__(self):
        check_choice("data.name", self.name, DatasetName)
        check_seed("data.seed", self.seed)
        good = self.test_images is None or self.test_images >= 1
        check("data.test_images", self.test_images, "at least 1", good)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """How parameters are updated."""

    name: Literal["adam", "sgd"] = "adam"
    """adam, or sgd with momentum."""

    learning_rate: float = 2e-3
    """Of the first step after the warm-up."""

    schedule: Schedule = "cosine"
    """constant; cosine, to zero at the end; step, times `decay` after every epoch in `milestones`."""

    milestones: tuple[int, ...] = ()
    """Epochs after which the step schedule lowers the learning rate."""

    decay: float = 0.1
    """Factor of the step schedule."""

    warmup_epochs: float = 0.0
    """The learning rate first rises from zero, linearly."""

    momentum: float = 0.9
    """Of sgd."""

    l2: float = 1e-4
    """Its product with the parameters is added to the gradient, before Adam rescales it: the papers' L2."""

    weight_decay: float = 0.0
    """Decoupled: its product with learning rate and parameters is taken from the parameters (AdamW)."""

    clip_norm: float | None = None
    """Gradients of the loss with a larger global norm are scaled down to it."""

    epochs: int = 60
    """Passes over the training split."""

    batch_size: int = 64
    """Images a step. What does not fill the last batch of an epoch waits for the next epoch's shuffle."""

    def __post_init__(self):
        check_choice("optimizer.name", self.name, Literal["adam", "sgd"])
        check_choice("optimizer.schedule", self.schedule, Schedule)
        for name in ("epochs", "batch_size"):
            check(f"optimizer.{name}", getattr(self, name), "at least 1", getattr(self, name) >= 1)
        for name in ("learning_rate", "decay"):
            check(f"optimizer.{name}", getattr(self, name), "positive", getattr(self, name) > 0)
        for name in ("l2", "weight_decay", "warmup_epochs"):
            check(f"optimizer.{name}", getattr(self, name), "not negative", getattr(self, name) >= 0)
        check("optimizer.momentum", self.momentum, "in [0, 1)", 0 <= self.momentum < 1)
        if self.clip_norm is not None:
            check("optimizer.clip_norm", self.clip_norm, "positive", self.clip_norm > 0)
        rising = list(self.milestones) == sorted(set(self.milestones))
        inside = all(0 < epoch < self.epochs for epoch in self.milestones)
        check("optimizer.milestones", self.milestones, f"rising epochs before {self.epochs}", rising and inside)
        if self.milestones and self.milestones[0] <= self.warmup_epochs:
            raise ValueError(
                f"optimizer.milestones must lie after the {self.warmup_epochs} epochs of warm-up, got {self.milestones}"
            )
        if self.milestones and self.schedule != "step":
            raise ValueError(f"optimizer.milestones need optimizer.schedule step, got {self.schedule}")
        if self.schedule == "step" and not self.milestones:
            raise ValueError("optimizer.schedule step needs optimizer.milestones, for example 40 60 80")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"optimizer.warmup_epochs must be less than the {self.epochs} epochs, got {self.warmup_epochs}"
            )


@dataclasses.dataclass(frozen=True)
class Config:
    """One training run: one network, over one or several seeds."""

    data: DataConfig = DataConfig()
    model: ModelConfig = model("rot_mnist", "p4", "input", dropout_rate=0.1)
    optimizer: OptimizerConfig = OptimizerConfig()

    seeds: tuple[int, ...] = (0,)
    """A network a seed, trained side by side: each decides initialisation, shuffling, dropout and random grids."""

    seeds_mode: SeedsMode = "auto"
    """vmap computes all seeds in one batched program, loop one after the other; auto: loop on CPU, else vmap."""

    test_every: int = 5
    """Epochs between measurements of the test error, for the record: it decides nothing."""

    def __post_init__(self):
        check("seeds", self.seeds, "one or more different numbers", 0 < len(self.seeds) == len(set(self.seeds)))
        for seed in self.seeds:
            check_seed("seeds", seed)
        check_choice("seeds_mode", self.seeds_mode, SeedsMode)
        check("test_every", self.test_every, "at least 1", self.test_every >= 1)


def identity(config: Config) -> dict[str, Any]:
    """The fields that decide a run's numbers, by dotted name, as JSON holds them: all but where the data lie."""
    fields = _as_json(dataclasses.asdict(config))
    del fields["data.directory"]
    return fields


def from_identity(fields: Mapping[str, Any], directory: pathlib.Path | None = None) -> Config:
    """The configuration that `identity` described, with its data in `directory`.

    Raises:
      ValueError: a field is missing, unknown or wrong; the message names it.
    """
    nested = _nested(_renamed(dict(fields)))
    made = config_class(nested["model"]["name"])
    classes = {"data": DataConfig, "model": made, "optimizer": OptimizerConfig}
    sampling = nested["model"].get("sampling")
    if sampling is not None:
        nested["model"]["sampling"] = Sampling(**sampling)
    expected = {f"{part}.{field.name}" for part, of in classes.items() for field in dataclasses.fields(of)}
    expected |= {field.name for field in dataclasses.fields(Config)} - classes.keys()
    given = {f"{part}.{name}" for part in classes for name in nested[part]} | (nested.keys() - classes.keys())
    missing, unknown = sorted(expected - given - {"data.directory"}), sorted(given - expected)
    if missing or unknown:
        raise ValueError(
            f"a configuration has the fields {', '.join(sorted(expected))}; missing: {', '.join(missing) or 'none'}; "
            f"unknown: {', '.join(unknown) or 'none'}"
        )
    nested["data"]["directory"] = directory
    return Config(**nested | {part: of(**nested[part]) for part, of in classes.items()})


def _nested(fields):
    """Fields by dotted name as dictionaries in dictionaries, lists as tuples."""
    nested = {"data": {}, "model": {}, "optimizer": {}}
    for path, value in fields.items():
        *parents, name = path.split(".")
        inner = functools.reduce(lambda level, parent: level.setdefault(parent, {}), parents, nested)
        inner[name] = tuple(value) if isinstance(value, list) else value
    return nested


def _renamed(fields):
    """Fields of runs of version 0.1.0, before networks had names, as they are called now."""
    if "model.name" in fields or "model.group" not in fields:
        return fields
    lie = is_lie(fields["model.group"])
    fields = _BEFORE_NETWORKS | fields
    kinds = {None: "separable" if lie else "nonseparable", "g": "gseparable", "gc": "separable"}
    kind = fields.pop("model.kind")
    fields |= {"model.name": "lie_resnet" if lie else "rot_mnist", "model.kind": kinds.get(kind, kind)}
    for name in ("network", "options"):
        value = fields.pop(f"model.kernel_{name}")
        if lie:
            fields["model.network" if name == "network" else "model.network_options"] = value
    if not lie:
        del fields["model.max_scale"], fields["model.random_grids"]
    defaults = _as_json({"model": dataclasses.asdict(config_class(fields["model.name"])())})
    if lie and not fields["model.features"]:
        del fields["model.features"]
    return defaults | fields


def _as_json(fields):
    """Nested fields by dotted name, tuples as lists."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in _flatten(fields).items()}


_BEFORE_NETWORKS = {
    "data.test_images": None,
    "model.attention_options": [],
    "model.features": [],
    "model.kernel_network": "siren",
    "model.kernel_options": [],
    "model.kind": None,
    "model.max_scale": MAX_SCALE,
    "model.random_grids": False,
}


def _flatten(fields, prefix=""):
    flat = {}
    for name, value in fields.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
