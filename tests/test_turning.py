"""What a turn by 45 degrees does to networks: the measurement, and its digits."""

import json

import numpy as np
import pytest
from helpers import assert_refused

from experiments.bench import turning


def test_digits_are_turned_before_they_are_sampled():
    """By a quarter turn they are the same pixels; by 45 degrees as bright in all."""
    upright, quarter, eighth = (np.asarray(turning.digits(28, 20, 2, angle)) for angle in (0, np.pi / 2, np.pi / 4))
    np.testing.assert_allclose(np.rot90(upright, axes=(1, 2)), quarter, atol=1e-6)
    np.testing.assert_allclose(eighth.sum((1, 2)), upright.sum((1, 2)), rtol=0.01)
    assert np.abs(eighth - upright).max() > 0.3


def test_groups_without_the_turn_are_refused():
    with assert_refused("groups must be groups with turns by 45 degrees", "got p4"):
        turning.Arguments(groups=("p4",))


@pytest.mark.slow
def test_command_measures_what_networks_take(tmp_path, capsys):
    out = tmp_path / "turning.json"
    settings = ["--features", "2", "--images", "2", "--draws", "1", "--out", str(out)]
    turning.cli(
        ["--networks", "layers", "rot_mnist", "--groups", "C8", "--attentions", "none", "coordinate", *settings]
    )
    rows = json.loads(out.read_text())["rows"]
    assert [(row["network"], row["attention"]) for row in rows] == [("layers", "none"), ("rot_mnist", "none")]
    # Without norms there is nothing to settle.
    assert rows[0]["fresh"] == rows[0]["settled"]
    assert 3 * rows[0]["fresh"]["default"] < rows[0]["fresh"]["bilinear"]
    assert rows[1]["fresh"]["smooth"] < rows[1]["fresh"]["bilinear"]
    assert rows[1]["settled"]["masked"] < rows[1]["settled"]["smooth"]
    assert "coordinate attention has rows and columns" in capsys.readouterr().out


@pytest.mark.slow
def test_steps_are_timed_in_turn(tmp_path):
    out = tmp_path / "steps.json"
    turning.cli(["--time", "--groups", "C8", "--features", "1", "--repeats", "1", "--out", str(out)])
    rows = json.loads(out.read_text())["rows"]
    assert [row["variant"] for row in rows] == ["bilinear", "default", "smooth", "masked", "antialiased"]
    assert rows[0]["ratio"] == 1 and rows[2]["planned_mb"] > rows[4]["planned_mb"] > 0
