"""Reads `.amat`, the text format of Larochelle et al. 2007: a row an image, its pixels and then its label."""

from collections.abc import Iterable, Iterator

import numpy as np

ARCHIVE = "mnist_rotation_new.zip"
"""Of rotated MNIST."""
PIXELS = 28 * 28


def amat_rows(lines: Iterable[str], name: str) -> Iterator[tuple[np.ndarray, int]]:
    """Images and labels, one at a time.

    The 784 pixels are taken row by row: pixel `28 row + column`. So read them for this set a port of Cohen and
    Welling's loader and escnn's example (`reshape(28, 28)`); and skdata, written by one of the set's authors,
    transposes others of the 2007 sets ("saved sideways"), but not this one. Blank lines are skipped.

    Yields:
      The image `[28, 28]` (float32, in [0, 1]) and its label.

    Raises:
      ValueError: a row is no such row, or there is none; the message has `name`, that of the file, and the row.
    """
    rows = 0
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        rows += 1
        yield _parse(words, f"{name}, row {number}")
    if not rows:
        raise ValueError(f"{name} must hold rows of {PIXELS} pixels and a label, but it is empty")


def _parse(words, where):
    if len(words) != PIXELS + 1:
        raise ValueError(f"{where} must hold {PIXELS} pixels and a label, got {len(words)} words")
    try:
        numbers = np.array(words, np.float64)
    except ValueError:
        raise ValueError(f"{where} must hold numbers, got {_first_bad_word(words)!r}") from None
    pixels, label = numbers[:-1], numbers[-1]
    outside = np.flatnonzero(~((pixels >= 0) & (pixels <= 1)))
    if len(outside):
        raise ValueError(f"{where}: pixels must be in [0, 1], got {pixels[outside[0]]} as pixel {outside[0]}")
    if label not in range(10):
        raise ValueError(f"{where}: the label, its last number, must be an integer in 0 to 9, got {label}")
    return pixels.reshape(28, 28).astype(np.float32), int(label)


def _first_bad_word(words):
    for word in words:
        try:
            float(word)
        except ValueError:
            return word
    return words[0]
