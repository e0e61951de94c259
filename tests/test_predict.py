"""`experiments.predict`: pictures in folders become a table and a file; what cannot be read is told at the end."""

import csv
import json
import pathlib

import jax
import numpy as np
import pytest
from networks import Means, means, means_registered
from PIL import Image

from attgconv_jax.models import load_classifier, save_network
from attgconv_jax.preprocessing import Preprocessing, resize
from experiments import predict
from experiments.data.pictures import read_picture
from experiments.run.prediction import find_pictures, standardised_picture
from experiments.run.scale import Scale

NAMES = ("cell", "dust", "hair")
PREPROCESSING = Preprocessing(size=4, mean=0.4, deviation=0.2)


@pytest.fixture(scope="module", autouse=True)
def registered():
    with means_registered():
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder with networks of two seeds; that of the higher one calls its classes otherwise."""
    folder = tmp_path_factory.mktemp("run")
    for seed, names in ((2, NAMES), (10, ("a", "b", "c"))):
        save_network(
            folder / f"networks/seed-{seed}-best", means(), preprocessing=PREPROCESSING, class_names=names, metrics={}
        )
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Five pictures, of two sizes, some in folders, and what is to be left aside."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    sizes = {"b.png": (4, 4), "a.PNG": (7, 5), "in/c.jpg": (4, 4), "in/in/d.png": (9, 9), "in/e.tif": (4, 4)}
    for name, size in {**sizes, ".hidden.png": (4, 4), ".hidden/f.png": (4, 4)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, size).astype(np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_pictures_are_found_below_folders_but_for_hidden_ones(pictures):
    found = find_pictures([pictures])[0]
    assert [str(pathlib.Path(picture.name).relative_to(pictures)) for picture in found] == [
        "a.PNG",
        "b.png",
        "in/c.jpg",
        "in/e.tif",
        "in/in/d.png",
    ]
    found, others = find_pictures([pictures / "b.png", pictures, pictures / "notes.txt"])
    assert found[0].name == str(pictures / "b.png") and len(found) == 6 and others == 1


def test_rows_of_arrays_are_classified_as_pictures_are(run, tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 256, [3, 9, 7, 1]).astype(np.uint8)
    np.savez(tmp_path / "rows.npz", test_images=images)
    np.savez(tmp_path / "labels.npz", labels=np.zeros(3))
    predict.cli([str(run), str(tmp_path / "rows.npz"), "--output", str(tmp_path / "out.csv")])
    assert "3 pictures in " in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [row["file"] for row in rows] == [f"{tmp_path / 'rows.npz'}[{i}]" for i in range(3)]
    assert [row["class"] for row in rows] == load_classifier(run).names(images)
    with pytest.raises(SystemExit):
        predict.cli([str(run), str(tmp_path / "labels.npz")])
    assert "labels.npz must hold images or test_images; it holds labels" in capsys.readouterr().err


def test_networks_compute_as_precisely_as_the_command_says(run, pictures, capsys, monkeypatch):
    told = []
    features = Means._features
    monkeypatch.setattr(
        Means, "_features", lambda *args: told.append(jax.config.jax_default_matmul_precision) or features(*args)
    )
    for words in ([], ["--precision", "highest"]):
        predict.cli([str(run), str(pictures), *words])
    assert told == [None, "highest"]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_picture_is_standardised_as_the_classifier_does(pictures, dtype):
    pixels = read_picture(pictures / "a.PNG")
    preprocessing = Preprocessing(6, 3, dtype, "pad", 0.5, 0.4, 0.2)
    expected = resize((pixels / 255).repeat(3, axis=-1)[:, :, None], 6, "pad", 0.5)
    (picture,), _ = find_pictures([pictures / "a.PNG"])
    image = standardised_picture(picture, preprocessing)
    assert image.dtype == np.float32 and image.shape == (6, 6, 1, 3)
    np.testing.assert_allclose(image, (expected - 0.4) / 0.2, atol=2e-6)


@pytest.mark.parametrize("batch_size", [2, 64])
def test_every_picture_is_told_with_its_class_and_runners_up(run, pictures, tmp_path, capsys, batch_size):
    out = tmp_path / "predictions.jsonl"
    words = [str(run), str(pictures), "--output", str(out), "--top", "3", "--batch-size", str(batch_size)]
    predict.cli(words)
    records = [json.loads(line) for line in out.read_text().splitlines()]
    classifier = load_classifier(run)
    assert [record["file"] for record in records] == [picture.name for picture in find_pictures([pictures])[0]]
    for record in records:
        (expected,) = np.asarray(classifier(read_picture(record["file"])[None]))
        told = {record["class"]: record["probability"]}
        told |= {other["class"]: other["probability"] for other in record["runners_up"]}
        assert list(told) == [NAMES[label] for label in np.argsort(-expected)]
        np.testing.assert_allclose([told[name] for name in NAMES], expected, rtol=1e-4)
    printed = capsys.readouterr()
    first = records[0]
    cells = ", ".join(f"{other['class']} {other['probability']:.3f}" for other in first["runners_up"])
    assert f"| {first['file']} | {first['class']} | {first['probability']:.3f} | {cells} |" in printed.out
    assert f"predictions: {out}" in printed.out and "5 pictures in " in printed.out and "a second" in printed.out
    assert "5/5" in printed.err and "note: 1 other file in the folders, which no picture is by its name" in printed.out
    with pytest.raises(SystemExit):
        predict.cli(words)
    assert f"{out} exists: choose another path, or remove it first" in capsys.readouterr().err


def test_a_csv_file_has_the_runners_up_in_columns(run, pictures, tmp_path):
    out = tmp_path / "predictions.csv"
    predict.cli(
        [str(run / "networks/seed-10-best"), str(pictures / "b.png"), str(pictures / "in"), "--output", str(out)]
    )
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "class", "probability", "runner_up_1", "runner_up_1_probability"]
    assert len(rows) == 4 and {row["class"] for row in rows} <= {"a", "c"}
    assert all(float(row["probability"]) >= float(row["runner_up_1_probability"]) for row in rows)
    assert all(row["runner_up_1"] == "b" for row in rows)


def test_broken_pictures_are_told_at_the_end(run, pictures, tmp_path, capsys):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(np.zeros([4, 4, 3], np.uint8)).save(tmp_path / "colour.png")
    Image.fromarray(np.zeros([4, 4], np.uint16)).save(tmp_path / "wide.png")
    Image.fromarray(np.full([4, 4], 255, np.uint8)).save(tmp_path / "white.png")
    with pytest.raises(SystemExit) as stop:
        predict.cli([str(run), str(tmp_path)])
    assert stop.value.code == 1
    printed = capsys.readouterr()
    assert f"| {tmp_path / 'white.png'} | hair | " in printed.out
    errors = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    beginnings = [
        f"error: {tmp_path / 'colour.png'}: pixels must have 1 channel (grey), got 3",
        f"error: {tmp_path / 'empty.png'} is empty",
        f"error: {tmp_path / 'text.png'} is no PNG, JPEG, TIFF, BMP or WebP that can be read",
        f"error: {tmp_path / 'wide.png'}: pixels must be uint8, got uint16",
        "error: 4 pictures were not classified, of 5",
    ]
    assert len(errors) == 5
    assert all(error.startswith(beginning) for error, beginning in zip(errors, beginnings, strict=True))


def test_wrong_arguments_are_one_line_each(run, pictures, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    save_network(tmp_path / "old", means())
    save_network(tmp_path / "counts", means(), preprocessing=Preprocessing(4, dtype="float32", mean=1e4))
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/run.json").write_text("{}")
    wrong = [
        ([tmp_path / "nowhere", pictures], f"there is no directory {tmp_path / 'nowhere'}"),
        ([pictures, pictures], f"{pictures} is not a checkpoint: it has no network.json, which save_network writes"),
        (
            [tmp_path / "begun", pictures],
            f"{tmp_path / 'begun'} holds no network yet: networks/ is written when a run",
        ),
        ([tmp_path / "old", pictures], f"{tmp_path / 'old'} has no preprocessing, without which pixels would be"),
        (
            [tmp_path / "counts", pictures],
            f"{tmp_path / 'counts'} was trained on float32 pixels with mean 10000; pictures in files do not have such",
        ),
        ([run, tmp_path / "empty"], "there are no pictures (.png, .jpg, .jpeg, .tif, .tiff, .bmp, .webp) in "),
        ([run, tmp_path / "nowhere"], f"there is no file or folder {tmp_path / 'nowhere'}"),
        ([run, pictures, "--output", "x.txt"], "output must be a .csv or .jsonl file, got x.txt"),
        (
            [run, tmp_path / "empty", "--output", tmp_path / "no/x.csv"],
            f"cannot write to {tmp_path / 'no/x.csv'}: No such file",
        ),
        ([run, pictures, "--top", "0"], "top must be at least 1, got 0"),
        ([run, pictures, "--batch-size", "0"], "batch_size must be at least 1, got 0"),
    ]
    for words, message in wrong:
        with pytest.raises(SystemExit) as stop:
            predict.cli(list(map(str, words)))
        assert stop.value.code == 2, words
        errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        assert len(errors) == 1 and errors[0].startswith("error: ") and message in errors[0], (words, errors)


def test_what_is_taken_for_granted_is_noted(pictures, tmp_path, capsys):
    save_network(tmp_path / "network", means(), preprocessing=Preprocessing(4, dtype="float32"))
    predict.cli([str(tmp_path / "network"), str(pictures / "b.png")])
    printed = capsys.readouterr().out
    assert "note: the network has no class names; its classes are called by their numbers, from 0" in printed
    assert "note: the network was trained on float32 pixels; white in a picture is taken as 1" in printed
    assert f"| {pictures / 'b.png'} | 2 | " in printed


@pytest.mark.parametrize(
    ("trained", "told"),
    [
        (Preprocessing(4, dtype="uint16", mean=0.022, deviation=0.2), ("uint16", "0.022")),
        (Preprocessing(4, dtype="uint16", mean=0.2, deviation=0.2), None),
        (Preprocessing(4, dtype="uint8", mean=0.022, deviation=0.2), None),
        (Preprocessing(4, dtype="uint8", mean=0.022, deviation=0.07), ("uint8", "0.022")),
        (Preprocessing(4, dtype="float32"), None),
    ],
    ids=["another type", "another type on the same scale", "darker", "far darker", "not standardised"],
)
def test_pictures_of_another_scale_than_training_are_noted_once(trained, told):
    scale = Scale(trained)
    for shade in (0.3, 0.5):
        scale.add("uint8", np.full([4, 4, 1, 1], (shade - trained.mean) / trained.deviation, np.float32))
    assert scale.note() == (
        told
        and f"the network was trained on {told[0]} pictures of mean {told[1]} of white, these 2 uint8 pictures have "
        "mean 0.400: are they on the same scale?"
    )


def test_the_note_on_another_scale_stands_before_the_table(tmp_path, capsys):
    Image.fromarray(np.full([4, 4], 102, np.uint8)).save(tmp_path / "a.png")
    trained = Preprocessing(4, dtype="uint16", mean=0.022, deviation=0.01)
    save_network(tmp_path / "network", means(), preprocessing=trained, class_names=NAMES)
    predict.cli([str(tmp_path / "network"), str(tmp_path / "a.png")])
    note, heading, *_ = capsys.readouterr().out.splitlines()
    assert note.endswith("of white, this uint8 picture has mean 0.400: are they on the same scale?")
    assert heading.startswith("| file ")
