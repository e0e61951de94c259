"""What arguments must be, said once. Checks that pass return their values, integers as Python's.

Public functions and constructors check where they are entered; what they call is not checked again.
"""

import math
import numbers
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

FLOATS = ("float16", "bfloat16", "float32", "float64")
"""What can be computed in."""


def _is_number(value: Any, kind: type) -> bool:
    """Whether a value is a number of this kind; True and False are no numbers."""
    return isinstance(value, kind) and not isinstance(value, bool)


def check_integer(name: str, value: Any, least: int = 1) -> int:
    """Raises a `ValueError` unless a value is an integer, Python's or NumPy's, of at least `least`."""
    if not _is_number(value, numbers.Integral) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    return int(value)


def check_positive(**values: Any) -> tuple[int, ...]:
    """Raises a `ValueError` unless every named value is an integer of at least 1."""
    return tuple(check_integer(name, value) for name, value in values.items())


def check_bytes(**values: Any) -> tuple[int, ...]:
    """Raises a `ValueError` unless every named value is a number of bytes."""
    for name, value in values.items():
        if not _is_number(value, numbers.Integral) or value < 1:
            wanted = "bytes, an integer of at least 1, such as 1_000_000_000"
            raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return tuple(map(int, values.values()))


def check_odd(why: str = "or attention is off centre", **values: Any) -> tuple[int, ...]:
    """Raises a `ValueError` unless every named value, the size of a filter, is an odd integer of at least 1."""
    sizes = check_positive(**values)
    for name, size in zip(values, sizes, strict=True):
        if size % 2 == 0:
            raise ValueError(f"{name} must be odd, {why}, got {size}")
    return sizes


def check_boolean(**values: Any) -> tuple[bool, ...]:
    """Raises a `ValueError` unless every named value is True or False, Python's or NumPy's."""
    for name, value in values.items():
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name} must be True or False, got {value!r}")
    return tuple(map(bool, values.values()))


def check_path(path: Any, name: str = "path") -> pathlib.Path:
    """Raises a `ValueError` unless this is a path as text or an `os.PathLike`; returns the absolute one."""
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"{name} must be a path, a string or an os.PathLike, got {type(path).__name__}")
    return pathlib.Path(path).absolute()


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raises a `ValueError` that lists the choices unless a value is one of them."""
    choices = list(choices)
    if not isinstance(value, str) or value not in choices:
        names = ", ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"{name} must be one of {names}, got {value!r}")


def check_dtype_names(**dtypes: Any) -> None:
    """Raises a `ValueError` unless every named value is a floating type of JAX, or its name; `dtype` may be None."""
    for name, dtype in dtypes.items():
        if dtype is None and name == "dtype":
            continue
        try:
            known = dtype is not None and jnp.dtype(dtype).name in FLOATS
        except (TypeError, ValueError):
            known = False
        if not known:
            none, got = "None or " if name == "dtype" else "", getattr(dtype, "__name__", repr(dtype))
            raise ValueError(f"{name} must be {none}one of {', '.join(FLOATS)}, got {got}")


def check_divisor(name: str, value: Any, *counts: int, of: str = "channels") -> int:
    """Raises a `ValueError` that lists the divisors unless a value divides each of these counts."""
    if not _is_number(value, numbers.Integral) or value < 1 or any(count % value for count in counts):
        known = ", ".join(str(n) for n in range(1, min(counts) + 1) if not any(count % n for count in counts))
        raise ValueError(f"{name} must divide the {' and '.join(map(str, counts))} {of}: one of {known}; got {value!r}")
    return int(value)


def check_finite_positive(**values: Any) -> tuple[float, ...]:
    """Raises a `ValueError` unless every named value is a positive finite number."""
    for name, value in values.items():
        if not _is_number(value, numbers.Real) or not 0 < value < math.inf:
            raise ValueError(f"{name} must be a positive finite number, got {value!r}")
    return tuple(map(float, values.values()))


def check_rate(**values: Any) -> tuple[float, ...]:
    """Raises a `ValueError` unless every named value is a probability below 1."""
    for name, value in values.items():
        if not _is_number(value, numbers.Real) or not 0 <= value < 1:
            raise ValueError(f"{name} must be in [0, 1), got {value!r}")
    return tuple(map(float, values.values()))


def check_window(size: int, stride: int, padding: Any, dilation: int) -> tuple[int, int, Any, int]:
    """Raises a `ValueError` unless these are settings of a window: pixels, pixels, a padding, pixels."""
    size, stride, dilation = check_positive(kernel_size=size, stride=stride, dilation=dilation)
    if isinstance(padding, str) and padding in ("SAME", "VALID"):
        return size, stride, padding, dilation
    if not _is_number(padding, numbers.Integral) or padding < 0:
        raise ValueError(f'padding must be an integer of at least 0, "SAME" or "VALID", got {padding!r}')
    return size, stride, int(padding), dilation


def check_pooling(window: int, stride: int | None, padding: int) -> tuple[int, int, int]:
    """Raises a `ValueError` unless these are settings of a pooling, in pixels; a stride of None is the window's."""
    size, padding = check_integer("window", window), check_integer("padding", padding, 0)
    if padding >= size:
        raise ValueError(f"padding must be smaller than the window, got {padding} for a window of {size}")
    return size, size if stride is None else check_integer("stride", stride), padding


def check_array(name: str, array: Any, axes: str) -> None:
    """Raises a `ValueError` unless this is a floating array with these axes, named as in `x y h c`, none empty.

    A leading `...` stands for any batch axes, which may be empty.
    """
    names = axes.split()
    shape = getattr(array, "shape", None)
    if shape is None:
        raise ValueError(f"{name} must be an array [{', '.join(names)}], got {type(array).__name__}")
    least = len(names) - (names[0] == "...")
    if len(shape) < least or (names[0] != "..." and len(shape) > least):
        raise ValueError(f"{name} must be [{', '.join(names)}], got shape {shape}")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"{name} must be floating, got {array.dtype}; cast it")
    if 0 in shape[-least:]:
        raise ValueError(f"{name} has an empty axis: {shape}; every size and channel count must be at least 1")


def check_feature_map(f: Array, group: Any = None) -> None:
    """Raises a `ValueError` unless `f` is floating `[..., x, y, h, c]`, with a group axis of 1 or the group's order."""
    if getattr(f, "ndim", 4) < 4:
        hint = "; an image has a group axis of length 1: take f[..., None, :]" if f.ndim == 3 else ""
        raise ValueError(f"f must be a feature map [..., x, y, h, c], got shape {f.shape}{hint}")
    check_array("f", f, "... x y h c")
    if group is not None and f.shape[-2] not in (1, group.order):
        raise ValueError(
            f"f has {f.shape[-2]} group elements (shape {f.shape}, axes [..., x, y, h, c]), but {group} has "
            f"{group.order}; an image has 1: of images [batch, x, y, c] take f[..., None, :]"
        )


def check_filter(w: Array, group: Any, name: str = "w") -> None:
    """Raises a `ValueError` unless `w` is a square filter `[k, k, h_in, c_in, c_out]` that the group acts on."""
    check_array(name, w, "k k h_in c_in c_out")
    if w.shape[0] != w.shape[1]:
        raise ValueError(f"{name} must be square, got a {w.shape[0]}x{w.shape[1]} filter")
    check_group_axis(w, group, name)


def check_group_axis(w: Array, group: Any, name: str = "w") -> None:
    """Raises a `ValueError` unless a filter's group axis, the third last, is that of images or of feature maps."""
    if w.shape[-3] not in (1, group.order):
        raise ValueError(
            f"{name} has {w.shape[-3]} input group elements, but {group} needs 1 (on images) or {group.order} "
            "(on feature maps)"
        )


def check_dtypes(f: Array, **arrays: Array) -> None:
    """Raises a `ValueError` unless every named array has the dtype of `f`."""
    for name, array in arrays.items():
        if array.dtype != f.dtype:
            raise ValueError(f"f and {name} must have one dtype, got {f.dtype} and {array.dtype}; cast one of them")
