"""Rotated digits, embedded: 1,000 training images, to see everything work in minutes."""

from experiments.config import Config, ModelConfig


def digits_z2() -> Config:
    """Ordinary convolutions on rotated digits."""
    return Config(model=ModelConfig("z2", "none"))


def digits_p4() -> Config:
    """p4 convolutions on rotated digits."""
    return Config(model=ModelConfig("p4", "none"))


def digits_co_p4() -> Config:
    """Co-attentive p4 convolutions on rotated digits."""
    return Config(model=ModelConfig("p4", "co"))


def digits() -> Config:
    """alpha_F-p4, attention on the input, on rotated digits."""
    return Config()


ROWS = (digits_z2, digits_p4, digits_co_p4, digits)

PAPER: dict = {}
"""No paper has these figures."""
