"""What measurements share: arguments, file of figures, times, memory as XLA plans it."""

import dataclasses
import json
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import jax
import tyro

from experiments.report.markdown import Column, cells, markdown_table
from experiments.run.checks import check, chosen
from experiments.run.runtime import describe_device

BatchSize = Annotated[int, tyro.conf.arg(help="Images a step.")]
Steps = Annotated[int, tyro.conf.arg(help="Training steps a compiled call.")]
Repeats = Annotated[int, tyro.conf.arg(help="Calls timed; the median counts.")]
Networks = Annotated[tuple[str, ...], tyro.conf.arg(help="Names of networks. Default: all.")]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Of every measurement; all integers but seeds must be at least 1."""

    out: pathlib.Path | None = None
    """JSON file for the figures, replaced if it exists; pictures stand beside it. Default: in the current folder, named
    after the measurement and the platform, as networks-cpu.json."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            for number in value if type(value) is tuple and field.name != "seeds" else [value]:
                check(field.name, number, "at least 1", type(number) is not int or number >= 1)
        if self.out is not None and (self.out.suffix != ".json" or self.out.is_dir()):
            raise ValueError(f"--out must be a file whose name ends in .json, got {self.out}")


class Results:
    """The figures of a measurement: rows of a table on the screen, and a file that is written anew with every row.

    Beside date, device and versions the file holds `figures`; rows go to its list `rows` or, with a name, to its
    dictionary `networks`.
    """

    def __init__(self, name: str, out: pathlib.Path | None, columns: Mapping[str, Column], **figures: Any):
        device = describe_device()
        self.path = out or pathlib.Path(f"{name}-{device['platform']}.json")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.columns = columns
        self.figures = {"date": time.strftime("%Y-%m-%d"), **device, **figures}
        if columns:
            print(markdown_table(columns, []))

    def add(self, row: Mapping[str, Any], name: str | None = None) -> None:
        """Prints and saves a row."""
        if name is None:
            self.figures["rows"].append(row)
        else:
            self.figures["networks"][name] = row
        self.save()
        print(f"| {' | '.join(cells({'name': name, **row}, self.columns))} |", flush=True)

    def save(self) -> None:
        """Writes the file."""
        self.path.write_text(json.dumps(self.figures, indent=2) + "\n")


def measure_networks(
    name: str,
    arguments: Any,
    columns: Mapping[str, Column],
    networks: Mapping[str, Any],
    measure: Callable[[Any], Mapping[str, Any]],
) -> None:
    """Measures the networks that the arguments choose, prints a table and saves the figures."""
    names = chosen("networks", arguments.networks, networks)
    results = Results(name, arguments.out, columns, batch_size=arguments.batch_size, networks={})
    for network in names:
        results.add(measure(networks[network]), network)


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """Seconds a call takes, the median of `repeats` after one that does not count."""
    return median_seconds_in_turn([call], repeats)[0]


def median_seconds_in_turn(
    calls: Sequence[Callable[[], Any]], repeats: int, *, at_least: float = 0.0, pause: float = 0.0
) -> list[float]:
    """The same of several calls, taken in turn, so that what else slows the machine slows all of them.

    Args:
      calls: what is timed.
      repeats: rounds that count, after one that does not.
      at_least: seconds for which a call is repeated in its turn; their mean counts.
      pause: seconds between turns, in which the threads of other libraries go to sleep.
    """
    rounds = [[_seconds(call, at_least, pause) for call in calls] for _ in range(repeats + 1)]
    return [statistics.median(seconds) for seconds in zip(*rounds[1:], strict=True)]


def _seconds(call, at_least, pause):
    time.sleep(pause)
    started, times, seconds = time.perf_counter(), 0, 0.0
    while times == 0 or seconds < at_least:
        jax.block_until_ready(call())
        times, seconds = times + 1, time.perf_counter() - started
    return seconds / times


def planned_mb(compiled: jax.stages.Compiled, *, donated_twice: bool = False) -> float:
    """Temporary arrays, arguments and results as XLA's memory analysis has them, in megabytes.

    Args:
      compiled: the program.
      donated_twice: whether results that take the place of donated arguments count beside them, as they do in
        `peak_memory_mb` of networks and `memory_mb` of attention.
    """
    plan = compiled.memory_analysis()
    total = plan.temp_size_in_bytes + plan.argument_size_in_bytes + plan.output_size_in_bytes
    return (total if donated_twice else total - plan.alias_size_in_bytes) / 1e6
