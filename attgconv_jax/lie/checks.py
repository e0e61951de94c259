"""Checks of what functions on Lie groups are given: groups, grids of their elements, and evaluated kernels."""

import jax
import numpy as np
from jaxtyping import Array

from attgconv_jax.checks import check_feature_map
from attgconv_jax.groups import Group, cyclic, trivial
from attgconv_jax.lie.groups import LieGroup


def require_lie_group(group: LieGroup) -> None:
    """Raises a `ValueError` unless this is a Lie group."""
    if not isinstance(group, LieGroup):
        raise ValueError(f"group must be a LieGroup, as attgconv_jax.lie.rotations(8), got {group!r}")


def require_grid(group: LieGroup, grid: Array, name: str) -> None:
    """Raises a `ValueError` unless these are elements `[n, d]` of the group, with scales that are positive.

    What is traced has no numbers to look at.
    """
    require_lie_group(group)
    if not isinstance(grid, jax.Array | np.ndarray) or grid.ndim != 2 or not len(grid):
        got = f"shape {grid.shape}" if hasattr(grid, "shape") else type(grid).__name__
        raise ValueError(f"{name} must be an array [n, {group.dimension}], as {group}.grid() is, got {got}")
    group.check(grid)
    if group.scales is not None and not isinstance(grid, jax.core.Tracer):
        least = np.min(np.asarray(grid)[:, -1])
        if not least > 0:
            raise ValueError(f"{name} must have scales above 0, got {least}")


def quarter_turns(group: LieGroup) -> Group:
    """Which symmetries of the pixels a strided grid of windows must have: quarter turns if the group turns."""
    require_lie_group(group)
    return cyclic(4) if (group.angles or 1) > 1 else trivial()


def require_axes(kernel: Array, name: str, axes: str) -> None:
    """Raises a `ValueError` unless a kernel has these axes, those of one name of one length."""
    names, lengths = axes.split(), {}
    pairs = zip(names, kernel.shape, strict=False)
    if kernel.ndim != len(names) or any(lengths.setdefault(axis, length) != length for axis, length in pairs):
        raise ValueError(f"{name} must be [{', '.join(names)}], got shape {kernel.shape}")


def require_input(f: Array, kernel: Array, name: str, h_in: int, c_in: int) -> None:
    """Raises a `ValueError` unless `f` is a feature map that a kernel takes, of its dtype."""
    check_feature_map(f)
    if f.shape[-2:] != (h_in, c_in):
        raise ValueError(
            f"f has {f.shape[-2]} group elements and {f.shape[-1]} channels (shape {f.shape}), but to fit {name} it "
            f"must have {h_in} and {c_in}"
        )
    _require_dtype(f, kernel, name)


def require_factor(f: Array, kernel: Array, name: str, shape: tuple[int | None, ...]) -> None:
    """Raises a `ValueError` unless a further factor has this shape, for none may be broadcast, and the dtype of `f`."""
    wanted = "[" + ", ".join("any" if length is None else str(length) for length in shape) + "]"
    pairs = zip(shape, kernel.shape, strict=False)
    if kernel.ndim != len(shape) or any(length not in (None, own) for length, own in pairs):
        raise ValueError(f"{name} must be {wanted} to fit the kernel's other factors, got shape {kernel.shape}")
    _require_dtype(f, kernel, name)


def _require_dtype(f, kernel, name):
    if f.dtype != kernel.dtype:
        raise ValueError(f"f and {name} must have one dtype, got {f.dtype} and {kernel.dtype}; cast one of them")
