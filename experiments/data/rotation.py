"""One rotation and change of scale for every such set: one resampling, by cubic splines."""

import numpy as np
from scipy import ndimage

SCALES = (0.3, 1.0)
"""Between which the sets that change in scale draw their scales, uniformly."""


def turned(image: np.ndarray, angle: float, grid: int, side: float) -> np.ndarray:
    """The image turned counter-clockwise about its centre and enlarged or shrunk, in the middle of a grid.

    The content moves by `[[cos, -sin], [sin, cos]]` in coordinates `(row, column)` about the centre: as a printed
    matrix, counter-clockwise, and at a right angle `np.rot90`. Rotation and change of size are one resampling. An image
    that shrinks is smoothed first, or fine strokes would break up (see `smoothed`). Cubic splines overshoot a little.

    Args:
      image: `[s, s]`, floating; zero outside.
      angle: in radians.
      grid: pixels on a side of the result.
      side: pixels on the side of the image in the result, whole or not; `s` leaves its size.
    """
    if image.ndim != 2 or image.shape[0] != image.shape[1] or not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"image must be floating [s, s], got {image.dtype} of shape {image.shape}; convert it first")
    cos, sin = np.cos(angle), np.sin(angle)
    turn_back = np.array([[cos, sin], [-sin, cos]])
    step = len(image) / side
    if step > 1:
        image = smoothed(image, step)
    centre = (len(image) - 1) / 2
    offset = centre - step * turn_back @ np.full(2, (grid - 1) / 2)
    return ndimage.affine_transform(
        image, step * turn_back, offset, output_shape=(grid, grid), order=3, mode="grid-constant"
    )


def smoothed(image: np.ndarray, step: float) -> np.ndarray:
    """The image with the blur of pixels `step` times as large: smoothed by a Gaussian of `0.5 sqrt(step^2 - 1)` pixels.

    Every image is taken to be blurred by a Gaussian of half a pixel, and variances add. A margin on all sides holds
    what spreads over the edge.

    Source: Lowe 2004, section 3.3 (the blur of half a pixel).
    """
    sigma = 0.5 * np.sqrt(step**2 - 1)
    return ndimage.gaussian_filter(np.pad(image, int(np.ceil(4 * sigma))), sigma, mode="constant", truncate=4)
