"""The table of published weights in networks of ours."""

from collections.abc import Mapping
from typing import Any

from experiments.report.markdown import markdown_table


def published_weights(figures: Mapping[str, Any]) -> str:
    """A row a network: how far the logits are from the original's, and whether all weights went back as they were."""
    rows = [
        [
            row["source"],
            f"`{row['network']}`",
            str(row["arrays"]),
            *("-" if error is None else f"{error:.1e}" for error in (row["error64"], row["error32"])),
            "yes" if row["back64"] and row["back32"] else "no",
        ]
        for row in sorted(figures["rows"], key=lambda row: row["source"])
    ]
    columns = ["source", "network", "arrays", "logits, float64", "logits, float32", "back without a bit changed"]
    return markdown_table(columns, rows)
