"""A mean and a deviation for every channel: in data sets, saved classifiers, exported files and predictions."""

import dataclasses
import json
import zipfile

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_close, assert_refused
from networks import random_network

from attgconv_jax import plotting, trivial
from attgconv_jax.export import export_network
from attgconv_jax.models import load_classifier, load_network, save_network
from attgconv_jax.preprocessing import Preprocessing
from experiments.augmentation import AugmentConfig
from experiments.data import Dataset, Split
from experiments.report.examples import augmentation_figure
from experiments.report.reports import draw_attention
from experiments.run.configuration import DataConfig
from experiments.run.prediction import Picture, standardised_picture
from experiments.run.scale import Scale

MEAN, DEVIATION = (0.2, 0.5, 0.75), (0.5, 0.25, 2.0)
BY_CHANNEL = Preprocessing(6, 3, mean=MEAN, deviation=DEVIATION)
NAMES = ("cell", "dust")


def pixels(batch=5):
    return np.random.default_rng(0).integers(0, 256, (batch, 6, 6, 3)).astype(np.uint8)


def standardised(images):
    """By a loop over channels, in float64."""
    out = np.empty((*images.shape[:3], 1, 3))
    for c in range(3):
        out[..., 0, c] = (images[..., c] / 255 - MEAN[c]) / DEVIATION[c]
    return out


class Linear(nnx.Module):
    """Logits of the channels' means; no two channels alike."""

    def __init__(self):
        self.w = nnx.Param(jnp.array([[1.0, -2.0], [3.0, 0.5], [-1.0, 4.0]], jnp.float32))

    def __call__(self, images):
        return jnp.mean(images, axis=(1, 2, 3)) @ self.w[...]


def probabilities(images):
    logits = standardised(images).mean(axis=(1, 2, 3)) @ np.array([[1.0, -2.0], [3.0, 0.5], [-1.0, 4.0]])
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def a_set(images=None):
    if images is None:
        images = np.random.default_rng(1).random((12, 6, 6, 1, 3)) * [1, 0.5, 0.25]
    split = Split(images.astype(np.float32), np.arange(12, dtype=np.int32) % 2)
    return Dataset("set", 2, split, split, split)


def test_every_channel_is_standardised_by_its_own_numbers():
    assert_close(jax.jit(BY_CHANNEL.apply)(BY_CHANNEL.checked(pixels())), standardised(pixels()), 1e-6)
    assert BY_CHANNEL(pixels()).dtype == np.float32
    grey = Preprocessing(6, 3, mean=MEAN, deviation=DEVIATION)(pixels()[..., 0])
    assert_close(grey, standardised(np.repeat(pixels()[..., :1], 3, axis=-1)), 1e-6)
    assert Preprocessing(6, 3, mean=np.array(MEAN), deviation=list(DEVIATION)) == BY_CHANNEL and hash(BY_CHANNEL)
    of_jax = Preprocessing(6, 3, mean=jnp.array([0.25, 0.5, 0.75]), deviation=jnp.ones(3))
    assert of_jax == Preprocessing(6, 3, mean=(0.25, 0.5, 0.75), deviation=(1.0, 1.0, 1.0))


def test_numbers_are_one_or_one_a_channel():
    with assert_refused("mean must be one number, or 3, one per channel, got 2 numbers"):
        Preprocessing(6, 3, mean=(0.1, 0.2), deviation=(1.0, 1.0))
    with assert_refused("mean and deviation must both be one number, or both one per channel, got (0.2, 0.5, 0.75)"):
        Preprocessing(6, 3, mean=MEAN)
    with assert_refused("background, mean and deviation must be finite, the deviation positive, got 0.0, (0.2, 0.5"):
        Preprocessing(6, 3, mean=MEAN, deviation=(1.0, 0.0, 1.0))
    with assert_refused(
        "data.channelwise needs data.standardise: add --data.no-channelwise, or leave out --data.no-standardise"
    ):
        DataConfig(channelwise=True, standardise=False)


def test_a_set_is_standardised_by_the_training_images_of_each_channel():
    data = a_set()
    changed = data.standardised(channelwise=True)
    for c in range(3):
        channel = data.train.images[..., c].astype(np.float64)
        assert changed.preprocessing.mean[c] == pytest.approx(channel.mean(), rel=1e-6)
        assert changed.preprocessing.deviation[c] == pytest.approx(channel.std(), rel=1e-6)
        np.testing.assert_allclose(changed.test.images[..., c], (channel - channel.mean()) / channel.std(), atol=1e-5)
        assert changed.background[c] == changed.train.images[..., c].min()
    np.testing.assert_allclose(changed.unstandardised(changed.test.images), data.test.images, atol=1e-6)
    again = data.standardised(changed.preprocessing)
    np.testing.assert_array_equal(again.train.images, changed.train.images)
    assert again.preprocessing == changed.preprocessing
    assert np.ndim(data.standardised().background) == 0


def test_a_channel_without_contrast_is_named():
    images = np.random.default_rng(1).random((12, 6, 6, 1, 3))
    images[..., 1] = 0.5
    with assert_refused("set: all training pixels of channel 1 are equal to 0.5; there is nothing to learn from"):
        a_set(images).standardised(channelwise=True)
    a_set(images).standardised()


def test_statistics_of_every_channel_travel_with_a_classifier(tmp_path):
    save_network(tmp_path / "network", Linear(), preprocessing=BY_CHANNEL, class_names=NAMES)
    stored = json.loads((tmp_path / "network" / "network.json").read_text())["preprocessing"]
    assert stored["mean"] == list(MEAN) and stored["deviation"] == list(DEVIATION)
    classifier = load_classifier(tmp_path / "network", like=Linear())
    assert classifier.preprocessing == BY_CHANNEL
    assert_close(classifier(pixels()), probabilities(pixels()), 1e-6)
    load_network(tmp_path / "network", like=Linear())


@pytest.mark.parametrize("format", ["stablehlo", "onnx"])
@pytest.mark.default("stablehlo", "onnx")
def test_statistics_of_every_channel_travel_with_exported_files(format, tmp_path):
    path = tmp_path / ("network.zip" if format == "stablehlo" else "network.onnx")
    options = dict(preprocessing=BY_CHANNEL, class_names=NAMES, format=format)
    if format == "onnx":
        pytest.importorskip("jax2onnx")
        onnxruntime = pytest.importorskip("onnxruntime")
    export_network(path, Linear(), **options)
    if format == "onnx":
        session = onnxruntime.InferenceSession(str(path))
        about = json.loads(session.get_modelmeta().custom_metadata_map["attgconv_jax"])
        (found,) = session.run(["probabilities"], {"images": pixels()})
    else:
        with zipfile.ZipFile(path) as file:
            about = json.loads(file.read("network.json"))
            found = jax.export.deserialize(bytearray(file.read("network.stablehlo"))).call(pixels())
    assert about["preprocessing"]["mean"] == list(MEAN) and about["preprocessing"]["deviation"] == list(DEVIATION)
    assert_close(found, probabilities(pixels()), 1e-5)


def test_pictures_are_standardised_and_compared_with_training_by_channel():
    scale = Scale(BY_CHANNEL)
    picture = Picture("a.png", lambda: pixels()[0])
    assert_close(standardised_picture(picture, BY_CHANNEL, scale), standardised(pixels()[:1])[0], 1e-6)
    assert scale.note() is None
    bright = dataclasses.replace(BY_CHANNEL, mean=(0.01, 0.02, 0.03), deviation=(0.02, 0.02, 0.02))
    told = Scale(bright)
    standardised_picture(picture, bright, told)
    assert "was trained on uint8 pictures of mean 0.020 of white, this uint8 picture has mean 0." in told.note()


def test_pictures_of_attention_have_the_colours_from_before(tmp_path, monkeypatch):
    """Those beside maps and beside pairs of group elements; the network still gets standardised ones."""
    pixels = np.random.default_rng(2).random((12, 28, 28, 1, 3)) * [1, 0.5, 0.25]
    data = a_set(pixels).standardised(channelwise=True)
    network, figures = random_network(trivial(), "response_channel", features=1, in_features=3), []
    for name in ("attention_figure", "response_figure"):
        draw = getattr(plotting, name)
        monkeypatch.setattr(
            plotting, name, lambda *given, draw=draw, **options: figures.append(draw(*given, **options)) or figures[-1]
        )
    draw_attention(network, data, tmp_path / "x.png", images=[0])
    original = pixels[0, :, :, 0]
    for figure in figures:
        shown = next(axis.images[0].get_array() for axis in figure.axes if axis.images)
        np.testing.assert_allclose(shown, (original - original.min()) / np.ptp(original), atol=1e-5)
    assert len(figures) == 2
    with assert_refused("unstandardise must be a function of images or None, got tuple"):
        plotting.response_figure(network, jnp.asarray(data.test.images[0]), unstandardise=(MEAN, DEVIATION))


def test_the_picture_of_an_augmentation_has_the_colours_from_before():
    """Black beyond the edge, in every channel."""
    data = a_set().standardised(channelwise=True)
    figure = augmentation_figure(data, AugmentConfig(crop=5), seed=0)
    shown = np.stack([np.asarray(axis.images[0].get_array()) for axis in figure.axes])
    original = a_set().train.images[..., 0, :]
    low, high = original.min(), original.max()
    np.testing.assert_allclose(shown[0], (original[0] - low) / (high - low), atol=1e-5)
    outside = np.all(np.isclose(shown, (original.min(axis=(0, 1, 2)) - low) / (high - low), atol=1e-5), axis=-1)
    assert outside.mean() > 0.2
