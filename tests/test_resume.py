"""A run that is killed at any moment, and continued by the same command, ends as if nothing had happened."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from flax import nnx
from small_pictures import picture, write

from attgconv_jax.models import load_network
from experiments.run.metrics import read_metrics

ROOT = pathlib.Path(__file__).parents[1]
KILLS = 3
TIMES = ("training_seconds", "evaluation_seconds", "images_per_second", "input_wait_seconds", "time")


def command(workdir, *options):
    epochs = ("--optimizer.epochs", "8", "--optimizer.batch-size", "32", "--test-every", "3")
    return [
        sys.executable, "-m", "experiments.train", "digits-z2", *epochs, "--workdir", str(workdir),
        "--checkpoint-seconds", "0", *options,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Compiles once for all processes, as users do, in a cache of the test's own."""
    return os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache")), "XLA_FLAGS": ""}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, environment):
    workdir = tmp_path_factory.mktemp("runs") / "uninterrupted"
    ask(environment, command(workdir))
    return workdir


def latest_step(workdir):
    steps = [int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit()]
    return max(steps, default=0)


def variables(folder):
    """Parameters and statistics of an exported network."""
    return jax.tree.leaves(nnx.state(load_network(folder), (nnx.Param, nnx.BatchStat)))


def assert_same_run(workdir, other):
    """The same networks bit for bit, and the same metrics but for the time they took."""
    names = sorted(path.name for path in (workdir / "networks").iterdir())
    assert names == ["seed-0-best", "seed-0-last"]
    for name in names:
        for a, b in zip(*(variables(folder / "networks" / name) for folder in (workdir, other)), strict=True):
            np.testing.assert_array_equal(a, b)
    logs = [
        [{k: v for k, v in line.items() if k not in TIMES} for line in read_metrics(folder)]
        for folder in (workdir, other)
    ]
    assert logs[0] == logs[1] and len(logs[0]) == 8


def ask(environment, words, expected=0):
    """What a command says on stdout and stderr, with the exit code that it must have."""
    result = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == expected, result.stderr
    return result.stdout, result.stderr


@pytest.mark.slow
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
    ask(environment, command(workdir))
    assert_same_run(workdir, uninterrupted)


@pytest.mark.slow
def test_a_streamed_run_in_parts_is_killed_and_goes_on_with_other_workers(tmp_path, environment):
    """In bfloat16, with checkpointing and an average of the network: bit for bit as if it had not been killed."""
    for i in range(200):
        write(tmp_path / "pictures" / "ab"[i % 2] / f"{i}.png", picture(i, (28, 28)) // (1 + i % 2))
    options = ["--data.path", tmp_path / "pictures", "--data.stream", "--optimizer.accumulate", "2"]
    options += ["--optimizer.ema-decay", "0.9", "--optimizer.gradient-checkpointing", "--model.dtype", "bfloat16"]

    def words(name, workers):
        return [str(word) for word in [*command(tmp_path / name), *options, "--data.workers", str(workers)]]

    ask(environment, words("whole", 0))
    with subprocess.Popen(
        words("killed", 1), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while latest_step(tmp_path / "killed") < 5 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "killed" / "report.json").exists()
    ask(environment, words("killed", 0))
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
def test_workers_leave_ctrl_c_to_the_run_and_end_with_it(tmp_path, environment):
    """A terminal sends it to all processes of a command; a run that is killed leaves none behind."""
    for i in range(200):
        write(tmp_path / "pictures" / "ab"[i % 2] / f"{i}.png", picture(i, (28, 28)))
    options = ["--data.path", str(tmp_path / "pictures"), "--data.stream", "--data.workers", "2"]
    for name, number, code in (("stopped", signal.SIGINT, 130), ("killed", signal.SIGKILL, -signal.SIGKILL)):
        words = [*command(tmp_path / name), *options, "--optimizer.epochs", "500"]
        streams = dict(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        with subprocess.Popen(words, cwd=ROOT, env=environment, start_new_session=True, **streams) as process:
            while latest_step(tmp_path / name) < 5 and process.poll() is None:
                time.sleep(0.01)
            if number == signal.SIGINT:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
            _, said = process.communicate(timeout=120)
        assert process.returncode == code and "Traceback" not in said and latest_step(tmp_path / name) >= 5
        deadline = time.monotonic() + 20
        while members(process.pid) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not members(process.pid)


def members(group):
    """The processes of a group that are left."""
    return subprocess.run(["pgrep", "-g", str(group)], capture_output=True, text=True, check=False).stdout.split()


@pytest.mark.slow
def test_a_run_that_is_stopped_keeps_its_steps_and_ends_bit_for_bit_the_same(tmp_path, environment, uninterrupted):
    """By SIGTERM, for shells make what they run in the background ignore Ctrl-C."""
    words = [*command(tmp_path / "stopped"), "--checkpoint-seconds", "1000"]
    options = dict(cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = ""
    with subprocess.Popen(words, **options) as process:
        for character in iter(lambda: process.stderr.read(1), ""):
            said += character
            if "epoch 2," in said and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                break
        said += process.stderr.read()
    assert process.returncode == 128 + signal.SIGTERM
    step = latest_step(tmp_path / "stopped")
    assert 0 < step < 8 * 31
    assert f"stopped; the newest checkpoint is of step {step} of 248 (epoch " in said and "Traceback" not in said
    ask(environment, words)
    assert_same_run(tmp_path / "stopped", uninterrupted)


@pytest.mark.slow
def test_the_same_command_on_a_complete_run_shows_its_report_and_trains_nothing(uninterrupted, environment):
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*") if path.is_file()}
    printed, _ = ask(environment, command(uninterrupted))
    report = json.loads((uninterrupted / "report.json").read_text())
    assert f"{report['last_epoch']['error_percent']['test'][0]:.2f}" in printed
    assert before == {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_another_configuration_in_the_same_folder_is_one_line_and_code_2(uninterrupted, environment):
    _, said = ask(environment, command(uninterrupted, "--model.dropout-rate", "0.5"), expected=2)
    assert "model.dropout_rate is 0.1 there and 0.5 here" in said and said.count("\n") == 1


@pytest.mark.slow
def test_a_full_disk_stops_training_in_one_line_and_loses_nothing(tmp_path, environment, uninterrupted):
    """Files may not grow beyond 20 kB, where a checkpoint needs more; with room the same command ends as ever."""
    limited = ["bash", "-c", 'ulimit -f 20; exec "$@"', "bash", *command(tmp_path / "run")]
    _, said = ask(environment, limited, expected=2)
    errors = [line for line in said.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "File too large; see to it, then give the same command again" in errors[0]
    assert "Traceback" not in said
    ask(environment, command(tmp_path / "run"))
    assert_same_run(tmp_path / "run", uninterrupted)


@pytest.mark.slow
def test_a_folder_that_cannot_be_made_is_one_line(environment):
    _, said = ask(environment, command("/dev/null/run"), expected=2)
    assert said.startswith("error: ") and said.count("\n") == 1
