"""Presets: functions without arguments that return a configuration; their docstrings say what to expect of it."""

import dataclasses
import inspect

from experiments.configs import digits, lie, lie_attention, operators, rot_mnist
from experiments.run.configuration import Config

DEFAULT = "digits"


@dataclasses.dataclass(frozen=True)
class Preset:
    """A configuration, its name on the command line, the paper's figure, and what its docstring says of it."""

    name: str
    config: Config
    paper: str
    description: str

    @property
    def summary(self) -> str:
        """The first line of the description."""
        return self.description.splitlines()[0]


def _table(module):
    return tuple(
        Preset(row.__name__.replace("_", "-"), row(), module.PAPER.get(row, "-"), inspect.cleandoc(row.__doc__))
        for row in module.ROWS
    )


TABLES: dict[str, tuple[Preset, ...]] = {
    "digits": _table(digits),
    "rot-mnist": _table(rot_mnist),
    "operators": _table(operators),
    "lie": _table(lie),
    "lie-attention": _table(lie_attention),
}
"""The tables that `experiments.reproduce` knows, row by row, the quickest first."""

PRESETS: dict[str, Preset] = {preset.name: preset for table in TABLES.values() for preset in table}
