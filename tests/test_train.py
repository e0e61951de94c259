"""The main job at short settings, the commands' errors, and the training step's promises."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attgconv_jax import cyclic, dihedral, trivial
from attgconv_jax.models import load_network
from experiments import benchmark, compare
from experiments import train as train_module
from experiments.config import Config, ModelConfig, OptimizerConfig, parse_group
from experiments.data import Dataset, Split, rotated_digits
from experiments.train import Arguments, main, train
from experiments.training import Trainer, error_rate, make_network, make_optimizer, predict

ROOT = pathlib.Path(__file__).parents[1]
SHORT = OptimizerConfig(epochs=2, batch_size=32)


@pytest.fixture(scope="module")
def few_digits():
    """A hundred digits a split: enough to train on, and quick."""
    digits = rotated_digits(seed=0).standardised()
    splits = {name: Split(split.images[:100], split.labels[:100]) for name, split in digits.splits().items()}
    return Dataset("few digits", 10, **splits)


def _trainer(dropout_rate=0.1, attention="none", batch_size=32, steps=6):
    network = make_network(ModelConfig("p4", attention, dropout_rate), classes=10, seed=0)
    return Trainer(network, make_optimizer(OptimizerConfig(), steps), batch_size)


def test_the_main_job_reports_saves_and_draws(tmp_path, capsys):
    workdir = tmp_path / "run"
    main(Arguments(optimizer=dataclasses.replace(SHORT, epochs=1), workdir=workdir))
    printed = capsys.readouterr().out
    report = json.loads((workdir / "report.json").read_text())
    for split in ("train", "validation", "test"):
        assert f"{report['error_percent'][split]:.2f} %" in printed
        assert 0 <= report["error_percent"][split] <= 100
    assert report["equivariance_error"] < 1e-5
    assert (workdir / "attention.png").stat().st_size > 10_000
    images = rotated_digits(0).standardised().test
    error = 100 * error_rate(load_network(workdir / "network"), images)
    assert error == pytest.approx(report["error_percent"]["test"])


def test_training_learns(few_digits):
    config = Config(model=ModelConfig("p4", "none", 0.0), optimizer=OptimizerConfig(epochs=25, batch_size=25))
    _, report = train(config, few_digits, progress=False)
    assert report["error_percent"]["train"] == 0
    assert report["error_percent"]["test"] < 70


def test_the_same_seed_gives_the_same_network_and_another_seed_another(few_digits):
    images = few_digits.test.images[:8]
    logits = [
        predict(
            train(Config(model=ModelConfig("p4", "none"), optimizer=SHORT, seed=seed), few_digits, progress=False)[0],
            images,
        )
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(logits[0], logits[1])
    assert np.abs(logits[0] - logits[2]).max() > 1e-3


def test_an_epoch_is_its_steps_one_by_one(few_digits):
    trainer = _trainer()
    images, labels = jnp.asarray(few_digits.train.images), jnp.asarray(few_digits.train.labels)
    start = trainer.init(seed=3)
    key, shuffle = jax.random.split(start.key)
    order = jax.random.permutation(shuffle, 100)[:96].reshape(3, 32)
    state, step = start._replace(key=key), jax.jit(trainer.step)
    for batch in order:
        state, loss = step(state, images[batch], labels[batch])
    whole, losses = trainer.epoch(start, images, labels)
    assert losses.shape == (3,)
    assert losses[-1] == pytest.approx(float(loss), rel=1e-4)
    for a, b in zip(jax.tree.leaves(whole.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_l2_is_added_to_the_gradient():
    config = OptimizerConfig(learning_rate=1.0, l2=0.5)
    optimizer = make_optimizer(config, steps=10)
    params = {"w": jnp.array([2.0, -4.0])}
    state = optimizer.init(params)
    first, _ = optimizer.update({"w": jnp.array([-1.0, 2.0])}, state, params)
    # The gradient of loss and L2 is zero here, so Adam must not move.
    np.testing.assert_allclose(first["w"], 0, atol=1e-6)


def test_dropout_draws_a_new_mask_every_step(few_digits):
    trainer = _trainer(dropout_rate=0.5)
    state = trainer.init(seed=0)
    images, labels = few_digits.train.images[:32], few_digits.train.labels[:32]
    loss = jax.jit(trainer.loss)
    first, rest = loss(state.params, state.rest, images, labels)
    assert float(first) != float(loss(state.params, rest, images, labels)[0])
    assert float(first) == float(loss(state.params, state.rest, images, labels)[0])


def test_predict_fills_and_drops_the_last_batch(few_digits):
    network = _trainer().network(_trainer().init(0))
    images = few_digits.test.images[:50]
    np.testing.assert_allclose(predict(network, images, batch_size=32), predict(network, images, 50), atol=1e-5)


def test_a_loss_that_is_not_finite_stops_the_run(few_digits):
    config = Config(model=ModelConfig("p4", "none"), optimizer=dataclasses.replace(SHORT, learning_rate=1e30))
    with pytest.raises(FloatingPointError, match=r"in epoch \d: lower optimizer.learning_rate"):
        train(config, few_digits, progress=False)


@pytest.mark.parametrize(
    ("name", "group"),
    [("z2", trivial()), ("p4", cyclic(4)), ("p4m", dihedral(4)), ("C8", cyclic(8)), ("D2", dihedral(2))],
)
def test_groups_have_names(name, group):
    assert parse_group(name) == group


@pytest.mark.parametrize("name", ["p5", "C0", "D", "c4", ""])
def test_other_names_of_groups_are_refused(name):
    with pytest.raises(ValueError, match="the group must be z2, p4, p4m, or like C8"):
        parse_group(name)


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (train_module, ["--model.group", "p5"], "the group must be z2, p4, p4m"),
        (train_module, ["--model.attention", "channel"], "input_channel"),
        (train_module, ["--optimizer.epochs", "0"], "optimizer.epochs must be at least 1"),
        (train_module, ["--model.dropout-rate", "1.5"], "model.dropout_rate must be in [0, 1)"),
        (compare, ["--networks", "p4"], "GROUP:ATTENTION"),
        (benchmark, ["--networks", "p5"], "networks must be among Z2, p4"),
    ],
)
def test_bad_arguments_exit_with_code_2_and_say_what_is_right(module, arguments, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        module.cli(arguments)
    assert exit_.value.code == 2
    printed = capsys.readouterr()
    assert message in " ".join((printed.out + printed.err).replace("│", " ").split())


def test_a_command_ends_with_one_line_and_code_2(tmp_path):
    (tmp_path / "report.json").touch()
    command = [sys.executable, "-m", "experiments.train", "--workdir", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: --workdir") and result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["report.json", "network"])
def test_a_work_directory_with_a_run_is_refused(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match="already holds a run: name another folder"):
        main(Arguments(workdir=tmp_path))


def test_a_batch_larger_than_the_data_is_refused(few_digits):
    with pytest.raises(ValueError, match=r"batch_size must be at most 100.*got 101"):
        train(Config(optimizer=OptimizerConfig(batch_size=101)), few_digits, progress=False)


def test_compare_writes_every_run_and_a_table(tmp_path, capsys, monkeypatch, few_digits):
    monkeypatch.setattr(compare, "rotated_digits", lambda seed: few_digits)
    out = tmp_path / "results.json"
    compare.main(compare.Arguments(networks=("z2:none",), seeds=(0, 1), optimizer=SHORT, out=out))
    runs = json.loads(out.read_text())["runs"]
    assert [run["config"]["seed"] for run in runs] == [0, 1]
    mean = np.mean([run["error_percent"]["test"] for run in runs])
    assert f"| z2 | none | {mean:.2f} ± " in capsys.readouterr().out


def test_benchmark_measures_a_network(tmp_path):
    out = tmp_path / "benchmark.json"
    benchmark.main(benchmark.Arguments(networks=("Z2",), batch_size=8, steps=2, repeats=1, out=out))
    figures = json.loads(out.read_text())["networks"]["Z2"]
    assert figures["parameters"] == 21_620
    assert all(figures[name] > 0 for name in ("compile_s", "step_ms", "forward_ms", "filter_banks_ms"))
    assert figures["peak_memory_mb"] > 1
