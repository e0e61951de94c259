"""What evaluation makes of images before anything is computed: sizes, classes, how many are drawn and turned."""

import functools
import pathlib
import types

import numpy as np
import pytest
from helpers import assert_refused
from matplotlib.figure import Figure

from attgconv_jax import cyclic
from attgconv_jax.preprocessing import Preprocessing
from experiments import evaluate
from experiments.data import load, rotated_digits
from experiments.report import reports
from experiments.run.configuration import Config
from experiments.run.workdir import Run

NAMES = ("0", "1", "2")


@pytest.fixture
def arrays(tmp_path):
    """Thirty grey images of three classes in a file, 4 of them for testing."""
    images = np.random.default_rng(0).integers(0, 256, (30, 12, 10), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(30) % 3)
    return tmp_path / "a.npz"


def network(classes=3, in_features=3):
    return types.SimpleNamespace(settings={"classes": classes, "in_features": in_features})


def loaded(path):
    return functools.partial(evaluate._loaded, "arrays", directory=None, seed=0, path=path)


def test_a_network_sees_images_by_the_preprocessing_that_it_was_saved_with(arrays):
    stored = Preprocessing(9, 3, "uint8", "crop", mean=0.5, deviation=0.25)
    seen = evaluate._as_seen(loaded(arrays), "network", network(), stored, NAMES)
    assert seen.preprocessing == stored
    expected = load("arrays", path=arrays, size_of=lambda pixels: 9, fit="crop").test.images.repeat(3, axis=-1)
    np.testing.assert_allclose(seen.test.images, (expected - 0.5) / 0.25, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("names", "classes", "message"),
    [
        (("0", "1", "x"), 3, "are 0, 1, 2, but network was trained on 0, 1, x: choose other data"),
        (None, 5, "network tells 5 classes apart, but arrays has 3: choose other data"),
    ],
)
def test_images_of_other_classes_are_refused(arrays, names, classes, message):
    with assert_refused(message):
        evaluate._as_seen(loaded(arrays), "network", network(classes), Preprocessing(9), names)


def test_a_path_needs_data_of_one_s_own(tmp_path, arrays, capsys):
    with (run := Run(tmp_path / "run")).locked():
        run.begin(Config(), rotated_digits(0))
    for words in (["--data-path", str(arrays)], ["--data-path", str(arrays), "--data", "digits"]):
        with pytest.raises(SystemExit):
            evaluate.cli([str(run.workdir), *words])
    first, second = capsys.readouterr().err.splitlines()
    assert "--data-path is of runs on images of one's own: add --data folder or --data arrays, got " in first
    assert "--data-path is of --data folder or arrays, got digits; leave one out" in second


def test_few_test_images_are_all_drawn_and_turned_unless_more_are_asked_for(arrays, monkeypatch, tmp_path):
    data, drawn = load("arrays", path=arrays, test_images=2), []
    attentive = types.SimpleNamespace(group=cyclic(4), attending_layers=[0], settings={"attention": "input"})
    monkeypatch.setattr(
        reports.plotting, "attention_figure", lambda _, images, *__, **___: drawn.append(images) or FIGURE
    )
    assert reports.draw_attention(attentive, data, tmp_path / "x.png") == [tmp_path / "x.png"]
    assert [len(images) for images in drawn] == [2]
    assert reports.draw_attention(types.SimpleNamespace(group=cyclic(4), attending_layers=[]), data, tmp_path) == []
    path = pathlib.Path("run")
    evaluate._check(evaluate.Arguments(path), attentive, data)
    with assert_refused("angle_images must be at most 2, got 3"):
        evaluate._check(evaluate.Arguments(path, angle_images=3), attentive, data)
    with assert_refused("images must be in 0 to 1, at least one, got [2]"):
        evaluate._check(evaluate.Arguments(path, images=(0, 2)), attentive, data)
    with assert_refused("layer must be one with attention: 0; got 3"):
        evaluate._check(evaluate.Arguments(path, layer=3), attentive, data)
    attentive.attending_layers = []
    with assert_refused("layer 3: the network has no attention to draw; leave out --layer"):
        evaluate._check(evaluate.Arguments(path, layer=3), attentive, data)
    with assert_refused("angle_images must be at least 1, got 0"):
        evaluate.Arguments(path, angle_images=0)


FIGURE = Figure()
