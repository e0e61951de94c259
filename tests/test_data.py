"""The embedded data set, and what is refused before it reaches a compiled step."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage
from sklearn.datasets import load_digits

from attgconv_jax.preprocessing import Preprocessing, resize
from experiments.data import Dataset, Split, rotated_digits
from experiments.data.dataset import describe


@pytest.fixture(scope="module")
def digits():
    return rotated_digits(seed=0)


def _split(**changes):
    generator = np.random.default_rng(0)
    fields = {
        "images": generator.uniform(size=(4, 28, 28, 1, 1)).astype(np.float32),
        "labels": np.arange(4, dtype=np.int32),
    }
    return Split(**(fields | changes))


def test_digits_have_fixed_disjoint_splits(digits):
    splits = digits.splits().values()
    assert [len(split) for split in splits] == [1000, 297, 500]
    flat = np.concatenate([split.images.reshape(len(split), -1) for split in splits])
    assert len(np.unique(flat, axis=0)) == 1797
    labels = np.concatenate([split.labels for split in splits])
    assert sorted(labels) == sorted(load_digits().target)


def test_a_set_that_does_not_say_how_it_came_to_be_is_described_by_its_images():
    splits = dict.fromkeys(("train", "validation", "test"), _split())
    data = Dataset("own", 10, **splits)
    assert data.provenance == describe("own", "1", "none", splits) and data.provenance["train_images"] == "4"
    assert data.standardised().provenance == data.provenance


def test_digits_are_the_same_for_the_same_seed_and_differ_for_another(digits):
    again, other = rotated_digits(seed=0), rotated_digits(seed=1)
    np.testing.assert_array_equal(digits.test.images, again.test.images)
    np.testing.assert_array_equal(digits.test.labels, again.test.labels)
    assert not np.array_equal(digits.test.labels, other.test.labels)


def test_digits_keep_what_was_written():
    """Some angle turns each digit back into scikit-learn's: correlation beyond 0.97, and for its own label."""
    raw, placed = load_digits(), rotated_digits(seed=0).train
    order = np.random.default_rng(0).permutation(len(raw.images))
    for i in range(5):
        large = ndimage.zoom(raw.images[order[i]], 2.5, order=1, grid_mode=True, mode="grid-constant")
        best = 0
        for angle in range(0, 360, 5):
            back = ndimage.rotate(placed.images[i, :, :, 0, 0], angle, reshape=False, order=1)[4:24, 4:24]
            best = max(best, np.corrcoef(back.ravel(), large.ravel())[0, 1])
        assert best > 0.95
        assert placed.labels[i] == raw.target[order[i]]


def test_standardised_uses_the_training_split_alone(digits):
    standardised = digits.standardised()
    assert standardised.train.images.mean() == pytest.approx(0, abs=1e-5)
    assert standardised.train.images.std() == pytest.approx(1, abs=1e-5)
    scale = digits.train.images.std()
    np.testing.assert_allclose(
        standardised.test.images, (digits.test.images - digits.train.images.mean()) / scale, atol=1e-5
    )


def test_what_was_done_to_the_images_is_kept_beside_them(digits):
    assert digits.preprocessing == Preprocessing(28, 1, "float32", "frame")
    changed = digits.resized(lambda pixels: pixels + 1).standardised()
    assert (changed.preprocessing.size, changed.preprocessing.fit) == (29, "frame")
    np.testing.assert_allclose(
        changed.preprocessing(digits.test.images[:5, :, :, 0]), changed.test.images[:5], atol=1e-5, rtol=0
    )
    other = digits.resized(lambda pixels: pixels + 1).standardised(Dataset("set", 10, _split(), _split(), _split()))
    assert other.preprocessing.mean == pytest.approx(_split().images.mean())


def test_images_are_framed_to_another_size_or_stretched_if_there_is_no_frame(digits):
    """As resizing says, which has tests of its own, whatever the number of images."""
    for size in (30, 31):
        resized = digits.resized(lambda pixels, size=size: size).train.images
        np.testing.assert_allclose(resized, resize(digits.train.images, size, "frame"), atol=1e-6)
    assert digits.resized(lambda pixels: pixels) is digits


def test_classes_have_names():
    splits = [_split()] * 3
    assert Dataset("set", 10, *splits).class_names == tuple("0123456789")
    assert Dataset("set", 4, *splits, class_names=tuple("abcd")).class_names == ("a", "b", "c", "d")
    for names in ("abc", "abca"):
        with pytest.raises(ValueError, match=f"class_names must be 4 different names, got {', '.join(names)}"):
            Dataset("set", 4, *splits, class_names=tuple(names))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.array([0, 1, 2, 10], np.int32)}, "validation split: label 10 of image 3 must be in 0 to 9"),
        ({"labels": np.array([0, -1, 2, 3], np.int32)}, "label -1 of image 1 must be in 0 to 9"),
        ({"labels": np.array([0.0, 1, 2, 3])}, "labels must be integers"),
        ({"labels": np.arange(3)}, "labels must be integers, one an image"),
        ({"images": np.zeros((4, 28, 28, 1))}, r"images must be floating \[image, x, y, 1, c\]"),
        ({"images": np.zeros((4, 28, 28, 1, 1), np.uint8)}, "images must be floating"),
    ],
)
def test_bad_splits_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Dataset("set", 10, _split(), _split(**change), _split())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_that_are_not_finite_are_refused(value):
    split = _split()
    split.images[2, 5, 5] = value
    with pytest.raises(ValueError, match="train split: image 2 holds NaN or infinity"):
        Dataset("set", 10, split, _split(), _split())


def test_constant_training_images_cannot_be_standardised():
    split = _split()
    blank = dataclasses.replace(split, images=np.ones_like(split.images))
    with pytest.raises(ValueError, match="all training pixels are equal"):
        Dataset("set", 10, blank, _split(), _split()).standardised()
