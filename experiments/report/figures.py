"""Figures of runs: learning curves, equivariance by angle, confusions. Legible in print and to the colour-blind."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

# Okabe and Ito 2008; every series also has a line style or a marker of its own.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def curves(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Training loss and validation error by epoch.

    Args:
      runs: by name, the records of their metrics.

    Returns:
      A figure with a line a run, the mean over seeds, in a band from the lowest to the highest.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    panels = {"train_loss": "training loss", "validation_error_percent": "validation error (%)"}
    for axis, (field, label) in zip(axes, panels.items(), strict=True):
        for i, (name, records) in enumerate(runs.items()):
            epochs = [record["epoch"] for record in records]
            values = np.array([record[field] for record in records])
            colour = COLOURS[i % len(COLOURS)]
            axis.plot(epochs, values.mean(axis=1), color=colour, linestyle=STYLES[i % len(STYLES)], label=name)
            axis.fill_between(epochs, values.min(axis=1), values.max(axis=1), color=colour, alpha=0.2, linewidth=0)
        # A logarithm has no place for the epochs at which nothing was wrong.
        zero = any(np.any(np.array([record[field] for record in records]) == 0) for records in runs.values())
        axis.set(xlabel="epoch", ylabel=label, yscale="linear" if zero else "log")
        if not zero:
            axis.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("{x:g}")
        axis.grid(alpha=0.3, which="both")
    axes[0].legend(frameon=False)
    return figure


def equivariance(angles: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """How logits and error change when the images turn.

    Args:
      angles: by run, its records by angle (see `experiments.evaluate`): `degrees`, `logits_change`, `error_percent`.

    Returns:
      A figure with a line a run: the change of the logits and the error, both over the angle.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    panels = {"logits_change": "change of the logits, relative", "error_percent": "error (%)"}
    for axis, (field, label) in zip(axes, panels.items(), strict=True):
        for i, (name, records) in enumerate(angles.items()):
            axis.plot(
                [record["degrees"] for record in records],
                [record[field] for record in records],
                color=COLOURS[i % len(COLOURS)],
                linestyle=STYLES[i % len(STYLES)],
                marker=MARKERS[i % len(MARKERS)],
                markersize=4,
                label=name,
            )
        axis.set(xlabel="images turned by (degrees)", ylabel=label, xticks=range(0, 361, 45), ylim=(0, None))
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    return figure


def confusion(counts: np.ndarray, title: str) -> Figure:
    """How often images of a class are taken for another.

    Args:
      counts: `[label, prediction]`.
      title: of the figure.

    Returns:
      A figure with a number in every cell; shades leave out the diagonal, which would outshine the rest.
    """
    figure = Figure(figsize=(5.4, 4.8), layout="constrained")
    axis = figure.subplots()
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    largest = max(1, wrong.max())
    mappable = axis.imshow(wrong, cmap="Blues", vmin=0, vmax=largest)
    for label, prediction in np.ndindex(*counts.shape):
        dark = wrong[label, prediction] > 0.6 * largest
        axis.text(
            prediction,
            label,
            counts[label, prediction],
            ha="center",
            va="center",
            fontsize=8,
            color="white" if dark else "black",
            fontweight="bold" if label == prediction else "normal",
        )
    ticks = range(len(counts))
    axis.set(xlabel="prediction", ylabel="label", xticks=ticks, yticks=ticks, title=title)
    figure.colorbar(mappable, ax=axis, label="misclassified images")
    return figure
