"""A folder of one's own pictures becomes a data set, or a line says what to do."""

import os
import shutil

import numpy as np
import pytest
from helpers import assert_refused
from small_pictures import expected_rows, folder, picture, rows, three_splits, two_classes, write

from attgconv_jax.preprocessing import Preprocessing
from experiments.data import own_name, pictures
from experiments.data.pictures import read_picture


@pytest.fixture
def classes(tmp_path):
    return two_classes(tmp_path)


@pytest.fixture
def given(tmp_path):
    return three_splits(tmp_path)


def test_a_seed_divides_every_class_by_shares(classes):
    data = folder(classes)
    assert data.class_names == ("cats", "dogs")
    assert {name: np.bincount(split.labels).tolist() for name, split in data.splits().items()} == {
        "train": [14, 7],
        "validation": [3, 2],
        "test": [3, 1],
    }
    assert data.preprocessing == Preprocessing(12, 1, "uint8", "pad")
    assert data.train.images.shape == (21, 12, 12, 1, 1)
    every = [picture(i) for i in range(20)] + [picture(100 + i) for i in range(10)]
    assert rows(*data.splits().values()) == expected_rows(every, [0] * 20 + [1] * 10)
    assert len({*data.train.labels[:7]}) == 2, "the order in a split is random"
    shares = folder(classes, shares=(0.5, 0.3, 0.2))
    assert [len(split) for split in shares.splits().values()] == [15, 9, 6]


def test_the_seed_decides_and_the_file_system_does_not(classes, monkeypatch):
    first, other = folder(classes), folder(classes, seed=1)
    assert first.provenance != other.provenance
    assert rows(first.train) != rows(other.train)
    scandir = os.scandir

    class Backwards:
        def __init__(self, path):
            with scandir(path) as entries:
                self.entries = list(entries)[::-1]

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(os, "scandir", Backwards)
    again = folder(classes)
    assert again.provenance == first.provenance
    np.testing.assert_array_equal(again.train.images, first.train.images)


def test_provenance_is_of_the_files_and_their_classes_whatever_the_size(classes):
    first = folder(classes)
    assert folder(classes, size_of=lambda pixels: pixels + 1).provenance == first.provenance
    assert (first.provenance["set"], first.provenance["classes"]) == ("folder", '["cats", "dogs"]')
    write(classes / "cats" / "3.png", picture(77))
    assert folder(classes).provenance != first.provenance
    write(classes / "cats" / "3.png", picture(3))
    assert folder(classes).provenance == first.provenance
    (classes / "cats").rename(classes / "birds")
    assert folder(classes).provenance != first.provenance


def test_splits_are_as_given(given, capsys):
    data = folder(given)
    assert [len(split) for split in data.splits().values()] == [12, 4, 6]
    for i, split in enumerate(data.splits().values()):
        for label in (0, 1):
            expected = expected_rows([picture(100 * i + 10 * label + k) for k in range(6)], [label] * 6)
            assert {row for row in rows(split) if row[-1] == label} <= {*expected}
    assert capsys.readouterr().out == ""
    (given / "val").rename(given / "Validation")
    assert folder(given).provenance == data.provenance
    assert len(folder(given, test_images=2).test) == 2
    with assert_refused("data.test_images must be 1 to 6, the images of the test split, got 7"):
        folder(given, test_images=7)


def test_validation_is_held_out_of_training_where_it_is_not_given_and_is_no_training_image(given, capsys):
    shutil.rmtree(given / "val")
    data = folder(given)
    assert [len(split) for split in data.splits().values()] == [10, 2, 6]
    assert not {*rows(data.train)} & {*rows(data.validation)}
    assert "there is no validation split, so 2 of the 12 training images are held out" in capsys.readouterr().out


def test_every_image_keeps_the_name_of_its_file(classes, given, capsys):
    write(classes / "cats" / os.fsdecode(b"sm\xe9.png"), picture(50))
    (classes / "dogs" / "text.png").write_text("no picture")
    data = folder(classes, broken="skip")
    held = {}
    for split in data.splits().values():
        for image, name in zip(split.images, split.names, strict=True):
            held[name] = image
    assert held.keys() == {f"cats/{i}.png" for i in range(20)} | {f"dogs/{i}.png" for i in range(10)} | {"cats/sm?.png"}
    for name, seed in {"cats/3.png": 3, "dogs/7.png": 107, "cats/sm?.png": 50}.items():
        np.testing.assert_allclose(held[name][:, :, 0, 0], picture(seed) / 255, atol=1e-6)
    changed = folder(given, test_images=2).with_features(3).resized(lambda pixels: 16).standardised()
    assert len(changed.test.names) == 2 and set(changed.test.names) < set(folder(given).test.names)
    assert {name[:7] for name in changed.test.names} <= {"test/a/", "test/b/"}


def test_hidden_names_are_ignored_and_other_files_skipped_and_counted(classes, capsys):
    expected = folder(classes).provenance
    (classes / ".ipynb_checkpoints").mkdir()
    write(classes / ".ipynb_checkpoints" / "a.png", picture(0))
    write(classes / "cats" / ".hidden.png", picture(55))
    capsys.readouterr()
    assert folder(classes).provenance == expected
    assert capsys.readouterr().out == ""
    (classes / "labels.csv").touch()
    (classes / "cats" / "Thumbs.db").touch()
    assert folder(classes).provenance == expected
    assert f"2 files are skipped, being no pictures in class folders, such as {classes}/" in capsys.readouterr().out


def test_sizes_are_brought_to_that_of_the_network(classes, capsys):
    write(classes / "cats" / "wide.png", picture(7, (10, 40)))
    data = folder(classes, size_of=lambda pixels: pixels + 3, fit="crop")
    assert data.preprocessing == Preprocessing(15, 1, "uint8", "crop")
    assert (
        "images of 2 sizes, their longer sides 12 to 40 pixels, 12 the median, are brought to 15 x 15 (fit crop)"
        in (capsys.readouterr().out)
    )
    for name, split in data.splits().items():
        files = [path for path in sorted(classes.glob("*/*.png")) if path.parent.name == "cats"]
        expected = np.concatenate([data.preprocessing(read_picture(path)[None]) for path in files])
        near = np.abs(split.images[split.labels == 0][:, None] - expected[None]).max(axis=(2, 3, 4, 5))
        assert (near.min(axis=1) < 1e-6).all(), name


def test_grey_and_colour_become_colour_and_8_and_16_bits_16(classes, capsys):
    colour, wide = picture(1, (12, 12, 3)), picture(2, dtype=np.uint16)
    write(classes / "cats" / "colour.png", colour)
    write(classes / "dogs" / "wide.png", wide)
    data = folder(classes)
    assert (data.in_features, data.preprocessing.features, data.preprocessing.dtype) == (3, 3, "uint16")
    out = capsys.readouterr().out
    assert "31 grey pictures among 1 of colour become colour" in out
    assert "31 pictures of 8 bits among 1 of 16 bits become 16 bits" in out
    images = np.concatenate([split.images for split in data.splits().values()])[:, :, :, 0]
    for expected in (
        colour / 255,
        np.repeat(wide[..., None], 3, -1) / 65535,
        np.repeat(picture(5)[..., None], 3, -1) / 255,
    ):
        assert np.abs(images - expected).max(axis=(1, 2, 3)).min() < 1e-6


def test_pictures_that_use_a_small_part_of_their_range_are_noted(tmp_path, capsys):
    for i in range(30):
        image = np.full([20, 20], 200, np.uint16)
        image[i // 5, i % 5] = 4095
        write(tmp_path / "ab"[i % 2] / f"{i}.png", image)
    folder(tmp_path, size_of=lambda pixels: 4)
    told = (
        "note: the largest training pixel is 0.062 of white (4,095 in uint16), as of cameras of fewer bits: pictures "
    )
    assert told in capsys.readouterr().out


def test_transparent_pixels_are_said_once(classes, capsys):
    for name in ("a", "b"):
        write(classes / "cats" / f"{name}.png", picture(hash(name) % 1000, (12, 12, 2)))
    folder(classes)
    assert capsys.readouterr().out.count("2 pictures have transparent pixels, which are laid over black") == 1


def test_a_broken_picture_is_a_line_or_left_out_and_counted(classes, capsys):
    write(classes / "dogs" / "cut.jpg", picture(0, (40, 40)))
    content = (classes / "dogs" / "cut.jpg").read_bytes()
    (classes / "dogs" / "cut.jpg").write_bytes(content[: len(content) // 2])
    with assert_refused(f"{classes}/dogs/cut.jpg cannot be read as a picture: image file is truncated", "broken skip"):
        folder(classes)
    (classes / "dogs" / "text.png").write_text("no picture")
    with assert_refused(f"{classes}/dogs/text.png is no PNG, JPEG, TIFF, BMP or WebP", "(data.broken skip leaves such"):
        folder(classes)
    capsys.readouterr()
    data = folder(classes, broken="skip")
    assert sum(len(split) for split in data.splits().values()) == 30
    assert "2 pictures cannot be read and are left out, such as" in capsys.readouterr().out
    assert data.provenance["train_images"] == str(len(data.train))


def test_a_class_of_which_nothing_can_be_read_is_refused(classes):
    for file in (classes / "dogs").iterdir():
        file.write_text("no picture")
    with assert_refused("class dogs has no image that can be read: add images of it, or leave the class out"):
        folder(classes, broken="skip")


def test_copies_stay_in_one_split_where_a_seed_divides(classes, capsys):
    for name in "abcd":
        shutil.copy(classes / "cats" / "1.png", classes / "cats" / f"{name}.png")
    for seed in range(4):
        data = folder(classes, seed=seed)
        holding = [rows(split).count(expected_rows([picture(1)], [0])[0]) for split in data.splits().values()]
        assert sorted(holding) == [0, 0, 5]
    assert "4 images are copies of others, byte for byte; they are in the same split" in capsys.readouterr().out


def test_copies_in_two_given_splits_or_two_classes_are_warned_about(given, classes, capsys):
    shutil.copy(given / "train" / "a" / "1.png", given / "test" / "a" / "copy.png")
    folder(given)
    out = capsys.readouterr().out
    assert "1 image is a copy, byte for byte, of images of another split" in out
    assert "train/a/1.png (train)" in out
    assert "test/a/copy.png (test)" in out
    shutil.copy(classes / "cats" / "1.png", classes / "dogs" / "copy.png")
    folder(classes)
    out = capsys.readouterr().out
    assert "of images of another class, and one label is wrong; for example cats/1.png" in out


def test_a_folder_without_the_right_to_read_it_is_a_line(classes, monkeypatch):
    """Root may read everything, so that the system's answer is given here."""
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("dogs"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with assert_refused(f"{classes}/dogs cannot be read (Permission denied): give yourself the right to"):
        folder(classes)
    monkeypatch.undo()

    def refuse_file(path, mode):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(pictures, "open", refuse_file, raising=False)
    with assert_refused(f"{classes}/cats/0.png cannot be read: Permission denied"):
        folder(classes)


def test_options_without_sense_are_refused(classes, tmp_path):
    with assert_refused("the data set folder needs data.path"):
        folder(None)
    with assert_refused("data.broken must be raise or skip, got 'ignore'"):
        folder(classes, broken="ignore")
    for shares in ((0.7, 0.3, 0.0), (0.7, 0.2, 0.2), (0.5, 0.5)):
        with assert_refused("data.shares must be three positive numbers of the sum 1"):
            folder(classes, shares=shares)
    (tmp_path / "a.zip").touch()
    with assert_refused("must be a folder of class folders, but", "a.zip is a file"):
        folder(tmp_path / "a.zip")
    with assert_refused("data.path must be a folder of class folders, or arrays in a .npz file, but", "something else"):
        own_name(tmp_path / "a.zip")
    assert own_name(classes) == "folder"
