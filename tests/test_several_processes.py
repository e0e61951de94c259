"""Runs of several devices and of several processes: one device's numbers, and what happens when a process is lost."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments import train
from experiments.run.checkpoints import Checkpoints
from experiments.run.processes import Processes
from experiments.run.workdir import Run

ROOT = pathlib.Path(__file__).parents[1]
SMALL = [
    "digits-p4", "--model.features", "3", "--optimizer.batch-size", "16",
    "--model.dtype", "float64", "--checkpoint-seconds", "0",
]  # fmt: skip
CHANGED = ["--optimizer.accumulate", "2", "--augment.rotate", "180", "--augment.mixup", "0.2", "--augment.crop", "2"]


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Options of a set of 64 training images and 16 of each other split."""
    path, generator = tmp_path_factory.mktemp("few") / "few.npz", np.random.default_rng(0)
    labels = np.arange(96) % 3
    images = generator.integers(0, 100, (96, 28, 28)) + 50 * labels[:, None, None]
    parts = zip(("train", "val", "test"), np.split(np.arange(96), [64, 80]), strict=True)
    arrays = {
        f"{name}_{kind}": array[part]
        for name, part in parts
        for kind, array in (("images", images.astype(np.uint8)), ("labels", labels))
    }
    np.savez(path, **arrays)
    return ["--data.path", str(path)]


def start(workdir, options, processes=1, devices=1):
    """The processes of a run, on simulated devices; they share a folder, or have one each."""
    folders = workdir if isinstance(workdir, list) else [workdir] * processes
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }  # fmt: skip
    started = []
    for process in range(processes):
        named = ["--coordinator", address, "--process", str(process), "--processes", str(processes)]
        command = [
            sys.executable, "-m", "experiments.train", *SMALL, *options, "--workdir", folders[process],
            *(named if processes > 1 else ["--devices", str(devices)]),
        ]  # fmt: skip
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, **pipes))
    return started


def finish(started):
    """What processes printed, which end well."""
    outputs = [process.communicate(timeout=900) for process in started]
    assert [process.returncode for process in started] == [0] * len(started), outputs
    return outputs


def newest(workdir):
    """Arrays of the newest checkpoint by name."""
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        return checkpoints._read(Run(workdir).newest_step)[0]


def assert_near(workdir, expected, tolerance=1e-10):
    found = newest(workdir)
    for name, array in newest(expected).items():
        difference = np.max(np.abs(found[name].astype(float) - array), initial=0)
        assert difference <= tolerance * np.max(np.abs(array), initial=0), (name, difference)


def assert_identical(workdir, expected):
    found = newest(workdir)
    for name, array in newest(expected).items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def wait_until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_processes_of_two_devices_have_one_devices_numbers(few, tmp_path):
    # Of what rounds, programs that are compiled otherwise make other numbers.
    options = ["--optimizer.epochs", "1", "--optimizer.accumulate", "2", "--augment.crop", "2", *few]
    first, second = finish(start(tmp_path / "four", options, processes=2, devices=2))
    train.cli([*SMALL, *options, "--workdir", str(tmp_path / "one")])
    assert_near(tmp_path / "four", tmp_path / "one")
    four, one = (json.loads((tmp_path / name / "metrics.jsonl").read_text()) for name in ("four", "one"))
    assert abs(four["train_loss"][0] - one["train_loss"][0]) < 1e-12
    assert four["validation_error_percent"] == one["validation_error_percent"]
    assert "equivariance error" in first[0]
    assert "work directory" in first[0]
    assert "work directory" not in second[0]
    assert "epoch 1" not in second[1]


@pytest.mark.slow
def test_devices_and_processes_have_one_devices_numbers(few, tmp_path):
    options = ["--optimizer.epochs", "2", "--optimizer.ema-decay", "0.9", "--seeds", "0", "1", *CHANGED, *few]
    options += ["--optimizer.class-weights", "balanced", "--seeds-mode", "vmap"]
    finish(start(tmp_path / "one", options))
    for processes, devices in ((1, 8), (2, 4)):
        workdir = tmp_path / f"{processes}x{devices}"
        finish(start(workdir, options, processes, devices))
        assert_near(workdir, tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_run_of_which_a_process_was_killed_continues_bit_for_bit(killed, tmp_path):
    options = ["--optimizer.epochs", "3"]
    finish(start(tmp_path / "alone", options, processes=2, devices=4))
    started = start(tmp_path / "killed", options, processes=2, devices=4)
    wait_until(lambda: (Run(tmp_path / "killed").newest_step or 0) % 25 in range(3, 20))
    started[killed].kill()
    began = time.monotonic()
    message = started[1 - killed].communicate(timeout=60)[1]
    assert time.monotonic() - began < 60
    assert started[1 - killed].returncode != 0
    assert f"error: process {1 - killed} of 2" in message
    assert "give all the same command again" in message
    started[killed].communicate()
    finish(start(tmp_path / "killed", options, processes=2, devices=4))
    assert_identical(tmp_path / "killed", tmp_path / "alone")


@pytest.mark.slow
def test_a_checkpoint_of_processes_continues_on_other_devices(tmp_path):
    options = ["--optimizer.epochs", "2"]
    started = start(tmp_path / "run", options, processes=2, devices=4)
    wait_until(lambda: (Run(tmp_path / "run").newest_step or 0) > 2)
    started[1].send_signal(signal.SIGTERM)
    outputs = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [128 + signal.SIGTERM] * 2
    assert all("stopped; the newest checkpoint is of step" in output for output in outputs)
    finish(start(tmp_path / "expected", options))
    for devices in (1, 8):
        workdir = tmp_path / f"on {devices}"
        subprocess.run(["cp", "-r", tmp_path / "run", workdir], check=True)
        finish(start(workdir, options, devices=devices))
        assert_near(workdir, tmp_path / "expected")


@pytest.mark.slow
def test_processes_pass_over_a_damaged_checkpoint_together(few, tmp_path):
    # An extended run is bit for bit a longer one where the rate is constant.
    few = [*few, "--optimizer.schedule", "constant"]
    finish(start(tmp_path / "run", ["--optimizer.epochs", "1", *few], processes=2))
    damaged = tmp_path / "run" / "checkpoints" / str(Run(tmp_path / "run").newest_step)
    for path in damaged.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    # From the checkpoint before, by way of the step that is damaged, to the end.
    finish(start(tmp_path / "run", ["--optimizer.epochs", "2", *few], processes=2))
    finish(start(tmp_path / "expected", ["--optimizer.epochs", "2", *few], processes=2))
    assert_identical(tmp_path / "run", tmp_path / "expected")


@pytest.mark.slow
def test_processes_that_do_not_share_a_folder_say_so(tmp_path, few):
    started = start([tmp_path / "one", tmp_path / "other"], ["--optimizer.epochs", "1", *few], processes=2)
    message = started[1].communicate(timeout=60)[1]
    assert started[1].returncode == 2
    assert f"processes that train together must share --workdir {tmp_path / 'other'}" in message
    assert "error: process 0 of 2" in started[0].communicate(timeout=60)[1]
    assert started[0].returncode != 0


@pytest.mark.slow
def test_processes_without_names_say_which_there_are(tmp_path):
    command = [sys.executable, "-m", "experiments.train", "digits-z2", "--workdir", tmp_path / "run", "--distributed"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "nothing names the processes that train together" in run.stderr
    assert "--coordinator HOST:PORT --process I --processes N" in run.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(coordinator="host:1"), "there is no process and no processes: for instance --coordinator"),
        (dict(coordinator="host", process=0, processes=2), "coordinator must be HOST:PORT, such as 10.0.0.1:1234"),
        (dict(coordinator="host:0", process=0, processes=2), "coordinator must be HOST:PORT, such as 10.0.0.1:1234"),
        (dict(coordinator="host:1", process=2, processes=2), "process must be in 0 to 1, for 2, got 2"),
        (dict(coordinator="host:1", process=0, processes=0), "processes must be at least 1, got 0"),
    ],
)
def test_wrong_names_of_processes_say_what_is_right(options, message):
    with pytest.raises(ValueError, match=message):
        Processes(**options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--devices", "64"], "--devices must be in 1 to"),
        (["--devices", "0"], "--devices must be in 1 to"),
    ],
)
def test_devices_that_are_not_there_are_an_error_in_a_line(words, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        train.cli(["digits-z2", "--workdir", str(tmp_path / "run"), *words])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
