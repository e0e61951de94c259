"""Images of one's own in a run: what it remembers of them, the size they are brought to, and the commands."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
from helpers import assert_refused
from small_pictures import two_classes

from experiments import evaluate, train
from experiments.data import Arrays, set_of_arrays
from experiments.run.configuration import Config, DataConfig, OptimizerConfig
from experiments.run.identity import from_identity, identity
from experiments.run.model_configuration import model
from experiments.run.workdir import Run, dataset_of, image_size, standardised

RESNET = model("resnet", "p4", depth=18)


def test_a_run_remembers_where_its_own_images_lay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Run(tmp_path / "run")
    config = Config(data=DataConfig("folder", path=pathlib.Path("pictures"), shares=(0.5, 0.25, 0.25)))
    with run.locked():
        run.begin(config, set_of_arrays(Arrays(np.arange(96, dtype=np.uint8).reshape(6, 4, 4), [0, 1] * 3)))
    again = Run.open(tmp_path / "run")
    assert again.config() == dataclasses.replace(
        config, data=dataclasses.replace(config.data, path=tmp_path / "pictures")
    )
    assert again.config(path=tmp_path / "moved").data.path == tmp_path / "moved"
    again.check(dataclasses.replace(config, data=dataclasses.replace(config.data, path=tmp_path / "moved")))
    with assert_refused(f"{tmp_path}/pictures is not there"):
        again.dataset()


def test_fields_that_a_run_is_too_old_to_have_are_what_was_done_then():
    later = {"data.size", "data.fit", "data.shares", "data.broken", "data.standardise"}
    saved = {name: value for name, value in identity(Config()).items() if name not in later}
    assert from_identity(saved) == Config()


@pytest.mark.parametrize(
    ("size", "network", "nearest"),
    [
        (30, model("rot_mnist", "p4"), 28),
        (34, RESNET, 33),
        (60, model("resnet", "p4m", depth=18), 65),
    ],
    ids=["rot_mnist", "resnet below", "resnet above"],
)
def test_a_size_that_breaks_exactness_is_refused_with_the_nearest_that_works(size, network, nearest):
    config = Config(data=DataConfig(size=size), model=network)
    expected = f"takes, got {size}: the nearest is {nearest}, and --data.size exact chooses for you"
    with assert_refused(f"data.size must be one that {network.name} on {network.group} {expected}"):
        image_size(config, 100)
    data = dataclasses.replace(config.data, size=nearest)
    assert image_size(dataclasses.replace(config, data=data), 100) == nearest
    with assert_refused("data.size must be exact or at least 1, got 0"):
        DataConfig(size=0)


def test_the_exact_size_is_the_nearest_that_works():
    networks = {model("rot_mnist", "p4"): 28, RESNET: 129, model("resnet", "z2", depth=18): 100}
    for network, size in networks.items():
        assert image_size(Config(model=network), 100) == size


def test_a_path_chooses_the_source(tmp_path):
    folder = two_classes(tmp_path)
    _, defaults, words = train.command_line(["digits-z2", "--data.path", str(folder)])
    assert (defaults.data.name, words) == ("folder", ["--data.path", str(folder)])
    np.savez(tmp_path / "a.npz", images=np.zeros([2, 3, 3]))
    assert train.command_line([f"--data.path={tmp_path / 'a.npz'}"])[1].data.name == "arrays"
    assert train.command_line(["--data.name", "folder", "--data.path", "x"])[1].data.name == "digits"


def test_a_finished_run_accepts_other_paths_to_the_same_images_alone(tmp_path):
    arrays = dict(images=np.arange(96, dtype=np.uint8).reshape(6, 4, 4), labels=[0, 1] * 3)
    for name, content in {"here": arrays, "moved": arrays, "other": arrays | {"labels": [1, 0] * 3}}.items():
        np.savez(tmp_path / f"{name}.npz", **content)

    def config(name):
        return Config(data=DataConfig("arrays", path=tmp_path / f"{name}.npz"))

    run = Run(tmp_path / "run")
    with run.locked():
        run.begin(config("here"), dataset_of(config("here")))
    run.finish({})
    assert train.train_run(config("here"), run.workdir).report == {}
    assert train.train_run(config("moved"), run.workdir).report == {}
    with assert_refused("began with other data: train_sha256 was "):
        train.train_run(config("other"), run.workdir)
    with run.locked():
        run.begin(config("moved"), dataset_of(config("moved")))
    assert Run.open(run.workdir).config() == config("moved")


def test_a_run_on_one_s_own_images_is_called_as_they_are(tmp_path):
    folder = two_classes(tmp_path)
    words = ["--data.path", str(folder), "--augment.preview"]
    _, defaults, others = train.command_line(words)
    assert defaults.workdir == pathlib.Path("runs/set") and others[-1] == "runs/set-augmentation.png"
    np.savez(tmp_path / "a.npz", images=np.zeros([2, 3, 3]))
    assert train.command_line(["digits-z2", f"--data.path={tmp_path / 'a.npz'}"])[1].workdir == pathlib.Path("runs/a")


def test_images_are_as_they_were_where_they_are_not_to_be_standardised():
    config = Config(data=DataConfig(standardise=False))
    data = dataset_of(config)
    assert standardised(config, data) is data
    assert (data.preprocessing.mean, data.preprocessing.deviation) == (0, 1)
    assert standardised(Config(), data).preprocessing.mean == pytest.approx(data.train.images.mean())


NETWORK = [
    "--model.features",
    "2",
    "--model.dropout-rate",
    "0",
    "--optimizer.epochs",
    "1",
    "--optimizer.batch-size",
    "4",
]
FIGURES = ["--angle-step", "180", "--angle-images", "4"]


@pytest.mark.slow
def test_a_folder_is_trained_on_evaluated_and_found_again_where_it_was_moved_to(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(two_classes(tmp_path).parent)
    train.cli(["digits-z2", "--data.path", "set", *NETWORK, "--workdir", "run"])
    assert "on folder set" in capsys.readouterr().out
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    assert described["path"] == str(tmp_path / "set")
    monkeypatch.chdir(tmp_path.parent)
    evaluate.cli([str(tmp_path / "run"), *FIGURES])
    (tmp_path / "set").rename(tmp_path / "moved")
    evaluation = json.loads((tmp_path / "run" / "evaluation" / "evaluation.json").read_text())
    evaluate.cli([str(tmp_path / "run"), "--data-path", str(tmp_path / "moved"), *FIGURES])
    again = json.loads((tmp_path / "run" / "evaluation" / "evaluation.json").read_text())
    assert again["best_on_validation"] == evaluation["best_on_validation"]
    with pytest.raises(SystemExit):
        evaluate.cli([str(tmp_path / "run"), *FIGURES])
    assert "set is not there" in capsys.readouterr().err
    (tmp_path / "moved").rename(tmp_path / "set")
    other = two_classes(tmp_path / "other")
    evaluate.cli([str(tmp_path / "run"), "--data", "folder", "--data-path", str(other), *FIGURES])


@pytest.mark.slow
def test_arrays_from_python_are_trained_on(tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 256, (24, 20, 20, 3), np.uint8)
    network = model("rot_mnist", "z2", features=(2,), dropout_rate=0.0)
    config = Config(model=network, optimizer=OptimizerConfig(epochs=1, batch_size=4))
    data = Arrays(images, ["a", "b"] * 12)
    run = train.train_run(config, tmp_path / "run", data=data)
    assert (run.config().data.name, run.report["data"]["classes"]) == ("arrays", '["a", "b"]')
    assert train.train_run(config, tmp_path / "run", data=data).report == run.report
    np.savez(tmp_path / "a.npz", images=images, labels=data.labels)
    evaluate.cli([str(tmp_path / "run"), "--data-path", str(tmp_path / "a.npz"), *FIGURES])
    with pytest.raises(SystemExit):
        evaluate.cli([str(tmp_path / "run"), *FIGURES])
    assert "the data set arrays needs data.path" in capsys.readouterr().err
