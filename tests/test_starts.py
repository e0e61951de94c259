"""How the start of commands is measured, on a module that compiles nothing but leaves files as a cache has them."""

import json

import pytest

from experiments.bench import starts

MODULE = """
import pathlib, sys
new, cache = sys.argv[1], pathlib.Path(sys.argv[3])
cache.mkdir(exist_ok=True)
(cache / f"{'b' if (cache / 'a-cache').exists() else 'a'}-cache").touch()
(cache / "c-cache").touch()
sys.stderr.write("compiling ...")
sys.stderr.write(", compiled in 0.1 s\\n")
if new == "fail":
    sys.exit("error: no")
pathlib.Path(new).mkdir()
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "compiles_nothing.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_a_command_runs_twice_with_one_cache(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(starts, "COMMANDS", {"small": ("compiles_nothing", "{new}")})
    starts.main(starts.Arguments(out=tmp_path / "starts.json"))
    (row,) = json.loads((tmp_path / "starts.json").read_text())["rows"]
    assert (row["programs"], row["programs_anew"]) == (2, 1)
    for state in ("empty", "filled"):
        assert 0 < row[f"first_step_{state}_s"] <= row[f"{state}_s"]
    assert "| small | 2 | 1 |" in capsys.readouterr().out


def test_a_command_that_fails_is_named_with_its_last_line(tmp_path):
    with pytest.raises(ValueError, match=r"^compiles_nothing fail .* ended with exit code 1: error: no$"):
        starts.timed(["compiles_nothing", "fail"], tmp_path / "cache")
