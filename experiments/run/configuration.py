"""What a run is made of: frozen dataclasses, which `tyro` turns into a command line."""

import dataclasses
import math
import pathlib
from typing import Annotated, Literal, get_args

import tyro

from experiments.augmentation import AugmentConfig
from experiments.data import NAMES, OWN_NAMES, DatasetName
from experiments.data.own import SHARES, by_shares
from experiments.run.checks import check, check_name, check_seed
from experiments.run.model_configuration import ModelConfig, model

Rule = Literal["adam", "sgd"]
Schedule = Literal["constant", "cosine", "step", "plateau"]
ClassWeights = Literal["none", "balanced"] | tuple[float, ...]
SeedsMode = Literal["auto", "loop", "vmap"]
Freeze = Literal["none", "body"]
_RUN = "Start from the weights of a run (its first seed's, best on validation) or of a saved network."
InitFrom = Annotated[pathlib.Path | None, tyro.conf.arg(metavar="RUN", help=_RUN)]
_DIRECTORY = (
    "Folder of prepared sets, or of the files of cifar10/binary. Default: $TFDS_DATA_DIR or ~/tensorflow_datasets."
)
_PATH = "Images of your own: a folder with a folder of pictures a class, or arrays in a .npz file."
Path = Annotated[pathlib.Path | None, tyro.conf.arg(metavar="PATH", help=_PATH)]
OwnFit = Literal["pad", "crop", "stretch"]
Broken = Literal["raise", "skip"]
Directory = Annotated[pathlib.Path | None, tyro.conf.arg(metavar="DIR", help=_DIRECTORY)]


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The images."""

    name: DatasetName = "digits"
    """digits*: embedded; folder, arrays: --data.path; cifar10/binary: files; others: experiments.data.prepare."""
    directory: Directory = None
    path: Path = None
    test_images: int | None = None
    """How many of the test split, the first; None: all."""
    seed: int = 0
    """Decides the splits; of digits*, angles and scales too."""
    size: Literal["exact"] | int = "exact"
    """Pixels of the images along each axis; exact: the nearest that works for the network."""
    fit: OwnFit = "pad"
    """How images of your own are brought to the size: pad or crop what is not square, or stretch it."""
    shares: tuple[float, float, float] = SHARES
    """Of your own images for training, validation and test, where no folders or arrays say so."""
    broken: Broken = "raise"
    """Pictures that cannot be read: raise, or skip and count them."""
    stream: bool = False
    """Read images of a folder or of a prepared set when they are needed, for sets that memory does not hold."""
    workers: int = 0
    """Processes that read a stream; 0: threads of this one. They change no number."""
    standardise: bool = True
    """Subtract the training images' mean and divide by their deviation; else white stays 1."""
    channelwise: bool = False
    """Standardise each channel by its own mean and deviation."""

    def __post_init__(self):
        check_name("data.name", self.name, NAMES)
        check_seed("data.seed", self.seed)
        check("data.test_images", self.test_images, "at least 1", self.test_images is None or self.test_images >= 1)
        if self.path is not None and self.name not in OWN_NAMES:
            raise ValueError(f"data.path is of data.name {' or '.join(OWN_NAMES)}, got {self.name}; leave one out")
        check("data.size", self.size, "exact or at least 1", self.size == "exact" or _is_count(self.size))
        check("data.workers", self.workers, "not negative", self.workers >= 0)
        check_name("data.fit", self.fit, get_args(OwnFit))
        check_name("data.broken", self.broken, get_args(Broken))
        if self.channelwise and not self.standardise:
            raise ValueError(
                "data.channelwise needs data.standardise: add --data.no-channelwise, or leave out --data.no-standardise"
            )
        by_shares(self.shares)


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """How parameters are updated."""

    name: Rule = "adam"
    """adam, or sgd with momentum."""
    learning_rate: float = 2e-3
    """Of the first step after the warm-up."""
    schedule: Schedule = "cosine"
    """cosine: to zero at the end; step: times `decay` after each epoch in `milestones`; plateau: see `patience`."""
    milestones: tuple[int, ...] = ()
    """Of the step schedule: epochs after which the learning rate falls."""
    decay: float = 0.1
    """Factor of the step schedule."""
    patience: int = 20
    """Of the plateau schedule: halved after so many consecutive epochs without better validation accuracy."""
    warmup_epochs: float = 0.0
    """The learning rate first rises from zero, linearly."""
    momentum: float = 0.9
    """Of sgd."""
    l2: float = 1e-4
    """Times parameters, added to the gradient before Adam."""
    weight_decay: float = 0.0
    """Decoupled (AdamW), times the learning rate."""
    clip_norm: float | None = None
    """Largest global norm of the loss's gradients."""
    epochs: int = 60
    """Passes over the training split."""
    batch_size: int = 64
    """Images a step; an epoch's incomplete batch is left out."""
    accumulate: int = 1
    """Parts of a batch that are computed one after the other, for less memory; norms and dropout see a part each."""
    gradient_checkpointing: bool = False
    """Compute the inside of the network's blocks again for the gradient, for less memory; CPUs do not save any."""
    ema_decay: float | None = None
    """Evaluate, choose and keep networks whose parameters and statistics are averages over steps with this decay."""
    class_weights: ClassWeights = "none"
    """Of the loss: balanced, inverse to a class's images; or a number a class, relative to each other."""

    def __post_init__(self):
        check_name("optimizer.name", self.name, get_args(Rule))
        check_name("optimizer.schedule", self.schedule, get_args(Schedule))
        milestones, warmup = self.milestones, self.warmup_epochs
        rising = list(milestones) == sorted(set(milestones)) and all(0 < epoch < self.epochs for epoch in milestones)
        if isinstance(self.class_weights, str):
            weighted = self.class_weights in ("none", "balanced")
        else:
            weighted = len(self.class_weights) > 0 and all(0 < weight < math.inf for weight in self.class_weights)
        expected = {
            "epochs": ("at least 1", self.epochs >= 1),
            "batch_size": ("at least 1", self.batch_size >= 1),
            "accumulate": (f"a divisor of batch_size {self.batch_size}", self._divides()),
            "ema_decay": ("in (0, 1)", self.ema_decay is None or 0 < self.ema_decay < 1),
            "learning_rate": ("positive", self.learning_rate > 0),
            "decay": ("positive", self.decay > 0),
            "patience": ("an integer of at least 1", _is_count(self.patience)),
            "l2": ("not negative", self.l2 >= 0),
            "weight_decay": ("not negative", self.weight_decay >= 0),
            "warmup_epochs": ("not negative", warmup >= 0),
            "momentum": ("in [0, 1)", 0 <= self.momentum < 1),
            "clip_norm": ("positive", self.clip_norm is None or self.clip_norm > 0),
            "class_weights": ("none, balanced, or positive numbers, one a class", weighted),
            "milestones": (f"rising epochs before {self.epochs}", rising),
        }
        for name, (what, good) in expected.items():
            check(f"optimizer.{name}", getattr(self, name), what, good)
        if milestones and milestones[0] <= warmup:
            raise ValueError(f"optimizer.milestones must lie after the {warmup} epochs of warm-up, got {milestones}")
        if milestones and self.schedule != "step":
            raise ValueError(f"optimizer.milestones need optimizer.schedule step, got {self.schedule}")
        if self.schedule == "step" and not milestones:
            raise ValueError("optimizer.schedule step needs optimizer.milestones, for example 40 60 80")
        if self.schedule == "plateau" and self.patience > self.epochs - 2:
            raise ValueError(
                f"optimizer.patience must be at most {self.epochs - 2} for the learning rate to fall within the "
                f"{self.epochs} epochs of optimizer.schedule plateau, got {self.patience}: or take constant"
            )
        check("optimizer.warmup_epochs", warmup, f"less than the {self.epochs} epochs", warmup < self.epochs)

    def _divides(self):
        return _is_count(self.accumulate) and self.batch_size % self.accumulate == 0


@dataclasses.dataclass(frozen=True)
class Config:
    """One training run: one network, over one or several seeds."""

    data: DataConfig = DataConfig()
    model: ModelConfig = model("rot_mnist", "p4", "input", dropout_rate=0.1)
    optimizer: OptimizerConfig = OptimizerConfig()
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    seeds: tuple[int, ...] = (0,)
    """A network each: initialisation, shuffling, dropout, grids."""
    seeds_mode: SeedsMode = "auto"
    """loop over them or vmap; auto: loop on CPU, else vmap."""
    test_every: int = 5
    """Epochs between test errors, which decide nothing."""
    init_from: InitFrom = None
    freeze: Freeze = "none"
    """body: train the head alone, what depends on the number of classes; needs init-from."""

    def __post_init__(self):
        check("seeds", self.seeds, "one or more different numbers", 0 < len(self.seeds) == len(set(self.seeds)))
        for seed in self.seeds:
            check_seed("seeds", seed)
        check_name("seeds_mode", self.seeds_mode, get_args(SeedsMode))
        check("test_every", self.test_every, "at least 1", self.test_every >= 1)
        check_name("freeze", self.freeze, get_args(Freeze))
        if self.freeze != "none" and self.init_from is None:
            raise ValueError(f"freeze {self.freeze} needs init_from: without it the {self.freeze} would stay random")
        # Contrast is about a picture's own mean, the others in units of the training pixels.
        for name in ("brightness", "noise", "cutout"):
            if getattr(self.augment, name) and not self.data.standardise:
                raise ValueError(
                    f"augment.{name} needs data.standardise, for it is in deviations of the training pixels, or puts "
                    "their mean: leave one out"
                )


def steps_per_epoch(config: Config, images: int) -> int:
    """Full batches among so many training images; a `ValueError` if there is none."""
    batch_size = config.optimizer.batch_size
    if batch_size > images:
        raise ValueError(f"optimizer.batch_size must be at most {images}, the training images, got {batch_size}")
    return images // batch_size


MUCH_LARGER = 2
"""A frame so many times as wide as the images leaves them a quarter of the area at most."""


def frame_note(config: Config, side: int, size: int) -> str | None:
    """What to do about images of a named set that are framed to a much larger size, in a line; None of others."""
    if size < MUCH_LARGER * side:
        return None
    return (
        f"images of {side} pixels along an axis are framed in black to the {size} that {config.model.name} takes: "
        "images of your own (--data.path) are enlarged instead, see --data.fit"
    )


FEW_STEPS = 10
"""An epoch of fewer trains little."""


def few_steps_note(config: Config, images: int) -> str | None:
    """What to do about an epoch of less than `FEW_STEPS` steps, in a line; None where it has more."""
    steps, batch_size = steps_per_epoch(config, images), config.optimizer.batch_size
    if steps >= FEW_STEPS:
        return None
    left, smaller = images % batch_size, 2 ** max(1, (images // FEW_STEPS).bit_length() - 1)
    without = f", and {left} images are left out of it, others each time" if left else ""
    number = "1 step" if steps == 1 else f"{steps} steps"
    advice = f" or --optimizer.batch-size {smaller}" if smaller < batch_size else ""
    return (
        f"{images:,} training images are {number} of {batch_size} an epoch{without}: networks may need more epochs "
        f"(--optimizer.epochs, now {config.optimizer.epochs}){advice}"
    )
