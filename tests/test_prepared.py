"""Sets that TFDS prepared are read without TensorFlow; what is missing is said with its cure."""

import dataclasses
import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from small_sets import random_images, write_small_set

import experiments.data.dataset as dataset_module
import experiments.data.prepared as prepared_module
from experiments.data import Split, load, rotated_digits, rotated_scaled_digits
from experiments.data.dataset import describe, fingerprint
from experiments.data.prepared import PREPARED_NAMES, REGENERATED, prepared_set

ROOT = pathlib.Path(__file__).parents[1]
MNIST_LIKE = ["mnist", "fashion_mnist", "kmnist"]
# Of the sets that runs were made with: seed, order and interpolation stay.
FINGERPRINTS = {
    "rot_mnist/regenerated": [
        "365fe943d658bc5559d8598f264a9f00096d8b25c80d10188e59382fb0f87666",
        "93df7814607bc4eea707fc5fa63f51c92b2d3b7781839da7484342cc55ad3b84",
        "27208d08f79d593968903c951ba169238bab30d50e2afc59fce6fa92918579b8",
    ],
    "mnist_scale/regenerated": [
        "e99958cb3a5d2d472b9967ea61ed52ad42f6dad4a1416b17615b1c509fad699a",
        "4fbfdf9672d7438381067509638c0fecab7962600856930eb1877036390877bd",
        "20c25b5d214348dfbea5a4013d6d33669e6665d1bf39588cfdb054081e87193e",
    ],
    "mnist_rot_scale/regenerated": [
        "a095d37d6e2af9543b2d8afef9aa2f001b31ed8bb6b75348885c711a1c47390b",
        "5a405f693d6f319872f1a6fc03d81156e6aaf239988835eff9d0a5043d9802f7",
        "dd88574451736ba33bed4baa3e5e20923797a944b2ab1708dcd08f7af7213ec0",
    ],
}
# 29 = 4 * 7 + 1: the last chunk of `small` holds one example.
COUNTS = {"train": 29, "validation": 12, "test": 20}


@pytest.fixture
def small(monkeypatch):
    """Makes chunks and the held-out split fit small sets."""
    monkeypatch.setattr(dataset_module, "HELD_OUT", 8)
    monkeypatch.setattr(prepared_module, "CHUNK", 7)
    for name, published in prepared_module.PUBLISHED.items():
        sizes = {split: COUNTS[split] for split in published.sizes}
        monkeypatch.setitem(prepared_module.PUBLISHED, name, published._replace(sizes=sizes))


def _splits(names, dtype=np.uint8):
    return {name: random_images(COUNTS[name], seed=i, dtype=dtype) for i, name in enumerate(names)}


def _rows(*splits):
    """Image and label of each example as bytes, sorted."""
    return sorted(
        image.tobytes() + bytes([label])
        for split in splits
        for image, label in zip(split.images, split.labels, strict=True)
    )


@pytest.mark.parametrize("name", MNIST_LIKE)
def test_mnist_like_sets_are_read_and_hold_out_training_images_for_validation(name, tmp_path, small):
    written = _splits(["train", "test"])
    write_small_set(name, tmp_path, written)
    data = load(name, tmp_path)
    assert [len(split) for split in data.splits().values()] == [21, 8, 20]
    whole = {
        key: Split((images[:, :, :, None, None] / np.float32(255)).astype(np.float32), labels.astype(np.int32))
        for key, (images, labels) in written.items()
    }
    np.testing.assert_array_equal(data.test.images, whole["test"].images)
    np.testing.assert_array_equal(data.test.labels, whole["test"].labels)
    assert data.train.images.dtype == np.float32
    assert data.train.labels.dtype == np.int32
    assert _rows(data.train, data.validation) == _rows(whole["train"])


@pytest.mark.parametrize(
    ("name", "side", "classes", "sizes"),
    [("cifar10", 32, 10, [21, 8, 20]), ("cifar100", 32, 100, [21, 8, 20]), ("patch_camelyon", 96, 2, [29, 12, 20])],
)
@pytest.mark.default("cifar10-32-10-sizes0", "cifar100-32-100-sizes1", "patch_camelyon-96-2-sizes2")
def test_sets_in_colour_are_read_with_the_names_of_their_classes(name, side, classes, sizes, tmp_path, small):
    """Channels stay last, rows stay rows; without a validation split training images validate."""
    names = prepared_module.PUBLISHED[name].sizes
    made = {split: random_images(COUNTS[split], seed=i, shape=(side, side, 3)) for i, split in enumerate(names)}
    written = {split: (images, labels % classes) for split, (images, labels) in made.items()}
    write_small_set(name, tmp_path, written, label_names=[f"class {i}" for i in range(classes)])
    data = load(name, tmp_path)
    assert [len(split) for split in data.splits().values()] == sizes
    assert data.classes == classes and data.class_names == tuple(f"class {i}" for i in range(classes))
    images, labels = written["test"]
    np.testing.assert_array_equal(data.test.images[:, :, :, 0], (images / np.float32(255)).astype(np.float32))
    np.testing.assert_array_equal(data.test.labels, labels)
    assert (data.preprocessing.size, data.preprocessing.features, data.preprocessing.dtype) == (side, 3, "uint8")
    assert data.provenance["seed"] == ("none" if name == "patch_camelyon" else "0")


def test_the_seed_decides_which_images_are_held_out(tmp_path, small):
    write_small_set("mnist", tmp_path, _splits(["train", "test"]))
    first, again, other = (load("mnist", tmp_path, seed=seed) for seed in (0, 0, 1))
    assert first.provenance == again.provenance
    assert _rows(first.validation) != _rows(other.validation)
    assert _rows(first.train, first.validation) == _rows(other.train, other.validation)


@pytest.mark.parametrize(
    ("name", "dtype"), [("rot_mnist/original", np.float32), *((name, np.uint8) for name in REGENERATED)]
)
def test_rotated_and_scaled_sets_keep_their_own_splits_in_order_whatever_the_seed(name, dtype, tmp_path, small):
    written = _splits(["train", "validation", "test"], dtype)
    write_small_set(name, tmp_path, written)
    data = load(name, tmp_path, seed=5)
    for key, (images, labels) in written.items():
        scale = 255 if dtype == np.uint8 else 1
        np.testing.assert_allclose(data.splits()[key].images[:, :, :, 0, 0], images / np.float32(scale), atol=1e-7)
        np.testing.assert_array_equal(data.splits()[key].labels, labels)
    assert data.provenance == load(name, tmp_path, seed=6).provenance
    assert data.provenance["seed"] == ("none" if name == "rot_mnist/original" else "2007")


def test_the_folder_defaults_to_the_one_tfds_is_told_of(tmp_path, small, monkeypatch):
    write_small_set("mnist", tmp_path, _splits(["train", "test"]))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert len(load("mnist").test) == 20
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "home" / "tensorflow_datasets"))):
        load("mnist")


@pytest.mark.parametrize("name", PREPARED_NAMES)
def test_a_set_which_is_not_prepared_is_refused_with_the_command_that_prepares_it(name, tmp_path):
    expected = f"{name} is not prepared in {tmp_path}; prepare it with: python -m experiments.data.prepare {name} "
    with pytest.raises(ValueError, match=re.escape(f"{expected}--directory {tmp_path}")) as caught:
        load(name, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["mnist", "rot_mnist/regenerated"])
def test_a_set_in_a_format_for_tensorflow_is_refused_with_the_command_that_prepares_it(name, tmp_path):
    names = ["train", "test"] if name == "mnist" else ["train", "validation", "test"]
    write_small_set(name, tmp_path, _splits(names), file_format="tfrecord")
    with pytest.raises(ValueError, match=r"as array_record .* but holds it as tfrecord; move") as caught:
        load(name, tmp_path)
    assert str(caught.value).endswith(f"python -m experiments.data.prepare {name} --directory {tmp_path}")


@pytest.mark.parametrize("damage", ["missing", "cut short", "altered"])
def test_a_damaged_set_is_refused_with_the_command_that_prepares_it(damage, tmp_path):
    folder = write_small_set("mnist", tmp_path, {"train": random_images(100), "test": random_images(100)})
    record = folder / "mnist-test.array_record-00000-of-00001"
    content = bytearray(record.read_bytes())
    content[len(content) // 3] ^= 0xFF
    if damage == "missing":
        record.unlink()
    else:
        record.write_bytes(content[: len(content) // 2] if damage == "cut short" else content)
    with pytest.raises(ValueError, match=r"mnist cannot be read \(.*\); delete .*/mnist/3\.0\.1 and run: python -m "):
        load("mnist", tmp_path)


@pytest.mark.parametrize("splits", [["train", "test"], ["train", "validation"]])
def test_a_set_without_one_of_its_splits_is_refused(splits, tmp_path, small):
    """And nothing is held out of a training split that has a validation split beside it."""
    write_small_set("rot_mnist/regenerated", tmp_path, _splits(splits))
    with pytest.raises(ValueError, match=r"must have \{'train': 29, 'validation': 12, 'test': 20\} images, got"):
        load("rot_mnist/regenerated", tmp_path)


@pytest.mark.parametrize("function", [load, prepared_set])
def test_an_unknown_name_is_refused(function, tmp_path):
    with pytest.raises(ValueError, match=r"name must be one of .*rot_mnist/regenerated.*, got 'cifar'"):
        function("cifar", tmp_path)


@pytest.mark.parametrize(("name", "digits"), [("digits", rotated_digits), ("digits_rot_scale", rotated_scaled_digits)])
def test_digits_need_no_folder(name, digits):
    np.testing.assert_array_equal(load(name, seed=3).train.images, digits(3).train.images)


def test_provenance_names_the_set_and_fingerprints_its_splits_before_standardisation(tmp_path, small):
    write_small_set("mnist", tmp_path, _splits(["train", "test"]))
    data = load("mnist", tmp_path, seed=2)
    assert data.provenance == describe("mnist", "3.0.1", "2", data.splits())
    assert data.provenance["validation_images"] == "8"
    assert data.provenance["test_sha256"] == fingerprint(data.test)
    assert data.standardised().provenance == data.provenance


def test_a_fingerprint_depends_on_pixels_labels_and_order():
    split = rotated_digits(0).validation
    images = split.images.copy()
    images[3, 5, 5] += 1
    order = np.arange(len(split))[::-1]
    others = [
        dataclasses.replace(split, images=images),
        dataclasses.replace(split, labels=(split.labels + 1) % 10),
        Split(split.images[order], split.labels[order]),
    ]
    assert len({fingerprint(each) for each in [split, *others]}) == 4
    assert fingerprint(split) == rotated_digits(0).provenance["validation_sha256"]


def test_importing_the_data_sets_does_not_import_tfds():
    code = "import sys, experiments.data; print('tensorflow_datasets' in sys.modules)"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("name", REGENERATED)
def test_what_an_environment_with_tensorflow_prepared_is_read_in_this_one(name):
    if not os.environ.get("ATTGCONV_PREPARED"):
        pytest.skip("$ATTGCONV_PREPARED names no folder of prepared sets")
    folder = pathlib.Path(os.environ["ATTGCONV_PREPARED"])
    if importlib.util.find_spec("tensorflow") and not (folder / name / "1.0.0").exists():
        pytest.skip("test_prepare.py, which prepares into $ATTGCONV_PREPARED, has not come so far yet")
    data = prepared_set(name, directory=folder)
    assert [len(split) for split in data.splits().values()] == [10_000, 2_000, 50_000]
    assert [data.provenance[f"{split}_sha256"] for split in data.splits()] == FINGERPRINTS[name]
