"""Sampling grids: where a window lands, and whether a group maps those positions to themselves."""

from typing import Literal

from attgconv_jax.checks import check_window
from attgconv_jax.groups import Group
from attgconv_jax.kernels.taps import Window

Padding = int | Literal["SAME", "VALID"]


def windows_of(
    size: int, stride: int, padding: Padding, dilation: int, shape: tuple[int, int]
) -> tuple[Window, Window]:
    """The windows of a square filter along `x` and `y` of images of this shape; they must fit the padded image."""
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
    """Raises a `ValueError` that names sizes that work unless `group` maps the windows' positions to themselves.

    Along an axis that the group reverses this takes even padding and

        (length + 2 padding - dilation (k - 1) - 1) mod stride == 0
    """
    for axis, is_reversed, window, length in zip("xy", group.reversed_axes, windows, shape, strict=True):
        if not is_reversed or _is_symmetric(window, length):
            continue
        size, stride, _, _, dilation = window
        lengths = range(max(1, length - 2 * stride), length + 2 * stride + 1)
        near = {n: _window(size, stride, padding, dilation, n) for n in lengths}
        good = [n for n, w in near.items() if w.outputs(n) > 0 and _is_symmetric(w, n)]
        nearest = sorted(sorted(good, key=lambda n: abs(n - length))[:2])
        advice = (
            f"Sizes that work: {', '.join(map(str, nearest))}"
            if nearest
            else 'No size works with this padding: take a window of odd size, or another padding than "SAME"'
        )
        raise ValueError(
            f"{group} does not map the sampling grid to itself: an image of {length} pixels along {axis} with window "
            f"{size}, stride {stride}, padding {padding} and dilation {dilation} is sampled off centre. {advice}; or "
            "pass exact=False and give up exact equivariance"
        )


def _window(size, stride, padding, dilation, length):
    """With "SAME" as much padding as makes `ceil(length / stride)` outputs, the odd pixel at the end."""
    if padding == "SAME":
        total = max(0, (-(-length // stride) - 1) * stride + dilation * (size - 1) + 1 - length)
        return Window(size, stride, total // 2, total - total // 2, dilation)
    low = 0 if padding == "VALID" else padding
    return Window(size, stride, low, low, dilation)


def _reach(window):
    return window.dilation * (window.size - 1) + 1


def _is_symmetric(window, length):
    return window.low == window.high and (length + 2 * window.low - _reach(window)) % window.stride == 0
