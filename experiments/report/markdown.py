"""Figures as Markdown."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

PROTOCOLS = {name: name.replace("_", " ") for name in ("best_on_validation", "last_epoch", "best_on_test")}
"""Which epoch is reported. Only the first two are honest; the third is how the papers chose theirs."""

BEST_ON_TEST = "best on test is chosen by the test images themselves, as papers often do: it is no honest estimate"

ERROR_COLUMNS = ("protocol", "epoch", "train", "validation", "test")
"""Of the table that `error_rows` makes."""

Column = tuple[str | Callable[[Mapping[str, Any]], Any], str]
"""A field of a record, or a function of it, and how it is formatted."""


def markdown_table(columns: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; bars in cells are escaped."""
    escaped = ([cell.replace("|", "\\|") for cell in row] for row in (columns, *rows))
    heading, *lines = (f"| {' | '.join(row)} |" for row in escaped)
    return "\n".join([heading, "|---" * len(list(columns)) + "|", *lines])


def cells(record: Mapping[str, Any], columns: Mapping[str, Column]) -> list[str]:
    """A row of a table: the record's fields in the columns' formats, nothing where one is None."""
    values = [(of(record) if callable(of) else record[of], spec) for of, spec in columns.values()]
    return ["" if value is None else format(value, spec) for value, spec in values]


def record_table(records: Iterable[Mapping[str, Any]], columns: Mapping[str, Column]) -> str:
    """Records as a Markdown table, a row each."""
    return markdown_table(columns, [cells(record, columns) for record in records])


def mean_and_deviation(values: Sequence[float]) -> str:
    """As `2.44 ± 0.61`; of a single value no deviation."""
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"


def protocols(report: Mapping[str, Any]) -> list[str]:
    """The test error under every protocol, in percent, with the deviation over seeds."""
    return [mean_and_deviation(report[protocol]["error_percent"]["test"]) for protocol in PROTOCOLS]


def side_by_side(reports: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """Named reports as a Markdown table, a row each."""
    columns = ["run", "data", "parameters", *PROTOCOLS.values(), "seeds"]
    rows = [
        [name, of["data"]["set"], f"{of['parameters']:,}", *protocols(of), str(len(of["config"]["seeds"]))]
        for name, of in reports
    ]
    return markdown_table(columns, rows)


def error_rows(report: Mapping[str, Any]) -> list[list[str]]:
    """A row a protocol, or of a network as it was loaded: its name, the epochs, and the error on every split."""
    known = {name: label for name, label in {**PROTOCOLS, "as_loaded": "as loaded"}.items() if name in report}
    rows = []
    for protocol, label in known.items():
        errors = report[protocol]["error_percent"]
        cells = [mean_and_deviation(errors[split]) if split in errors else "-" for split in ERROR_COLUMNS[2:]]
        rows.append([label, ", ".join(map(str, report[protocol].get("epoch", ["-"]))), *cells])
    return rows
