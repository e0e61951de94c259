"""Ctrl-C and SIGTERM: what is noted within training, and what a person is told that is left."""

import signal

import numpy as np
import pytest

from experiments.data import Dataset, Split, rotated_digits
from experiments.run.configuration import Config, OptimizerConfig, few_steps_note
from experiments.run.model_configuration import model
from experiments.run.runtime import _run_command
from experiments.run.stopping import Stopped, stop_requests
from experiments.run.workdir import Run, dataset_of
from experiments.train import stopped_message


@pytest.fixture
def default_signals():
    """Python's own handlers: a shell starts jobs in the background with Ctrl-C ignored."""
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    former = {signum: signal.signal(signum, handler) for signum, handler in handlers.items()}
    yield
    for signum, handler in former.items():
        signal.signal(signum, handler)


def test_a_request_is_noted_and_a_second_one_stops_at_once(default_signals):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stop_requests() as came:
        signal.raise_signal(signal.SIGTERM)
        assert came == [signal.SIGTERM]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))


def test_signals_that_were_ignored_stay_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_requests() as came:
            signal.raise_signal(signal.SIGINT)
            assert came == []
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_stopped_run_says_what_it_has_kept(tmp_path):
    run, config = Run(tmp_path / "run"), Config(optimizer=OptimizerConfig(epochs=4, batch_size=100))
    assert "there is no checkpoint yet, so that the same command begins anew" in stopped_message(config, run.workdir)
    with run.locked():
        run.begin(config, rotated_digits(0))
    assert "there is no checkpoint yet" in stopped_message(config, run.workdir)
    (run.workdir / "checkpoints" / "25").mkdir(parents=True)
    message = (
        "stopped; the newest checkpoint is of step 25 of 40 (epoch 2.5 of 4), and the same command continues there"
    )
    assert stopped_message(config, run.workdir) == message
    (run.workdir / "checkpoints" / "40").mkdir()
    assert "all steps are taken, and the same command evaluates" in stopped_message(config, run.workdir)
    run.finish({})
    assert f"python -m experiments.evaluate {run.workdir} draws" in stopped_message(config, run.workdir)


@pytest.mark.parametrize(
    ("stop", "code", "told"),
    [(KeyboardInterrupt(), 130, "\nstopped\n"), (Stopped("kept", signal.SIGTERM), 143, "\nkept\n")],
    ids=["plain", "with a message"],
)
def test_a_command_that_is_stopped_ends_with_the_signals_code(stop, code, told, capsys):
    def main(arguments):
        raise stop

    main.__module__ = "experiments.train"
    with pytest.raises(SystemExit) as ended:
        _run_command(main, Config, [])
    assert ended.value.code == code and capsys.readouterr().err == told


def test_images_of_a_named_set_that_are_framed_in_much_black_are_told_of(monkeypatch, capsys):
    split = Split(np.zeros((2, 28, 28, 1, 1), np.float32), np.arange(2, dtype=np.int32))
    monkeypatch.setattr("experiments.run.workdir.load", lambda *_, **__: Dataset("two", 2, split, split, split))
    assert dataset_of(Config(model=model("densenet", "p4"))).sides == (96, 96)
    told = (
        "note: images of 28 pixels along an axis are framed in black to the 96 that densenet takes: images of your own"
    )
    assert capsys.readouterr().out.startswith(told)
    assert dataset_of(Config(model=model("all_cnn", "p4"))).sides == (32, 32) and not capsys.readouterr().out


def test_an_epoch_of_few_steps_is_noted():
    config = Config(optimizer=OptimizerConfig(epochs=9))
    assert few_steps_note(config, 164) == (
        "164 training images are 2 steps of 64 an epoch, and 36 images are left out of it, others each time: networks "
        "may need more epochs (--optimizer.epochs, now 9) or --optimizer.batch-size 16"
    )
    assert few_steps_note(config, 640) is None
    one = Config(optimizer=OptimizerConfig(epochs=9, batch_size=1))
    assert few_steps_note(one, 5) == (
        "5 training images are 5 steps of 1 an epoch: networks may need more epochs (--optimizer.epochs, now 9)"
    )
