"""Classifiers: pixels as they come out of a file go in, probabilities and names come out."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_refused, without_annotations
from networks import means, means_registered

import attgconv_jax
from attgconv_jax.models import Classifier, load_classifier, load_network, save_network
from attgconv_jax.preprocessing import Preprocessing

NAMES = ("cell", "dust", "hair")
UINT8 = Preprocessing(size=4, dtype="uint8", fit="crop", background=0.25, mean=float(np.float32(0.1)), deviation=0.3)


@pytest.fixture(scope="module", autouse=True)
def registered():
    with means_registered():
        yield


def saved(folder, network=None, **options):
    save_network(folder, network or means(), **options)
    return folder


@pytest.fixture
def path(tmp_path):
    metrics = {"error_percent": {"test": 1.5}, "epoch": 3}
    return saved(tmp_path / "network", preprocessing=UINT8, class_names=list(NAMES), metrics=metrics)


def images(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)


def probabilities(pixels, preprocessing=UINT8):
    """Of `Means`, in NumPy, for images of the right size."""
    white = np.iinfo(pixels.dtype).max
    mean = ((pixels / white - preprocessing.mean) / preprocessing.deviation).mean(axis=(1, 2, 3))
    exponentials = np.exp(np.outer(mean, [1, 2, 3]))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def test_what_was_saved_comes_back(path):
    classifier = load_classifier(path)
    assert classifier.preprocessing == Preprocessing(4, 1, "uint8", "crop", 0.25, float(np.float32(0.1)), 0.3)
    assert classifier.class_names == NAMES
    assert classifier.metrics == {"error_percent": {"test": 1.5}, "epoch": 3}
    assert load_network(path).preprocessing == classifier.preprocessing
    description = json.loads((path / "network.json").read_text())
    assert description["format"] == 2 and description["version"] == attgconv_jax.__version__


@pytest.mark.parametrize("batch", [0, 1, 7])
def test_pixels_of_any_batch_become_probabilities_and_names(path, batch):
    pixels = images(batch, 4, 4, 1)
    classifier = load_classifier(path)
    expected = probabilities(pixels)
    np.testing.assert_allclose(classifier(pixels), expected, rtol=1e-5)
    np.testing.assert_array_equal(classifier(pixels[..., 0]), classifier(pixels))
    np.testing.assert_array_equal(classifier(jnp.asarray(pixels)), classifier(pixels))
    assert classifier.names(pixels) == [NAMES[label] for label in expected.argmax(axis=1)]


def test_a_network_in_training_mode_is_used_in_evaluation_mode():
    network, pixels = means(), images(2, 4, 4, 1)
    classifier = Classifier(network, UINT8, NAMES)
    np.testing.assert_allclose(classifier(pixels), probabilities(pixels), rtol=1e-5)
    assert not network.dropout.deterministic
    network.slope.set_value(-network.slope[...])
    assert classifier.names(pixels) != [NAMES[label] for label in probabilities(pixels).argmax(axis=1)]


def test_images_are_resized_and_made_colour_as_in_training(tmp_path):
    preprocessing = Preprocessing(4, 3, "uint16", "pad", mean=0.5, deviation=2.0)
    network = means(in_features=3)
    path = saved(tmp_path / "network", network, preprocessing=preprocessing, class_names=NAMES)
    classifier, pixels = load_classifier(path), images(2, 9, 6, 1, dtype=np.uint16)
    prepared = preprocessing(pixels)
    assert prepared.shape == (2, 4, 4, 1, 3)
    network.eval()
    expected = jax.nn.softmax(network(prepared))
    np.testing.assert_allclose(classifier(pixels), expected, rtol=1e-5)
    np.testing.assert_allclose(classifier.of_standardised(prepared), expected, rtol=1e-5)
    np.testing.assert_allclose(load_network(path)(prepared), network(prepared))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (
            images(2, 4, 4, 1, dtype=np.uint16),
            "images must be uint8 with white at 255, as those of training, got uint16",
        ),
        (
            np.zeros([2, 4, 4, 1], np.float32),
            "images must be uint8 with white at 255, as those of training, got float32",
        ),
        (images(2, 4, 4, 3), "images must be [batch, x, y] or [batch, x, y, 1], got shape (2, 4, 4, 3)"),
        (
            images(2, 1, 4, 4),
            "images must be [batch, x, y] or [batch, x, y, 1], got shape (2, 1, 4, 4); channels are the last axis: "
            "pass numpy.moveaxis(images, 1, -1)",
        ),
        (None, "images must be an array [batch, x, y] or [batch, x, y, 1], got NoneType"),
        ("cell.png", "images must be an array [batch, x, y] or [batch, x, y, 1], got str: read files first, for "),
        ([images(4, 4), images(5, 5)], "images must be one array [batch, x, y] or [batch, x, y, 1], of one size, got "),
        (images(4, 4), "images must be [batch, x, y] or [batch, x, y, 1], got one of shape (4, 4): pass images[None]"),
    ],
)
def test_other_pixels_than_those_of_training_are_refused(path, pixels, message):
    with assert_refused(message):
        load_classifier(path)(pixels)


def test_logits_that_are_not_finite_have_no_name(path):
    classifier = load_classifier(path)
    classifier.network.slope.set_value(classifier.network.slope[...] * jnp.nan)
    with assert_refused("image 0 has no finite logits (2 such images): its pixels or the network's arrays hold NaN"):
        classifier.names(images(2, 4, 4))


def test_float64_needs_x64(tmp_path):
    path = saved(tmp_path / "network", means(jnp.float64), preprocessing=UINT8, class_names=NAMES)
    with jax.enable_x64(False), assert_refused('is float64: call jax.config.update("jax_enable_x64", True) before it'):
        load_classifier(path)
    pixels = images(3, 4, 4)
    assert load_classifier(path)(pixels).dtype == jnp.float64


def test_a_checkpoint_without_preprocessing_says_what_to_give(tmp_path):
    path = saved(tmp_path / "network")
    message = (
        f"{path} has no preprocessing, without which pixels would be standardised otherwise than in training: pass "
        "load_classifier(path, preprocessing=Preprocessing(size=..., dtype=..., mean=..., deviation=...)), with mean "
        "and deviation of the training images"
    )
    with assert_refused(message):
        load_classifier(path)
    assert load_network(path).preprocessing is None
    warning = r'network has no class names: they are "0" to "2"; pass class_names=\[\.\.\.\] to name them'
    with pytest.warns(UserWarning, match=warning):
        classifier = load_classifier(path, preprocessing=UINT8)
    assert classifier.class_names == ("0", "1", "2") and classifier.metrics == {}
    given = load_classifier(path, preprocessing=UINT8, class_names=NAMES)
    pixels = images(5, 4, 4, 1)
    assert given.names(pixels) == [NAMES[label] for label in probabilities(pixels).argmax(axis=1)]


@pytest.mark.parametrize(
    ("fields", "lacking"),
    [(["preprocessing"], "preprocessing"), (["preprocessing", "class_names"], "preprocessing and class names")],
    ids=["preprocessing", "both"],
)
def test_a_checkpoint_from_before_preprocessing_was_kept_warns_until_it_is_saved_anew(path, tmp_path, fields, lacking):
    description = json.loads((path / "network.json").read_text())
    (path / "network.json").write_text(json.dumps({key: description[key] for key in description if key not in fields}))
    with pytest.warns(UserWarning) as caught:
        network = load_network(path)
    assert [str(each.message) for each in caught] == [
        f"{path} was saved by an earlier version, without {lacking}: images must be standardised as those of its "
        "training were. To keep how, save it anew: save_network(another_path, network, "
        "preprocessing=Preprocessing(...), class_names=[...])"
    ]
    assert load_network(saved(tmp_path / "without", network)).preprocessing is None
    assert load_network(saved(tmp_path / "with", network, preprocessing=UINT8)).preprocessing == UINT8


def test_a_runs_folder_means_the_best_network_of_the_lowest_seed(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with assert_refused(
        f"{tmp_path} holds no network yet: networks/ is written when a run is complete; train it to the end"
    ):
        load_classifier(tmp_path)
    for epoch, name in enumerate(["seed-10-best", "seed-3-best", "seed-3-last", "seed-1-last"]):
        options = dict(preprocessing=UINT8, class_names=NAMES, metrics={"epoch": epoch})
        saved(tmp_path / "networks" / name, **options)
    assert load_classifier(tmp_path).metrics == {"epoch": 1}
    with pytest.raises(FileNotFoundError, match=r"^there is no directory .*/nowhere$"):
        load_classifier(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(preprocessing={"size": 4}), "preprocessing must be a Preprocessing, got dict"),
        (dict(preprocessing=Preprocessing(5)), "preprocessing.size must be 4, which the network takes, got 5"),
        (dict(preprocessing=Preprocessing(4, 3)), "preprocessing.features must be 1, which the network takes, got 3"),
        (dict(class_names=["a", "b"]), "class_names must be 3, one a class of the network, got 2"),
        (dict(class_names=["a", "b", "b"]), "class_names must be different strings, one a class, got ['a', 'b', 'b']"),
        (dict(class_names="abc"), "class_names must be different strings, one a class, got 'abc'"),
        (dict(class_names=[0, 1, 2]), "class_names must be different strings, one a class, got [0, 1, 2]"),
        (dict(metrics={"error": float("nan")}), "metrics must be finite plain values, got {'error': nan}: "),
        (dict(metrics={"error": np.zeros(2)}), "metrics must be finite plain values, got {'error': array([0., 0.])}: "),
    ],
    ids=str,
)
def test_what_does_not_fit_the_network_is_not_saved(tmp_path, options, message):
    with assert_refused(message):
        saved(tmp_path / "network", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["float64", "uint64"])
def test_pixels_of_64_bits_are_classified_without_x64(tmp_path, dtype):
    preprocessing = Preprocessing(4, dtype=dtype, mean=0.1, deviation=0.3)
    path = saved(tmp_path / "network", means(jnp.float32), preprocessing=preprocessing, class_names=NAMES)
    pixels = np.linspace(0, 1 if dtype == "float64" else 2.0**63, 32).astype(dtype).reshape(2, 4, 4)
    with jax.enable_x64(False):
        got = load_classifier(path)(pixels)
    white = preprocessing.white
    mean = ((pixels / white - 0.1) / 0.3).mean(axis=(1, 2))
    np.testing.assert_allclose(got, jax.nn.softmax(np.outer(mean, [1, 2, 3])), rtol=1e-5)


def test_names_given_as_one_string_are_refused(path):
    with without_annotations(), assert_refused("class_names must be different strings, one a class, got 'abc'"):
        load_classifier(path, class_names="abc")


def test_a_loaded_network_is_saved_with_its_preprocessing(path, tmp_path):
    network = load_network(path)
    for options in ({}, {"arrays_only": True}):
        again = saved(tmp_path / f"again{len(options)}", network, **options)
        assert load_network(again, like=network).preprocessing == UINT8
    other = saved(tmp_path / "other", network, preprocessing=Preprocessing(4))
    assert load_network(other).preprocessing == Preprocessing(4)


def test_a_damaged_preprocessing_is_refused(path):
    description = json.loads((path / "network.json").read_text())
    description["preprocessing"]["deviation"] = 0
    (path / "network.json").write_text(json.dumps(description))
    with assert_refused(f"{path}/network.json does not describe a network: background, mean and deviation must be"):
        load_classifier(path)
