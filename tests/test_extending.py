"""A run of other epochs: what its learning rate becomes, what is written, and what stays bit for bit."""

import json
import re
import shutil

import jax
import numpy as np
import pytest
from flax import nnx

from attgconv_jax.models import load_network
from experiments import train
from experiments.data import Dataset, Split, rotated_digits
from experiments.run import loop
from experiments.run.configuration import Config, OptimizerConfig
from experiments.run.extending import extension, extension_message, schedule_of
from experiments.run.loop import fit, make_trainer
from experiments.run.metrics import read_metrics
from experiments.run.model_configuration import model
from experiments.run.workdir import Run

STEPS = 3
"""An epoch."""


def config(epochs, **optimizer):
    optimizer = OptimizerConfig(**{"learning_rate": 0.01, "epochs": epochs, "batch_size": 16} | optimizer)
    return Config(model=model("rot_mnist", "z2", features=(1,), dropout_rate=0.1), optimizer=optimizer, test_every=100)


@pytest.fixture(scope="module")
def digits():
    """Fifty digits a split."""
    digits = rotated_digits(seed=0).standardised()
    splits = {name: Split(split.images[:50], split.labels[:50]) for name, split in digits.splits().items()}
    return Dataset("few digits", 10, **splits, provenance=digits.provenance)


def trained(workdir, config, digits, extend=False, **options):
    """The run and its last state, trained as `experiments.train` does, without a report."""
    run = Run(workdir)
    with run.locked():
        run.begin(config, digits, extend=extend)
        return run, fit(run, make_trainer(config, digits, run.extensions), digits, **options)[0]


def assert_same(state, other):
    for a, b in zip(*(jax.tree.leaves(each) for each in (state, other)), strict=True):
        keys = jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key)
        np.testing.assert_array_equal(*((jax.random.key_data(x) if keys else x) for x in (a, b)))


def cosine(step, steps):
    return 0.01 * (1 + np.cos(np.pi * step / steps)) / 2


def test_steps_keep_the_schedule_of_the_epochs_that_the_run_had_when_they_were_taken():
    records = [dict(from_epochs=10, step=70), dict(from_epochs=20, step=150)]
    schedule = schedule_of(config(30).optimizer, 10, records)
    for step in (0, 69, 70, 149, 150, 299):
        expected = cosine(step, 100 if step < 70 else 200 if step < 150 else 300)
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5), step


def test_schedules_that_do_not_ask_for_the_epochs_stay_as_they_are():
    for options in (dict(schedule="constant"), dict(schedule="step", milestones=(2, 4))):
        extended = schedule_of(config(30, **options).optimizer, 10, [dict(from_epochs=10, step=70)])
        plain = schedule_of(config(10, **options).optimizer, 10)
        assert [float(extended(step)) for step in range(0, 100, 7)] == [float(plain(step)) for step in range(0, 100, 7)]


@pytest.mark.parametrize(
    ("optimizer", "former", "step", "message"),
    [
        (
            config(20).optimizer,
            10,
            100,
            "extended from 10 to 20 epochs and continues after epoch 10: the learning rate follows the cosine schedule "
            "of 20 epochs from there, and rises from 2.47e-06 to 0.005 in the next step",
        ),
        (
            config(20, schedule="constant").optimizer,
            10,
            45,
            "extended from 10 to 20 epochs and continues after epoch 4.5: the learning rate stays constant from there, "
            "and is 0.01 in the next step",
        ),
        (
            config(20, schedule="step", milestones=(5, 12)).optimizer,
            15,
            50,
            "extended from 15 to 20 epochs and continues after epoch 5: the learning rate falls after the epochs 5 12 "
            "as before from there, and falls from 0.01 to 0.001 in the next step",
        ),
        (
            config(5).optimizer,
            10,
            30,
            "shortened from 10 to 5 epochs and continues after epoch 3: the learning rate follows the cosine schedule "
            "of 5 epochs from there, and falls from 0.00806 to 0.00345 in the next step",
        ),
        (config(5).optimizer, 10, 50, "shortened from 10 to 5 epochs, all of which are trained"),
    ],
    ids=["cosine", "constant", "step", "shortened", "nothing left"],
)
@pytest.mark.default("cosine", "constant", "step", "shortened", "nothing left")
def test_an_extension_says_what_becomes_of_the_schedule(optimizer, former, step, message):
    record = extension(config(former), optimizer.epochs, step, 10)
    assert extension_message(optimizer, 10, [record]) == message


@pytest.fixture
def finished(tmp_path, digits):
    """A run of ten epochs that looks as if it were complete."""
    run = Run(tmp_path / "run")
    with run.locked():
        run.begin(config(10), digits)
    (run.workdir / "checkpoints" / str(10 * STEPS)).mkdir(parents=True)
    errors = {"epoch": [10], "error_percent": {"test": [12.5]}}
    protocols = dict.fromkeys(("best_on_validation", "last_epoch", "best_on_test"), errors)
    figures = dict(parameters=7, equivariance_error=[1e-7], training_seconds=3.0, evaluation_seconds=1.0)
    run.finish(run.description | protocols | figures)
    return run


def test_an_extension_is_written_and_makes_the_report_one_of_before(finished, digits):
    with finished.locked():
        finished.begin(config(20), digits, extend=True)
        finished.begin(config(30), digits, extend=True)
    run = Run(finished.workdir)
    assert run.config() == config(30) and run.report is None
    described = [(record["from_epochs"], record["epochs"], record["step"]) for record in run.extensions]
    assert described == [(10, 20, 30), (20, 30, 30)]
    assert {"date", "jax", "device"} <= run.extensions[0].keys() and run.extensions[0]["epoch"] == 10
    run.finish(run.description)
    assert Run(finished.workdir).is_finished(config(30)) and not run.is_finished(config(40))


@pytest.mark.parametrize(
    ("changed", "extend", "message"),
    [
        (config(20), False, "optimizer.epochs is 10 there and 20 here. .*; --optimizer.epochs 20 extends it$"),
        (config(5), False, "optimizer.epochs is 10 there and 5 here. .* repeat the other command$"),
        (config(20, l2=0.5), True, "configuration: optimizer.l2 is 0.0001 there and 0.5 here. .* the other command$"),
        (config(9), True, "optimizer.epochs must be at least 10, the epochs that this run has trained, got 9: give "),
    ],
    ids=["not asked for", "fewer, not asked for", "another field", "fewer than trained"],
)
@pytest.mark.default("not asked for", "fewer, not asked for", "another field", "fewer than trained")
def test_other_changes_are_refused_and_leave_the_run_as_it_is(finished, digits, changed, extend, message):
    before = (finished.workdir / "run.json").read_text()
    with pytest.raises(ValueError, match=message), finished.locked():
        finished.begin(changed, digits, extend=extend)
    assert (finished.workdir / "run.json").read_text() == before
    assert Run(finished.workdir).is_finished(config(10))


def test_a_finished_run_without_a_checkpoint_is_not_begun_anew(finished, digits):
    shutil.rmtree(finished.workdir / "checkpoints")
    with pytest.raises(ValueError, match="has no checkpoint left to be extended from"), finished.locked():
        finished.begin(config(20), digits, extend=True)


def test_a_finished_run_says_how_to_extend_it(finished, monkeypatch, capsys):
    """The words of the command in their order, but for the epochs, which are doubled."""
    fields = {field: getattr(config(10), field) for field in ("model", "optimizer")}
    arguments = train.Arguments(data=config(10).data, **fields, test_every=100, workdir=finished.workdir)
    given = f"python -m experiments.train digits-z2 --optimizer.epochs=10 --workdir {finished.workdir}"
    monkeypatch.setattr(train, "given_command", lambda: given)
    monkeypatch.setattr(train, "use_compilation_cache", lambda _: None)
    train.main(arguments)
    _, second, _, third, *others = capsys.readouterr().out.splitlines()
    assert second == (
        f"{finished.workdir} is finished, with 10 epochs; to extend it: python -m experiments.train digits-z2 "
        f"--workdir {finished.workdir} --optimizer.epochs 20"
    )
    assert third.startswith("test error in percent; ") and others[0].startswith("| run |")
    assert others[-1] == f"report with pictures: python -m experiments.evaluate {finished.workdir} draws it"


def test_results_of_before_are_removed_and_nothing_else(finished, digits):
    folder = finished.workdir
    for name in ("report.html", "angles.png", "attention-pairs.png", "own.png"):
        (folder / name).touch()
    (folder / "networks").mkdir()
    finished.discard_results()
    assert {path.name for path in folder.iterdir()} >= {"networks", "own.png", "run.json"}
    assert not [path.name for path in folder.iterdir() if path.name in ("report.html", "angles.png")]
    assert not (folder / "attention-pairs.png").exists()
    with finished.locked():
        finished.begin(config(20), digits, extend=True)
    finished.discard_results()
    assert not (folder / "networks").exists()


def test_a_run_extended_with_a_constant_rate_is_bit_for_bit_one_of_so_many_epochs(tmp_path, digits):
    """Its optimiser has counted all steps, and a schedule counts on from there."""
    _, _ = trained(tmp_path / "extended", config(1, schedule="constant"), digits)
    _, extended = trained(tmp_path / "extended", config(2, schedule="constant"), digits, extend=True)
    _, whole = trained(tmp_path / "whole", config(2, schedule="constant"), digits)
    assert_same(extended, whole)
    assert [int(count[0]) for count in jax.tree.leaves(extended.opt_state) if count.shape == (1,)] == [2 * STEPS] * 2
    assert [record["epoch"] for record in read_metrics(tmp_path / "extended")] == [1, 2]


@pytest.mark.slow
def test_an_extended_run_that_is_killed_ends_bit_for_bit_the_same(tmp_path, digits, monkeypatch):
    """Also where its newest checkpoint is damaged, so that steps of before the extension are taken again."""
    monkeypatch.setattr(loop, "CALL_SECONDS", 0)
    trained(tmp_path / "one", config(2), digits, checkpoint_seconds=0)
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    _, whole = trained(tmp_path / "one", config(4), digits, extend=True)

    class Killed(Exception):
        pass

    def kill(*_, calls=[]):  # noqa: B006
        calls.append(None)
        if len(calls) > STEPS + 1:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop, "check_finite", kill)
        trained(tmp_path / "other", config(4), digits, extend=True)
    assert sorted(path.name for path in (tmp_path / "other" / "checkpoints").iterdir()) == ["5", "6"]
    for file in (tmp_path / "other" / "checkpoints" / "6" / "arrays").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with pytest.warns(UserWarning, match="checkpoint of step 6 is damaged"):
        _, continued = trained(tmp_path / "other", config(4), digits)
    assert_same(continued, whole)
    rates = [record["learning_rate"] for record in read_metrics(tmp_path / "other")]
    steps = [(2, 6), (5, 6), (8, 12), (11, 12)]
    assert rates == pytest.approx([cosine(*pair) for pair in steps], rel=1e-5)


@pytest.mark.slow
def test_the_command_extends_a_finished_run_and_writes_its_report_and_networks_anew(tmp_path, capsys):
    workdir = tmp_path / "run"

    def ask(epochs):
        options = ["--model.features", "1", "--optimizer.batch-size", "250", "--optimizer.epochs", epochs]
        train.cli(["digits-z2", "--workdir", str(workdir), *options])
        return capsys.readouterr()

    said = ask("1")
    assert "is finished" not in said.out and re.search(r"compiling \.\.\. .*, compiled in \d+\.\d s\n", said.err)
    first = load_network(workdir / "networks" / "seed-0-last")
    assert f"{workdir} is extended from 1 to 2 epochs and continues after epoch 1: " in ask("2").out
    report = json.loads((workdir / "report.json").read_text())
    assert report["last_epoch"]["epoch"] == [2] and [each["epoch"] for each in report["extensions"]] == [1.0]
    second = load_network(workdir / "networks" / "seed-0-last")
    filters = [np.asarray(jax.tree.leaves(nnx.state(network, nnx.Param))[0]) for network in (first, second)]
    assert np.abs(filters[0] - filters[1]).max() > 0
    assert f"{workdir} is finished, with 2 epochs" in ask("2").out
