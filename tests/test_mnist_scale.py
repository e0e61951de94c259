"""Sets that change in scale: how images shrink, what is drawn, and what the builders make of it. No TensorFlow."""

import numpy as np
import pytest
from scipy import ndimage, stats
from sklearn.datasets import load_digits
from small_sets import random_images

from experiments.data import rotated_digits, rotated_scaled_digits
from experiments.data.prepared import REGENERATED, open_builder
from experiments.data.regenerated import choose_turns, turned_pixels
from experiments.data.rotation import smoothed, turned

SIZES = {"train": 2000, "test": 2000}
CHANGES = {
    "rot_mnist/regenerated": {"angle"},
    "mnist_scale/regenerated": {"scale"},
    "mnist_rot_scale/regenerated": {"angle", "scale"},
}


@pytest.fixture(scope="module")
def pool():
    return random_images(4000)


def _blob(row, column, variance, size=28):
    axis = np.arange(size) - (size - 1) / 2
    return np.exp(-((axis[:, None] - row) ** 2 + (axis - column) ** 2) / (2 * variance))


@pytest.mark.parametrize(("angle", "scale"), [(0.0, 0.3), (0.0, 0.77), (1.0, 0.3), (2.5, 0.5), (-2.0, 0.93)])
def test_a_spot_shrinks_towards_the_centre_as_blurred_as_larger_pixels_see_it(angle, scale):
    """Variances add and mass stays, up to the sampling of a Gaussian narrower than a pixel."""
    row, column = scale * np.array([np.cos(angle) * 6 - np.sin(angle) * 2, np.sin(angle) * 6 + np.cos(angle) * 2])
    variance = 4 + 0.25 * (1 / scale**2 - 1)
    expected = 4 / variance * _blob(row, column, scale**2 * variance)
    np.testing.assert_allclose(turned(_blob(6, 2, 4), angle, grid=28, side=28 * scale), expected, atol=2e-2)


def test_quarter_turns_of_a_shrunk_image_are_exact():
    image = random_images(1)[0][0].astype(float)
    shrunk, quarter = (turned(image, angle, grid=28, side=28 * 0.4) for angle in (0, np.pi / 2))
    np.testing.assert_allclose(quarter, np.rot90(shrunk), atol=1e-9)


@pytest.mark.parametrize("column", range(8, 15))
def test_a_fine_stroke_keeps_its_ink_wherever_it_lies(column):
    image = np.zeros((28, 28))
    image[5:23, column] = 1
    step = 1 / 0.3
    unsmoothed = ndimage.affine_transform(
        image, np.full(2, step), 13.5 * (1 - step), output_shape=(28, 28), order=3, mode="grid-constant"
    )
    assert abs(unsmoothed.sum() * step**2 / 18 - 1) > 0.1
    assert turned(image, 0.0, grid=28, side=28 / step).sum() * step**2 == pytest.approx(18, rel=0.03)


def test_smoothing_keeps_what_spreads_over_the_edge_and_begins_gently():
    image = np.ones((8, 8))
    assert smoothed(image, 3.0).sum() == pytest.approx(64, rel=1e-12)
    np.testing.assert_array_equal(smoothed(image, 1.0), image)
    np.testing.assert_allclose(turned(image, 0.3, 28, 8 - 1e-9), turned(image, 0.3, 28, 8), atol=1e-6)


def test_turned_pixels_shrink_about_the_centre_of_the_same_grid():
    image = random_images(1)[0][0]
    pixels = turned_pixels(image, scale=0.5)
    assert (pixels.shape, pixels.dtype) == ((28, 28), np.uint8)
    assert pixels[8:20, 8:20].min() > 60
    assert not pixels[[0, 1, 2, -3, -2, -1]].any()
    assert not pixels[:, [0, 1, 2, -3, -2, -1]].any()
    np.testing.assert_array_equal(turned_pixels(image, 0.7, 1.0), turned_pixels(image, 0.7))


def test_scales_are_uniform_in_each_split_and_unrelated_to_the_angles(pool):
    for turn in choose_turns(*pool, SIZES).values():
        assert turn.scales.dtype == np.float32
        assert turn.scales.shape == turn.indices.shape
        assert stats.kstest((turn.scales - 0.3) / 0.7, "uniform").pvalue > 1e-3
        assert stats.spearmanr(turn.scales, turn.angles).pvalue > 1e-3


def test_scales_leave_the_draws_of_the_first_release_as_they_were(pool):
    """Permutation, then angles: bit for bit, since `rot_mnist/regenerated` is made of them."""
    generator = np.random.default_rng(3)
    places, angles = generator.permutation(4000), generator.uniform(0, 2 * np.pi, 4000).astype(np.float32)
    turns = choose_turns(*pool, {"train": 4000}, seed=3)["train"]
    np.testing.assert_array_equal(turns.angles, angles)
    by_place = turns.indices[np.argsort(places)]
    other = choose_turns(*pool, {"train": 4000}, seed=4)["train"]
    np.testing.assert_array_equal(other.indices, by_place[np.random.default_rng(4).permutation(4000)])


@pytest.mark.parametrize("name", REGENERATED)
def test_builders_make_and_keep_what_their_set_changes(name, pool, tmp_path):
    images, labels = pool
    builder, turns = open_builder(name, tmp_path), choose_turns(images, labels, {"train": 5})["train"]
    assert set(builder.info.features) == {"image", "label"} | CHANGES[name]
    assert str(builder.version) == "1.0.0"
    examples = dict(builder._generate_changed(images[turns.indices], labels[turns.indices], turns))
    assert list(examples) == [0, 1, 2, 3, 4]
    for key, example in examples.items():
        drawn = {"angle": turns.angles[key], "scale": turns.scales[key]}
        changes = {change: drawn[change] for change in CHANGES[name]}
        assert example["label"] == labels[turns.indices[key]]
        assert {change: example[change] for change in CHANGES[name]} == changes
        np.testing.assert_array_equal(example["image"][:, :, 0], turned_pixels(images[turns.indices[key]], **changes))


def test_scaled_digits_have_the_splits_and_angles_of_the_digits_that_are_only_turned():
    scaled, raw, generator = rotated_scaled_digits(2), load_digits(), np.random.default_rng(2)
    for name, split in rotated_digits(2).splits().items():
        np.testing.assert_array_equal(scaled.splits()[name].labels, split.labels)
    order = generator.permutation(1797)
    angles, scales = generator.uniform(0, 2 * np.pi, 1797), generator.uniform(0.3, 1, 1797)
    for i in range(20):
        expected = turned(raw.images[order[i]] / 16, angles[i], grid=28, side=20 * scales[i]).clip(0, 1)
        np.testing.assert_array_equal(scaled.train.images[i, :, :, 0, 0], expected.astype(np.float32))
    assert scaled.provenance["set"] == "digits_rot_scale"
