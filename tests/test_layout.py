"""How folders of pictures may be laid out; any other layout is a line that says what to do."""

import shutil

import pytest
from helpers import assert_refused
from small_pictures import folder, picture, three_splits, two_classes, write, write_class


@pytest.fixture
def classes(tmp_path):
    return two_classes(tmp_path)


@pytest.fixture
def given(tmp_path):
    return three_splits(tmp_path)


def empty(path):
    path.mkdir(parents=True)


def _few(root):
    for file in sorted((root / "dogs").iterdir())[2:]:
        file.unlink()


def _one(root):
    _few(root)
    (root / "dogs" / "0.png").unlink()


def _only_train(root):
    shutil.rmtree(root / "cats")
    (root / "dogs").rename(root / "train")


def _class_called_test(root):
    (root / "cats").rename(root / "train")
    (root / "dogs").rename(root / "test")


def _into(split):
    def move(root):
        for name in ("cats", "dogs"):
            (root / split).mkdir(exist_ok=True)
            (root / name).rename(root / split / name)

    return move


LAYOUTS = {
    "an empty class": (lambda root: empty(root / "birds"), "class birds holds no pictures (.png,", "but nothing: fill"),
    "a class of other files": (
        lambda root: [empty(root / "birds"), (root / "birds" / "a.gif").touch()],
        "class birds holds no pictures",
        "but 1 other files: fill",
    ),
    "one class": (lambda root: shutil.rmtree(root / "cats"), "holds one class alone, dogs: at least two classes"),
    "fewer pictures than splits": (_few, "class dogs has 2 images, fewer than the 3 splits train, valid"),
    "one picture in a class": (_one, "class dogs has one image, fewer than the 3 splits"),
    "nested too deep": (
        lambda root: write(root / "dogs" / "small" / "a.png", picture(0)),
        "dogs/small is nested too deep: the folders in",
        "perhaps",
        "dogs is the path to give",
    ),
    "only training": (_into("train"), "holds train/ alone: give", "train as the path to have a seed make the splits"),
    "a class called train": (_only_train, "train holds pictures, not class folders: folders called train, val or"),
    "classes called train and test": (_class_called_test, "holds pictures, not class folders", "rename it if it is"),
    "splits beside classes": (
        lambda root: [_into("train")(root), write(root / "cats" / "a.png", picture(0))],
        "holds splits (train) beside other folders (cats): move the others away",
    ),
    "no training": (lambda root: [_into("val")(root), empty(root / "test")], "test, val but no train/: add"),
    "no test": (lambda root: [_into("train")(root), empty(root / "val")], "train, val but no test/: add"),
    "pictures without folders": (
        lambda root: [write(root / "a.png", picture(0)), shutil.rmtree(root / "cats"), shutil.rmtree(root / "dogs")],
        "holds 1 pictures but no folders: put the pictures of each class in a folder of its own",
    ),
    "nothing": (lambda root: [shutil.rmtree(root / name) for name in ("cats", "dogs")], "holds no folders: put the"),
    "no such folder": (shutil.rmtree, "must be a folder of class folders, but", "is not there"),
}  # fmt: skip


@pytest.mark.parametrize("case", LAYOUTS)
def test_another_layout_is_a_line_that_says_what_to_do(case, classes):
    change, *parts = LAYOUTS[case]
    change(classes)
    with assert_refused(*parts) as caught:
        folder(classes)
    assert "\n" not in str(caught.value)


def test_classes_that_differ_between_splits_are_refused(given):
    shutil.rmtree(given / "test" / "b")
    write_class(given / "test" / "c", 2)
    with assert_refused(f"class b is in {given}/train but not in {given}/test: every split needs pictures"):
        folder(given)
    write_class(given / "test" / "b", 2)
    with assert_refused(f"class c is in {given}/test but not in {given}/train"):
        folder(given)
    shutil.rmtree(given / "test" / "c")
    shutil.copytree(given / "val", given / "validation")
    with assert_refused("holds test, train, val, validation, of which two are the validation split: keep one"):
        folder(given)


def test_training_too_small_to_hold_validation_out_of_is_refused(given):
    shutil.rmtree(given / "val")
    for file in sorted((given / "train" / "a").iterdir())[1:]:
        file.unlink()
    with assert_refused("class a has one image, fewer than the 2 splits train, validation"):
        folder(given)


def test_a_class_may_be_called_train_beside_others(classes):
    (classes / "cats").rename(classes / "train")
    assert folder(classes).class_names == ("dogs", "train")
