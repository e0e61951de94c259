"""Tables of what programs, calls and poolings cost, some of them beside what they cost before."""

import functools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.bench import eager, norms, programs
from experiments.report.markdown import Column, markdown_table, record_table

Figures = Mapping[str, Any]
"""Of a file in `results`."""


def programs_of(figures: Figures, device: str, *headings: str) -> str:
    """What the programs for one device cost, a row a program."""
    rows = [row for row in figures["rows"] if row["device"] == device]
    return record_table(rows, {heading: programs.COLUMNS[heading] for heading in ("network", "program", *headings)})


def eager_calls(now: Figures, before: Figures) -> str:
    """Programs compiled outside of `jit`, milliseconds a call and growth of the process, now and before."""
    columns: dict[str, Column] = {"layer or network": ("name", "")}
    columns |= {"first call": ("first", ""), "gradient": ("gradient_first", "")}
    for figures, prefix in ((now, ""), (before, "before: ")):
        cells = {
            f"{eager.AGAIN} more": ("again", ""),
            f"{eager.AGAIN} more gradients": ("gradient_again", ""),
            "call (ms)": ("call_ms", ".1f"),
            "gradient (ms)": ("gradient_ms", ".1f"),
            f"growth (MB), {figures['calls']} calls": ("growth_mb", ".0f"),
        }
        for heading, (field, spec) in cells.items():
            # What the library could not do has no figures.
            columns[f"{prefix}{heading}"] = (lambda row, of=prefix + field: row.get(of), spec)
    rows = []
    for name, row in now["networks"].items():
        former = {f"before: {field}": value for field, value in before["networks"].get(name, {}).items()}
        rows.append({"name": name, **row, **former})
    return record_table(rows, columns)


def pooling_windows(now: Figures, before: Figures) -> str:
    """Seconds to compile poolings and their temporary arrays, now, before and by `reduce_window`."""
    quantities = {"compile (s)": "compile_s", "temporary (inputs)": "temporary_inputs"}
    sources = {"now": (now, "max_pool"), "before": (before, "max_pool"), "`reduce_window`": (now, "reduce_window")}
    found = {
        source: {(row["window"], row["stride"]): row for row in figures["rows"] if row["by"] == by}
        for source, (figures, by) in sources.items()
    }
    table = []
    for window, stride in found["now"]:
        cells = [f"{window}x{window}", str(stride)]
        for field in quantities.values():
            for rows in found.values():
                pair = (rows[window, stride][name] for name in (field, f"gradient_{field}"))
                cells.append(" / ".join("" if value is None else f"{value:.2f}" for value in pair))
        table.append(cells)
    headings = [f"{quantity}, {source}" for quantity in quantities for source in found]
    return markdown_table(["window", "stride", *headings], table)


def drifts(now: Figures, before: Figures) -> str:
    """How far evaluation drifts from training by norms inside of attention, and how far it did."""
    case = "operator", "group", "over_group", "norm", "batch"
    columns = {heading: norms.COLUMNS[heading] for heading in list(norms.COLUMNS)[: len(case)]}
    former = {tuple(row[field] for field in case): row for row in before["rows"]}
    for prefix, field in (("before: ", "former"), ("", "figures")):
        for heading in ("drift", "saturated (%)", "least variance"):
            name, spec = norms.COLUMNS[heading]
            columns[prefix + heading] = (lambda row, field=field, name=name: row[field].get(name), spec)
    refused = (lambda row: "refused" if row["figures"]["drift"] is None else f"{row['figures']['drift']:.3f}", "")
    columns |= {"drift": refused}
    rows = [
        {**row, "figures": row, "former": former.get(tuple(row[field] for field in case), {})} for row in now["rows"]
    ]
    return record_table(rows, columns)


NOW_AND_BEFORE = {"eager": eager_calls, "pooling": pooling_windows, "norms": drifts}


def compared(figures_of: Callable[[str], Figures]) -> dict[str, Callable[[], str]]:
    """Tables by name that put what costs now beside what it cost before; `figures_of` reads a file of figures."""

    def table(name):
        return NOW_AND_BEFORE[name](*(figures_of(f"{name}-{when}") for when in ("cpu", "before-cpu")))

    return {name: functools.partial(table, name) for name in NOW_AND_BEFORE}


def growth(figures: Figures) -> str:
    """Exponents by which a layer's time and memory grow."""
    columns = ["attention", "time, by group order", "memory", "time, from 4 to 8 elements", "memory"]
    rows = []
    for kind, by_order in figures["group order"].items():
        by_channels = figures["channels"][kind]
        last = [math.log2(by_order[name][3] / by_order[name][2]) for name in ("ms", "mb")]
        exponents = [of[f"{name}_exponent"] for of in (by_order, by_channels) for name in ("ms", "mb")]
        rows.append([kind, *(f"{number:.2f}" for number in [*exponents[:2], *last, *exponents[2:]])])
    return markdown_table([*columns, "time, by channels", "memory"], rows)


def lie_speed(ours: Figures, pytorch: Figures, kinds: Sequence[str]) -> str:
    """Step and memory of networks on Lie groups, and the ratio of their steps to PyTorch's."""
    figures, angles = ours["networks"], (4, 8, 12, 16)
    ratio, published = (_ratios(of["steps_ms"]) for of in (pytorch, pytorch["published"]))

    def cost(name, between):
        return f"{figures[name]['step_ms'] / 1e3:.1f} s{between}{figures[name]['planned_mb'] / 1e3:.1f} GB"

    table = [
        [f"`{kind}`", *(cost(f"SE2-{n} {kind}", ", ") for n in angles), f"{ratio[f'SE2-8 {kind}']:.2f}"]
        for kind in kinds
    ]
    text = markdown_table(["kernels", *(f"{n} rotations" for n in angles), "ratio to PyTorch"], table)
    sim2 = "Sim2-16x3 separable+2d"
    return f"""{text}

On Sim(2) with 16 rotations and 3 scales, `separable+2d` takes {cost(sim2, " and ")}; in turn with PyTorch,
{ratio[sim2]:.2f} of its time. `dseparable` takes {published["SE2-8 dseparable"]:.2f} of that of the paper's code."""


def _ratios(steps):
    return {name: statistics.median(of["ours"]) / statistics.median(of["pytorch"]) for name, of in steps.items()}
