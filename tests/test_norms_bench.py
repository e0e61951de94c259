"""How far evaluation drifts from training: measured for operators that have norms, and put beside what it was."""

import json

from experiments.bench import norms
from experiments.report import costs


def test_drift_is_measured_and_what_cannot_train_has_no_figures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(norms, "OPERATORS", {"srm": norms.OPERATORS["srm"]})
    monkeypatch.setattr(norms, "IMAGES", 8)
    norms.main(norms.Arguments(kinds=("batch", "layer"), calls=60, out=tmp_path / "norms.json"))
    figures = json.loads((tmp_path / "norms.json").read_text())
    rows = {(row["group"], row["over_group"], row["norm"], row["batch"]): row for row in figures["rows"]}
    assert len(rows) == 8
    assert rows["z2", False, "batch", 1]["drift"] is rows["p4", True, "batch", 1]["drift"] is None
    assert 0 < rows["z2", False, "batch", 16]["drift"] < 1
    assert rows["z2", False, "layer", 1]["drift"] < 1e-6 and rows["z2", False, "layer", 1]["least_variance"] is None
    before = {
        "rows": [rows["z2", False, "batch", 1] | {"drift": 0.998, "saturated_percent": 91.0, "least_variance": 1e-28}]
    }
    table = costs.drifts(figures, before)
    assert "| srm | z2 |  | batch | 1 | 0.998 | 91 | 1.0e-28 | refused |  |  |" in table
    assert "| srm | p4 | yes | batch | 1 |  |  |  | refused |  |  |" in table
