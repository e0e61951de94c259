"""Figures of runs: learning curves, accuracy by angle, confusions. Legible in print and to the colour-blind."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

# Okabe and Ito 2008; every series also has a line style or a marker of its own.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

_WRITTEN_CLASSES = 30
# So many stand above each other along an axis.
_LABELS = 12


def curves(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Training loss and validation error by epoch, of metrics by run: the mean over seeds, in a band of all seeds."""

    def draw(axis, records, values, style):
        epochs = [record["epoch"] for record in records]
        # A line needs two epochs to be seen.
        marker = style["marker"] if len(epochs) == 1 else ""
        axis.plot(epochs, values.mean(axis=1), **style | {"marker": marker})
        axis.fill_between(epochs, values.min(axis=1), values.max(axis=1), color=style["color"], alpha=0.2, linewidth=0)

    labels = {"train_loss": "training loss", "validation_error_percent": "validation error (%)"}
    values = {name: [{field: record[field] for field in ("epoch", *labels)} for record in runs[name]] for name in runs}
    figure = _two_panels(values, labels, draw, xlabel="epoch")
    for axis, field in zip(figure.axes, labels, strict=True):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
        # A logarithm has no place for the epochs at which nothing was wrong.
        if all(np.all(record[field]) for records in runs.values() for record in records):
            logarithmic(axis)
    return figure


def by_angle(angles: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Accuracy and change of the logits when the images turn: of every run what `measures.by_angle` has measured."""

    def draw(axis, records, values, style):
        # What is at the edge, as an accuracy of 100 %, is drawn whole.
        axis.plot([record["degrees"] for record in records], values, **style, markersize=4, clip_on=False, zorder=3)

    labels = {"accuracy_percent": "accuracy (%)", "logits_change": "change of the logits, relative"}
    runs = {
        name: [record | {"accuracy_percent": 100 - record["error_percent"]} for record in records]
        for name, records in angles.items()
    }
    figure = _two_panels(runs, labels, draw, xlabel="test images turned by (degrees)", xticks=range(0, 361, 45))
    accuracy, change = figure.axes
    lowest = min(record["accuracy_percent"] for records in runs.values() for record in records)
    accuracy.set_ylim(max(0, lowest - 5), 100)
    change.set_ylim(bottom=0)
    for axis in figure.axes:
        axis.set_xlim(0, 360)
    return figure


def _two_panels(runs, labels, draw, **options):
    """A panel a field of the runs' records, each drawn by `draw(axis, records, values, style)`; a legend of several."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axis, (field, label) in zip(figure.subplots(1, 2), labels.items(), strict=True):
        for i, (name, records) in enumerate(runs.items()):
            style = dict(color=COLOURS[i % len(COLOURS)], linestyle=STYLES[i % len(STYLES)], label=name)
            style |= dict(marker=MARKERS[i % len(MARKERS)])
            draw(axis, records, np.array([record[field] for record in records]), style)
        axis.set(ylabel=label, **options)
        axis.grid(alpha=0.3)
    if len(runs) > 1:
        # Above the panels, where it covers no curve, and as high as it needs to be.
        handles = figure.axes[0].get_legend_handles_labels()[0]
        names = [textwrap.shorten(name, 100, placeholder=" ...") for name in runs]
        columns = max(1, min(len(names), 110 // (8 + max(map(len, names)))))
        figure.legend(handles, names, loc="outside upper center", ncols=columns, frameon=False)
        figure.set_figheight(3.6 + 0.22 * -(-len(names) // columns))
    return figure


def logarithmic(axis: Axes) -> None:
    """Makes the axis of numbers that are drawn already logarithmic, with labels and lines at `log_ticks`.

    It reaches down to the label below the smallest number. Of numbers none of which is positive nothing is labelled.
    """
    axis.set_yscale("log")
    low, high = axis.dataLim.minposy, axis.dataLim.y1
    if not 0 < low <= high < np.inf:
        return
    if high < 1.01 * low:
        low, high = low / 1.2, high * 1.2
    ticks = log_ticks(low, high)
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.yaxis.set_minor_locator(NullLocator())
    axis.set_ylim(bottom=min(ticks[0], low), top=high * (high / min(ticks[0], low)) ** 0.05)
    axis.grid(alpha=0.3)


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers on a logarithmic axis, from the last up to `low` to the last up to `high`.

    Powers of ten, their doubles and fivefolds; powers of ten alone where those are many; where fewer than two of them
    lie between, multiples of one number.

    >>> log_ticks(5.6, 24), log_ticks(52, 58)
    ([5.0, 10.0, 20.0], [52.0, 54.0, 56.0, 58.0])
    """
    decades = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        ticks = [float(f"{factor}e{decade}") for decade in decades for factor in factors]
        ticks = [tick for tick in ticks if tick <= high]
        ticks = ticks[max(i for i, tick in enumerate(ticks) if tick <= low) :]
        if len(ticks) <= _LABELS:
            break
    if sum(tick >= low for tick in ticks) >= 2:
        return ticks
    multiples = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(low, high).tolist()
    return [tick for tick in multiples if 0 < tick <= high * 1.0001]


def confusion(counts: Int[np.ndarray, "label prediction"], class_names: Sequence[str], title: str) -> Figure:
    """How often images of a class are taken for another, in shades but for the diagonal.

    Numbers are written of at most 30 classes; long names of classes are cut.
    """
    classes, names = len(counts), [cut(name) for name in class_names]
    # Of few classes as wide that their names stand side by side.
    widest = classes * (0.25 + 0.085 * max(map(len, names)))
    side = float(np.clip(widest if widest <= 5 else 0.42 * classes, 2.2, 9))
    size = float(np.clip(72 * side / classes / 1.25, 5, 9))
    upright = widest > side + 0.1
    figure = Figure(figsize=(side + 2.6, side + 1.9), layout="constrained")
    axis = figure.subplots()
    wrong = np.where(np.eye(classes, dtype=bool), 0, counts)
    largest = max(1, wrong.max())
    mappable = axis.imshow(wrong, cmap="Blues", vmin=0, vmax=largest)
    if classes <= _WRITTEN_CLASSES:
        _write(axis, counts, wrong > 0.6 * largest, size)
    else:
        axis.plot([-0.5, classes - 0.5], [-0.5, classes - 0.5], color="0.7", linewidth=0.5)
    ticks = range(classes)
    axis.set_yticks(ticks, names, fontsize=size)
    axis.set_xticks(ticks, names, fontsize=size, rotation=90 if upright else 0)
    axis.set(xlabel="prediction", ylabel="label")
    figure.suptitle("\n".join(textwrap.wrap(title, int(11 * (side + 2.6)))), fontsize=10)
    places = MaxNLocator(integer=True, min_n_ticks=1)
    figure.colorbar(mappable, ax=axis, label="misclassified images", ticks=places, shrink=0.9, pad=0.02)
    return figure


def cut(name: str, longest: int = 24, *, end: bool = False) -> str:
    """A name in a picture: of a long one the beginning, or the end; dollar signs are no formula."""
    if len(name) > longest:
        name = "…" + name[1 - longest :] if end else name[: longest - 1] + "…"
    return name.replace("$", r"\$")


def _write(axis, counts, dark, size):
    for label, prediction in np.ndindex(*counts.shape):
        look = dict(color="white" if dark[label, prediction] else "black", fontsize=size)
        look["fontweight"] = "bold" if label == prediction else "normal"
        # Zeros beside the diagonal say nothing, and hide what does.
        if counts[label, prediction] or label == prediction:
            axis.text(prediction, label, counts[label, prediction], ha="center", va="center", **look)
