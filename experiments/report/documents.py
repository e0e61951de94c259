"""Markdown documents of measured tables."""

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from experiments.configs import TABLES
from experiments.configs.preset import Preset
from experiments.report.markdown import PROTOCOLS, markdown_table, protocols

RANKED = ("operators",)
"""Tables whose rows stand in the order of their figures, the lowest error first."""

Report = Mapping[str, Any]


def rows_of(table: str, reports: Iterable[Report]) -> list[tuple[Preset, Report]]:
    """A table's presets and their reports, in the order of the presets or ranked by error."""
    reports = list(reports)
    rows = [(preset, report) for preset in TABLES[table] for report in reports if report["preset"] == preset.name]
    if table in RANKED:
        rows.sort(key=lambda row: statistics.mean(row[1]["best_on_validation"]["error_percent"]["test"]))
    return rows


def document(table: str, reports: Iterable[Report]) -> str:
    """A table's figures as a Markdown document, a row a report."""
    rows = rows_of(table, reports)
    columns = ["preset", "parameters", "paper", *PROTOCOLS.values(), "seeds", "training", "device"]
    return f"""# {table}

Written by `python -m experiments.report.tables` from the files in [{table}]({table}); do not edit.
Test error in percent, mean and deviation over the seeds. The paper's figures are its best epochs on its test
split. Training time is of all seeds together, evaluation not counted, and of whatever else the machine was doing.

{markdown_table(columns, [_cells(*row) for row in rows])}

{_sources(report for _, report in rows)}
"""


def _cells(preset, report):
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
    line = (
        "- {set} {version}: {train_images} train, {validation_images} validation, {test_images} test images (test "
        "split SHA-256 {test_sha256:.16}); {date}, jax {jax}, flax {flax}, optax {optax}"
    )
    return "\n".join(sorted({line.format_map(report | report["data"]) for report in reports}))
