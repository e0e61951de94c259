"""Presets: configurations by name, a table a file; its docstring says what to expect of the rows."""

from experiments.configs import (
    cifar10,
    cifar10_short,
    digits,
    lie,
    lie_attention,
    operators,
    pcam,
    rot_mnist,
    rotations,
    upright,
)
from experiments.configs.preset import Preset

DEFAULT = "digits"

TABLES: dict[str, tuple[Preset, ...]] = {
    "digits": digits.ROWS,
    "upright": upright.ROWS,
    "rot-mnist": rot_mnist.ROWS,
    "rotations": rotations.ROWS,
    "operators": operators.ROWS,
    "lie": lie.ROWS,
    "lie-attention": lie_attention.ROWS,
    "cifar10-short": cifar10_short.ROWS,
    "cifar10": cifar10.ROWS,
    "pcam": pcam.ROWS,
}
"""The tables that `experiments.reproduce` knows, row by row, the quickest first."""

PRESETS: dict[str, Preset] = {preset.name: preset for table in TABLES.values() for preset in table}
