"""Figures live once: every table in the documents is made of `experiments/results`."""

import json

import pytest

from experiments.configs import preset
from experiments.report import quoted, tables
from experiments.report.markdown import cells, markdown_table


def test_the_documents_have_the_figures_that_were_measured(capsys):
    tables.cli(["--check"])
    assert capsys.readouterr().out == "all tables are those of the figures\n"


@pytest.fixture
def repository(monkeypatch, tmp_path):
    """A document that quotes the digits, and figures of one run."""
    results = tmp_path / "experiments" / "results"
    (results / "digits").mkdir(parents=True)
    (report,) = preset.reports("digits", "digits-z2")
    (results / "digits" / "digits-z2.json").write_text(json.dumps(report))
    (results / "attention-cpu.json").write_text((preset.RESULTS / "attention-cpu.json").read_text())
    for module in (preset, quoted, tables):
        monkeypatch.setattr(module, "RESULTS", results)
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    document = tmp_path / "NOTES.md"
    document.write_text("Figures:\n\n<!-- table: digits -->\n<!-- end -->\n\nThat is all.\n")
    return document


def test_tables_are_written_between_markers_and_what_is_written_is_checked(repository, capsys):
    with pytest.raises(SystemExit):
        tables.cli(["--check"])
    assert "experiments/results/digits.md, experiments/results/attention-cpu.md, NOTES.md" in capsys.readouterr().err
    tables.cli([])
    text = repository.read_text()
    assert text.startswith("Figures:\n\n<!-- table: digits -->\n\n| network |")
    assert text.endswith("| Z2 | 10.20 ± 0.68 | 9.68 ± 0.86 |\n\n<!-- end -->\n\nThat is all.\n")
    tables.cli(["--check"])
    repository.write_text(text.replace("10.20", "10.30"))
    with pytest.raises(SystemExit):
        tables.cli(["--check"])
    assert "error: the tables of NOTES.md differ from the figures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- table: sped -->\n<!-- end -->\n", "README.md: table sped must be one of results, digits"),
        ("<!-- table: digits -->\n", "README.md: every table must end with a line <!-- end -->"),
        (
            "<!-- table: digits -->\n<!-- table: speed -->\n<!-- end -->\n",
            "table digits must .* and end with",
        ),
    ],
)
def test_a_marker_names_a_table_and_has_an_end(text, message):
    with pytest.raises(ValueError, match=message):
        tables.filled(text, "README.md")


def test_cells_have_the_formats_of_their_columns():
    columns = {"a": ("x", ",.1f"), "b": (lambda row: row["x"] / 2, ".0f"), "c": ("y", ".2f"), "d": ("z", "")}
    assert cells({"x": 1234.56, "y": None, "z": "z"}, columns) == ["1,234.6", "617", "", "z"]


def test_bars_in_cells_do_not_end_them():
    assert markdown_table(["a|b", "c"], [["x", "y|z"]]).splitlines() == [r"| a\|b | c |", "|---|---|", r"| x | y\|z |"]
