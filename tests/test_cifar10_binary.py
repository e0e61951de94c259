"""CIFAR-10 from its binary files: layout, order and what is refused."""

import re

import numpy as np
import pytest

import experiments.data.cifar10_binary as module
from experiments.data import dataset, load
from experiments.data.cifar10_binary import CLASSES, FILES

IMAGES, HELD_OUT = 6, 8


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Files of six images, and eight of the thirty that validate."""
    monkeypatch.setattr(module, "IMAGES", IMAGES)
    monkeypatch.setattr(dataset, "HELD_OUT", HELD_OUT)


def content(file):
    """The bytes of a file, and its images `[image, row, column, channel]` and labels, made byte by byte."""
    generator = np.random.default_rng(len(file) + sum(map(ord, file)))
    images, labels = generator.integers(0, 256, (IMAGES, 32, 32, 3), np.uint8), generator.integers(0, 10, IMAGES)
    written = bytearray()
    for image, label in zip(images, labels, strict=True):
        written.append(label)
        written += bytes(image[row, column, c] for c in range(3) for row in range(32) for column in range(32))
    return bytes(written), images, labels


def rows(images, labels):
    """Image and label of each example as bytes."""
    return [image.astype(np.uint8).tobytes() + bytes([label]) for image, label in zip(images, labels, strict=True)]


@pytest.fixture
def folder(tmp_path):
    """As the archive leaves it."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for file in (*FILES["train"], *FILES["test"]):
        (folder / file).write_bytes(content(file)[0])
    return folder


def test_images_are_read_as_they_are_laid_out(folder):
    data = load("cifar10/binary", folder)
    _, images, labels = content("test_batch.bin")
    np.testing.assert_array_equal(data.test.images[:, :, :, 0], (images / np.float32(255)).astype(np.float32))
    np.testing.assert_array_equal(data.test.labels, labels)
    assert data.class_names == CLASSES and data.preprocessing.dtype == "uint8"
    np.testing.assert_allclose(data.preprocessing(images), data.test.images, atol=1e-7)
    read = [content(file) for file in FILES["train"]]
    expected = [row for _, *parts in read for row in rows(*parts)]
    splits = (data.train, data.validation)
    found = [row for split in splits for row in rows(np.rint(split.images[:, :, :, 0] * 255), split.labels)]
    assert sorted(found) == sorted(expected) and len(data.validation) == HELD_OUT


def test_the_folder_may_be_the_one_above_and_the_seed_decides_what_validates(folder):
    options = ((folder, 0), (folder.parent, 0), (folder, 1))
    inside, above, other = (load("cifar10/binary", at, seed=seed) for at, seed in options)
    assert inside.provenance == above.provenance
    assert other.provenance["test_sha256"] == inside.provenance["test_sha256"]
    assert other.provenance["validation_sha256"] != inside.provenance["validation_sha256"]


def test_missing_and_damaged_files_are_one_line(folder):
    file = folder / "data_batch_3.bin"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=re.escape(f"{file} must have 18,438 bytes, got 18,437: fetch")):
        load("cifar10/binary", folder)
    file.write_bytes(whole[:3073] + b"\x0a" + whole[3074:])
    with pytest.raises(ValueError, match=re.escape(f"{file} must have labels in 0 to 9, got 10 in row 1: fetch the a")):
        load("cifar10/binary", folder)
    file.unlink()
    with pytest.raises(ValueError, match=re.escape(f"cifar10/binary needs data_batch_3.bin in {folder}: unpack")):
        load("cifar10/binary", folder)


def test_the_files_have_their_documented_sizes(monkeypatch):
    """10,000 rows of 3,073 bytes each."""
    monkeypatch.undo()
    assert module.IMAGES * module.ROW == 30_730_000 and dataset.HELD_OUT == 5000
