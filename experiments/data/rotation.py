"""One rotation for every rotated set: one resampling, by cubic splines."""

import numpy as np
from scipy import ndimage


def turned(image: np.ndarray, angle: float, grid: int, side: float) -> np.ndarray:
    """The image turned counter-clockwise about its centre and enlarged, in the middle of a larger grid.

    The content moves by `[[cos, -sin], [sin, cos]]` in coordinates `(row, column)` about the centre: as a printed
    matrix, counter-clockwise, and at a right angle `np.rot90`. Rotation and enlargement are one resampling.

    Args:
      image: `[s, s]`, floating; zero outside.
      angle: in radians.
      grid: pixels on a side of the result.
      side: pixels on the side of the enlarged image; `s` leaves its size.

    Returns:
      `[grid, grid]`; cubic splines overshoot, so its values may leave the image's range a little.

    Raises:
      ValueError: the image is not square or not floating.
    """
    if image.ndim != 2 or image.shape[0] != image.shape[1] or not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"image must be floating [s, s], got {image.dtype} of shape {image.shape}; convert it first")
    cos, sin = np.cos(angle), np.sin(angle)
    turn_back = np.array([[cos, sin], [-sin, cos]])
    scale = len(image) / side
    centre = (len(image) - 1) / 2
    offset = centre - scale * turn_back @ np.full(2, (grid - 1) / 2)
    return ndimage.affine_transform(
        image, scale * turn_back, offset, output_shape=(grid, grid), order=3, mode="grid-constant"
    )
