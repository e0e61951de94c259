"""Sampling grids: where a window lands, and whether a group maps those positions to themselves."""

from typing import Literal

from attgconv_jax.checks import check_window
from attgconv_jax.groups import Group
from attgconv_jax.kernels.taps import Window

Padding = int | Literal["SAME", "VALID"]


def windows_of(
    size: int, stride: int, padding: Padding, dilation: int, shape: tuple[int, int]
) -> tuple[Window, Window]:
    """The windows of a square filter along `x` and `y`, with their padding in pixels.

    Args:
      size: of the filter, in pixels.
      stride: between two positions, in pixels.
      padding: pixels on every side; "VALID": none; "SAME": as many as make `ceil(length / stride)` outputs, the odd
        one at the end.
      dilation: between two taps, in pixels.
      shape: `(x, y)`, of the images in pixels.

    Returns:
      The windows along `x` and along `y`.

    Raises:
      ValueError: a setting is out of range, or the window is larger than the padded image.
    """
    size, stride, padding, dilation = check_window(size, stride, padding, dilation)
    windows = tuple(_window(size, stride, padding, dilation, length) for length in shape)
    for window, length in zip(windows, shape, strict=True):
        if window.outputs(length) < 1:
            raise ValueError(
                f"a window of {size} pixels with dilation {dilation} does not fit an image of {shape[0]}x{shape[1]} "
                f"pixels with padding {padding}: the image must have at least {_reach(window) - 2 * window.low} pixels "
                "along each axis"
            )
    return windows


def check_symmetric_grid(windows: tuple[Window, Window], group: Group, shape: tuple[int, int], padding: Padding):
    """Raises unless `group` maps the positions of the windows to themselves.

    Along an axis that the group reverses this takes even padding and

        (length + 2 padding - dilation (k - 1) - 1) mod stride == 0

    Args:
      windows: along `x` and `y`.
      group: acts on the grid. An element that keeps an axis asks nothing of it.
      shape: `(x, y)`, of the images in pixels.
      padding: as the caller gave it.

    Raises:
      ValueError: the grid is not symmetric; the message names sizes that are.

    Source: our own.
    """
    axes = zip("xy", group.reversed_axes, windows, shape, strict=True)
    bad = [
        (axis, window, length)
        for axis, is_reversed, window, length in axes
        if is_reversed and not _is_symmetric(window, length)
    ]
    if not bad:
        return
    axis, window, length = bad[0]
    size, stride, _, _, dilation = window
    near = range(max(1, length - 2 * stride), length + 2 * stride + 1)
    good = [
        n for n in near if (w := _window(size, stride, padding, dilation, n)).outputs(n) > 0 and _is_symmetric(w, n)
    ]
    good = sorted(sorted(good, key=lambda n: abs(n - length))[:2])
    advice = (
        f"Sizes that work: {', '.join(map(str, good))}"
        if good
        else 'No size works with this padding: take a window of odd size, or another padding than "SAME"'
    )
    raise ValueError(
        f"{group} does not map the sampling grid to itself: an image of {length} pixels along {axis} with window "
        f"{size}, stride {stride}, padding {padding} and dilation {dilation} is sampled off centre. {advice}; or "
        "pass exact=False and give up exact equivariance"
    )


def _window(size, stride, padding, dilation, length):
    if padding == "VALID":
        return Window(size, stride, 0, 0, dilation)
    if padding == "SAME":
        total = max(0, (-(-length // stride) - 1) * stride + dilation * (size - 1) + 1 - length)
        return Window(size, stride, total // 2, total - total // 2, dilation)
    return Window(size, stride, padding, padding, dilation)


def _reach(window):
    return window.dilation * (window.size - 1) + 1


def _is_symmetric(window, length):
    return window.low == window.high and (length + 2 * window.low - _reach(window)) % window.stride == 0
