"""A run that is killed at any moment, and continued by the same command, ends as if nothing had happened."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from attgconv_jax.models import load_network
from experiments.runs import read_metrics

ROOT = pathlib.Path(__file__).parents[1]
KILLS = 3
TIMES = ("training_seconds", "evaluation_seconds")


def command(workdir, *options):
    epochs = ("--optimizer.epochs", "8", "--optimizer.batch-size", "32", "--test-every", "3")
    return [
        sys.executable, "-m", "experiments.train", "digits-z2", *epochs, "--workdir", str(workdir),
        "--checkpoint-seconds", "0", *options,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Compiles once for all processes, in a cache of the test's own."""
    return os.environ | {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, environment):
    workdir = tmp_path_factory.mktemp("runs") / "uninterrupted"
    subprocess.run(command(workdir), cwd=ROOT, env=environment, capture_output=True, check=True)
    return workdir


def latest_step(workdir):
    steps = [int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit()]
    return max(steps, default=0)


def arrays(workdir):
    """Every file of the exported networks, and the metrics without times."""
    networks = sorted((workdir / "networks").iterdir())
    leaves = {path.name: load_network(path) for path in networks}
    return leaves


def assert_same_run(workdir, other):
    import jax
    from flax import nnx

    ours, theirs = arrays(workdir), arrays(other)
    assert ours.keys() == theirs.keys() == {"seed-0-last", "seed-0-best"}
    for name, network in ours.items():
        pairs = zip(
            *(jax.tree.leaves(nnx.state(n, (nnx.Param, nnx.BatchStat))) for n in (network, theirs[name])), strict=True
        )
        for a, b in pairs:
            np.testing.assert_array_equal(a, b)
    logs = [
        [{k: v for k, v in line.items() if k not in TIMES} for line in read_metrics(folder / "metrics.jsonl")]
        for folder in (workdir, other)
    ]
    assert logs[0] == logs[1] and len(logs[0]) == 8


def test_a_run_killed_at_random_moments_ends_bit_for_bit_the_same(tmp_path, environment, uninterrupted):
    workdir, moments = tmp_path / "killed", random.Random(0)
    killed_at = []
    for _ in range(KILLS):
        process = subprocess.Popen(
            command(workdir), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        begun = latest_step(workdir)
        while latest_step(workdir) <= begun and process.poll() is None:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed_at.append(latest_step(workdir))
        assert not (workdir / "report.json").exists(), "the run ended before it was killed: make it longer"
    assert killed_at == sorted(set(killed_at))
    subprocess.run(command(workdir), cwd=ROOT, env=environment, capture_output=True, check=True)
    assert_same_run(workdir, uninterrupted)


def test_the_same_command_on_a_complete_run_shows_its_report_and_trains_nothing(uninterrupted, environment):
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*") if path.is_file()}
    result = subprocess.run(
        command(uninterrupted), cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    report = json.loads((uninterrupted / "report.json").read_text())
    assert f"{report['last_epoch']['error_percent']['test'][0]:.2f}" in result.stdout
    assert before == {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*") if path.is_file()}


def test_another_configuration_in_the_same_folder_is_one_line_and_code_2(uninterrupted, environment):
    other = command(uninterrupted, "--model.dropout-rate", "0.5")
    result = subprocess.run(other, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "model.dropout_rate is 0.1 there and 0.5 here" in result.stderr


def test_a_full_disk_stops_training_in_one_line_and_loses_nothing(tmp_path, environment, uninterrupted):
    """Files may not grow beyond 20 kB, where a checkpoint needs more; with room the same command ends as ever."""
    limited = ["bash", "-c", 'ulimit -f 20; exec "$@"', "bash", *command(tmp_path / "run")]
    result = subprocess.run(limited, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "make room, then give the same command again" in errors[0]
    assert "Traceback" not in result.stderr
    subprocess.run(command(tmp_path / "run"), cwd=ROOT, env=environment, capture_output=True, check=True)
    assert_same_run(tmp_path / "run", uninterrupted)


def test_a_folder_that_cannot_be_made_is_one_line(environment):
    result = subprocess.run(
        command("/dev/null/run"), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
