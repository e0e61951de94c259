"""Figures per class, and which classes are taken for which, from a table of confusions."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int


class ClassFigures(NamedTuple):
    """How one class does on a split; None where a ratio is of nothing."""

    name: str
    count: int
    """Images of the class."""
    recall_percent: float | None
    """Of the class's images, how many are found."""
    precision_percent: float | None
    """Of the images taken for the class, how many belong to it."""


def per_class(counts: Int[np.ndarray, "label prediction"], class_names: Sequence[str]) -> list[ClassFigures]:
    """Of every class its number of images, recall and precision.

        recall[c] = counts[c, c] / sum over p of counts[c, p]
        precision[c] = counts[c, c] / sum over l of counts[l, c]

    >>> per_class(np.array([[3, 1], [0, 0]]), ["cat", "dog"])[1]
    ClassFigures(name='dog', count=0, recall_percent=None, precision_percent=0.0)
    """
    right, labels, predictions = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    return [
        ClassFigures(name, int(labels[c]), _percent(right[c], labels[c]), _percent(right[c], predictions[c]))
        for c, name in enumerate(class_names)
    ]


def frequent_confusions(counts: Int[np.ndarray, "label prediction"], most: int) -> list[tuple[int, int, int]]:
    """Label, prediction and how often, of the pairs that are confused most often, at most so many."""
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = np.stack(np.unravel_index(order, wrong.shape), axis=1)
    return [
        (int(label), int(prediction), int(wrong[label, prediction]))
        for label, prediction in pairs
        if wrong[label, prediction]
    ]


def _percent(part, whole):
    return float(100 * part / whole) if whole else None
