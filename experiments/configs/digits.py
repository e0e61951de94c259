"""Rotated digits, embedded: 1,000 training images, to see everything work in minutes. No paper has these rows."""

from experiments.configs.preset import Preset
from experiments.run.configuration import Config
from experiments.run.model_configuration import ModelConfig


def _row(name: str, title: str, what: str, *model: str) -> Preset:
    return Preset(name, title, f"{what} on rotated digits.", Config(model=ModelConfig(*model)))


ROWS = (
    _row("digits-z2", "Z2", "Ordinary convolutions", "z2", "none"),
    _row("digits-p4", "p4", "p4 convolutions", "p4", "none"),
    _row("digits-co-p4", "co-attentive p4", "Co-attentive p4 convolutions", "p4", "co"),
    _row("digits", "alpha_F-p4", "alpha_F-p4, attention on the input,"),
)
