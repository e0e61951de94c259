"""Rotated digits, embedded: 1,000 training images, to see everything work in minutes.

No paper has these rows. Figures are test errors best on validation / last epoch / best on test, over the seeds 0 to 4.
Times are of training those five seeds on two CPU cores, some with other work beside; a single seed takes a fifth.
"""

from experiments.run.configuration import Config
from experiments.run.model_configuration import ModelConfig


def digits_z2() -> Config:
    """Ordinary convolutions on rotated digits.

    Paper: has no such row
    Ours: 10.20 ± 0.68 / 9.68 ± 0.86 / 9.36 ± 0.95 %
    Time: 2 minutes for five seeds
    Command: python -m experiments.train digits-z2
    """
    return Config(model=ModelConfig("z2", "none"))


def digits_p4() -> Config:
    """p4 convolutions on rotated digits.

    Paper: has no such row
    Ours: 3.52 ± 0.77 / 2.84 ± 1.21 / 2.52 ± 0.95 %
    Time: 3 minutes for five seeds
    Command: python -m experiments.train digits-p4
    """
    return Config(model=ModelConfig("p4", "none"))


def digits_co_p4() -> Config:
    """Co-attentive p4 convolutions on rotated digits.

    Paper: has no such row
    Ours: 2.80 ± 0.58 / 3.00 ± 0.14 / 2.48 ± 0.33 %
    Time: 4 minutes for five seeds
    Command: python -m experiments.train digits-co-p4
    """
    return Config(model=ModelConfig("p4", "co"))


def digits() -> Config:
    """alpha_F-p4, attention on the input, on rotated digits.

    Paper: has no such row
    Ours: 2.84 ± 0.74 / 2.64 ± 0.59 / 2.32 ± 0.52 %
    Time: 6 minutes for five seeds
    Command: python -m experiments.train digits
    """
    return Config()


ROWS = (digits_z2, digits_p4, digits_co_p4, digits)

PAPER: dict = {}
"""No paper has these figures."""
