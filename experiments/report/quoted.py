"""Tables that documents quote, by name, made of the figures in `results`."""

import json
import statistics
from collections.abc import Callable

from experiments.bench import (
    angles,
    attention,
    batches,
    devices,
    elements,
    inference,
    kept,
    low_precision,
    memory,
    networks,
    reference,
    starts,
    streams,
    transfer,
    turning,
)
from experiments.configs.preset import RESULTS, reports
from experiments.report import costs, weights
from experiments.report.documents import rows_of
from experiments.report.markdown import PROTOCOLS, Column, cells, markdown_table, protocols, record_table

LIE_KINDS = ("lifting", "nonseparable", "gseparable", "separable", "dseparable", "dgseparable")
TURNED, SCALED = "rotations(8)", "scalings(3, 1.74)"


def _figures(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


def _named(name, part="networks"):
    """The records of a part by name, their names among them."""
    return [{"name": name, **record} for name, record in _figures(name)[part].items()]


def _runs(table: str, **columns: str) -> str:
    """A row a run of a table of presets; columns are `title`, `parameters`, `paper` or protocols, with headings."""
    rows = []
    for preset, report in rows_of(table, reports(table)):
        row = {"title": preset.title, "parameters": f"{report['parameters']:,}", "paper": preset.paper}
        row |= zip(PROTOCOLS, protocols(report), strict=True)
        rows.append([row[field] for field in columns])
    return markdown_table(columns.values(), rows)


VALIDATION_AND_LAST = {name: PROTOCOLS[name] for name in ("best_on_validation", "last_epoch")}


def speed() -> str:
    """Times and memory of networks, and the ratio of their steps to the faster of two runs of PyTorch."""
    pytorch = _figures("pytorch-cpu")
    ratios = {name: ms / min(run[name] for run in pytorch["runs"]) for name, ms in pytorch["ours_ms"].items()}
    ratio: Column = (lambda row: ratios.get(row["name"]), ".2f")
    headings = ["network", "parameters", "step (ms)", "ratio to PyTorch", "peak memory (MB)"]
    headings += ["forward (ms)", "first compile (s)", "second start (s)"]
    columns = {heading: networks.COLUMNS.get(heading, ratio) for heading in headings}
    return record_table([row for row in _named("networks-cpu") if "only" not in row["name"]], columns)


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
    own = {"attention": ("kind", ""), "error (%)": ("error", "")}
    own["relative"] = (lambda row: row["step_ms"] / plain, ".1f")
    headings = "attention", "parameters", "step (ms)", "relative", "peak memory (MB)", "error (%)"
    rows = [{"kind": kind, "error": errors.get(name, "-"), **figures[name]} for kind, name in kinds.items()]
    return record_table(rows, {heading: (own | networks.COLUMNS)[heading] for heading in headings})


def operators_cost() -> str:
    """What each operator costs in the p4 network; the first row is the network without."""
    figures = _figures("attention-cpu")
    plain, rows = figures["plain"], figures["rows"]
    step = statistics.median(row["plain_step_ms"] for row in rows)
    first = ["none", "`none`", "", f"{plain['parameters']:,}", f"{plain['flops'] / 1e6:.1f}", f"{step:.0f}", "1.00"]
    first += [f"{plain['memory_mb']:.0f}", "", ""]
    return markdown_table(attention.COLUMNS, [first, *(cells(row, attention.COLUMNS) for row in rows)])


OVERHEAD: dict[str, Column] = {
    "preset": ("name", ""),
    "epoch (s)": ("epoch_seconds_median", ".1f"),
    "relative to its steps alone": ("ratio", ".2f"),
    "validation (s)": ("validation_seconds_median", ".1f"),
    "from command to training (s)": ("start_seconds", ".1f"),
}


def _lie_errors(group, kernel_size, field, network="siren", frequency=10.0):
    """Equivariance errors in percent by kind of kernel."""
    chosen = {"group": group, "kernel_size": kernel_size, "network": network, "first_frequency": frequency}
    rows = _figures("lie-equivariance")["rows"]
    return {row["kind"]: 100 * row[field] for row in rows if chosen.items() <= row.items()}


def lie_equivariance() -> str:
    """The equivariance error of layers on Lie groups, by kind of kernel."""
    columns = {
        "turned, 7 pixels": (TURNED, 7, "other"),
        "turned, 9 pixels": (TURNED, 9, "other"),
        "scaled, 7 pixels": (SCALED, 7, "scaled"),
        "scaled, 11 pixels": (SCALED, 11, "scaled"),
        "scaled, 11 pixels, with ends": (SCALED, 11, "scaled_with_ends"),
    }
    errors = [_lie_errors(*column) for column in columns.values()]
    rows = [[f"`{kind}`", *(f"{of[kind]:.1f} %" for of in errors)] for kind in LIE_KINDS]
    return markdown_table(["kernels", *columns], rows)


def lie_frequency() -> str:
    """The least and the largest equivariance error over the kinds of kernels, by kernel network."""
    cases, rows = [("siren", frequency) for frequency in (10.0, 7.0, 5.0)], []
    for network, frequency in [*cases, ("fourier", None), ("multiplicative", None), ("b_spline", None)]:
        parts = [(TURNED, 7, "other"), (SCALED, 7, "scaled")]
        errors = [_lie_errors(*part, network, frequency).values() for part in parts]
        options = "" if frequency is None else f", `first_frequency={frequency}`"
        rows.append([f"`{network}`{options}", *(f"{min(of):.1f} to {max(of):.1f} %" for of in errors)])
    return markdown_table(["`network`, `network_options`", "turned, 7 pixels", "scaled, 7 pixels"], rows)


def exported_files() -> str:
    """How far exported files are from trained networks, a row a network and group; and which were refused."""
    groups: dict[tuple[str, ...], list[dict]] = {}
    for row in _named("exports-cpu"):
        groups.setdefault(tuple(row["name"].split()[:2]), []).append(row)
    table, refused = [], []
    for (network, group), rows in groups.items():
        errors, largest, other_classes = [row["test_error_percent"] for row in rows], [], 0
        for format, title in (("stablehlo", "StableHLO"), ("onnx", "ONNX")):
            found = {row["name"]: row[format] for row in rows if isinstance(row[format], dict)}
            written = [record for record in found.values() if record["refused"] is None]
            refused += [f"`{name}` as {title}" for name, record in found.items() if record["refused"] is not None]
            differences = [max(record["difference"].values()) for record in written]
            largest.append(f"{max(differences):.1e}" if differences else "-")
            other_classes += sum(record["other_classes"] for record in written)
        span = f"{min(errors):.1f}" if len(rows) == 1 else f"{min(errors):.1f} to {max(errors):.1f}"
        table.append([f"`{network}`", group, str(len(rows)), span, *largest, str(other_classes)])
    columns = ["network", "group", "variants", "test error (%)", "StableHLO", "ONNX", "other classes"]
    return f"{markdown_table(columns, table)}\n\nRefused: {', '.join(refused) or 'none'}."


def _angles(rows: list[dict], heading: str, name: Callable[[dict], str], cell: Callable[[dict], str]) -> str:
    """A table with a row a name and a column a size of filters."""
    sizes = sorted({row["kernel_size"] for row in rows})
    names = list(dict.fromkeys(name(row) for row in rows))
    known = {(name(row), row["kernel_size"]): "-" if row["functions"] is None else cell(row) for row in rows}
    table = [[each, *(known[each, size] for size in sizes)] for each in names]
    return markdown_table([heading, *(f"{size} pixels" for size in sizes)], table)


def sampling() -> str:
    """Functions of a filter, and the errors of one layer and of two, by way of sampling; C8."""
    rows = [row for row in _figures("angles")["rows"] if row["group"] == "cyclic(8)" and row["relu"] is not None]

    def cell(row):
        return f"{row['functions']}: {100 * row['one_layer']:.2g} / {100 * row['relu']:.2g} %"

    return _angles(rows, "sampling", angles.label, cell)


def sampling_groups() -> str:
    """Functions of a filter and the error of one layer with `Sampling("least_error")`, by group."""
    default = {"kind": "least_error", "tolerance": 0.01, "lowpass": 0.2}
    rows = [row for row in _figures("angles")["rows"] if default.items() <= row.items()]
    return _angles(
        rows, "group", lambda row: row["group"], lambda row: f"{row['functions']}: {100 * row['one_layer']:.2g} %"
    )


def sampling_down() -> str:
    """The errors of two layers on C8 with what may stand between them, filters of 5 pixels."""
    headings = {
        "relu": "ReLU",
        "oversampled": "oversampled ReLU",
        "stride": "ReLU, stride 2",
        "stride_antialiased": "antialiased",
        "max_pool": "ReLU, `max_pool`",
        "max_pool_antialiased": "antialiased",
        "smooth_max_pool": "ReLU, `smooth_max_pool`",
    }
    rows = [row for row in _figures("angles")["rows"] if row["kernel_size"] == 5 and row["stride"] is not None]
    cells_of = [[angles.label(row), *(f"{100 * row[name]:.2g} %" for name in headings)] for row in rows]
    return markdown_table(["sampling", *headings.values()], cells_of)


def sampling_networks() -> str:
    """What a turn by 45 degrees changes of logits: medians over the kinds of attention, and the least ratio."""
    table, rows = [], _figures("turning")["rows"]
    for network, group in dict.fromkeys((row["network"], row["group"]) for row in rows):
        part = [row for row in rows if (row["network"], row["group"]) == (network, group)]
        cells = [f"`{network}`", group, str(len(part))]
        for state in turning.STATES:
            changes = [100 * statistics.median(row[state][name] for row in part) for name in turning.VARIANTS]
            ratios = [row[state]["bilinear"] / row[state]["masked"] for row in part]
            cells.append(f"{' / '.join(f'{change:.2g}' for change in changes)} %")
            cells.append(f"{statistics.median(ratios):.1f} ({min(ratios):.1f})")
        table.append(cells)
    columns = ["network", "group", "attentions", "fresh", "ratio, fresh", "settled", "ratio, settled"]
    return markdown_table(columns, table)


def sampling_variance() -> str:
    """What ten random layers leave of the variance: least and largest over groups, measured and predicted."""
    table, rows = [], _figures("variance")["rows"]
    sizes = sorted({row["kernel_size"] for row in rows})
    for name in dict.fromkeys(map(angles.label, rows)):
        part = [row for row in rows if angles.label(row) == name]
        by_size = [[row["mean_square"][-1] for row in part if row["kernel_size"] == size] for size in sizes]
        predicted = [variance for row in part for variance in row["predicted"] or []]
        spans = [f"{min(of):.2f} to {max(of):.2f}" if of else "" for of in (*by_size, predicted)]
        table.append([name, *spans])
    return markdown_table(["sampling", *(f"{size} pixels" for size in sizes), "predicted, all layers"], table)


def lie_sizes() -> str:
    """The least and the largest equivariance error over the kinds of kernels, by filter size and first frequency."""
    sizes, rows = (5, 7, 9, 11), []
    for name, group, field in (("turned", TURNED, "other"), ("scaled", SCALED, "scaled")):
        for default, frequency in (("by size", None), ("10", 10.0)):
            errors = [_lie_errors(group, size, field, "siren", frequency).values() for size in sizes]
            rows.append([name, default, *(f"{min(of):.1f} to {max(of):.1f} %" for of in errors)])
    return markdown_table(["", "first frequency", *(f"{size} pixels" for size in sizes)], rows)


QUOTED: dict[str, Callable[[], str]] = {
    "results": lambda: _runs("rot-mnist", title="network", **PROTOCOLS, paper="the paper, original set, best on test"),
    "digits": lambda: _runs("digits", title="network", **VALIDATION_AND_LAST),
    "cifar10-short": lambda: _runs("cifar10-short", title="network", parameters="parameters", **VALIDATION_AND_LAST),
    "speed": speed,
    "attention-cost": attention_cost,
    "operators-cost": operators_cost,
    "operators-short-run": lambda: _runs("operators", title="operator", parameters="parameters", **VALIDATION_AND_LAST),
    "sampling": sampling,
    "sampling-groups": sampling_groups,
    "sampling-down": sampling_down,
    "sampling-steps": lambda: record_table(_figures("angle-steps")["rows"], angles.STEPS),
    "sampling-networks": sampling_networks,
    "sampling-networks-steps": lambda: record_table(_figures("turning-steps")["rows"], turning.STEPS),
    "sampling-variance": sampling_variance,
    "sampling-training": lambda: _runs("rotations", title="network", parameters="parameters", **VALIDATION_AND_LAST),
    "transfer": lambda: record_table(_figures("transfer-cpu")["rows"], transfer.COLUMNS),
    "exports": exported_files,
    "published-weights": lambda: weights.published_weights(_figures("published-weights")),
    "memory": lambda: record_table(_named("memory-cpu"), memory.COLUMNS),
    "growth": lambda: costs.growth(_figures("scaling-cpu")),
    "programs": lambda: costs.programs_of(_figures("programs"), "H100", "launches", "moved (GB)", "temporary (MB)"),
    "programs-tpu": lambda: costs.programs_of(
        _figures("programs"), "TPU v5e", "moved (GB)", "temporary (MB)", "expected (ms)"
    ),
    "programs-cpu": lambda: costs.programs_of(_figures("programs-cpu"), "CPU", "trace (s)", "compile (s)"),
    "low-precision": lambda: record_table(_figures("low-precision-cpu")["rows"], low_precision.COLUMNS),
    "batches": lambda: record_table(_figures("batches-cpu")["rows"], batches.COLUMNS),
    "reference-steps": lambda: record_table(_figures("reference-cpu")["rows"], reference.COLUMNS),
    "elements": lambda: record_table(_named("elements-cpu"), elements.COLUMNS),
    "devices": lambda: record_table(_named("devices-cpu"), devices.COLUMNS),
    "streams": lambda: record_table(_named("streams-cpu"), streams.COLUMNS),
    "streams-long": lambda: record_table(_named("streams-long-cpu"), streams.OURS),
    "kept": lambda: record_table(_named("kept"), kept.COLUMNS),
    "inference": lambda: record_table(_figures("inference-cpu")["rows"], inference.COLUMNS),
    **costs.compared(_figures),
    "starts": lambda: record_table(_figures("starts-cpu")["rows"], starts.COLUMNS),
    "overhead": lambda: record_table(_named("overhead", "presets"), OVERHEAD),
    "lie-equivariance": lie_equivariance,
    "lie-frequency": lie_frequency,
    "lie-sizes": lie_sizes,
    "lie-speed": lambda: costs.lie_speed(_figures("lie-networks-cpu"), _figures("lie-pytorch-cpu"), LIE_KINDS[1:]),
    "lie-attention": lambda: _runs(
        "lie-attention", title="network", parameters="parameters", best_on_validation="test error (%)"
    ),
}
"""By the names that markers have."""
