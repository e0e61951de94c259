"""What a run is made of: frozen dataclasses, which `tyro` turns into a command line."""

import dataclasses
import re
from typing import Literal, get_args

from attgconv_jax import Group, cyclic, dihedral, trivial

Attention = Literal["none", "input", "input_channel", "input_spatial", "co"]


def parse_group(name: str) -> Group:
    """The group of this name: z2, p4, p4m, or any other as C8 or D2.

    Raises:
      ValueError: there is no such group.
    """
    named = {"z2": trivial(), "p4": cyclic(4), "p4m": dihedral(4)}
    if name in named:
        return named[name]
    match = re.fullmatch(r"([CD])([1-9]\d*)", name)
    if match is None:
        raise ValueError(f"the group must be z2, p4, p4m, or like C8 (rotations) or D2 (and reflections), got {name!r}")
    make = cyclic if match[1] == "C" else dihedral
    return make(int(match[2]))


def _check_seed(name, seed):
    if not 0 <= seed < 2**32:
        raise ValueError(f"{name} must be in 0 to 2^32 - 1, got {seed}")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The embedded data set: real handwritten digits, rotated at random."""

    seed: int = 0
    """Decides the split and the angle of every digit."""

    def __post_init__(self):
        _check_seed("data.seed", self.seed)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The rot-MNIST network."""

    group: str = "p4"
    """Of the convolutions: z2, p4, p4m, or any other as C8 (8 rotations) or D2 (2 rotations and the reflections)."""

    attention: Attention = "input"
    """On the input of every convolution."""

    dropout_rate: float = 0.1
    """After every layer but the second and the last. The paper's 0.3 needs ten times the steps taken here."""

    def __post_init__(self):
        parse_group(self.group)
        if self.attention not in get_args(Attention):
            raise ValueError(f"model.attention must be one of {', '.join(get_args(Attention))}, got {self.attention!r}")
        if not 0 <= self.dropout_rate < 1:
            raise ValueError(f"model.dropout_rate must be in [0, 1), got {self.dropout_rate}")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Adam, with the learning rate falling to zero along a cosine."""

    learning_rate: float = 2e-3
    """Of the first step."""

    l2: float = 1e-4
    """Weight of the squared parameters; its gradient is added to that of the loss, as in the paper."""

    epochs: int = 60
    """Passes over the training split."""

    batch_size: int = 64
    """Images a step. What does not fill the last batch of an epoch waits for the next epoch's shuffle."""

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"optimizer.{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"optimizer.learning_rate must be positive, got {self.learning_rate}")
        if not self.l2 >= 0:
            raise ValueError(f"optimizer.l2 must not be negative, got {self.l2}")


@dataclasses.dataclass(frozen=True)
class Config:
    """One training run."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    seed: int = 0
    """Decides initialisation, shuffling and dropout."""

    def __post_init__(self):
        _check_seed("seed", self.seed)
