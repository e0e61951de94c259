"""Preparing sets for real, which needs TensorFlow; reading them afterwards does not."""

import gzip
import hashlib
import importlib.util
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import urllib.request
import zipfile

import numpy as np
import pytest
import requests
from small_sets import random_images, write_small_set

from experiments.data import load
from experiments.data.prepare import cli, prepare_set
from experiments.data.prepared import MNIST_FILES, REGENERATED

ROOT = pathlib.Path(__file__).parents[1]
MNIST = pathlib.Path(os.environ.get("ATTGCONV_MNIST") or ROOT.parent / "shared" / "data" / "mnist")

needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="preparing sets needs TensorFlow: uv sync --extra prepare"
)
needs_mnist = pytest.mark.skipif(
    not all((MNIST / file).is_file() for file in MNIST_FILES), reason="$ATTGCONV_MNIST names no folder of MNIST's files"
)
# TensorFlow's own warnings are not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

READ_WITHOUT_TENSORFLOW = """
import json, sys

class WithoutTensorFlow:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] == "tensorflow" else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [WithoutTensorFlow(finder) for finder in sys.meta_path]
from experiments.data import load

provenance = [dict(load(name, sys.argv[1]).provenance) for name in ("mnist", "rot_mnist/regenerated")]
try:
    import tensorflow
except ModuleNotFoundError:
    print(json.dumps(provenance))
"""


def _python(*words):
    return subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False)


def _published_labels():
    files = [MNIST / file for file in MNIST_FILES if "labels" in file]
    return np.concatenate([np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=8) for file in files])


@needs_tensorflow
@needs_mnist
def test_the_published_files_become_sets_which_are_read_without_tensorflow(tmp_path):
    """One test, since it takes a while: with `$ATTGCONV_PREPARED` set, later environments read what it leaves."""
    folder = pathlib.Path(os.environ.get("ATTGCONV_PREPARED") or tmp_path)
    options = ["--directory", folder, "--downloads", MNIST]
    for name in REGENERATED:
        first = _python("-m", "experiments.data.prepare", name, *options)
        assert first.returncode == 0, first.stderr
        assert f"{folder}/{name}/1.0.0 (10000 train, 2000 validation, 50000 test)" in first.stdout
        if folder == tmp_path:
            assert f"{name} 1.0.0 prepared in" in first.stdout
    second = _python("-m", "experiments.data.prepare", name, *options)
    assert second.returncode == 0, second.stderr
    assert f"{name} 1.0.0 was prepared already, nothing done" in second.stdout

    here = [load(name, folder) for name in ("mnist", "rot_mnist/regenerated")]
    elsewhere = _python("-c", READ_WITHOUT_TENSORFLOW, folder)
    assert elsewhere.returncode == 0, elsewhere.stderr
    assert json.loads(elsewhere.stdout) == [dict(data.provenance) for data in here]

    labels = [np.concatenate([split.labels for split in data.splits().values()]) for data in here]
    assert np.array_equal(np.bincount(labels[0]), np.bincount(_published_labels()))
    assert [len(each) for each in labels] == [70_000, 62_000]


@needs_tensorflow
@needs_mnist
def test_a_garbled_file_is_refused_and_nothing_is_prepared(tmp_path, capsys):
    downloads = tmp_path / "downloads"
    shutil.copytree(MNIST, downloads)
    garbled = downloads / "t10k-labels-idx1-ubyte.gz"
    garbled.chmod(0o644)
    garbled.write_bytes(garbled.read_bytes()[:-1] + b"\xff")
    with pytest.raises(SystemExit) as stop:
        cli(["mnist", "--directory", str(tmp_path / "sets"), "--downloads", str(downloads)])
    assert stop.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: mnist: a file is not the published one: ")
    assert "t10k-labels-idx1-ubyte.gz" in last
    with pytest.raises(ValueError, match="mnist is not prepared"):
        load("mnist", tmp_path / "sets")


@pytest.fixture
def small_archive(monkeypatch):
    """Lets a small archive pass for that of 2007; returns what writes it, and its contents."""
    import experiments.data.builders.rot_mnist as builder_module
    from experiments.data.prepared import PUBLISHED

    sizes = {"train": 20, "validation": 6, "test": 12}
    monkeypatch.setattr(builder_module, "SIZES", sizes)
    original = PUBLISHED["rot_mnist/original"]._replace(sizes=sizes)
    monkeypatch.setitem(PUBLISHED, "rot_mnist/original", original)
    images, labels = random_images(38, dtype=np.float32)

    def write(path, rows):
        lines = [" ".join(map(repr, [*image.ravel().tolist(), float(label)])) for image, label in rows]
        path.parent.mkdir(parents=True)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(builder_module.TRAIN_FILE, "\n".join(lines[:26]))
            archive.writestr(builder_module.TEST_FILE, "\n".join(lines[26:]))
        monkeypatch.setattr(builder_module, "ARCHIVE_MD5", hashlib.md5(path.read_bytes()).hexdigest())

    return write, list(zip(images, labels, strict=True))


@needs_tensorflow
def test_the_archive_of_2007_becomes_a_set_with_its_order_and_pixels(tmp_path, small_archive):
    write, rows = small_archive
    write(tmp_path / "downloads" / "manual" / "mnist_rotation_new.zip", rows)
    assert prepare_set("rot_mnist/original", tmp_path)
    data = load("rot_mnist/original", tmp_path)
    assert [len(split) for split in data.splits().values()] == [20, 6, 12]
    splits = data.splits().values()
    images = np.concatenate([split.images[:, :, :, 0, 0] for split in splits])
    np.testing.assert_array_equal(images, np.stack([image for image, _ in rows]))
    np.testing.assert_array_equal(np.concatenate([split.labels for split in splits]), [label for _, label in rows])
    assert not prepare_set("rot_mnist/original", tmp_path)


@needs_tensorflow
def test_an_archive_with_too_few_rows_is_refused(tmp_path, small_archive):
    write, rows = small_archive
    write(tmp_path / "given" / "mnist_rotation_new.zip", rows[:-1])
    with pytest.raises(ValueError, match=r"float_test\.amat must hold 12 rows, got 11"):
        prepare_set("rot_mnist/original", tmp_path, tmp_path / "given")
    with pytest.raises(ValueError, match="rot_mnist/original is not prepared"):
        load("rot_mnist/original", tmp_path)


@needs_tensorflow
def test_another_archive_is_refused_by_its_md5(tmp_path):
    (tmp_path / "mnist_rotation_new.zip").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"must have MD5 0f9a947ff3d30e95cd685462cbf3b847, got [0-9a-f]{32};"):
        prepare_set("rot_mnist/original", tmp_path / "sets", tmp_path)


def _pretend(monkeypatch, tensorflow):
    real = importlib.util.find_spec
    found = object() if tensorflow else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found if name == "tensorflow" else real(name))


def test_preparing_without_tensorflow_is_refused_with_its_cure(tmp_path, monkeypatch, capsys):
    _pretend(monkeypatch, tensorflow=False)
    with pytest.raises(SystemExit) as stop:
        cli(["mnist", "--directory", str(tmp_path)])
    assert stop.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: preparing a data set needs TensorFlow, which is not installed: uv sync --extra prepare"
    ]


def test_a_prepared_set_is_left_alone_even_without_tensorflow(tmp_path, monkeypatch, capsys):
    _pretend(monkeypatch, tensorflow=False)
    splits = {"train": random_images(30), "test": random_images(20)}
    folder = write_small_set("kmnist", tmp_path, splits)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    cli(["kmnist", "--directory", str(tmp_path)])
    said = capsys.readouterr().out
    assert said == f"kmnist 3.0.1 was prepared already, nothing done: {folder} (30 train, 20 test)\n"
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("fashion_mnist", "t10k-images-idx3-ubyte.gz"),
        ("rot_mnist/original", "mnist_rotation_new.zip"),
        ("cifar100", "cifar-100-binary.tar.gz"),
        ("patch_camelyon", "camelyonpatch_level_2_split_valid_y.h5.gz"),
    ],
)
@pytest.mark.default(
    "fashion_mnist-t10k-images-idx3-ubyte.gz",
    "rot_mnist/original-mnist_rotation_new.zip",
    "cifar100-cifar-100-binary.tar.gz",
    "patch_camelyon-camelyonpatch_level_2_split_valid_y.h5.gz",
)
def test_a_downloads_folder_without_the_published_files_is_refused(name, missing, tmp_path, monkeypatch):
    _pretend(monkeypatch, tensorflow=True)
    for file in MNIST_FILES[:2]:
        (tmp_path / file).touch()
    with pytest.raises(ValueError, match=f"{name} needs .*{missing}.* in {tmp_path}; put the published files there"):
        prepare_set(name, tmp_path / "sets", tmp_path)


def test_the_archive_of_2007_is_asked_for_where_it_should_lie(tmp_path, monkeypatch):
    _pretend(monkeypatch, tensorflow=True)
    with pytest.raises(ValueError, match=f"needs mnist_rotation_new.zip in {tmp_path}/downloads/manual"):
        prepare_set("rot_mnist/original", tmp_path)


@pytest.mark.parametrize(("name", "file"), [("kmnist", "train-"), ("cifar10", "cifar-10-binary.tar.gz")])
@pytest.mark.parametrize("known", [False, True])
def test_a_failed_download_is_one_error_that_names_the_way_out(known, name, file, tmp_path, monkeypatch):
    """Known or unknown host: an unknown one is not tried again and again."""
    _pretend(monkeypatch, tensorflow=True)

    def resolve(*_):
        if not known:
            raise socket.gaierror("Name or service not known")

    def get(*_, **__):
        assert known
        raise requests.ConnectionError("connection refused")

    monkeypatch.setattr(urllib.request, "getproxies", dict)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(requests.Session, "get", get)
    with pytest.raises(ValueError, match=rf"{name} could not be downloaded .* which holds {file}.* with --downloads"):
        prepare_set(name, tmp_path)


def test_sets_which_publish_other_files_by_the_same_names_download_into_their_own_folders(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    _pretend(monkeypatch, tensorflow=True)
    folders = []

    def download_and_prepare(self, download_dir, download_config):
        folders.append((download_dir, download_config.manual_dir))

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", download_and_prepare)
    monkeypatch.setattr(urllib.request, "getproxies", lambda: {"http": "http://proxy"})
    for name in ("mnist", "fashion_mnist", "kmnist"):
        prepare_set(name, tmp_path)
    assert len({folder for pair in folders for folder in pair}) == 6
    assert folders[1] == (tmp_path / "downloads" / "fashion_mnist", tmp_path / "downloads" / "fashion_mnist" / "manual")
