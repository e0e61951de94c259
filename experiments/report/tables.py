"""Writes every table of figures from `results`: `python -m experiments.report.tables`.

These are the Markdown documents in `experiments/results`, and in every other Markdown document of the repository what
stands between two lines such as

    <!-- table: speed -->
    <!-- end -->

with one of the names in `experiments.report.quoted.QUOTED`. `--check` writes nothing.
"""

import dataclasses
import os
import pathlib
import re
from collections.abc import Iterator

from experiments.configs import TABLES
from experiments.configs.preset import RESULTS, reports
from experiments.report.documents import document
from experiments.report.quoted import QUOTED
from experiments.run.runtime import command

ROOT = RESULTS.parents[1]
MARKER = "<!-- table: "
QUOTATION = re.compile(rf"^{MARKER}(\S+) -->$.*?^<!-- end -->$", re.MULTILINE | re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Writes every table of figures in the repository's documents."""

    check: bool = False
    """Whether to write nothing, and to fail if a document differs from the figures."""


def main(arguments: Arguments) -> None:
    """Writes the documents, or names those that differ."""
    differing = {path: text for path, text in all_documents() if not path.exists() or path.read_text() != text}
    names = ", ".join(str(path.relative_to(ROOT)) for path in differing)
    if arguments.check and differing:
        raise ValueError(
            f"the tables of {names} differ from the figures: write them anew with python -m experiments.report.tables"
        )
    for path, text in differing.items():
        path.write_text(text)
    print(f"written: {names}" if differing else "all tables are those of the figures")


def all_documents() -> Iterator[tuple[pathlib.Path, str]]:
    """Every document with tables, and what it must be."""
    for table in TABLES:
        if (RESULTS / table).is_dir():
            yield RESULTS / f"{table}.md", document(table, reports(table))
    yield RESULTS / "attention-cpu.md", QUOTED["operators-cost"]() + "\n"
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in ("runs", "results")]
        for path in (pathlib.Path(folder) / name for name in names if name.endswith(".md")):
            text = path.read_text()
            if re.search(f"^{MARKER}", text, re.MULTILINE):
                yield path, filled(text, str(path.relative_to(ROOT)))


def filled(text: str, name: str) -> str:
    """The text of the document of this name with its tables written anew."""

    def quotation(match):
        if match[1] not in QUOTED or MARKER in match[0][1:]:
            raise ValueError(f"{name}: table {match[1]} must be one of {', '.join(QUOTED)}, and end with <!-- end -->")
        return f"{MARKER}{match[1]} -->\n\n{QUOTED[match[1]]()}\n\n<!-- end -->"

    text, count = QUOTATION.subn(quotation, text)
    if count < len(re.findall(f"^{MARKER}", text, re.MULTILINE)):
        raise ValueError(f"{name}: every table must end with a line <!-- end -->")
    return text


cli = command(main, Arguments)
