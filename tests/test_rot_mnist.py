"""Rotated MNIST: how images are turned and chosen, and the text format of 2007. No TensorFlow."""

import hashlib
import re

import numpy as np
import pytest
from scipy import ndimage, stats
from sklearn.datasets import load_digits
from small_sets import random_images

from experiments.data import rotated_digits
from experiments.data.amat import amat_rows
from experiments.data.builders.rot_mnist import ARCHIVE_MD5, check_archive
from experiments.data.regenerated import choose_turns, turned_pixels
from experiments.data.rotation import turned

SIZES = {"train": 400, "validation": 100, "test": 300}


@pytest.fixture(scope="module")
def pool():
    return random_images(1000)


def _blob(row, column, size=28):
    """A smooth spot at `(row, column)` from the centre."""
    axis = np.arange(size) - (size - 1) / 2
    return np.exp(-((axis[:, None] - row) ** 2 + (axis - column) ** 2) / (2 * 2.0**2))


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.0, 2.5, -2.0, 5.9])
def test_a_spot_goes_where_the_rotation_takes_it(angle):
    cos, sin = np.cos(angle), np.sin(angle)
    expected = _blob(cos * 6 - sin * 2, sin * 6 + cos * 2)
    np.testing.assert_allclose(turned(_blob(6, 2), angle, grid=28, side=28), expected, atol=2e-3)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_right_angles_turn_counter_clockwise_without_error(quarters):
    image = random_images(1)[0][0]
    np.testing.assert_array_equal(turned_pixels(image, quarters * np.pi / 2), np.rot90(image, quarters))


def test_what_is_enlarged_is_the_same_picture_in_the_middle():
    enlarged = turned(_blob(2, 1, size=20), 0.0, grid=40, side=30)
    axis = np.arange(40) - 39 / 2
    spot = np.exp(-((axis[:, None] - 3) ** 2 + (axis - 1.5) ** 2) / (2 * 3.0**2))
    np.testing.assert_allclose(enlarged, spot, atol=5e-3)


def test_turned_pixels_are_clipped_and_rounded_instead_of_wrapped():
    image = np.zeros((28, 28), np.uint8)
    image[8:20, 8:20] = 255
    exact = turned(image.astype(float), 0.7, grid=28, side=28)
    assert exact.min() < -1
    assert exact.max() > 256
    pixels = turned_pixels(image, 0.7)
    assert np.abs(pixels - np.clip(exact, 0, 255)).max() <= 0.5


def test_digits_are_turned_as_in_the_first_release():
    """Bit for bit, so that figures stay comparable: the formula is spelled out once more."""
    raw, generator, train = load_digits(), np.random.default_rng(0), rotated_digits(0).train.images
    order = generator.permutation(1797)
    angles = generator.uniform(0, 2 * np.pi, 1797)
    for i in range(20):
        cos, sin = np.cos(angles[i]), np.sin(angles[i])
        back = np.array([[cos, sin], [-sin, cos]])
        offset = 3.5 - 0.4 * back @ np.full(2, 13.5)
        image = raw.images[order[i]] / 16
        placed = ndimage.affine_transform(
            image, 0.4 * back, offset, output_shape=(28, 28), order=3, mode="grid-constant"
        )
        expected = np.clip(placed, 0, 1).astype(np.float32)
        np.testing.assert_array_equal(train[i, :, :, 0, 0], expected)


@pytest.mark.parametrize("image", [np.zeros((28, 28), np.uint8), np.zeros((28, 20)), np.zeros((28, 28, 1))])
def test_images_which_are_not_square_and_floating_are_not_turned(image):
    with pytest.raises(ValueError, match=r"image must be floating \[s, s\], got"):
        turned(image, 0.1, grid=28, side=28)


def test_splits_have_their_sizes_and_share_no_image(pool):
    turns = choose_turns(*pool, SIZES)
    assert {name: len(turn.indices) for name, turn in turns.items()} == SIZES
    assert {name: len(turn.angles) for name, turn in turns.items()} == SIZES
    indices = np.concatenate([turn.indices for turn in turns.values()])
    assert len(np.unique(indices)) == sum(SIZES.values())


def test_the_choice_is_the_same_again_and_differs_for_another_seed(pool):
    first, again, other = (choose_turns(*pool, SIZES, seed) for seed in (1, 1, 2))
    for name in SIZES:
        np.testing.assert_array_equal(first[name].indices, again[name].indices)
        np.testing.assert_array_equal(first[name].angles, again[name].angles)
        assert not np.array_equal(first[name].indices, other[name].indices)
        assert not np.array_equal(first[name].angles, other[name].angles)


def test_the_choice_does_not_depend_on_the_order_of_the_images(pool):
    images, labels = pool
    order = np.random.default_rng(7).permutation(len(images))
    turns, shuffled = choose_turns(images, labels, SIZES), choose_turns(images[order], labels[order], SIZES)
    for name, turn in turns.items():
        np.testing.assert_array_equal(images[order][shuffled[name].indices], images[turn.indices])
        np.testing.assert_array_equal(shuffled[name].angles, turn.angles)
        np.testing.assert_array_equal(shuffled[name].scales, turn.scales)


def test_every_image_is_as_likely_for_every_split(pool):
    """The hash orders the images, the permutation takes any of them: places are uniform over the pool."""
    places = np.concatenate([choose_turns(*pool, SIZES, seed)["train"].indices for seed in range(20)])
    assert stats.kstest(places / 1000, "uniform").pvalue > 1e-3


def test_angles_are_uniform_over_the_full_circle_in_each_split():
    images, labels = random_images(4000)
    for turn in choose_turns(images, labels, {"train": 2000, "test": 2000}).values():
        assert turn.angles.dtype == np.float32
        assert stats.kstest(turn.angles / (2 * np.pi), "uniform").pvalue > 1e-3


def test_pools_which_do_not_fit_are_refused(pool):
    images, labels = pool
    with pytest.raises(ValueError, match="sizes must sum to at most the 1000 images, got 1001"):
        choose_turns(images, labels, {"train": 1001})
    with pytest.raises(ValueError, match="images must be uint8 with one label an image, got float64"):
        choose_turns(images / 255, labels, SIZES)
    with pytest.raises(ValueError, match="images must be uint8 with one label an image"):
        choose_turns(images, labels[1:], SIZES)


def _row(pixels, label):
    return " ".join([*(f"{pixel:.6f}" for pixel in pixels), str(label)]) + "\n"


def test_amat_rows_hold_pixels_row_by_row_and_then_the_label():
    pixels = np.random.default_rng(0).uniform(size=(3, 28, 28)).round(6)
    lines = [_row(image.ravel(), f"{label}.000000") for image, label in zip(pixels, [7, 0, 9], strict=True)]
    images, labels = zip(*amat_rows([lines[0], "\n", *lines[1:]], "file"), strict=True)
    assert labels == (7, 0, 9)
    assert {image.dtype for image in images} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(np.stack(images), pixels.astype(np.float32))


def test_amat_rows_are_read_one_at_a_time():
    def lines():
        yield _row(np.zeros(784), 1)
        raise AssertionError("read on before the first row was given")

    image, label = next(amat_rows(lines(), "file"))
    assert (image.shape, label) == ((28, 28), 1)


GOOD = np.full(784, 0.5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (_row(GOOD[1:], 3), "row 2 must hold 784 pixels and a label, got 784 words"),
        (_row(GOOD, "3 4"), "row 2 must hold 784 pixels and a label, got 786 words"),
        (_row(GOOD, "three"), "row 2 must hold numbers, got 'three'"),
        (_row(GOOD, 3).replace("0.5", "0,5", 1), "row 2 must hold numbers, got '0,500000'"),
        (_row(np.r_[GOOD[:5], 1.5, GOOD[6:]], 3), "row 2: pixels must be in [0, 1], got 1.5 as pixel 5"),
        (_row(np.r_[-0.1, GOOD[1:]], 3), "row 2: pixels must be in [0, 1], got -0.1 as pixel 0"),
        (_row(np.r_[GOOD[:-1], np.nan], 3), "row 2: pixels must be in [0, 1], got nan as pixel 783"),
        (_row(GOOD, 10), "row 2: the label, its last number, must be an integer in 0 to 9, got 10.0"),
        (_row(GOOD, -1), "row 2: the label, its last number, must be an integer in 0 to 9, got -1.0"),
        (_row(GOOD, 2.5), "row 2: the label, its last number, must be an integer in 0 to 9, got 2.5"),
        (_row(GOOD, "nan"), "row 2: the label, its last number, must be an integer in 0 to 9, got nan"),
    ],
)
def test_bad_amat_rows_are_refused_by_file_and_row(line, message):
    with pytest.raises(ValueError, match=f"^{re.escape('set.amat, ' + message)}$"):
        list(amat_rows([_row(GOOD, 3), line], "set.amat"))


@pytest.mark.parametrize("lines", [[], ["\n", " \n"]])
def test_an_empty_amat_file_is_refused(lines):
    with pytest.raises(ValueError, match=r"set\.amat must hold rows of 784 pixels and a label, but it is empty"):
        list(amat_rows(lines, "set.amat"))


def test_an_archive_other_than_that_of_2007_is_refused(tmp_path):
    archive = tmp_path / "mnist_rotation_new.zip"
    with pytest.raises(ValueError, match="there is no such file"):
        check_archive(archive)
    archive.write_bytes(b"something else")
    found = hashlib.md5(b"something else").hexdigest()
    with pytest.raises(ValueError, match=f"must have MD5 {ARCHIVE_MD5}, got {found}"):
        check_archive(archive)
