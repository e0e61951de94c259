"""Figures of every class, functions of confusion tables, whose rows are labels and whose columns are predictions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from experiments.report.markdown import markdown_table

Confusion = Int[np.ndarray, "label prediction"]

ROWS = 20
"""Of a table of classes at most."""


def recall_percent(counts: Confusion) -> list[float | None]:
    """Of every class how many of its images are found, in percent; None of a class without images."""
    return _percent(counts.diagonal(), counts.sum(axis=1))


def precision_percent(counts: Confusion) -> list[float | None]:
    """Of every class how many of the images taken for it are its own, in percent; None where none is."""
    return _percent(counts.diagonal(), counts.sum(axis=0))


def per_class(counts: Sequence[Confusion], names: Sequence[str]) -> dict[str, Any]:
    """What a report says of the classes on the test split, from one confusion table a seed.

    The classes' names and numbers of images; recall and precision in percent, and the confusion table, of every seed.
    """
    return {
        "names": list(names),
        "images": counts[0].sum(axis=1).tolist(),
        "recall_percent": [recall_percent(of_seed) for of_seed in counts],
        "precision_percent": [precision_percent(of_seed) for of_seed in counts],
        "confusion": [of_seed.tolist() for of_seed in counts],
    }


def class_table(classes: Mapping[str, Any], rows: int = ROWS) -> str:
    """What `per_class` says as a Markdown table, all seeds taken together: the worst recalls first, at most `rows`.

    Below it, how many classes are left out. The last column has the class that images are most often mistaken for, and
    how often in percent of the class.
    """
    counts, names = np.sum(classes["confusion"], axis=0), classes["names"]
    recalls, precisions = recall_percent(counts), precision_percent(counts)
    # Classes without images last; of equal recalls in the order of the labels.
    order = sorted(range(len(names)), key=lambda label: (recalls[label] is None, recalls[label] or 0))
    lines = [
        [names[label], str(classes["images"][label]), _cell(recalls[label]), _cell(precisions[label]), mistaken]
        for label in order[:rows]
        for mistaken in [_mistaken(counts[label], label, names)]
    ]
    table = markdown_table(["class", "test images", "recall (%)", "precision (%)", "most often taken for"], lines)
    left = len(order) - len(lines)
    return f"{table}\n{left} classes with better recalls are left out" if left else table


def frequent_confusions(counts: Confusion, most: int) -> list[tuple[int, int, int]]:
    """Label, prediction and how often, of the pairs that are confused most often, at most so many."""
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = zip(*(of.tolist() for of in np.unravel_index(order, wrong.shape)), strict=True)
    return [(*pair, int(wrong[pair])) for pair in pairs if wrong[pair]]


def _percent(part, whole):
    return [float(100 * a / b) if b else None for a, b in zip(part, whole, strict=True)]


def _cell(percent):
    return "-" if percent is None else f"{percent:.2f}"


def _mistaken(row, label, names):
    wrong = np.where(np.arange(len(row)) == label, 0, row)
    if not wrong.any():
        return "-"
    return f"{names[wrong.argmax()]} ({100 * wrong.max() / row.sum():.1f} %)"
