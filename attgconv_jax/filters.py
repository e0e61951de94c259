"""Filter banks: one filter transformed by every element of a group."""

import functools
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attgconv_jax.groups import Group, frozen, require_group

Interpolation = Literal["bilinear", "cubic"]


def filter_bank(
    w: Float[Array, "k k h_in c_in c_out"],
    group: Group,
    *,
    interpolation: Interpolation = "bilinear",
    disc_mask: bool = False,
) -> Float[Array, "k k h_in c_in h c_out"]:
    """Transforms a filter by every group element.

        bank[u, h', c, g, o] = (L_g w)[u, h', c, o] = w[g^-1 u, g^-1 h', c, o]

    A filter on images (`h_in == 1`) has no group axis to act on. Where every element maps the grid to itself
    (`n` in 1, 2, 4) the bank is one gather; otherwise a fixed resampling operator is applied as one einsum.

    Args:
      w: filter, square.
      group: acts on the filter.
      interpolation: how other angles are resampled: "bilinear", or "cubic" (Keys' kernel, a = -1/2). The filter is
        zero outside its grid.
      disc_mask: whether the filter is zero farther than `(k - 1) / 2` pixels from its centre, so that no rotation
        moves a tap off the grid. (Filters of size 2 keep their four taps.)

    Returns:
      The filter bank. Reshaped to `[k, k, h_in c_in, h c_out]` it is XLA's `HWIO`.

    Raises:
      ValueError: `w` has another rank, is not square, not floating, has an empty axis, or its group axis does not fit
        `group`; unknown interpolation.

    Source: Cohen and Welling 2016 (right angles); the bank of Romero et al. 2020, section 2.
    """
    check_filter(w, group)
    check_interpolation(interpolation)
    k, _, h_in, c_in, c_out = w.shape
    if disc_mask:
        w = w * disc(k).astype(w.dtype)[:, :, None, None, None]
    if group.is_exact:
        rows = w.reshape(k * k * h_in, c_in, c_out)[_exact_gather(group, k, h_in)]
    else:
        turned = w.reshape(k * k, h_in, c_in, c_out)[:, _group_axis_gather(group, h_in)]
        operator = resampling_operator(group, k, interpolation).astype(w.dtype)
        rows = jnp.einsum("guv,vghio->uhgio", operator, turned).reshape(k * k * h_in, group.order, c_in, c_out)
    return rows.swapaxes(1, 2).reshape(k, k, h_in, c_in, group.order, c_out)


def check_filter(w: Array, group: Group, name: str = "w") -> None:
    """Raises a `ValueError` unless `w` is a filter `[k, k, h_in, c_in, c_out]` that `group` acts on."""
    require_group(group)
    if w.ndim != 5:
        raise ValueError(f"{name} must be a filter [k, k, h_in, c_in, c_out], got shape {w.shape}")
    if not jnp.issubdtype(w.dtype, jnp.floating):
        raise ValueError(f"{name} must be floating, got {w.dtype}; cast it")
    if w.shape[0] != w.shape[1]:
        raise ValueError(f"{name} must be square, got a {w.shape[0]}x{w.shape[1]} filter")
    if 0 in w.shape:
        raise ValueError(f"{name} has an empty axis: {w.shape}; every size and channel count must be at least 1")
    if w.shape[2] not in (1, group.order):
        raise ValueError(
            f"{name} has {w.shape[2]} input group elements, but {group} needs 1 (on images) or {group.order} "
            "(on feature maps)"
        )


def check_interpolation(interpolation: str) -> None:
    """Raises a `ValueError` unless there is an interpolation of this name."""
    if interpolation not in _KERNELS:
        raise ValueError(f'interpolation must be "bilinear" or "cubic", got {interpolation!r}')


@functools.lru_cache(maxsize=256)
def grid_permutation(group: Group, size: int) -> np.ndarray:
    """`permutation[g, u]` is the flat index of `g^-1 u` on a `size x size` grid; integers `[order, size^2]`.

    Raises:
      ValueError: some element does not map the grid to itself.
    """
    if not group.is_exact:
        raise ValueError(f"{group} does not map a square grid to itself; use resampling_operator")
    source = np.rint(_source_coordinates(group, size) + (size - 1) / 2).astype(np.int64)
    return frozen(source[..., 0] * size + source[..., 1])


@functools.lru_cache(maxsize=256)
def resampling_operator(group: Group, size: int, interpolation: Interpolation = "bilinear") -> np.ndarray:
    """`operator[g]` resamples a `size x size` grid at `g^-1 u`; float64 `[order, size^2, size^2]`.

        (L_g w)[u] = sum over v of operator[g, u, v] w[v],    operator[g, u, v] = kernel(g^-1 u - v)

    `kernel` is separable in `x` and `y`. Elements that map the grid to itself get their exact permutation.

    Args:
      group: whose elements act.
      size: of the grid, in pixels.
      interpolation: "bilinear" (the hat function) or "cubic" (Keys 1981, a = -1/2).

    Returns:
      The operator; a source outside the grid counts as zero.

    Raises:
      ValueError: unknown interpolation.
    """
    check_interpolation(interpolation)
    source = _source_coordinates(group, size) + (size - 1) / 2
    # Right angles must give an exact permutation: take away the rounding of the coordinates' arithmetic.
    source = np.where(np.abs(source - np.rint(source)) < 1e-9, np.rint(source), source)
    weights = _KERNELS[interpolation](source[..., None] - np.arange(size))
    operator = np.einsum("gux,guy->guxy", weights[:, :, 0], weights[:, :, 1])
    return frozen(operator.reshape(group.order, size**2, size**2))


@functools.lru_cache(maxsize=256)
def disc(size: int) -> np.ndarray:
    """One within `(size - 1) / 2` pixels of the centre of a `size x size` grid, else zero; float64 `[size, size]`."""
    offset = np.arange(size) - (size - 1) / 2
    radius = max((size - 1) / 2, np.sqrt(0.5))
    return frozen((np.hypot(offset[:, None], offset[None, :]) <= radius + 1e-9).astype(np.float64))


def _source_coordinates(group: Group, size: int) -> np.ndarray:
    """`g^-1 u` for every element and every pixel, from the centre of the grid: `[order, size^2, 2]`."""
    offset = np.arange(size) - (size - 1) / 2
    grid = np.stack(np.meshgrid(offset, offset, indexing="ij"), -1).reshape(-1, 2)
    return np.einsum("gji,uj->gui", group.matrices, grid)


@functools.lru_cache(maxsize=256)
def _exact_gather(group: Group, size: int, h_in: int) -> np.ndarray:
    """Where row `(u, h')` of bank element `g` stands in the filter: `[size^2 h_in, order]`."""
    pixel = grid_permutation(group, size)[:, :, None] * h_in
    return frozen((pixel + _group_axis_gather(group, h_in)[:, None, :]).reshape(group.order, -1).T)


def _group_axis_gather(group: Group, h_in: int) -> np.ndarray:
    """`g^-1 h'` for every element: `[order, h_in]`; an image has no group axis to act on."""
    return group.action if h_in == group.order else np.zeros((group.order, 1), np.int32)


def _hat(t: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - np.abs(t))


def _keys(t: np.ndarray) -> np.ndarray:
    t = np.abs(t)
    inner = (1.5 * t - 2.5) * t**2 + 1
    outer = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return np.where(t <= 1, inner, np.where(t < 2, outer, 0))


_KERNELS = {"bilinear": _hat, "cubic": _keys}
