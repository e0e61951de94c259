"""Compares runs side by side: `python -m experiments.compare WORKDIR WORKDIR ...`.

Prints a table of test errors under three protocols, mean and deviation over seeds, and draws the learning curves, and
the accuracy against the angle by which the test images are turned: of runs that `experiments.evaluate` has seen as it
was measured there, of others as at the end of training.
"""

import collections
import dataclasses
import json
import pathlib
import shlex

import tyro

from experiments.report import figures
from experiments.report.markdown import BEST_ON_TEST, side_by_side
from experiments.run.runtime import Folder, command
from experiments.run.workdir import Run


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Compares complete runs, in a table and in pictures."""

    workdirs: tyro.conf.Positional[tuple[pathlib.Path, ...]]
    """Of the runs."""
    out: Folder = pathlib.Path("runs/comparison")
    """Folder for table and pictures."""

    def __post_init__(self):
        if not self.workdirs:
            raise ValueError("name one work directory or more, for example runs/digits runs/digits-z2")
        if len(set(self.workdirs)) < len(self.workdirs):
            raise ValueError(f"the work directories must differ, got {' '.join(map(str, self.workdirs))}")


def main(arguments: Arguments) -> None:
    """Prints the table, and draws."""
    runs = {workdir: Run.open(workdir) for workdir in arguments.workdirs}
    for workdir, run in runs.items():
        if run.report is None:
            raise ValueError(f"{workdir} is not complete: continue it with the command that began it")
    # The folders' names, or the whole paths where two are called the same.
    short = collections.Counter(run.name for run in runs.values())
    names = {workdir: run.name if short[run.name] == 1 else str(workdir) for workdir, run in runs.items()}
    table = _table(names, runs)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "table.md").write_text(table + "\n")
    print(f"test error in percent, mean and deviation over seeds; {BEST_ON_TEST}")
    print(table)
    tests = {run.report["data"].get("test_sha256") for run in runs.values()}
    if len(tests) > 1:
        print("note: these runs were tested on different images")
    metrics = {names[workdir]: run.metrics() for workdir, run in runs.items()}
    figures.curves(metrics).savefig(arguments.out / "curves.png", dpi=150)
    print(f"picture: {arguments.out / 'curves.png'}")
    angles = {workdir: _angles(run) for workdir, run in runs.items()}
    missing = [workdir for workdir, (records, _) in angles.items() if records is None]
    if missing:
        print(f"to compare them by angle as well: python -m experiments.evaluate {shlex.quote(str(missing[0]))}")
        return
    counts = {str(images) for _, images in angles.values()}
    if len(counts) > 1:
        print(f"note: for accuracy by angle, {' and '.join(sorted(counts))} test images were turned")
    by_name = {names[workdir]: records for workdir, (records, _) in angles.items()}
    figures.by_angle(by_name).savefig(arguments.out / "angles.png", dpi=150)
    print(f"picture: {arguments.out / 'angles.png'}")


def _table(names, runs):
    try:
        return side_by_side((names[workdir], run.report) for workdir, run in runs.items())
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"a report.json is of another version ({error!r}): delete it, and the command that trained writes it again"
        ) from error


def _angles(run):
    """What is known of angles and of how many images, from the run's evaluation or else from its report; or None.

    An evaluation of an earlier state of the run does not count.
    """
    file = run.workdir / "evaluation" / "evaluation.json"
    try:
        evaluation = json.loads(file.read_text())
        known = evaluation if evaluation["best_on_validation"] == run.report["best_on_validation"] else run.report
    except (OSError, ValueError, KeyError, TypeError):
        known = run.report
    return known.get("angles"), known.get("angle_images", "other")


cli = command(main, Arguments)
