"""Figures of every class, the picture of examples, and networks on data of other sizes, channels and classes."""

import jax
import numpy as np
import pytest
from helpers import assert_refused

from experiments import train
from experiments.augmentation import AugmentConfig
from experiments.data import Dataset, Split
from experiments.report.classes import class_table, per_class, precision_percent, recall_percent
from experiments.report.examples import augmentation_figure
from experiments.run.configuration import Config, OptimizerConfig
from experiments.run.loop import make_trainer
from experiments.run.model_configuration import model

COUNTS = np.array([[3, 1, 0, 0], [0, 2, 0, 2], [0, 0, 0, 0], [5, 0, 0, 5]])


def small_set(size=28, channels=1, classes=3, images=8):
    generator = np.random.default_rng(0)
    pixels = generator.uniform(size=(images, size, size, 1, channels)).astype(np.float32)
    split = Split(pixels, (np.arange(images) % classes).astype(np.int32))
    return Dataset("small", classes, split, split, split)


def test_recall_is_of_a_class_and_precision_of_what_is_taken_for_it():
    assert recall_percent(COUNTS) == [75, 50, None, 50]
    assert precision_percent(COUNTS) == pytest.approx([100 * 3 / 8, 100 * 2 / 3, None, 100 * 5 / 7])


def test_a_report_holds_figures_of_every_class_and_seed():
    described = per_class([COUNTS, COUNTS.T], ["a", "b", "c", "d"])
    assert described["names"] == ["a", "b", "c", "d"] and described["images"] == [4, 4, 0, 10]
    assert described["recall_percent"] == [recall_percent(COUNTS), recall_percent(COUNTS.T)]
    assert described["precision_percent"] == [precision_percent(COUNTS), precision_percent(COUNTS.T)]
    assert described["confusion"] == [COUNTS.tolist(), COUNTS.T.tolist()]


def test_the_table_of_classes_has_the_worst_first_and_says_how_many_are_left_out():
    classes = per_class([COUNTS, COUNTS], ["a", "b", "c", "d"])
    assert class_table(classes).splitlines() == [
        "| class | test images | recall (%) | precision (%) | most often taken for |",
        "|---|---|---|---|---|",
        "| b | 4 | 50.00 | 66.67 | d (50.0 %) |",
        "| d | 10 | 50.00 | 71.43 | a (50.0 %) |",
        "| a | 4 | 75.00 | 37.50 | b (25.0 %) |",
        "| c | 0 | - | - | - |",
    ]
    assert class_table(classes, rows=2).splitlines()[4:] == ["2 classes with better recalls are left out"]


def test_the_picture_has_an_image_of_every_class_as_it_is_and_changed():
    figure = augmentation_figure(small_set(classes=4).standardised(), AugmentConfig(rotate=90, mixup=0.4))
    axes = np.array(figure.axes).reshape(6, 8)
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["0", "0", "1", "1", "2", "3"]
    assert axes[0, 1].get_xlabel().startswith("+ ") and axes[0, 0].get_title() == "as it is"
    assert figure.get_suptitle() == "rotate 90, mixup 0.4"
    shown = [axis.images[0].get_array() for axis in axes[0]]
    low, high = (f(small_set(classes=4).train.images) for f in (np.min, np.max))
    np.testing.assert_allclose(shown[0], (small_set().train.images[0, :, :, 0, 0] - low) / (high - low), atol=1e-5)
    assert not np.allclose(shown[1], shown[2])


def test_without_augmentation_the_picture_has_the_first_images_of_every_class():
    data = small_set(classes=4)
    figure = augmentation_figure(data, AugmentConfig())
    axes = np.array(figure.axes).reshape(4, 8)
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["0", "1", "2", "3"]
    images = data.train.images[data.train.labels == 2]
    span = np.ptp(data.train.images)
    np.testing.assert_allclose(
        axes[2, 1].images[0].get_array(), (images[1, :, :, 0, 0] - data.train.images.min()) / span, atol=1e-5
    )


@pytest.mark.parametrize(
    ("words", "preview"),
    [
        (["--augment.preview"], "runs/digits-augmentation.png"),
        (["--augment.preview", "--workdir", "a/b"], "a/b-augmentation.png"),
        (["--augment.preview", "x.png", "--workdir", "a/b"], "x.png"),
    ],
    ids=lambda value: " ".join(value)[18:] if isinstance(value, list) else "",
)
def test_a_preview_without_a_file_stands_beside_the_work_directory(words, preview):
    _, _, words = train.command_line(words)
    assert words[words.index("--augment.preview") + 1] == preview


@pytest.mark.slow
def test_a_preview_trains_nothing(tmp_path, capsys):
    words = ["digits", "--augment.rotate", "180", "--workdir", str(tmp_path / "run"), "--augment.preview"]
    train.cli(words)
    assert f"picture: {tmp_path / 'run-augmentation.png'}; leave out" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["run-augmentation.png"]
    assert (tmp_path / "run-augmentation.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("name", "group", "size", "taken"),
    [
        ("resnet", "D4", 40, 65),
        pytest.param("resnet", "z2", 40, 40, marks=pytest.mark.slow),
        pytest.param("rot_mnist", "p4m", 21, 28, marks=pytest.mark.slow),
        pytest.param("all_cnn", "C2", 31, 32, marks=pytest.mark.slow),
        pytest.param("lie_resnet", "SE2-4", 24, 28, marks=pytest.mark.slow),
        pytest.param("lie_all_cnn", "R2xR-3", 24, 32, marks=pytest.mark.slow),
    ],
)
def test_channels_classes_and_size_come_from_the_data(name, group, size, taken):
    """Of every network, which needs no argument of its own; traced, not run."""
    optimizer = OptimizerConfig(batch_size=4, class_weights="balanced")
    config = Config(model=model(name, group), optimizer=optimizer, augment=AugmentConfig(rotate=180, mixup=0.2))
    dataset = small_set(size, channels=3, classes=7).resized(config.model.image_size)
    trainer = make_trainer(config, dataset)
    state = jax.eval_shape(lambda: trainer.init((0,)))
    assert dataset.train.images.shape == (8, taken, taken, 1, 3)
    trained = jax.eval_shape(lambda state: trainer.train(state, dataset.train.images, dataset.train.labels, 2), state)
    assert jax.tree.structure(trained) == jax.tree.structure(state)
    test = dataset.test.images, dataset.test.labels
    counted = jax.eval_shape(trainer.count_errors, state.params, state.rest, *test)
    assert counted[0].shape == (1,)


def test_resnet_has_18_layers_on_the_command_line_unless_told_otherwise():
    _, default, _ = train.command_line(["--model.name", "resnet"])
    assert (default.model.name, default.model.depth) == ("resnet", 18)


def test_a_size_that_a_network_does_not_take_names_those_that_do():
    config = Config(model=model("rot_mnist", "p4"))
    with assert_refused(
        "size must be at most 28, the pixels that rot_mnist takes, got 40; take densenet or resnet, or smaller images"
    ):
        small_set(40).resized(config.model.image_size)
