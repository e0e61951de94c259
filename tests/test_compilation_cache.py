"""Compiled programs are kept: where, that nothing else depends on it, and that a second process compiles none."""

import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from helpers import assert_refused
from networks import leaves

from attgconv_jax.models import load_network
from experiments import predict, train
from experiments.run.runtime import use_compilation_cache

ROOT = pathlib.Path(__file__).parents[1]
SETTINGS = ("jax_compilation_cache_dir", "jax_enable_compilation_cache", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture
def untold():
    """JAX as it is where nobody has told it of a folder, and afterwards as it was; a function to read the folder."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    jax.config.update("jax_compilation_cache_dir", None)
    yield lambda: jax.config.jax_compilation_cache_dir
    for name, value in before.items():
        jax.config.update(name, value)


def test_programs_are_kept_in_the_users_cache_folder_by_default(untold, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    use_compilation_cache()
    assert untold() == str(tmp_path / "cache/attgconv_jax/xla")
    monkeypatch.setenv("HOME", str(tmp_path))
    for other in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", other)
        jax.config.update("jax_compilation_cache_dir", None)
        use_compilation_cache()
        assert untold() == str(tmp_path / ".cache/attgconv_jax/xla")
    assert capsys.readouterr() == ("", "")
    # JAX makes the folder with the first program: a command that fails before leaves nothing.
    assert not any(tmp_path.iterdir())


def test_a_folder_that_jax_has_been_told_of_stays_unless_another_is_asked_for(untold, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "told"))
    use_compilation_cache()
    assert untold() == str(tmp_path / "told")
    assert not (tmp_path / "told").exists()
    use_compilation_cache(tmp_path / "asked")
    assert untold() == str(tmp_path / "asked")
    assert not (tmp_path / "asked").exists()


def test_the_users_folder_may_be_written_as_a_tilde(untold, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    use_compilation_cache(pathlib.Path("~/cache"))
    assert untold() == str(tmp_path / "cache")


@pytest.mark.parametrize("told", ["folder", "choice"])
def test_every_program_is_kept_unless_the_environment_says_otherwise(told, untold, tmp_path, monkeypatch):
    name = "jax_persistent_cache_min_compile_time_secs"
    jax.config.update("jax_compilation_cache_dir", str(tmp_path) if told == "folder" else None)
    jax.config.update(name, 1.0)
    monkeypatch.setenv(name.upper(), "1.0")
    use_compilation_cache(tmp_path if told == "choice" else None)
    assert getattr(jax.config, name) == 1
    monkeypatch.delenv(name.upper())
    use_compilation_cache(tmp_path if told == "choice" else None)
    assert getattr(jax.config, name) == 0


def test_a_command_that_fails_leaves_no_folder(untold, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words in (["--compilation-cache", "none"], ["--compilation-cache=~/never"]):
        with pytest.raises(SystemExit):
            predict.cli(["nothing", "x.png", *words])
    assert not any(tmp_path.iterdir())
    assert "there is no file or folder x.png" in capsys.readouterr().err


def test_no_cache_is_used_where_it_is_off(untold, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "told"))
    use_compilation_cache("off")
    assert untold() is None
    assert not jax.config.jax_enable_compilation_cache


def test_a_folder_that_cannot_be_written_to_is_a_line_and_no_error(untold, tmp_path, capsys):
    (tmp_path / "file").touch()
    for folder, why in {tmp_path / "file" / "folder": "Not a directory", tmp_path / "file": "a file"}.items():
        use_compilation_cache(folder)
        assert untold() is None
        advice = "--compilation-cache names another folder, or is off"
        assert capsys.readouterr() == ("", f"note: compiled programs are not kept in {folder} ({why}); {advice}\n")


def test_a_name_left_empty_is_no_folder(untold):
    with assert_refused("compilation_cache must be a folder of its own or off"):
        use_compilation_cache(pathlib.Path(""))
    assert untold() is None


@pytest.mark.parametrize("words", [["off"], ["some/folder"], []], ids=["off", "folder", "default"])
def test_the_option_is_off_or_a_folder(words, monkeypatch, tmp_path):
    chosen = []
    monkeypatch.setattr(predict, "use_compilation_cache", chosen.append)
    with pytest.raises(SystemExit):
        # The run is not there: the command ends behind the choice.
        predict.cli([str(tmp_path), str(tmp_path), *(["--compilation-cache", *words] if words else [])])
    assert chosen == [{"off": "off", "some/folder": pathlib.Path("some/folder"), "": None}["".join(words)]]


@pytest.mark.slow
def test_a_second_process_compiles_nothing_and_has_the_same_results(tmp_path):
    cache = tmp_path / "cache"
    options = ["--optimizer.epochs", "1", "--model.features", "2", "--optimizer.batch-size", "500"]
    command = [sys.executable, "-m", train.__name__, "digits-z2", *options, "--compilation-cache", str(cache)]
    kept, arrays = [], []
    for name in ("first", "second"):
        subprocess.run([*command, "--workdir", str(tmp_path / name)], cwd=ROOT, check=True, capture_output=True)
        # Every program that is compiled is kept, however quickly that was.
        kept.append({path.name for path in cache.glob("*-cache")})
        arrays.append(leaves(load_network(tmp_path / name / "networks/seed-0-last")))
    assert len(kept[0]) > 10
    assert kept[1] == kept[0]
    first, second = arrays
    assert {*first} == {*second}
    assert all(np.array_equal(first[name], second[name]) for name in first)
