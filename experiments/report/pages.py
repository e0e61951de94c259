"""The page of a run, `report.html`, and its pictures as PNG files beside it."""

import datetime
import json
import os
import pathlib
from collections.abc import Iterator

from matplotlib import pyplot

from attgconv_jax import plotting
from attgconv_jax.attention import OPERATORS
from experiments.report import figures, mistakes
from experiments.report.classes import frequent_confusions, precision_percent, recall_percent
from experiments.report.findings import PENDING, Findings
from experiments.report.html import RESOLUTION, Element, document, element, picture, table
from experiments.report.markdown import ERROR_COLUMNS, error_rows, mean_and_deviation
from experiments.run.runtime import describe_device, writing
from experiments.run.workdir import PAGE

_ROWS_A_TABLE = 25
_CONFUSIONS = 10


def write_page(folder: pathlib.Path, findings: Findings) -> pathlib.Path:
    """Draws the pictures, writes them and the page to a folder that is there, and returns the page's path.

    The page holds its pictures, loads nothing and runs nothing.
    A sentence stands in for a picture that cannot be drawn.
    """
    sections = (_summary, _curves, _confusions, _classes, _mistakes, _attention, _angles, _layers, _origin)
    path = folder / PAGE
    with writing(path):
        text = document(findings.name, [part for section in sections for part in section(findings, folder)])
        partial = path.with_name(f".{PAGE}.partial")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    return path


def _summary(findings, folder) -> Iterator[Element]:
    report = findings.report
    protocol = "best_on_validation" if "best_on_validation" in report else "as_loaded"
    errors = report[protocol]["error_percent"]
    yield element("h1", findings.name)
    yield element("p", f"{_network(report, findings.data)}.", class_="muted")
    if "note" in report:
        yield element("p", element("strong", "Note: "), report["note"])
    cards = {
        f"test error, {len(errors['test'])} seeds" if len(errors["test"]) > 1 else "test error": (
            f"{mean_and_deviation(errors['test'])} %"
        ),
        "validation error": f"{mean_and_deviation(errors['validation'])} %",
    }
    if "parameters" in report:
        cards["parameters"] = f"{report['parameters']:,}"
        cards["trained in"] = str(datetime.timedelta(seconds=round(report["training_seconds"])))
    items = (element("li", element("strong", value), element("span", label)) for label, value in cards.items())
    yield element("ul", *items, class_="cards")
    yield table(["error in percent", *ERROR_COLUMNS[1:]], error_rows(report))
    if protocol == "as_loaded":
        return
    yield element(
        "p",
        "The test error above is that of the network with the fewest validation errors. The best epoch on the test "
        "split is how papers often choose theirs; it is no honest estimate. Confusions and all that follows them are "
        f"of the network best on validation{_of_seed(report)}.",
        class_="muted",
    )


def _of_seed(report):
    """Whose network is drawn, where there are several."""
    seeds = report["config"]["seeds"]
    return f" of seed {report.get('seed', seeds[0])}" if len(seeds) > 1 else ""


def _network(report, data):
    """The network, and on which data it was trained and tested."""
    if "config" not in report:
        return f"A saved network. Tested on: {data}"
    config = report["config"]
    attention = config["model.attention"]
    described = f"Network {config.get('model.name', 'rot_mnist')} on {config['model.group']}"
    described += "" if attention in (None, "none") else f" with {attention} attention"
    # Only on the data of training is there a best epoch on the test split.
    if "best_on_test" in report:
        return f"{described}, trained and tested on {data}"
    kinds = {"folder": "the pictures in ", "arrays": "the arrays "}
    own = config["data.name"] in kinds and "path" in report
    trained = f"{kinds[config['data.name']]}{pathlib.Path(report['path']).name}" if own else config["data.name"]
    return f"{described}, trained on {trained}. Tested on: {data}"


def _curves(findings, folder) -> Iterator[Element]:
    yield element("h2", "Learning curves")
    if not findings.metrics:
        yield element("p", "There are no curves: the network was loaded without its run.")
        return
    path = folder / "curves.png"
    _save(figures.curves({findings.name: findings.metrics}), path)
    seeds = len(findings.metrics[0]["train_loss"])
    caption = f"Mean over {seeds} seeds in a band of all." if seeds > 1 else ""
    yield picture(path, "Training loss and validation error by epoch", caption)


def _confusions(findings, folder) -> Iterator[Element]:
    counts, names = findings.confusion, findings.class_names
    yield element("h2", "Confusions")
    if len(counts) < 2:
        yield element("p", "There is one class, so that nothing can be confused.")
        return
    path = folder / "confusion.png"
    _save(figures.confusion(counts, names, f"{findings.name}, test split of {findings.data}"), path)
    caption = "Test images by label (rows) and prediction (columns); the diagonal, which is right, is not shaded."
    parts = [picture(path, "Confusion matrix of the test split", caption)]
    pairs = frequent_confusions(counts, _CONFUSIONS)
    if pairs:
        rows = [[names[label], names[prediction], str(count)] for label, prediction, count in pairs]
        parts.append(table(["class", "taken for", "images"], rows))
    yield element("div", *parts, class_="tables")


def _classes(findings, folder) -> Iterator[Element]:
    yield element("h2", "Figures per class")
    counts = findings.confusion
    percent = [["-" if x is None else f"{x:.1f}" for x in of(counts)] for of in (recall_percent, precision_percent)]
    images = [f"{count:,}" for count in counts.sum(axis=1)]
    rows = list(zip(findings.class_names, *percent, images, strict=True))
    columns = ["class", "recall, %", "precision, %", "images"]
    tables = [table(columns, rows[i : i + _ROWS_A_TABLE]) for i in range(0, len(rows), _ROWS_A_TABLE)]
    yield element("div", *tables, class_="tables")
    yield element(
        "p",
        "Recall: of the test images of a class, how many are found. Precision: of the test images taken for the class, "
        "how many belong to it. Images: test images of the class.",
        class_="muted",
    )


def _mistakes(findings, folder) -> Iterator[Element]:
    found = findings.mistakes
    yield element("h2", "Worst mistakes")
    if found is None:
        yield element("p", PENDING)
        return
    if not len(found.places):
        yield element("p", "No test image is misclassified.")
        return
    path = folder / "mistakes.png"
    _save(mistakes.figure(found, findings.class_names), path)
    caption = f"The {len(found.places)} wrong predictions with the largest probability, which stands in brackets."
    if found.maps is None:
        caption += " The network has no attention over pixels to show beside them."
    else:
        caption += f" Beside them the attention of layer {found.layer + 1}: {_colours(findings.report)}."
    yield picture(path, "Misclassified test images with label, prediction and probability", caption)
    classes = ([findings.class_names[label] for label in labels] for labels in (found.labels, found.predictions))
    percent = (f"{100 * probability:.1f}" for probability in found.probabilities)
    rows = zip(found.names, *classes, percent, strict=True)
    columns = ["image", "class", "taken for", "probability, %"]
    yield element("details", element("summary", "The same in words"), table(columns, rows))


def _attention(findings, folder) -> Iterator[Element]:
    if findings.attention:
        yield element("h2", "Attention to images that turn")
        for path in findings.attention:
            caption = (
                f"Every map is computed from the turned image above it: {_colours(findings.report)}."
                if path.stem == "attention"
                else f"Attention from the row's to the column's element: {_colours(findings.report)}."
            )
            yield picture(path, "Attention maps of test images at four quarter turns", caption)


def _colours(report):
    """What colours of attention maps mean, the same in all pictures."""
    attention = report["config"]["model.attention"] if "config" in report else report["network"].get("attention")
    if attention in OPERATORS and OPERATORS[attention].combination == "suppress":
        return "yellow is suppressed most, dark blue least"
    return "yellow is where attention is largest, dark blue where it is smallest"


def _angles(findings, folder) -> Iterator[Element]:
    yield element("h2", "Accuracy by angle")
    if not findings.angles:
        yield element("p", PENDING)
        return
    path, own = folder / "angles.png", findings.angles[findings.name]
    _save(figures.by_angle(findings.angles), path)
    accuracy = [100 - record["error_percent"] for record in own]
    yield picture(
        path,
        "Accuracy, and change of the logits, against the angle by which test images are turned",
        f"The first {findings.angle_images} test images, turned counter-clockwise by {len(own) - 1} angles. Accuracy "
        f"is {min(accuracy):.1f} to {max(accuracy):.1f} %. Other than right angles interpolate the images: part of the "
        "change is that.",
    )


def _layers(findings, folder) -> Iterator[Element]:
    yield element("h2", "Equivariance error by layer")
    if isinstance(findings.layers, str):
        yield element("p", findings.layers)
        return
    path = folder / "layers.png"
    _save(plotting.equivariance_figure(list(findings.layers)), path)
    caption = (
        "How far each layer's output is from changing as the image does under the network's group, or under quarter "
        "turns if it is an ordinary network: about 1e-6 is exact up to rounding."
    )
    yield picture(path, "Equivariance error of every layer", caption)


def _origin(findings, folder) -> Iterator[Element]:
    report, device = findings.report, describe_device()
    yield element("h2", "How this was made")
    commands = dict.fromkeys(command for command in (report.get("command"), findings.command) if command)
    yield element("pre", "\n".join(commands) or "called from Python")
    made = {name: str(report.get(name, value)) for name, value in ({"date": "today"} | device).items()}
    if "config" in report:
        made["seeds"] = ", ".join(map(str, report["config"]["seeds"]))
    if made["date"] == "today":
        made["date"] = datetime.date.today().isoformat()
    words = dict(class_="words")
    data = ((name, str(value)) for name, value in report["data"].items())
    yield element("div", table([], made.items(), **words), table([], data, **words), class_="tables")
    settings = report.get("config", report.get("network", {}))
    rows = ((name, value if isinstance(value, str) else json.dumps(value)) for name, value in settings.items())
    yield element("details", element("summary", "All settings"), table([], rows, **words))


def _save(figure, path):
    figure.savefig(path, dpi=RESOLUTION)
    # Those of `plotting` would stay open.
    pyplot.close(figure)
