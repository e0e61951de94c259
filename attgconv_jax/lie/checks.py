"""Checks of what functions on Lie groups are given: groups, grids of their elements, and evaluated kernels."""

import math

import jax
import numpy as np
from jaxtyping import Array

from attgconv_jax.checks import check_dtypes, check_feature_map
from attgconv_jax.geometry import Padding, check_symmetric_grid, windows_of
from attgconv_jax.groups import Group, cyclic, trivial
from attgconv_jax.lie.groups import LieGroup


def check_lie_group(group: LieGroup) -> None:
    """Raises a `ValueError` unless this is a Lie group."""
    if not isinstance(group, LieGroup):
        raise ValueError(f"group must be a LieGroup, as attgconv_jax.lie.rotations(8), got {group!r}")


def check_grid(group: LieGroup, **grids: Array) -> None:
    """Raises a `ValueError` unless every named grid holds elements `[n, d]` of the group, with scales above 0."""
    for name, grid in grids.items():
        if not isinstance(grid, jax.Array | np.ndarray) or grid.ndim != 2 or not len(grid):
            got = f"shape {grid.shape}" if hasattr(grid, "shape") else type(grid).__name__
            raise ValueError(f"{name} must be an array [n, {group.dimension}], as {group}.grid() is, got {got}")
        group.check(grid)
        if group.scales is not None and not isinstance(grid, jax.core.Tracer):
            least = np.min(np.asarray(grid)[:, -1])
            if not least > 0:
                raise ValueError(f"{name} must have scales above 0, got {least}")


def pixel_symmetries(group: LieGroup) -> Group:
    """Which symmetries of the pixels a strided grid of windows must have: quarter turns if the group rotates."""
    return cyclic(4) if (group.angles or 1) > 1 else trivial()


def check_exact(f: Array, group: LieGroup, size: int, stride: int, padding: Padding) -> None:
    """Raises a `ValueError` if the group rotates and quarter turns do not map the filters' positions to themselves."""
    shape = f.shape[-4:-2]
    check_symmetric_grid(windows_of(size, stride, padding, 1, shape), pixel_symmetries(group), shape, padding)


def check_kernels(f: Array, axes: str, **kernels: tuple[Array, str]) -> None:
    """Raises a `ValueError` unless `f` and the kernels fit each other: none is cast or broadcast.

    `axes` are those of the group and of the channels of `f`, by their names in the kernels. Axes of one name have one
    length; `a*s` has the product's.
    """
    check_feature_map(f)
    lengths = {}

    def length_of(axis):
        parts = axis.split("*")
        return math.prod(lengths[part] for part in parts) if all(part in lengths for part in parts) else axis

    for name, (kernel, of_kernel) in kernels.items():
        wanted = [str(length_of(axis)) for axis in of_kernel.split()]
        shape = getattr(kernel, "shape", ())
        good = len(shape) == len(wanted)
        for axis, length in zip(of_kernel.split(), shape, strict=False):
            good = good and length == lengths.setdefault(axis, length) == length_of(axis)
        if not good:
            raise ValueError(f"{name} must be [{', '.join(wanted)}], got shape {shape}")
    h_in, c_in = map(length_of, axes.split())
    if f.shape[-2:] != (h_in, c_in):
        raise ValueError(
            f"f has {f.shape[-2]} group elements and {f.shape[-1]} channels (shape {f.shape}), but to fit "
            f"{' and '.join(kernels)} it must have {h_in} and {c_in}"
        )
    check_dtypes(f, **{name: kernel for name, (kernel, _) in kernels.items()})
