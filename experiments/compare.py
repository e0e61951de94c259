"""Compares runs side by side: `python -m experiments.compare WORKDIR WORKDIR ...`.

Prints a table of test errors under three protocols, mean and deviation over seeds, and draws the learning curves; runs
that `experiments.evaluate` has seen are also drawn by angle.
"""

import dataclasses
import json
import pathlib
from typing import Annotated

import tyro

from experiments import figures
from experiments.reports import table
from experiments.runs import Run
from experiments.runtime import run


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Compares complete runs, in a table and in pictures."""

    workdirs: tyro.conf.Positional[tuple[pathlib.Path, ...]]
    """Of the runs."""

    out: Annotated[pathlib.Path, tyro.conf.arg(metavar="DIR")] = pathlib.Path("runs/comparison")
    """Folder for table and pictures."""

    def __post_init__(self):
        if not self.workdirs:
            raise ValueError("name one work directory or more, for example runs/digits runs/digits-z2")
        if len(set(self.workdirs)) < len(self.workdirs):
            raise ValueError(f"the work directories must differ, got {' '.join(map(str, self.workdirs))}")


def main(arguments: Arguments) -> None:
    """Prints the table, and draws."""
    runs = {workdir: Run.open(workdir) for workdir in arguments.workdirs}
    for workdir, this in runs.items():
        if this.report is None:
            raise ValueError(f"{workdir} is not complete: continue it with the command that began it")
    names = _names(arguments.workdirs)
    lines = table((names[workdir], this.report) for workdir, this in runs.items())
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "table.md").write_text(lines + "\n")
    print(lines)
    tests = {this.description["data"].get("test_sha256") for this in runs.values()}
    if len(tests) > 1:
        print("note: these runs were tested on different images")
    figures.curves({names[workdir]: this.metrics() for workdir, this in runs.items()}).savefig(
        arguments.out / "curves.png", dpi=150
    )
    print(f"picture: {arguments.out / 'curves.png'}")
    evaluations = {workdir: workdir / "evaluation" / "evaluation.json" for workdir in runs}
    missing = [workdir for workdir, file in evaluations.items() if not file.exists()]
    if missing:
        print(f"to compare them by angle as well, first: python -m experiments.evaluate {missing[0]}")
        return
    angles = {names[workdir]: json.loads(file.read_text())["angles"] for workdir, file in evaluations.items()}
    figures.equivariance(angles).savefig(arguments.out / "equivariance.png", dpi=150)
    print(f"picture: {arguments.out / 'equivariance.png'}")


def _names(workdirs):
    """The folders' names, or the whole paths where two are called the same."""
    short = [workdir.resolve().name for workdir in workdirs]
    return {
        workdir: name if short.count(name) == 1 else str(workdir) for workdir, name in zip(workdirs, short, strict=True)
    }


def cli(arguments: list[str] | None = None) -> None:
    """The command line; what the user got wrong is one line on stderr and exit code 2."""
    run(main, Arguments, arguments, prog="python -m experiments.compare")


if __name__ == "__main__":
    cli()
