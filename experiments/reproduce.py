"""Reproduces a paper's table as far as time allows: `python -m experiments.reproduce rot-mnist --budget 2h`.

Trains the table's presets, the quickest first, each as `experiments.train` does, in a work directory of its own. A row
that would not end within the budget is left at a checkpoint; the same command continues it another time and passes over
what is complete. Figures go to results/TABLE/, a file a run, and the table is written anew from them all; those of this
repository are there with `--results experiments/results`. Accuracy by angle is drawn to TABLE-angles.png, of the first
seed's networks that were measured so.
"""

import dataclasses
import pathlib
import re
import time
from typing import Literal

import jax
import tyro

from experiments.configs import TABLES
from experiments.configs.preset import reports
from experiments.report.documents import document, rows_of
from experiments.report.figures import by_angle
from experiments.run.checks import chosen
from experiments.run.configuration import Directory
from experiments.run.json_files import write_json
from experiments.run.loop import OutOfTime
from experiments.run.runtime import CompilationCache, Folder, command, use_compilation_cache
from experiments.train import train_run

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Trains the rows of a table that fit the time, and writes the table."""

    table: tyro.conf.Positional[Literal[tuple(TABLES)]]
    """Which table."""
    budget: str = "2h"
    """Time to take in all: a number and s, m, h or d. 0s only writes the table from the figures that are there."""
    seeds: tuple[int, ...] = (0,)
    """Of every row."""
    rows: tuple[str, ...] = ()
    """Presets to train. Default: all of the table."""
    directory: Directory = None
    runs: Folder = pathlib.Path("runs")
    """Folder of the work directories."""
    results: Folder = pathlib.Path("results")
    """Folder for figures and table, where earlier figures are read too. The repository's own: experiments/results."""
    compilation_cache: CompilationCache = None

    def __post_init__(self):
        seconds(self.budget)
        chosen("rows", self.rows, [preset.name for preset in TABLES[self.table]])


def seconds(budget: str) -> float:
    """A duration such as 2h, 90m or 1.5d in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", budget)
    if match is None:
        raise ValueError(f"budget must be a number and s, m, h or d, like 2h or 90m, got {budget!r}")
    return float(match[1]) * UNITS[match[2]]


def main(arguments: Arguments) -> None:
    """Trains row after row, then writes the table."""
    use_compilation_cache(arguments.compilation_cache)
    deadline = time.monotonic() + seconds(arguments.budget)
    folder = arguments.results / arguments.table
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    for preset in TABLES[arguments.table]:
        if arguments.rows and preset.name not in arguments.rows:
            continue
        if time.monotonic() >= deadline:
            print(f"{preset.name}: no time left; the same command continues")
            continue
        name = preset.name + ("" if arguments.seeds == (0,) else f"-seeds-{'-'.join(map(str, arguments.seeds))}")
        data = dataclasses.replace(preset.config.data, directory=arguments.directory)
        config = dataclasses.replace(preset.config, data=data, seeds=arguments.seeds)
        print(f"{name}: {preset.summary}", flush=True)
        try:
            run = train_run(config, arguments.runs / name, deadline=deadline)
        except OutOfTime as reason:
            print(f"{name}: {reason}; left at a checkpoint, the same command continues")
            continue
        except (ValueError, OSError, FloatingPointError) as error:
            print(f"{name}: {error}")
            failed.append(name)
            continue
        finally:
            jax.clear_caches()
        write_json(folder / f"{name}.json", run.report | {"preset": preset.name})
    measured = reports(arguments.table, results=arguments.results)
    text = document(arguments.table, measured)
    (arguments.results / f"{arguments.table}.md").write_text(text)
    print(text)
    _draw_angles(rows_of(arguments.table, measured), arguments.results / f"{arguments.table}-angles.png")
    if failed:
        raise ValueError(f"{', '.join(failed)} failed, see above; the table is written without")


def _draw_angles(rows, path):
    """Accuracy by angle of the rows in which it was measured, if there are any."""
    angles = {}
    for preset, report in rows:
        if "angles" in report:
            seeds = report["config"]["seeds"]
            # A run that was killed while its figures were drawn has none.
            if "angles" in report:
                angles[preset.title + ("" if seeds == [0] else f", seed {seeds[0]}")] = report["angles"]
    if angles:
        by_angle(angles).savefig(path, dpi=150)
        print(f"picture: {path}")


cli = command(main, Arguments)
