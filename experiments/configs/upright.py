"""Trained on upright digits: accuracy against the angle by which test images are turned. No paper has these rows.

    python -m experiments.reproduce upright

trains both and draws `upright-angles.png`. To be expected: both are as good on upright digits; at quarter turns the
network on p4 is as good as it is there, to the image, and the ordinary one has lost most of its accuracy. Between
quarter turns both have: the group says nothing of angles that it lacks.
"""

from experiments.configs.preset import Preset
from experiments.run.configuration import Config, DataConfig
from experiments.run.model_configuration import model


def _row(name: str, title: str, what: str, group: str) -> Preset:
    config = Config(DataConfig("digits_upright"), model("rot_mnist", group, "none", dropout_rate=0.1))
    return Preset(name, title, f"{what} on upright digits.", config)


ROWS = (
    _row("upright-z2", "Z2", "Ordinary convolutions", "z2"),
    _row("upright-p4", "p4", "p4 convolutions", "p4"),
)
