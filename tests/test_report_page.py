"""The page of a run: what it holds, that it needs nothing but itself, and what is left out with a sentence."""

import dataclasses
import html.parser
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from attgconv_jax import act, cyclic, trivial
from attgconv_jax.models import Network
from experiments import evaluate, train
from experiments.data import Split, rotated_digits
from experiments.report import figures, measures, mistakes
from experiments.report.classes import frequent_confusions
from experiments.report.findings import Findings, angle_images_of
from experiments.report.html import document, element
from experiments.report.mistakes import Mistakes, worst_mistakes
from experiments.report.pages import write_page
from experiments.run.configuration import Config
from experiments.run.runtime import describe_device
from experiments.run.workdir import Run

VOID = {"br", "hr", "img", "input", "link", "meta"}
PICTURES = ("angles", "confusion", "curves", "layers", "mistakes")


class Page(html.parser.HTMLParser):
    """What a page holds; raises an error where tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.addresses, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.text += "" if self.open[-1:] == ["style"] else text


def made_up(classes=3, names=None, count=5, maps=True, **changes):
    """Findings of figures that nobody measured."""
    generator = np.random.default_rng(0)
    images = generator.normal(size=[count, 8, 8, 1, 1]).astype(np.float32)
    labels = np.arange(count) % classes
    attention = generator.uniform(size=[count, 6, 6]) if maps else None
    probabilities = np.linspace(0.99, 0.5, count)
    files = [f"{i}/a rather long name, {i}.png" for i in range(count)]
    wrong = Mistakes(np.arange(count), files, images, labels, (labels + 1) % classes, probabilities, attention, 1)
    confusion = generator.poisson(0.4, size=[classes, classes]) + 40 * np.eye(classes, dtype=int)
    angles = [{"degrees": 15.0 * i, "error_percent": i % 3, "logits_change": 0.1 * (i % 6)} for i in range(25)]
    metrics = [
        {"epoch": epoch, "train_loss": [1 / epoch, 2 / epoch], "validation_error_percent": [9.0 / epoch, 8.0 / epoch]}
        for epoch in (1, 2, 3)
    ]
    protocol = {"epoch": [2, 3], "error_percent": {"train": [1.0, 1.5], "validation": [3.0, 4.0], "test": [5.0, 7.0]}}
    report = {
        "config": {"model.name": "rot_mnist", "model.group": "p4", "model.attention": "input", "data.name": "digits"}
        | {"seeds": [11, 12]},
        "data": {"set": "digits", "test_sha256": "0123abc"},
        "best_on_validation": protocol,
        "last_epoch": protocol,
        "parameters": 12345,
        "training_seconds": 75.4,
        "command": "python -m experiments.train digits --seeds 11 12",
        "date": "2026-01-02",
        **describe_device(),
    }
    findings = Findings(
        name="made-up",
        data="made-up images",
        class_names=names or tuple(map(str, range(classes))),
        report=report,
        confusion=confusion,
        mistakes=wrong,
        angles={"made-up": angles},
        angle_images=77,
        layers=[("layer 1", 1e-7), ("logits", 2e-7)],
        metrics=metrics,
        command="python -m experiments.evaluate runs/made-up",
    )
    return dataclasses.replace(findings, **changes)


def page_of(findings, folder):
    path = write_page(folder, findings)
    assert path == folder / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_holds_everything_and_needs_nothing_else(tmp_path):
    for name in ("attention", "attention-pairs"):
        Image.new("RGB", (30, 20)).save(tmp_path / f"{name}.png")
    # Pictures of attention that are not the findings' are not taken in.
    page = page_of(made_up(attention=[tmp_path / "attention.png"]), tmp_path)
    assert page.tags.count("img") == 6 and "script" not in page.tags
    assert all(address.startswith("data:") for address in page.addresses) and len(page.addresses) == 7
    assert (
        "url(" not in (tmp_path / "report.html").read_text() and "@import" not in (tmp_path / "report.html").read_text()
    )
    assert all((tmp_path / f"{name}.png").stat().st_size > 5_000 for name in PICTURES)
    said = [
        "6.00 ± 1.41 %", "12,345", "0:01:15", "best on validation", "The first 77 test images", "98.0 to 100.0 %",
        "of seed 11", "The 5 wrong predictions", "attention of layer 2: yellow is suppressed most", "0123abc",
        "jaxlib", "11, 12", "3/a rather long name, 3.png",
        "python -m experiments.train digits --seeds 11 12", "python -m experiments.evaluate runs/made-up",
    ]  # fmt: skip
    assert [sentence for sentence in said if sentence not in page.text] == []


def test_names_are_text_whatever_they_hold(tmp_path):
    names = ("<script>alert(1)</script>", "a & b \"c\" 'd'", "$x$ __ " + 40 * "long ")
    page = page_of(
        made_up(names=names, name="<b>run</b>", angles={"<b>run</b>": made_up().angles["made-up"]}), tmp_path
    )
    assert "script" not in page.tags and "b" not in page.tags
    assert all(name.strip() in page.text for name in (*names, "<b>run</b>"))


@pytest.mark.parametrize("classes", [2, 11, 100])
def test_confusions_are_drawn_of_any_number_of_classes_and_no_text_leaves_the_picture(classes):
    names = [f"class number {i} of quite a long name" if i % 2 else str(i) for i in range(classes)]
    figure = figures.confusion(made_up(classes).confusion, names, "a run with a long name, " * 4)
    figure.draw_without_rendering()
    assert len(figure.axes[0].texts) == (0 if classes == 100 else np.count_nonzero(made_up(classes).confusion))
    whole = figure.bbox
    texts = [*figure.axes[0].get_xticklabels(), *figure.axes[0].get_yticklabels(), figure.axes[0].xaxis.label]
    boxes = [text.get_window_extent() for text in [*texts, *figure.texts]]
    assert all(box.x0 >= whole.x0 and box.x1 <= whole.x1 and box.y0 >= whole.y0 and box.y1 <= whole.y1 for box in boxes)
    assert all(not (a.overlaps(b)) for a, b in zip(boxes[classes : 2 * classes], boxes[classes + 1 :], strict=False))


def test_epochs_are_whole_numbers_and_a_legend_stands_above_the_panels():
    records = made_up().metrics
    for few in (records, records[:2], records[:1]):
        figure = figures.curves({"a": few, "b": few})
        figure.draw_without_rendering()
        for axis in figure.axes:
            places = axis.get_xticks()
            assert np.array_equal(places, np.round(places))
            assert figure.legends[0].get_window_extent().y0 >= axis.get_window_extent().y1
        assert len(few) > 1 or figure.axes[0].lines[0].get_marker() == "o"
    assert not figures.curves({"a": records}).legends


@pytest.mark.parametrize(
    ("changes", "sentence", "missing"),
    [
        ({"layers": "R2 does not act."}, "R2 does not act.", "layers"),
        ({"metrics": []}, "There are no curves: the network was loaded without its run.", "curves"),
        ({"count": 0}, "No test image is misclassified.", "mistakes"),
        ({"maps": False}, "The network has no attention over pixels to show beside them.", None),
        ({"classes": 1, "count": 0}, "There is one class, so that nothing can be confused.", "confusion"),
    ],
)
def test_what_cannot_be_drawn_is_left_out_with_a_sentence(changes, sentence, missing, tmp_path):
    assert sentence in page_of(made_up(**changes), tmp_path).text
    drawn = {path.stem for path in tmp_path.glob("*.png")}
    assert {*PICTURES} - drawn == ({missing} if missing else set()) | ({"mistakes"} if "classes" in changes else set())


def test_the_classes_that_are_confused_most_often_come_first():
    counts = np.array([[3, 1, 0], [2, 6, 0], [0, 0, 0]])
    assert frequent_confusions(counts, 9) == [(1, 0, 2), (0, 1, 1)] and len(frequent_confusions(counts, 1)) == 1


def test_figures_of_every_class_stand_in_the_page(tmp_path):
    counts = np.array([[3, 1, 0], [2, 6, 0], [0, 0, 0]])
    findings = dataclasses.replace(made_up(names=("cat", "dog", "ant")), confusion=counts)
    page = write_page(tmp_path, findings).read_text()
    rows = re.findall(r"<tr>(.*?)</tr>", page)
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in rows]
    assert ["cat", "75.0", "60.0", "4"] in cells and ["dog", "75.0", "85.7", "8"] in cells
    assert ["ant", "-", "-", "0"] in cells and ["dog", "cat", "2"] in cells


class Attentive(Network):
    """A network whose attention is the image's first channel, or has one pixel; layers without any lie before."""

    def __init__(self, attention, pixels):
        super().__init__(trivial(), attention)
        self.pixels = pixels

    @property
    def attending_layers(self):
        return [] if self.settings["attention"] is None else [0, 1]

    def attention_maps(self, images):
        one = jnp.mean(images, axis=(-4, -3), keepdims=True)
        return [one, images[..., :1] if self.pixels else one]


@pytest.mark.parametrize(("attention", "pixels"), [("input", True), ("cbam", True), ("se", False), (None, False)])
def test_the_worst_mistakes_are_the_most_confident_with_attention_over_pixels_where_there_is_any(attention, pixels):
    data = rotated_digits(0)
    data = dataclasses.replace(data, test=Split(data.test.images[:20], data.test.labels[:20]))
    logits = np.zeros([20, 10], np.float32)
    logits[np.arange(20), data.test.labels] = 1
    for place, confidence in {4: 3, 7: 9, 11: 5}.items():
        logits[place, (data.test.labels[place] + 1) % 10] = confidence
    found = worst_mistakes(Attentive(attention, pixels), data, logits)
    assert found.places.tolist() == [7, 11, 4] and found.names == ["test image 7", "test image 11", "test image 4"]
    named = dataclasses.replace(data, test=dataclasses.replace(data.test, names=list("abcdefghijklmnopqrst")))
    assert worst_mistakes(Attentive(attention, pixels), named, logits).names == ["h", "l", "e"]
    assert found.predictions.tolist() == ((data.test.labels[[7, 11, 4]] + 1) % 10).tolist()
    assert found.probabilities[0] == pytest.approx(np.exp(9) / (np.exp(9) + np.exp(1) + 8))
    if pixels:
        pictures = data.test.images[[7, 11, 4], :, :, 0, 0]
        np.testing.assert_allclose(found.maps, pictures, atol=1e-6)
        assert found.layer == 1
    else:
        assert found.maps is None and found.layer is None
    assert len(mistakes.figure(found, data.class_names).axes) == (6 if pixels else 3)


def test_long_names_of_files_keep_their_end_and_stay_in_the_picture():
    findings = made_up(count=5, names=("WWWWWWWWWWWWWWWWWWWWWWW", "b", "c"))
    files = [f"a class of a long name/{i} of $1.png" for i in range(5)]
    figure = mistakes.figure(findings.mistakes._replace(names=files), findings.class_names)
    figure.draw_without_rendering()
    labels = [axis.xaxis.label for axis in figure.axes[:10:2]]
    assert [label.get_text() for label in labels] == [rf"… name/{i} of \$1.png" for i in range(5)]
    boxes = [label.get_window_extent() for label in labels]
    assert all(box.x0 >= figure.bbox.x0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_mistakes_in_colour_are_shown_in_colour_and_others_in_grey():
    images = np.zeros([1, 2, 2, 1, 3], np.float32)
    images[0, 0, 0, 0] = [-1, 3, 1]
    for shown, expected in ((images, [0, 1, 0.5]), (images[..., :2], 1)):
        found = Mistakes(*(np.zeros(1, int) for _ in range(6)))._replace(names=["a.png"], images=shown)
        (axis,) = mistakes.figure(found, ("a", "b")).axes
        np.testing.assert_array_equal(axis.images[0].get_array()[0, 0], expected)
        assert axis.images[0].get_clim() == (0, 1)


def test_turning_at_the_end_of_training_takes_a_few_per_cent_of_it():
    data, config = rotated_digits(0), Config()
    assert angle_images_of(config, data) == 225
    short, long = (dataclasses.replace(config.optimizer, epochs=epochs) for epochs in (2, 600))
    assert angle_images_of(dataclasses.replace(config, optimizer=short), data) == 50
    assert angle_images_of(dataclasses.replace(config, optimizer=long), data) == 500


def test_markup_is_a_tree():
    text = document("a < b", [element("p", "x ", element("b", "y"), " z", class_="note")])
    assert '<p class="note">x <b>y</b> z</p>' in text and "<title>a &lt; b</title>" in text


@pytest.mark.slow
def test_a_run_ends_with_its_page_and_evaluation_draws_another_beside(tmp_path, capsys):
    run = tmp_path / "run"
    words = ["digits-p4", "--optimizer.epochs", "1", "--optimizer.batch-size", "250", "--workdir", str(run)]
    train.cli(words)
    printed = capsys.readouterr().out
    assert f"report with pictures: {run / 'report.html'}" in printed and " s, errors between epochs in " in printed
    page, command = Page((run / "report.html").read_text()), f"python -m experiments.train {' '.join(words)}"
    assert command in page.text and "The first 50 test images" in page.text
    report = Run(run).report
    assert report["command"] == command and report["angle_images"] == 50
    errors = [record["error_percent"] for record in report["angles"]]
    assert len(errors) == 25 and errors[0] == errors[6] == errors[12] == errors[24]
    network = str(run / "networks" / "seed-0-best")
    evaluate.cli([network, "--data", "digits", "--beside", str(run), "--angle-images", "50"])
    folder = run / "networks" / "seed-0-best" / "evaluation-digits"
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert evaluation["angles"] == report["angles"] and evaluation["beside"] == {"run": report["angles"]}
    page = Page((folder / "report.html").read_text())
    assert "There are no curves: the network was loaded without its run." in page.text
    assert "A saved network. Tested on: rotated digits (seed 0)." in page.text


def test_images_turn_counter_clockwise_about_their_middle_and_are_filled_with_background():
    data, seen = rotated_digits(0), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "predict", lambda _, images: seen.append(images) or np.ones([len(images), 10]))
        measures.by_angle(None, data, 45, 2)
    expected = [act(data.test.images[:2], cyclic(8), element, "image") for element in range(8)]
    np.testing.assert_allclose(np.concatenate(seen), np.concatenate(expected), atol=1e-4)


def test_logits_that_are_all_zero_are_no_error():
    data = rotated_digits(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "predict", lambda network, images: np.zeros([len(images), 10], np.float32))
        records = measures.by_angle(None, data, 90, 5)
    assert {record["logits_change"] for record in records} == {0.0}
