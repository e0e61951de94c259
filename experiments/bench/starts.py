"""How long commands take to start, with an empty and a filled cache of programs: `python -m experiments.bench.starts`.

Trains networks for one epoch on embedded digits, evaluates the first, predicts with it and exports it, each in a
process of its own and twice: the first time nothing is in the cache, the second time what the first has left. Of
training also the seconds until its first step are measured, imports, data and tracing included.
"""

import collections
import dataclasses
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
import tyro

from experiments.bench import common
from experiments.report.markdown import Column
from experiments.run.checks import chosen
from experiments.run.runtime import command

_TRAIN = ("experiments.train", "digits", "--optimizer.epochs", "1", "--workdir", "{new}")
COMMANDS: dict[str, tuple[str, ...]] = {
    "train, alpha_F-p4": _TRAIN,
    "train, p4": (*_TRAIN, "--model.attention", "none"),
    "train, alpha-p4": (*_TRAIN, "--model.attention", "response"),
    "evaluate": ("experiments.evaluate", "{run}"),
    "predict": ("experiments.predict", "{run}", "{images}"),
    "export": ("experiments.export", "{run}", "{new}.zip"),
}
"""Module and words. `{new}` is a path where nothing is yet, `{run}` a run, `{images}` a file of 256 images."""

# Training writes it to standard error before its first step.
_COMPILED = "compiled in"

COLUMNS: dict[str, Column] = {
    "command": ("command", ""),
    "programs": ("programs", ""),
    "compiled anew": ("programs_anew", ""),
    "to the first step, empty (s)": ("first_step_empty_s", ".1f"),
    "filled (s)": ("first_step_filled_s", ".1f"),
    "in all, empty (s)": ("empty_s", ".1f"),
    "in all, filled (s)": ("filled_s", ".1f"),
}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures how long commands take with an empty and with a filled cache of programs."""

    commands: Annotated[tuple[str, ...], tyro.conf.arg(help="Names of commands. Default: all.")] = ()


def main(arguments: Arguments) -> None:
    """Runs the commands, prints a table and saves the figures."""
    names = chosen("commands", arguments.commands, COMMANDS)
    results = common.Results("starts", arguments.out, COLUMNS, rows=[])
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        np.savez(folder / "images.npz", images=np.random.default_rng(0).integers(0, 256, (256, 28, 28), np.uint8))
        if any("{run}" in COMMANDS[name] for name in names):
            timed(_words(_TRAIN, folder, folder / "run"), folder / "cache-of-run")
        for i, name in enumerate(names):
            results.add({"command": name} | start(COMMANDS[name], folder, folder / f"cache-{i}"))


def start(words: Sequence[str], folder: pathlib.Path, cache: pathlib.Path) -> Mapping[str, float | None]:
    """Seconds of a command with the cache empty and filled, and how many programs it compiles."""
    figures, programs = {}, []
    for state in ("empty", "filled"):
        seconds, first_step = timed(_words(words, folder, folder / f"{cache.name}-{state}"), cache)
        figures |= {f"{state}_s": seconds, f"first_step_{state}_s": first_step}
        programs.append({path.name for path in cache.glob("*-cache")})
    return figures | {"programs": len(programs[0]), "programs_anew": len(programs[1] - programs[0])}


def timed(words: Sequence[str], cache: pathlib.Path) -> tuple[float, float | None]:
    """Seconds that a command takes in all, and until it has compiled its training step, None if it trains nothing."""
    started, first_step, last = time.perf_counter(), None, collections.deque(maxlen=1)
    words = [sys.executable, "-m", *words, "--compilation-cache", str(cache)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            last.append(line)
            if first_step is None and _COMPILED in line:
                first_step = time.perf_counter() - started
    if process.returncode:
        raise ValueError(f"{' '.join(words[2:])} ended with exit code {process.returncode}: {''.join(last).strip()}")
    return time.perf_counter() - started, first_step


def _words(words, folder, new):
    return [word.format(new=new, run=folder / "run", images=folder / "images.npz") for word in words]


cli = command(main, Arguments)
