"""Preprocessing commutes with turns and reflections whatever the sizes' parity, and takes pixels as files have them."""

import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest
from helpers import without_annotations

from attgconv_jax.preprocessing import Preprocessing, resampling_matrix, resize


def pixels(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("size", [28, 29])
@pytest.mark.parametrize("fit", ["pad", "crop", "stretch", "frame"])
@pytest.mark.parametrize("features", [1, 3])
@pytest.mark.default("1-pad-28", "3-crop-29", "1-stretch-28", "3-frame-28")
def test_resizing_commutes_with_quarter_turns_and_reflections(size, fit, features):
    for x, y in itertools.product([*range(27, 34), 13, 60], [27, 30, 33, 12]):
        image = pixels(1, x, y, 1, features).astype(np.float32) / 255
        expected = resize(image, size, fit, background=0.3)
        for element in range(8):
            got = resize(moved(image, element), size, fit, background=0.3)
            np.testing.assert_allclose(got, moved(expected, element), atol=1e-6, rtol=0)


def moved(image, element):
    reflection, rotation = divmod(element, 4)
    turned = np.rot90(image, rotation, axes=(1, 2))
    return np.flip(turned, axis=1) if reflection else turned


@pytest.mark.parametrize("shape", [(33, 27), (40, 60)])
def test_preprocessing_commutes_with_quarter_turns_and_reflections(shape):
    preprocessing, image = Preprocessing(28, 3, mean=0.4, deviation=0.5), pixels(2, *shape, 3)
    expected = np.asarray(preprocessing(image))
    for element in range(8):
        got = preprocessing(moved(image, element))
        np.testing.assert_allclose(got, moved(expected, element), atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(20, 30), (31, 12), (28, 28), (5, 60)])
def test_stretching_is_linear_interpolation_with_antialiasing(shape):
    image = np.random.default_rng(0).random([2, *shape, 1, 3])
    expected = jax.image.resize(image, [2, 28, 28, 1, 3], "linear")
    np.testing.assert_allclose(resize(image, 28, "stretch"), expected, atol=1e-12)


def test_padding_shows_all_of_an_image_and_cropping_only_its_middle():
    image = np.ones([1, 20, 40, 1, 1])
    padded, cropped = (resize(image, 20, fit, background=0.5)[0, :, :, 0, 0] for fit in ("pad", "crop"))
    np.testing.assert_allclose(padded[[0, 4, 5, 14, 15, 19]], np.repeat([[0.5, 0.5, 1, 1, 0.5, 0.5]], 20, 0).T)
    np.testing.assert_allclose(cropped, 1)
    ramp = np.arange(40.0)[None, None, :, None, None] * np.ones([1, 20, 40, 1, 1])
    np.testing.assert_allclose(resize(ramp, 20, "crop")[0, 3, :, 0, 0], np.arange(10.0, 30.0))


def test_framing_moves_no_pixel():
    image = np.random.default_rng(0).random([2, 28, 28, 1, 1])
    framed = resize(image, 32, "frame", background=0.25)
    np.testing.assert_array_equal(framed[:, 2:-2, 2:-2], image)
    assert np.all(framed[:, :2] == 0.25) and np.all(framed[:, :, -2:] == 0.25)


def test_a_resampling_matrix_is_the_same_turned_round():
    for length, size, step in [(27, 28, 27 / 28), (300, 28, 300 / 28), (40, 29, 1.0), (3, 29, 0.1)]:
        matrix = resampling_matrix(length, size, step)
        np.testing.assert_array_equal(matrix, matrix[::-1, ::-1])
        assert set(np.round(matrix.sum(axis=1), 12)) <= {0, 1}


@pytest.mark.parametrize("dtype, white", [("uint8", 255), ("uint16", 65535), ("float32", 1)])
def test_pixels_are_fractions_of_white(dtype, white):
    preprocessing = Preprocessing(4, dtype=dtype, mean=0.25, deviation=0.5)
    image = np.full([1, 4, 4], white, dtype)
    np.testing.assert_allclose(preprocessing(image), 1.5)
    assert preprocessing(image).dtype == np.float32


def test_numbers_of_numpy_do_not_change_the_precision():
    of_numpy = Preprocessing(np.int64(4), mean=np.float64(0.25), deviation=np.float32(0.5))
    assert of_numpy == Preprocessing(4, mean=0.25, deviation=0.5) and hash(of_numpy) == hash(
        Preprocessing(4, mean=0.25, deviation=0.5)
    )
    assert of_numpy(pixels(1, 4, 4)).dtype == np.float32


def test_grey_images_become_colour():
    image = pixels(2, 9, 9)
    np.testing.assert_array_equal(*(Preprocessing(9, 3)(x) for x in (image, np.stack([image] * 3, axis=-1))))


@pytest.mark.parametrize(
    "image, message",
    [
        (np.zeros([2, 9, 9, 3], np.float32), "images must be uint8 with white at 255, .* got float32; convert"),
        (pixels(9, 9, 1), r"got one of shape \(9, 9, 1\): pass images\[None\]"),
        (pixels(2, 0, 9), "images must have pixels along x and y, got shape"),
        (pixels(9, 9, 3), r"got one of shape \(9, 9, 3\): pass images\[None\]"),
        (pixels(2, 9, 9, 4), r"images must be \[batch, x, y, 3\], got shape \(2, 9, 9, 4\)"),
        (pixels(2, 9, 9, 1, 3), r"images must be \[batch, x, y, 3\]"),
    ],
)
def test_other_pixels_than_those_of_training_raise(image, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(9, 3)(image)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(size=0), "size must be an integer of at least 1"),
        (dict(size=8, fit="zoom"), 'fit must be one of "pad"'),
        (dict(size=8, dtype="int32"), "unsigned integers or floating, of at most 64 bits, got int32"),
        (dict(size=8, dtype="foo"), 'dtype must be that of pixels, such as "uint8" or "float32", got \'foo\''),
        (dict(size=8, dtype="longdouble"), "dtype must be of unsigned integers or floating, of at most 64 bits"),
        (dict(size=8, mean=np.zeros(3)), "mean must be one number, or 1, one per channel, got 3 numbers"),
        (dict(size=8, mean=np.zeros([1, 1])), r"mean must be one number, or 1, one per channel, got shape \(1, 1\)"),
        (dict(size=8, mean="0.5"), "mean must be a number, got '0.5'"),
        (dict(size=8, deviation=0.0), "deviation positive"),
    ],
)
def test_wrong_settings_raise(options, message):
    with without_annotations(), pytest.raises(ValueError, match=message):
        Preprocessing(**options)


def test_one_grey_image_is_not_a_batch_of_columns():
    with pytest.raises(ValueError, match=r"got one of shape \(9, 7, 1\): pass images\[None\]"):
        Preprocessing(9)(pixels(9, 7, 1))
    assert Preprocessing(9)(pixels(9, 7, 2)).shape == (9, 9, 9, 1, 1)


def test_an_unknown_fit_and_an_empty_image_are_refused():
    with without_annotations(), pytest.raises(ValueError, match=r"got 'padd'"):
        resize(np.ones([1, 9, 9, 1, 1]), 28, "padd")
    with pytest.raises(ValueError, match="images must have pixels along x and y"):
        resize(np.ones([1, 0, 9, 1, 1]), 28, "pad")


@pytest.mark.parametrize(("size", "rows"), [(28, 2), (29, 1)])
def test_a_thin_image_is_seen_and_stays_in_the_middle(size, rows):
    resized = resize(np.ones([1, 300, 1, 1, 1]), size, "pad")[0, :, :, 0, 0]
    np.testing.assert_allclose(resized.sum(axis=1), rows)
    np.testing.assert_array_equal(resized, resized[:, ::-1])
    turned = resize(np.ones([1, 1, 300, 1, 1]), size, "pad")[0, :, :, 0, 0]
    np.testing.assert_allclose(turned, resized.T)


def test_a_type_is_kept_by_its_name():
    assert Preprocessing(28, dtype=np.uint8) == Preprocessing(28, dtype="uint8")
    assert json.dumps(dataclasses.asdict(Preprocessing(28, dtype=np.dtype(">f4")))).count('"float32"') == 1


@pytest.mark.parametrize("dtype", ["float16", "float64", "uint64"])
@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.default("False-float16", "False-float64", "True-uint64")
def test_other_types_are_computed_in_float32_at_least(dtype, x64):
    preprocessing = Preprocessing(2, dtype=dtype, mean=0.25, deviation=0.5)
    image = np.full([1, 2, 2], 1 if dtype[0] == "f" else np.iinfo(dtype).max, dtype)
    with jax.enable_x64(x64):
        prepared = preprocessing(image)
        np.testing.assert_allclose(jax.jit(preprocessing.apply)(preprocessing.checked(image)), prepared)
    np.testing.assert_allclose(prepared, 1.5)
    assert prepared.dtype == ("float64" if x64 and dtype == "float64" else "float32")
