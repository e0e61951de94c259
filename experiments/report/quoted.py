"""Tables that documents quote, by name, made of the figures in `results`."""

import json
import math
import statistics
from collections.abc import Callable, Mapping
from typing import Any

from experiments.bench import attention, interpolation, memory, networks
from experiments.configs.preset import RESULTS, reports
from experiments.report.documents import rows_of
from experiments.report.markdown import PROTOCOLS, Column, cells, markdown_table, protocols, record_table

LIE_KINDS = ("lifting", "nonseparable", "gseparable", "separable", "dseparable", "dgseparable")
TURNED, SCALED = "rotations(8)", "scalings(3, 1.74)"


def _figures(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


def _runs(table: str, columns: Mapping[str, str]) -> str:
    """Rows of a table of presets; columns are headings of `title`, `parameters`, `paper` or a protocol."""
    rows = []
    for preset, report in rows_of(table, reports(table)):
        row = {"title": preset.title, "parameters": f"{report['parameters']:,}", "paper": preset.paper}
        row |= zip(PROTOCOLS, protocols(report), strict=True)
        rows.append([row[field] for field in columns.values()])
    return markdown_table(columns, rows)


def _protocols(*names):
    return {PROTOCOLS[name]: name for name in names or PROTOCOLS}


def results() -> str:
    """Rotated MNIST, ours and the paper's."""
    paper = {"the paper, original set, best on test": "paper"}
    return _runs("rot-mnist", {"network": "title", **_protocols(), **paper})


def digits() -> str:
    """Rotated digits."""
    return _runs("digits", {"network": "title", **_protocols("best_on_validation", "last_epoch")})


def operators_short_run() -> str:
    """The short runs of all operators."""
    two = _protocols("best_on_validation", "last_epoch")
    return _runs("operators", {"operator": "title", "parameters": "parameters", **two})


def lie_attention() -> str:
    """The short runs of attention on top of separable kernels."""
    columns = {"network": "title", "parameters": "parameters", "test error (%)": "best_on_validation"}
    return _runs("lie-attention", columns)


def speed() -> str:
    """Steps of the networks, and their ratio to the faster of two runs of PyTorch."""
    pytorch = _figures("pytorch-cpu")
    ratios = {name: ms / min(run[name] for run in pytorch["runs"]) for name, ms in pytorch["ours_ms"].items()}
    names = "network", "parameters", "step (ms)", "forward (ms)"
    columns: dict[str, Column] = {name: networks.COLUMNS[name] for name in names}
    columns["ratio to PyTorch"] = (lambda row: ratios.get(row["name"]), ".2f")
    columns |= {name: networks.COLUMNS[name] for name in ("first compile (s)", "second start (s)", "peak memory (MB)")}
    measured = _figures("networks-cpu")["networks"].items()
    return record_table([{"name": name, **row} for name, row in measured if "only" not in name], columns)


def attention_cost() -> str:
    """What each kind of attention costs in the p4 network, and its error on rotated MNIST."""
    kinds = {
        "none": "p4",
        '`"co"`': "co-attentive p4",
        '`"input"`': "alpha_F-p4",
        "responses, `spatial=False`": "alpha_CH-p4",
        "responses, `channel=False`": "alpha_SP-p4",
        "responses": "alpha-p4",
    }
    errors = {preset.title: " / ".join(protocols(report)[:2]) for preset, report in rows_of("rot-mnist", reports())}
    figures = _figures("networks-cpu")["networks"]
    plain = figures["p4"]["step_ms"]
    columns: dict[str, Column] = {
        "attention": ("kind", ""),
        "parameters": ("parameters", ","),
        "step (ms)": ("step_ms", ".1f"),
        "relative": (lambda row: row["step_ms"] / plain, ".1f"),
        "peak memory (MB)": ("peak_memory_mb", ".0f"),
        "error (%)": ("error", ""),
    }
    rows = [{"kind": kind, "error": errors.get(name, "-"), **figures[name]} for kind, name in kinds.items()]
    return record_table(rows, columns)


def operators_cost() -> str:
    """What each operator costs in the p4 network; the first row is the network without."""
    figures = _figures("attention-cpu")
    plain, rows = figures["plain"], figures["rows"]
    step = statistics.median(row["plain_step_ms"] for row in rows)
    first = ["none", "`none`", "", f"{plain['parameters']:,}", f"{plain['flops'] / 1e6:.1f}", f"{step:.0f}", "1.00"]
    first += [f"{plain['memory_mb']:.0f}", "", ""]
    return markdown_table(attention.COLUMNS, [first, *(cells(row, attention.COLUMNS) for row in rows)])


def sampling() -> str:
    """The equivariance error of groups whose filters are interpolated."""
    return record_table(_figures("interpolation")["rows"], interpolation.COLUMNS)


def memory_of_steps() -> str:
    """Memory of a training step, planned and resident."""
    figures = _figures("memory-cpu")["networks"]
    return record_table([{"name": name, **row} for name, row in figures.items()], memory.COLUMNS)


def growth() -> str:
    """Exponents by which a layer's time and memory grow."""
    figures = _figures("scaling-cpu")
    columns = ["attention", "time, by group order", "memory", "time, from 4 to 8 elements", "memory"]
    rows = []
    for kind, by_order in figures["group order"].items():
        by_channels = figures["channels"][kind]
        last = [math.log2(by_order[name][3] / by_order[name][2]) for name in ("ms", "mb")]
        exponents = [of[f"{name}_exponent"] for of in (by_order, by_channels) for name in ("ms", "mb")]
        rows.append([kind, *(f"{number:.2f}" for number in [*exponents[:2], *last, *exponents[2:]])])
    return markdown_table([*columns, "time, by channels", "memory"], rows)


def overhead() -> str:
    """Epochs of training beside steps of the benchmark, and how long a start takes."""
    columns: dict[str, Column] = {
        "preset": ("name", ""),
        "epoch (s)": ("epoch_seconds_median", ".1f"),
        "relative to its steps alone": ("ratio", ".2f"),
        "validation (s)": ("validation_seconds_median", ".1f"),
        "from command to training (s)": ("start_seconds", ".1f"),
    }
    return record_table([{"name": name, **row} for name, row in _figures("overhead")["presets"].items()], columns)


def _lie_rows(network: str = "siren", frequency: float | None = 10.0) -> list[dict[str, Any]]:
    rows = _figures("lie-equivariance")["rows"]
    return [row for row in rows if (row["network"], row["first_frequency"]) == (network, frequency)]


def lie_equivariance() -> str:
    """The equivariance error of layers on Lie groups, by kind of kernel."""
    rows = {(row["group"], row["kernel_size"], row["kind"]): row for row in _lie_rows()}
    columns = {
        "turned, 7 pixels": (TURNED, 7, "other"),
        "turned, 9 pixels": (TURNED, 9, "other"),
        "scaled, 7 pixels": (SCALED, 7, "scaled"),
        "scaled, 11 pixels": (SCALED, 11, "scaled"),
        "scaled, 11 pixels, with ends": (SCALED, 11, "scaled_with_ends"),
    }
    table = [
        [f"`{kind}`", *(f"{100 * rows[group, size, kind][field]:.1f} %" for group, size, field in columns.values())]
        for kind in LIE_KINDS
    ]
    return markdown_table(["kernels", *columns], table)


def lie_frequency() -> str:
    """The least and the largest equivariance error over the kinds of kernels, by kernel network."""
    named = [("siren", frequency) for frequency in (10.0, 7.0, 5.0)]
    table = []
    for network, frequency in [*named, ("fourier", None), ("multiplicative", None), ("b_spline", None)]:
        row = [f"`{network}`" if frequency is None else f"`{network}`, `first_frequency={frequency}`"]
        for group, field in ((TURNED, "other"), (SCALED, "scaled")):
            errors = [
                100 * of[field]
                for of in _lie_rows(network, frequency)
                if (of["group"], of["kernel_size"]) == (group, 7)
            ]
            row.append(f"{min(errors):.1f} to {max(errors):.1f} %")
        table.append(row)
    return markdown_table(["`network`, `network_options`", "turned, 7 pixels", "scaled, 7 pixels"], table)


def lie_speed() -> str:
    """Step and memory of networks on Lie groups, and the ratio of their steps to PyTorch's."""
    figures, angles = _figures("lie-networks-cpu")["networks"], (4, 8, 12, 16)
    steps = _figures("lie-pytorch-cpu")["steps_ms"]
    ratio = {name: statistics.median(of["ours"]) / statistics.median(of["pytorch"]) for name, of in steps.items()}

    def cost(name, between):
        return f"{figures[name]['step_ms'] / 1e3:.1f} s{between}{figures[name]['planned_mb'] / 1e3:.1f} GB"

    table = [
        [f"`{kind}`", *(cost(f"SE2-{n} {kind}", ", ") for n in angles), f"{ratio[f'SE2-8 {kind}']:.2f}"]
        for kind in LIE_KINDS[1:]
    ]
    text = markdown_table(["kernels", *(f"{n} rotations" for n in angles), "ratio to PyTorch"], table)
    both = "Sim2-16x3 separable+2d"
    return f"""{text}

On Sim(2) with 16 rotations and 3 scales, `separable+2d` takes {cost(both, " and ")}; in turn with PyTorch,
{ratio[both]:.2f} of its time."""


QUOTED: dict[str, Callable[[], str]] = {
    "results": results,
    "digits": digits,
    "speed": speed,
    "attention-cost": attention_cost,
    "operators-cost": operators_cost,
    "operators-short-run": operators_short_run,
    "sampling": sampling,
    "memory": memory_of_steps,
    "growth": growth,
    "overhead": overhead,
    "lie-equivariance": lie_equivariance,
    "lie-frequency": lie_frequency,
    "lie-speed": lie_speed,
    "lie-attention": lie_attention,
}
"""By the names that markers have."""
