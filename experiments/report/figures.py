"""Figures of runs: learning curves, equivariance by angle, confusions. Legible in print and to the colour-blind."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

# Okabe and Ito 2008; every series also has a line style or a marker of its own.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def curves(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Training loss and validation error by epoch, of metrics by run: the mean over seeds, in a band of all seeds."""

    def draw(axis, records, values, style):
        epochs = [record["epoch"] for record in records]
        axis.plot(epochs, values.mean(axis=1), **style | {"marker": ""})
        axis.fill_between(epochs, values.min(axis=1), values.max(axis=1), color=style["color"], alpha=0.2, linewidth=0)

    labels = {"train_loss": "training loss", "validation_error_percent": "validation error (%)"}
    figure = _two_panels(runs, labels, draw, xlabel="epoch")
    for axis, field in zip(figure.axes, labels, strict=True):
        # A logarithm has no place for the epochs at which nothing was wrong.
        if all(np.all(record[field]) for records in runs.values() for record in records):
            logarithmic(axis)
    return figure


def equivariance(angles: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """How logits and error change when the images turn: of every run what `by_angle` has measured."""

    def draw(axis, records, values, style):
        axis.plot([record["degrees"] for record in records], values, **style, markersize=4)

    labels = {"logits_change": "change of the logits, relative", "error_percent": "error (%)"}
    ticks = dict(xticks=range(0, 361, 45), ylim=(0, None))
    return _two_panels(angles, labels, draw, xlabel="images turned by (degrees)", **ticks)


def _two_panels(runs, labels, draw, **options):
    """A panel a field of the runs' records, each drawn by `draw(axis, records, values, style)`."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axis, (field, label) in zip(figure.subplots(1, 2), labels.items(), strict=True):
        for i, (name, records) in enumerate(runs.items()):
            style = dict(color=COLOURS[i % len(COLOURS)], linestyle=STYLES[i % len(STYLES)], label=name)
            style |= dict(marker=MARKERS[i % len(MARKERS)])
            draw(axis, records, np.array([record[field] for record in records]), style)
        axis.set(ylabel=label, **options)
        axis.grid(alpha=0.3)
    figure.axes[0].legend(frameon=False)
    return figure


def logarithmic(axis: Axes) -> None:
    """Makes an axis' errors logarithmic, with labels and lines for powers of ten, their doubles and fivefolds."""
    axis.set_yscale("log")
    axis.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}")
    axis.grid(alpha=0.3, which="both")


def confusion(counts: np.ndarray, title: str) -> Figure:
    """How often images of a class are taken for another, `[label, prediction]`, in shades but for the diagonal."""
    figure = Figure(figsize=(5.4, 4.8), layout="constrained")
    axis = figure.subplots()
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    largest = max(1, wrong.max())
    mappable = axis.imshow(wrong, cmap="Blues", vmin=0, vmax=largest)
    for label, prediction in np.ndindex(*counts.shape):
        dark = wrong[label, prediction] > 0.6 * largest
        look = dict(color="white" if dark else "black", fontweight="bold" if label == prediction else "normal")
        axis.text(prediction, label, counts[label, prediction], ha="center", va="center", fontsize=8, **look)
    ticks = range(len(counts))
    axis.set(xlabel="prediction", ylabel="label", xticks=ticks, yticks=ticks, title=title)
    figure.colorbar(mappable, ax=axis, label="misclassified images")
    return figure
