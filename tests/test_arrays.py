"""Arrays of one's own become a data set, from files and from Python, or a line says what to do."""

import dataclasses
import re

import numpy as np
import pytest
from helpers import assert_refused
from small_pictures import expected_rows, rows

from attgconv_jax.preprocessing import Preprocessing
from experiments.data import Arrays, load, own_name, set_of_arrays

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (30, 12, 12), np.uint8)
LABELS = np.arange(30) % 3
COLOURS = RANDOM.integers(0, 256, (30, 12, 12, 3), np.uint8)


def medmnist(**changes):
    """The arrays of a file in MedMNIST's layout."""
    splits = {"train": slice(0, 18), "val": slice(18, 24), "test": slice(24, 30)}
    arrays = {f"{split}_images": COLOURS[part] for split, part in splits.items()}
    arrays |= {f"{split}_labels": LABELS[part, None].astype(np.uint8) for split, part in splits.items()}
    return {name: array for name, array in (arrays | changes).items() if array is not None}


def saved(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_images_and_labels_are_divided_by_a_seed(tmp_path):
    path = saved(tmp_path / "a.npz", images=IMAGES, labels=LABELS, class_names=np.array(["a", "b", "c"]))
    assert own_name(path) == "arrays"
    data = load("arrays", path=path)
    assert data.class_names == ("a", "b", "c")
    assert data.preprocessing == Preprocessing(12, 1, "uint8", "pad")
    assert [np.bincount(split.labels).tolist() for split in data.splits().values()] == [[7] * 3, [2] * 3, [1] * 3]
    assert rows(*data.splits().values()) == expected_rows(IMAGES, LABELS)
    assert data.provenance == load("arrays", path=path, size_of=lambda pixels: 16).provenance
    assert data.provenance != load("arrays", path=path, seed=1).provenance


def test_medmnist_s_layout_is_read_as_it_is(tmp_path):
    data = load("arrays", path=saved(tmp_path / "a.npz", **medmnist()))
    assert data.class_names == ("0", "1", "2")
    for split, part in zip(data.splits().values(), (slice(0, 18), slice(18, 24), slice(24, 30)), strict=True):
        assert rows(split) == expected_rows(COLOURS[part], LABELS[part])
    assert len(load("arrays", path=tmp_path / "a.npz", test_images=4).test) == 4


def test_validation_that_is_absent_is_held_out_of_training(tmp_path, capsys):
    path = saved(tmp_path / "a.npz", **medmnist(val_images=None, val_labels=None))
    data = load("arrays", path=path)
    assert [len(split) for split in data.splits().values()] == [15, 3, 6]
    assert rows(data.train, data.validation) == expected_rows(COLOURS[:18], LABELS[:18])
    assert "there is no validation split, so 3 of the 18 training images are held out" in capsys.readouterr().out


def test_a_folder_of_npy_files_is_a_set(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    np.save(tmp_path / "labels.npy", LABELS)
    assert own_name(tmp_path) == "arrays"
    data = load("arrays", path=tmp_path)
    assert rows(*data.splits().values()) == expected_rows(IMAGES, LABELS)
    in_python = set_of_arrays(Arrays(IMAGES, LABELS))
    assert data.provenance == in_python.provenance


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64"])
def test_pixels_of_every_type_have_white_at_1(dtype):
    scale = np.iinfo(dtype).max if dtype.startswith("u") else 1
    images = (RANDOM.random([30, 12, 12, 3]) * scale).astype(dtype)
    data = set_of_arrays(Arrays(images, LABELS))
    background = 0 if dtype.startswith("u") else data.train.images.min()
    assert data.preprocessing.background == pytest.approx(background, rel=1e-6)
    assert data.preprocessing == Preprocessing(12, 3, dtype, "pad", data.preprocessing.background)
    images = np.sort((images.astype(np.float64) / scale).astype(np.float32).ravel())
    got = np.concatenate([split.images.ravel() for split in data.splits().values()])
    np.testing.assert_allclose(np.sort(got), images, atol=1e-6)


def test_floating_images_are_padded_with_the_smallest_training_pixel():
    data = set_of_arrays(Arrays(RANDOM.uniform(9_000, 11_000, [30, 10, 6]), LABELS))
    assert data.train.images.min() == np.float32(data.preprocessing.background) >= 9_000
    assert (data.test.images[:, :, 0] == np.float32(data.preprocessing.background)).all()
    assert set_of_arrays(Arrays(IMAGES[:, :6] / 255, LABELS), background=0.5).test.images[0, 0, 0, 0, 0] == 0.5
    assert set_of_arrays(Arrays(IMAGES[:, :6], LABELS)).test.images[:, 0].max() == 0


def test_the_order_of_bytes_changes_nothing():
    images = RANDOM.integers(0, 65536, (30, 6, 6), np.uint16)
    native, other = (set_of_arrays(Arrays(images.astype(dtype), LABELS.astype(">i4"))) for dtype in ("<u2", ">u2"))
    assert native.provenance == other.provenance and native.preprocessing == other.preprocessing
    assert rows(other.train) == rows(native.train)


def test_labels_may_be_strings(tmp_path):
    names = np.array(["nevus", "melanoma", "keratosis"])
    data = load("arrays", path=saved(tmp_path / "a.npz", images=IMAGES, labels=names[LABELS]))
    assert data.class_names == ("keratosis", "melanoma", "nevus")
    assert rows(*data.splits().values()) == expected_rows(IMAGES, 2 - LABELS)
    ordered = set_of_arrays(Arrays(IMAGES, names[LABELS].astype("S"), class_names=[*names]))
    assert ordered.class_names == tuple(names)
    assert rows(*ordered.splits().values()) == expected_rows(IMAGES, LABELS)


def test_sizes_are_brought_to_that_of_the_network(capsys):
    images = RANDOM.integers(0, 65536, (30, 10, 14, 3), np.uint16)
    data = set_of_arrays(Arrays(images, LABELS), size_of=lambda pixels: pixels + 1, fit="crop")
    assert data.preprocessing == Preprocessing(15, 3, "uint16", "crop")
    assert "note: images of 10 x 14 pixels are brought to 15 x 15 (fit crop)" in capsys.readouterr().out
    expected = np.asarray(data.preprocessing(images))
    for split in data.splits().values():
        away = np.abs(split.images[:, None] - expected[None]).max(axis=(2, 3, 4, 5))
        assert (away.min(axis=1) < 1e-6).all()


def test_images_that_use_a_small_part_of_their_range_are_noted(capsys):
    for images in (IMAGES.astype(np.uint16) * 16, IMAGES.astype(np.uint16) * 257, IMAGES / np.float32(2550)):
        images[0, 0, 0] = images.max() // 2 + 1 if images.dtype == np.uint16 else 0
        set_of_arrays(Arrays(images, LABELS))
    notes = [line for line in capsys.readouterr().out.splitlines() if "largest training pixel" in line]
    assert len(notes) == 1 and re.match(
        r"note: the largest training pixel is 0.06\d of white \(4,\d* in uint16\), ", notes[0]
    )


def test_every_image_keeps_its_number_in_the_arrays(tmp_path):
    data = set_of_arrays(Arrays(IMAGES, LABELS))
    for split in data.splits().values():
        numbers = [int(name.removeprefix("image ")) for name in split.names]
        np.testing.assert_allclose(split.images[:, :, :, 0, 0], IMAGES[numbers] / 255, atol=1e-6)
    data = load("arrays", path=saved(tmp_path / "a.npz", **medmnist(val_images=None, val_labels=None)))
    for part, start, splits in (("train", 0, (data.train, data.validation)), ("test", 24, (data.test,))):
        for split in splits:
            numbers = [start + int(name.removeprefix(f"{part} image ")) for name in split.names]
            np.testing.assert_allclose(split.images[:, :, :, 0], COLOURS[numbers] / 255, atol=1e-6)
    few = load("arrays", path=tmp_path / "a.npz", test_images=2).with_fewer_test_images(1)
    assert few.test.names == data.test.names[:1]
    with assert_refused("names must be one an image, got 1 for 6 images"):
        dataclasses.replace(data, test=dataclasses.replace(data.test, names=["a"]))


def test_copies_stay_in_one_split_or_are_warned_about(tmp_path, capsys):
    images = IMAGES.copy()
    images[[0, 3, 6]] = images[9]
    data = set_of_arrays(Arrays(images, LABELS))
    row = expected_rows(images[:1], LABELS[:1])[0]
    assert sorted(rows(split).count(row) for split in data.splits().values()) == [0, 0, 4]
    assert "3 images are copies of others, byte for byte; they are in the same split" in capsys.readouterr().out
    load("arrays", path=saved(tmp_path / "a.npz", **medmnist(val_images=COLOURS[:6])))
    printed = capsys.readouterr().out
    assert "warning: 6 images are copies, byte for byte, of images of another split" in printed
    assert "for example train image 0 (train) and validation image 0 (validation)" in printed


def _nan():
    images = (IMAGES / np.float32(255)).astype(np.float32)
    images[4, 3, 3] = np.nan
    return images


def _of(labels, images=IMAGES, **options):
    return Arrays(images, labels, **options)


REFUSED = {
    "labels that are missing": (dict(images=IMAGES), "must hold labels beside images; it holds images"),
    "images that are missing": (dict(labels=LABELS), "must hold images beside labels; it holds labels"),
    "labels of a split that are missing": (medmnist(val_labels=None), "must hold val_labels beside val_images; it"),
    "other names": (dict(x=IMAGES, y=LABELS), "must hold images and labels, or train_images, train_labels and", "x, y"),
    "two layouts": (dict(images=IMAGES, labels=LABELS, **medmnist()), "holds the train split twice: keep one"),
    "no test split": (medmnist(test_images=None, test_labels=None), "a validation split but no test split: add one"),
    "negative labels": (_of(LABELS - 1), "labels must be integers from 0, got -1"),
    "labels out of range": (_of(LABELS, class_names=["a", "b"]), "labels must be 0 to 1, the 2 class_names, got 2"),
    "labels with gaps": (_of(LABELS * 10**12), "no image has the label 1 and some have 2000000000000; number"),
    "labels that are fractions": (_of(LABELS / 2), "labels must be integers from 0, or strings, got float64"),
    "labels of other objects": (_of(LABELS.astype(object)), "labels must be integers from 0, or strings, got object"),
    "labels of several classes": (_of(np.eye(3, dtype=int)[LABELS]), "must be [image] or [image, 1]", "argmax(axis=1)"),
    "too few labels": (_of(LABELS[:-1]), "there must be one label an image, got 29 labels for 30 images"),
    "a label that is no class name": (_of(["a", "b", "x"] * 10, class_names=["a", "b", "c"]), "label 'x' is none of"),
    "a class without images": (_of(LABELS, class_names=[*"abcd"]), "no image is of class d (1 of the 4 class_names"),
    "one class": (_of(LABELS * 0), "all labels are 0; at least two classes are needed"),
    "strings and integers": (
        Arrays(IMAGES, LABELS, test=(IMAGES, LABELS.astype(str))),
        "labels must be integers in all splits or strings in all",
    ),
    "one image in a class": (_of(np.r_[0, 1, 2, [1, 2] * 13, 1]), "class 0 has one image, fewer than the 3 splits"),
    "copies for want of images": (
        _of(LABELS, np.where((LABELS == 1)[:, None, None], np.uint8(7), IMAGES)),
        "class 1 has one image, copies aside, fewer than the 3 splits",
    ),
    "copies of another class alone": (
        _of(LABELS, np.where((LABELS == 1)[:, None, None], IMAGES[0], IMAGES)),
        "class 1 has only copies, byte for byte, of images of other classes: add images of it",
    ),
    "classes that differ between splits": (
        medmnist(test_labels=np.zeros([6, 1], int)),
        "class 1 has no images in the test split: add some, or leave the class out of all splits",
    ),
    "NaN": (_of(LABELS, _nan()), "image 4 holds NaN or infinity (1 such images); leave them out"),
    "channels first": (_of(LABELS, COLOURS.transpose(0, 3, 1, 2)), "channels must come last", "transpose(0, 2, 3, 1)"),
    "flat images": (_of(LABELS, IMAGES.reshape(30, -1)), "images must be [image, x, y] or [image, x, y, c], got shape"),
    "integers of 64 bits": (_of(LABELS, IMAGES.astype(int)), "images must be uint8, uint16 or floating", "got int64"),
    "types that differ between splits": (
        medmnist(test_images=COLOURS[:6].astype(np.uint16)),
        "all splits must have pixels of one type and number of channels",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_set_is_a_line_that_says_what_to_do(case, tmp_path):
    arrays, *parts = REFUSED[case]
    with assert_refused(*parts) as caught:
        if isinstance(arrays, Arrays):
            set_of_arrays(arrays)
        else:
            load("arrays", path=saved(tmp_path / "a.npz", **arrays))
    assert "\n" not in str(caught.value)


def test_objects_are_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("it was unpickled",))

    np.savez(tmp_path / "a.npz", images=IMAGES, labels=np.array([Trap()] * 30, dtype=object), allow_pickle=True)
    with assert_refused("a.npz: labels holds Python objects, which are not loaded since they can run code"):
        load("arrays", path=tmp_path / "a.npz")
    np.save(tmp_path / "images.npy", np.array([Trap()] * 30, dtype=object), allow_pickle=True)
    with assert_refused("images holds Python objects, which are not loaded"):
        load("arrays", path=tmp_path)


def test_files_that_are_no_arrays_are_a_line(tmp_path):
    whole = saved(tmp_path / "a.npz", images=IMAGES, labels=LABELS).read_bytes()
    for name, content in {"cut.npz": whole[:700], "text.npz": b"no arrays", "empty.npz": b""}.items():
        (tmp_path / name).write_bytes(content)
        with assert_refused(f"{tmp_path / name} cannot be read as arrays: File is not a zip file") as caught:
            load("arrays", path=tmp_path / name)
        assert "\n" not in str(caught.value)
    np.savez_compressed(tmp_path / "packed.npz", images=IMAGES, labels=LABELS)
    packed = bytearray((tmp_path / "packed.npz").read_bytes())
    packed[200:260] = b"\xff" * 60
    (tmp_path / "packed.npz").write_bytes(packed)
    with assert_refused(f"{tmp_path / 'packed.npz'} cannot be read as arrays: ") as caught:
        load("arrays", path=tmp_path / "packed.npz")
    assert "\n" not in str(caught.value)
    np.save(tmp_path / "images.npy", IMAGES)
    for path, message in {
        tmp_path / "images.npy": "must be a .npz file, or a folder that holds images.npy and labels.npy, got",
        tmp_path / "missing.npz": "cannot be read as arrays: No such file or directory",
        tmp_path: "must hold labels beside images; it holds images",
        None: "the data set arrays needs data.path",
    }.items():
        with assert_refused(message):
            load("arrays", path=path)


def test_arrays_know_their_splits():
    arrays = Arrays(IMAGES[:18], LABELS[:18], test=(IMAGES[24:], LABELS[24:]))
    with_validation = dataclasses.replace(arrays, validation=(IMAGES[18:24], LABELS[18:24]))
    assert [len(split) for split in set_of_arrays(arrays).splits().values()] == [15, 3, 6]
    assert [len(split) for split in set_of_arrays(with_validation).splits().values()] == [18, 6, 6]
