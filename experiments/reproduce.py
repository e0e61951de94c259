"""Reproduces a paper's table as far as time allows: `python -m experiments.reproduce rot-mnist --budget 2h`.

Trains the table's presets, the quickest first, each as `experiments.train` does, in a work directory of its own. A row
that would not end within the budget is left at a checkpoint; the same command continues it another time and passes over
what is complete. Figures go to experiments/results/TABLE/, a file a run, and the table is written anew from them all.
"""

import dataclasses
import json
import pathlib
import re
import statistics
import time
from typing import Annotated, Literal

import jax
import tyro

from experiments.configs import TABLES
from experiments.report.markdown import PROTOCOLS, markdown_table, protocols
from experiments.run.loop import OutOfTime
from experiments.run.runtime import command, use_compilation_cache
from experiments.run.workdir import write_json
from experiments.train import train_run

RANKED = ("operators",)
"""Tables whose rows stand in the order of their figures, the lowest error first."""

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

    directory: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of prepared data sets. Default: TFDS' own."""

    runs: Annotated[pathlib.Path, tyro.conf.arg(metavar="DIR")] = pathlib.Path("runs")
    """Folder of the work directories."""

    results: Annotated[pathlib.Path, tyro.conf.arg(metavar="DIR")] = pathlib.Path("experiments/results")
    """Folder for figures and table."""

    def __post_init__(self):
        seconds(self.budget)
        known = [preset.name for preset in TABLES[self.table]]
        unknown = [row for row in self.rows if row not in known]
        if unknown:
            raise ValueError(f"rows must be among {', '.join(known)}, got {', '.join(unknown)}")


def seconds(budget: str) -> float:
    """A duration such as 2h, 90m or 1.5d in seconds.

    Raises:
      ValueError: it is not of this form.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", budget)
    if match is None:
        raise ValueError(f"budget must be a number and s, m, h or d, like 2h or 90m, got {budget!r}")
    return float(match[1]) * UNITS[match[2]]


def main(arguments: Arguments) -> None:
    """Trains row after row, then writes the table."""
    use_compilation_cache()
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
            this = train_run(config, arguments.runs / name, deadline=deadline)
        except OutOfTime as reason:
            print(f"{name}: {reason}; left at a checkpoint, the same command continues")
            continue
        except (ValueError, OSError, FloatingPointError) as error:
            print(f"{name}: {error}")
            failed.append(name)
            continue
        finally:
            jax.clear_caches()
        write_json(folder / f"{name}.json", this.report | {"preset": preset.name})
    text = document(arguments.table, [_report(path) for path in sorted(folder.glob("*.json"))])
    (arguments.results / f"{arguments.table}.md").write_text(text)
    print(text)
    if failed:
        raise ValueError(f"{', '.join(failed)} failed, see above; the table is written without")


def _report(path):
    report = json.loads(path.read_text())
    if "preset" not in report:
        raise ValueError(f"{path} holds no figures of this table: move it elsewhere")
    return report


def document(table: str, reports: list[dict]) -> str:
    """A table's figures as a Markdown document, a row a report, in the order of the presets or ranked by error."""
    columns = ["preset", "parameters", "paper", *PROTOCOLS.values(), "seeds", "training", "device"]
    of_presets = [(preset, report) for preset in TABLES[table] for report in reports if report["preset"] == preset.name]
    if table in RANKED:
        of_presets.sort(key=lambda pair: statistics.mean(pair[1]["best_on_validation"]["error_percent"]["test"]))
    rows = [_row(preset, report) for preset, report in of_presets]
    return f"""# {table}

Written by `python -m experiments.reproduce {table}` from the files in [{table}]({table}); do not edit.
Test error in percent, mean and deviation over the seeds. The paper's figures are its best epochs on its test
split. Training time is of all seeds together, evaluation not counted, and of whatever else the machine was doing.

{markdown_table(columns, rows)}

{_sources(reports)}
"""


def _row(preset, report):
    return [
        preset.name,
        f"{report['parameters']:,}",
        preset.paper,
        *protocols(report),
        ", ".join(map(str, report["config"]["seeds"])),
        f"{report['training_seconds'] / 60:.0f} min",
        f"{report['device']}, {report['cpu_count']} cores",
    ]


def _sources(reports):
    """A line a data set and version: where the figures are from."""
    lines = []
    for report in reports:
        data = report["data"]
        lines.append(
            f"- {data['set']} {data['version']}: {data['train_images']} train, {data['validation_images']} validation, "
            f"{data['test_images']} test images (test split SHA-256 {data['test_sha256'][:16]}); {report['date']}, "
            f"jax {report['jax']}, flax {report['flax']}, optax {report['optax']}"
        )
    return "\n".join(sorted(set(lines)))


cli = command(main, Arguments)

if __name__ == "__main__":
    cli()
