"""The commands as a person gives them: the main job at short settings, evaluation, comparison, reproduction, errors."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
import tyro
from matplotlib import pyplot

from attgconv_jax import Sampling
from attgconv_jax.interop.__main__ import main as convert
from attgconv_jax.models import load_classifier, load_network, save_network
from experiments import compare, evaluate, reproduce, train
from experiments.bench import attention, lie_networks, memory, networks, scaling
from experiments.configs import PRESETS, TABLES, Preset
from experiments.data import Split, overlap, prepare, rotated_digits
from experiments.report.markdown import mean_and_deviation
from experiments.report.measures import by_angle, by_element, confusion
from experiments.report.reports import best_on_test
from experiments.run import loop
from experiments.run.configuration import Config, OptimizerConfig
from experiments.run.evaluation import predict
from experiments.run.model_configuration import model
from experiments.run.training import make_network
from experiments.run.workdir import Run

SHORT = ["--optimizer.epochs", "2", "--optimizer.batch-size", "250", "--test-every", "1", "--model.features", "2"]


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    """Runs of two presets, two epochs each, the first over two seeds."""
    folder = tmp_path_factory.mktemp("runs")
    paths = {"two-seeds": ["digits-z2", "--seeds", "3", "5"], "attentive": ["digits"]}
    for name, words in paths.items():
        train.cli([*words, *SHORT, "--workdir", str(folder / name)])
    yield {name: folder / name for name in paths}
    pyplot.close("all")


@pytest.fixture(scope="module")
def digits():
    return rotated_digits(0).standardised()


def test_the_main_job_trains_the_attentive_network_on_digits_by_default():
    made, default, _ = train.command_line([])
    config = tyro.cli(made, args=[], default=default)
    assert config.model == PRESETS["digits"].config.model
    assert (config.model.group, config.model.attention, config.data.name) == ("p4", "input", "digits")


@pytest.mark.slow
def test_the_main_job_reports_saves_and_draws(workdirs, digits, capsys):
    workdir = workdirs["attentive"]
    train.cli(["digits", *SHORT, "--workdir", str(workdir)])
    printed = capsys.readouterr().out
    report = Run(workdir).report
    for protocol in ("best_on_validation", "last_epoch", "best_on_test"):
        assert mean_and_deviation(report[protocol]["error_percent"]["test"]) in printed
    assert max(report["equivariance_error"]) < 1e-5
    assert report["data"]["test_sha256"] == digits.provenance["test_sha256"]
    assert (workdir / "attention.png").stat().st_size > 10_000
    for which, protocol in (("last", "last_epoch"), ("best", "best_on_validation")):
        network = load_network(workdir / "networks" / f"seed-0-{which}")
        for name, split in digits.splits().items():
            error = 100 * np.mean(predict(network, split.images).argmax(axis=1) != split.labels)
            assert error == pytest.approx(report[protocol]["error_percent"][name][0])


@pytest.mark.slow
def test_the_classifier_of_a_run_has_the_errors_of_its_report_on_pixels(workdirs):
    for workdir, seed in ((workdirs["attentive"], 0), (workdirs["two-seeds"], 3)):
        classifier, raw = load_classifier(workdir), rotated_digits(0)
        best = Run(workdir).report["best_on_validation"]
        index = Run(workdir).config().seeds.index(seed)
        for name, split in raw.splits().items():
            pixels = split.images[..., 0, :]
            assert len(pixels) > 250
            wrong = np.array(classifier.names(pixels)) != np.array(raw.class_names)[split.labels]
            assert 100 * np.mean(wrong) == pytest.approx(best["error_percent"][name][index])
            assert classifier.metrics["error_percent"][name] == best["error_percent"][name][index]
        assert classifier.metrics["epoch"] == best["epoch"][index]


@pytest.mark.slow
def test_several_seeds_are_reported_one_by_one(workdirs):
    report, metrics = Run(workdirs["two-seeds"]).report, Run(workdirs["two-seeds"]).metrics()
    assert [line["epoch"] for line in metrics] == [1, 2]
    assert len(metrics[0]["train_loss"]) == 2 and metrics[0]["train_loss"][0] != metrics[0]["train_loss"][1]
    assert report["last_epoch"]["error_percent"]["test"] == metrics[-1]["test_error_percent"]
    best = np.argmin([line["validation_error_percent"] for line in metrics], axis=0)
    assert report["best_on_validation"]["epoch"] == (best + 1).tolist()
    for seed, epoch in enumerate(best):
        expected = metrics[epoch]["test_error_percent"][seed]
        assert report["best_on_validation"]["error_percent"]["test"][seed] == expected
    assert (workdirs["two-seeds"] / "networks" / "seed-5-best").is_dir()


@pytest.mark.slow
def test_evaluation_of_a_run_says_the_same_and_draws(workdirs, capsys):
    workdir = workdirs["attentive"]
    evaluate.cli([str(workdir), "--angle-step", "45", "--angle-images", "100", "--images", "4"])
    printed, report = capsys.readouterr().out, Run(workdir).report
    evaluation = json.loads((workdir / "evaluation" / "evaluation.json").read_text())
    for protocol in ("best_on_validation", "last_epoch", "best_on_test"):
        assert evaluation[protocol] == report[protocol]
    assert mean_and_deviation(report["best_on_validation"]["error_percent"]["test"]) in printed
    assert max(evaluation["equivariance_by_element"]) < 1e-5
    assert [record["degrees"] for record in evaluation["angles"]] == list(range(0, 361, 45))
    assert np.sum(evaluation["confusion"]) == 500
    for picture in ("curves", "angles", "confusion", "attention", "mistakes", "layers"):
        assert (workdir / "evaluation" / f"{picture}.png").stat().st_size > 10_000
    assert (workdir / "evaluation" / "report.html").stat().st_size > 100_000


@pytest.mark.slow
def test_comparison_puts_runs_side_by_side(workdirs, tmp_path, capsys):
    paths = [str(path) for path in workdirs.values()]
    compare.cli([*paths, "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    for name, workdir in workdirs.items():
        errors = Run(workdir).report["last_epoch"]["error_percent"]["test"]
        assert re.search(rf"\| {name} \| digits \| .* \| {mean_and_deviation(errors)} \|", printed)
    assert "to compare them by angle as well" not in printed
    for picture in ("curves", "angles"):
        assert (tmp_path / f"{picture}.png").stat().st_size > 10_000
    assert (tmp_path / "table.md").exists()


@pytest.mark.slow
def test_runs_of_a_version_that_did_not_turn_images_are_compared_without(workdirs, tmp_path, capsys):
    import shutil

    shutil.copytree(workdirs["two-seeds"], tmp_path / "former")
    report = json.loads((tmp_path / "former" / "report.json").read_text())
    del report["angles"], report["angle_images"]
    (tmp_path / "former" / "report.json").write_text(json.dumps(report))
    compare.cli([str(workdirs["attentive"]), str(tmp_path / "former"), "--out", str(tmp_path / "out")])
    hint = f"to compare them by angle as well: python -m experiments.evaluate {tmp_path / 'former'}"
    assert hint in capsys.readouterr().out
    assert not (tmp_path / "out" / "angles.png").exists()


@pytest.mark.slow
def test_a_run_that_is_not_complete_can_be_evaluated_but_not_compared(workdirs, tmp_path, capsys):
    import shutil

    shutil.copytree(workdirs["two-seeds"], tmp_path / "run")
    (tmp_path / "run" / "report.json").unlink()
    evaluate.cli([str(tmp_path / "run"), "--angle-step", "180", "--angle-images", "10", "--seed", "5"])
    assert "| last epoch | 2, 2 |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        compare.cli([str(tmp_path / "run")])
    assert "is not complete: continue it with the command that began it" in capsys.readouterr().err


@pytest.mark.slow
def test_a_network_without_a_run_is_evaluated_on_the_data_it_is_given(tmp_path, digits, capsys):
    network = make_network(model("rot_mnist", "C2"), classes=10, seed=0)
    network.eval()
    save_network(tmp_path / "network", network)
    evaluate.cli([str(tmp_path / "network"), "--data", "digits", "--angle-step", "90", "--angle-images", "10"])
    error = 100 * np.mean(predict(network, digits.test.images).argmax(axis=1) != digits.test.labels)
    assert f"{error:.2f} |" in capsys.readouterr().out
    evaluation = json.loads((tmp_path / "network" / "evaluation-digits" / "evaluation.json").read_text())
    assert evaluation["as_loaded"]["error_percent"]["test"] == [error]
    with pytest.raises(SystemExit):
        evaluate.cli([str(tmp_path / "network"), "--data", "digits", "--layer", "7"])
    assert "layer 7: the network has no attention to draw" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_stopped_within_an_epoch_is_evaluated_without_calling_that_an_epoch(tmp_path, capsys):
    class Stop(Exception):
        pass

    def stop(*_, calls=[]):  # noqa: B006
        calls.append(None)
        if len(calls) > 5:
            raise Stop

    workdir = tmp_path / "run"
    words = ["digits-z2", "--optimizer.batch-size", "250", "--optimizer.epochs", "9", "--checkpoint-seconds", "0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "CALL_SECONDS", 0)
        patch.setattr(loop, "check_finite", stop)
        with pytest.raises(Stop):
            train.cli([*words, "--test-every", "1", "--workdir", str(workdir)])
    evaluate.cli([str(workdir), "--angle-step", "180", "--angle-images", "10"])
    capsys.readouterr()
    evaluation = json.loads((workdir / "evaluation" / "evaluation.json").read_text())
    assert evaluation["last_epoch"]["epoch"] == [1.25]
    assert evaluation["best_on_test"]["epoch"] == evaluation["best_on_validation"]["epoch"] == [1]
    assert evaluation["best_on_test"]["epochs_measured"] == [1]


def test_what_a_run_is_refused_for_does_not_bind_its_folder(tmp_path, capsys):
    words = ["digits-z2", "--workdir", str(tmp_path / "run")]
    for option in (
        ["--optimizer.batch-size", "2000"],
        ["--optimizer.epochs", "1", "--optimizer.warmup-epochs", "0.99"],
    ):
        with pytest.raises(SystemExit):
            train.cli([*words, *option])
    said = capsys.readouterr().err.splitlines()
    assert "optimizer.batch_size must be at most 1000, the training images, got 2000" in said[0]
    assert "optimizer.warmup_epochs must leave some of the 15 steps, got 0.99" in said[1]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_evaluation_on_other_data_says_so_and_warns_where_digits_are_shared(workdirs, monkeypatch, tmp_path, capsys):
    """Rotated digits of another seed stand in for a set that shares digits with the run's own."""
    monkeypatch.setattr(overlap, "OF_MNIST", {"digits", "mnist"})
    seeds = []
    monkeypatch.setattr(evaluate, "load", lambda name, directory, seed, **_: seeds.append(seed) or rotated_digits(1))
    words = ["--data", "mnist", "--angle-step", "180", "--angle-images", "10", "--out", str(tmp_path)]
    evaluate.cli([str(workdirs["two-seeds"]), *words])
    assert "note: mnist and digits share digits" in capsys.readouterr().out
    assert seeds == [0]
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert evaluation["data"]["test_sha256"] == rotated_digits(1).provenance["test_sha256"]
    assert "best_on_test" not in evaluation


@pytest.mark.parametrize(
    ("names", "shared"),
    [
        ({"mnist", "rot_mnist/regenerated"}, True),
        ({"mnist_scale/regenerated", "rot_mnist/original"}, True),
        ({"mnist_rot_scale/regenerated", "rot_mnist/regenerated"}, False),
        ({"mnist_scale/regenerated", "digits"}, False),
    ],
)
def test_sets_share_digits_between_training_and_test_unless_their_splits_are_the_same(names, shared):
    assert overlap.share_digits(names) == shared
    assert (overlap.overlap_note(*names) is not None) == shared


def test_the_two_forms_of_cifar_10_share_images_between_training_and_validation():
    told = (
        "cifar10/binary and cifar10 are the same images: about 90 % of its validation split were trained on, none of "
    )
    assert overlap.overlap_note("cifar10/binary", "cifar10") == f"{told}its test split"
    assert overlap.overlap_note("cifar10", "cifar100") is None


def test_a_network_of_other_classes_is_refused(tmp_path, capsys):
    network = make_network(model("rot_mnist", "z2"), classes=5, seed=0)
    save_network(tmp_path / "network", network)
    with pytest.raises(SystemExit):
        evaluate.cli([str(tmp_path / "network"), "--data", "digits"])
    assert "tells 5 classes apart, but digits has 10" in capsys.readouterr().err


@pytest.mark.slow
def test_float64_is_for_its_own_run_alone(tmp_path):
    with jax.enable_x64(False):
        for dtype in ("float32", "float64", "float32"):
            name = f"{dtype}-{len(list(tmp_path.iterdir()))}"
            train.cli(["digits-z2", *SHORT, "--model.dtype", dtype, "--workdir", str(tmp_path / name)])
            assert not jax.config.jax_enable_x64
        evaluate.cli([str(tmp_path / "float64-1"), "--angle-step", "180", "--angle-images", "10"])
        with pytest.raises(ValueError, match="is float64"):
            load_network(tmp_path / "float64-1" / "networks" / "seed-0-last")
    reports = [Run(tmp_path / name).report["last_epoch"] for name in ("float32-0", "float32-2")]
    assert reports[0] == reports[1]


@pytest.fixture
def reproduction(monkeypatch, tmp_path):
    """A table of one quick preset, and the words that reproduce it."""
    config = Config(model=model("rot_mnist", "z2"), optimizer=OptimizerConfig(epochs=2, batch_size=250), test_every=1)
    monkeypatch.setitem(TABLES, "digits", (Preset("digits-z2", "Z2", "A row.", config, "9.99"),))
    words = ["digits", "--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    return words, tmp_path


@pytest.mark.slow
def test_reproduction_trains_writes_figures_and_table_and_resumes(reproduction, capsys):
    words, folder = reproduction
    reproduce.cli([*words, "--budget", "0s"])
    assert "no time left" in capsys.readouterr().out
    reproduce.cli([*words, "--budget", "1h"])
    figures = json.loads((folder / "results/digits/digits-z2.json").read_text())
    table = (folder / "results/digits.md").read_text()
    error = figures["last_epoch"]["error_percent"]["test"][0]
    assert re.search(rf"\| digits-z2 \| 21,620 \| 9.99 \| .* \| {error:.2f} \|", table)
    assert figures["data"]["test_sha256"][:16] in table
    before = (folder / "runs/digits-z2/report.json").stat().st_mtime_ns
    reproduce.cli([*words, "--budget", "0s"])
    assert (folder / "results/digits.md").read_text() == table
    assert (folder / "runs/digits-z2/report.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_row_that_runs_out_of_time_is_continued(reproduction, capsys):
    words, folder = reproduction
    reproduce.cli([*words, "--budget", "1s"])
    assert "left at a checkpoint, the same command continues" in capsys.readouterr().out
    assert not (folder / "results/digits/digits-z2.json").exists()
    assert list((folder / "runs/digits-z2/checkpoints").iterdir())
    reproduce.cli([*words, "--budget", "1h"])
    assert (folder / "results/digits/digits-z2.json").exists()


@pytest.mark.slow
def test_turning_by_right_angles_changes_no_logit_of_a_p4_network_and_every_other_angle_does(digits):
    network = make_network(model("rot_mnist", "p4"), classes=10, seed=0)
    network.eval()
    records = by_angle(network, digits, 45, 50)
    changes = [record["logits_change"] for record in records]
    assert max(changes[::2]) < 1e-5 and min(changes[1::2]) > 1e-3
    assert records[0]["changed_percent"] == 0 and records[0] | {"degrees": 360.0} == records[-1]
    assert max(by_element(network, digits, 5)) < 1e-5


def test_turned_images_are_filled_up_with_background(digits):
    """A network that sees only the corners' brightness sees no change when a digit in the middle turns."""
    seen = []

    def corners(images):
        seen.append(float(np.abs(images[:, [0, 0, -1, -1], [0, -1, 0, -1]] - digits.train.images.min()).max()))
        return np.zeros((len(images), 10), np.float32) + 1

    from experiments.report import measures

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "predict", lambda _, images, *size: corners(images))
        by_angle(None, digits, 45, 20)
    assert max(seen) < 0.2


def test_confusions_count_labels_in_rows(digits):
    split = Split(digits.test.images[:3], np.array([0, 0, 2], np.int32))
    logits = np.eye(10)[[0, 5, 2]]
    counts = confusion(logits, dataclasses.replace(digits, test=split))
    assert counts[0, 0] == counts[0, 5] == counts[2, 2] == 1 and counts.sum() == 3


def test_the_best_epoch_on_test_is_the_earliest_of_all_that_were_measured():
    errors = {5: [3.0, 2.0], 10: [2.0, 4.0], 15: [2.0, 1.0]}
    metrics = [{"epoch": epoch, "test_error_percent": both} for epoch, both in errors.items()]
    metrics.append({"epoch": 16, "train_loss": [0.1, 0.1]})
    measured = [{"epoch": [15, 12], "error_percent": {"test": [2.0, 0.5]}}]
    best = best_on_test(metrics, measured)
    assert best == {"epoch": [10, 12], "error_percent": {"test": [2.0, 0.5]}, "epochs_measured": [3, 4]}


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (train, ["--model.group", "p5"], "model.group must be z2, p4, p4m"),
        (train, ["digits", "--model.attention", "channel"], "input_channel"),
        (train, ["--optimizer.epochs", "0"], "optimizer.epochs must be at least 1, got 0"),
        (train, ["rot-mnist"], "rot-mnist-alpha-f-p4"),
        (train, ["--checkpoint-seconds", "-1"], "checkpoint_seconds must not be negative"),
        (train, ["rot-mnist-p4", "--data.directory", "nowhere"], "python -m experiments.data.prepare rot_mnist/reg"),
        (evaluate, ["nowhere"], "nowhere holds no run; train one with"),
        (evaluate, ["nowhere", "--angle-step", "7"], "angle_step must divide 360 degrees"),
        (evaluate, ["a", "--beside", "./a"], "beside must be another run or network than path, got a for both"),
        (compare, ["nowhere"], "nowhere holds no run"),
        (compare, ["a", "a"], "the work directories must differ"),
        (reproduce, ["digits", "--budget", "2"], "budget must be a number and s, m, h or d, like 2h"),
        (reproduce, ["digits", "--rows", "p4"], "rows must be among digits-z2"),
        (prepare, ["cifar"], "rot_mnist/regenerated"),
        (networks, ["--networks", "p5"], "networks must be among Z2, p4"),
        (networks, ["--repeats", "0"], "repeats must be at least 1, got 0"),
        (memory, ["--networks", "Z2"], "networks must be among p4, alpha_F-p4"),
        (lie_networks, ["--networks", "SE2-8"], "networks must be among SE2-4 nonseparable, "),
        (attention, ["--operators", "sgd"], "operators must be among co, ge, se"),
        (scaling, ["--repeats", "0"], "repeats must be at least 1, got 0"),
        (scaling, ["--out", "x.png"], "--out must be a file whose name ends in .json"),
    ],
)
def test_bad_arguments_are_one_line_and_code_2_and_say_what_is_right(
    module, arguments, message, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        module.cli(arguments)
    assert exit_.value.code == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "4"], "--seed must be one of the run's, 3, 5, got 4"),
        (["--images", "999"], "images must be in 0 to 499"),
        (["--layer", "7"], "layer 7: the network has no attention to draw; leave out --layer"),
        (["--layer", "-1"], "layer -1: the network has no attention to draw; leave out --layer"),
        (["--angle-images", "999"], "angle_images must be at most 500, got 999"),
    ],
)
def test_what_a_run_does_not_have_is_refused_before_anything_is_computed(
    workdirs, words, message, capsys, monkeypatch, tmp_path
):
    monkeypatch.setattr(evaluate, "report_of", lambda *arguments: pytest.fail("computed first"))
    with pytest.raises(SystemExit):
        evaluate.cli([str(workdirs["two-seeds"]), *words, "--out", str(tmp_path / "out")])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "step", "kept"), [("1e30", 2, ["1"]), ("1e39", 1, [])])
def test_what_is_not_finite_stops_the_run_and_keeps_what_was_good(tmp_path, capsys, rate, step, kept):
    """The first rate leaves parameters that are finite but give no finite loss, the second none that are finite."""
    words = ["digits-z2", *SHORT, "--optimizer.learning-rate", rate, "--checkpoint-seconds", "0"]
    with pytest.raises(SystemExit) as exit_:
        train.cli([*words, "--workdir", str(tmp_path / "run")])
    assert exit_.value.code == 2
    assert f"loss or network of seed 0 are not finite at step {step} (epoch 1): lower" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == kept


@pytest.mark.slow
def test_benchmark_measures_a_network(tmp_path):
    out = tmp_path / "networks.json"
    networks.main(networks.Arguments(networks=("Z2",), batch_size=8, steps=2, repeats=1, out=out))
    figures = json.loads(out.read_text())["networks"]["Z2"]
    assert figures["parameters"] == 21_620
    assert all(figures[name] > 0 for name in ("compile_s", "step_ms", "forward_ms", "filter_banks_ms"))
    assert figures["peak_memory_mb"] > 1


@pytest.mark.slow
def test_published_weights_are_converted_and_evaluated(reference, tmp_path, capsys, digits):
    """The reference's weights are those before training, so that only their numbers count, not how good they are."""
    data = reference("models/z2cnn")
    np.savez(tmp_path / "z2cnn.npz", **data.under("state"))
    assert convert([str(tmp_path / "z2cnn.npz"), "z2cnn", str(tmp_path / "network")]) == 0
    evaluate.cli([str(tmp_path / "network"), "--data", "digits", "--angle-step", "180", "--angle-images", "10"])
    evaluation = json.loads((tmp_path / "network" / "evaluation-digits" / "evaluation.json").read_text())
    logits = predict(load_network(tmp_path / "network"), digits.test.images)
    assert evaluation["confusion"] == confusion(logits, digits).tolist()
    assert f"{evaluation['as_loaded']['error_percent']['test'][0]:.2f} |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "hides"),
    [([], True), (["--model.group", "foo"], False), (["--model.name", "resnet50"], False)],
)
def test_help_hides_options_without_effect_and_shows_all_beside_a_wrong_choice(words, hides, capsys):
    with pytest.raises(SystemExit) as stopped:
        train.cli([*words, "--help"])
    shown = capsys.readouterr().out
    assert stopped.value.code == 0 and "cosine: to zero at the end" in " ".join(shown.split())
    assert ("are hidden" in shown) == hides == ("--optimizer.milestones" not in shown)
    assert "--model.sampling.lowpass" not in shown or not hides


def test_help_shows_how_filters_turn_where_the_grid_lacks_angles(capsys):
    with pytest.raises(SystemExit):
        train.cli(["--model.group", "C8", "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--model.sampling.kind {None,least_error,rings,bilinear,cubic}" in shown
    assert "the largest relative error of a function. (default: 0.01)" in shown
    assert "deviation of the spectrum of random filters in cycles a pixel" in shown


def test_a_basis_is_asked_for_on_any_group():
    words = ["--model.group", "p4", "--model.sampling.kind", "rings", "--model.sampling.lowpass", "0.2"]
    made, default, others = train.command_line(words)
    config = tyro.cli(made, args=others, default=default, config=(tyro.conf.AvoidSubcommands,))
    assert config.model.sampling == Sampling("rings", lowpass=0.2)
