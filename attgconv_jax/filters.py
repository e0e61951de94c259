"""Filter banks: one filter transformed by every element of a group."""

import dataclasses
import functools
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attgconv_jax.checks import check_boolean, check_choice, check_filter
from attgconv_jax.deprecation import convert_arguments, warn_deprecated
from attgconv_jax.groups import Group, check_group, frozen


def _hat(t: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - np.abs(t))


def _keys(t: np.ndarray) -> np.ndarray:
    t = np.abs(t)
    inner = (1.5 * t - 2.5) * t**2 + 1
    outer = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return np.where(t <= 1, inner, np.where(t < 2, outer, 0))


_KERNELS = {"bilinear": _hat, "cubic": _keys}


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How a filter is transformed by elements that do not map its grid to itself, such as turns by 45 degrees.

    Elements that do (`n` in 1, 2, 4, and reflections) permute pixels, whatever the sampling. One object reaches every
    filter of a layer or network, those of its attention included.

    Attributes:
      kind: interpolation between pixels: "bilinear", or "cubic" (Keys 1981, a = -1/2). The filter is zero outside its
        grid.
      disc_mask: whether the filter is zero farther than `(k - 1) / 2` pixels from its centre, so that no rotation moves
        a tap off the grid. (Filters of size 2 keep their four taps.)
    """

    kind: Literal["bilinear", "cubic"] = "bilinear"
    disc_mask: bool = False

    def __post_init__(self):
        check_choice("kind", self.kind, _KERNELS)
        check_boolean(disc_mask=self.disc_mask)


@convert_arguments
def former_sampling(arguments: dict[str, Any]) -> dict[str, Any]:
    """`interpolation` and `disc_mask`, two arguments until 0.1, as the one `sampling`."""
    former = {name: arguments.pop(name) for name in ("interpolation", "disc_mask") if name in arguments}
    if former:
        if "sampling" in arguments:
            raise ValueError(f"sampling takes the place of {' and '.join(former)}: give sampling alone")
        warn_deprecated(" and ".join(former), "sampling=Sampling(...)", stacklevel=4)
        if "interpolation" in former:
            former["kind"] = former.pop("interpolation")
        arguments["sampling"] = Sampling(**former)
    return arguments


def check_sampling(sampling: Sampling) -> None:
    """Raises a `ValueError` unless this is a `Sampling`."""
    if not isinstance(sampling, Sampling):
        raise ValueError(f'sampling must be a Sampling, such as Sampling("cubic", disc_mask=True), got {sampling!r}')


@former_sampling
def filter_bank(
    w: Float[Array, "k k h_in c_in c_out"], group: Group, *, sampling: Sampling = Sampling()
) -> Float[Array, "k k h_in c_in h c_out"]:
    """Transforms a filter by every group element.

        bank[u, h', c, g, o] = (L_g w)[u, h', c, o] = w[g^-1 u, g^-1 h', c, o]

    A filter on images (`h_in == 1`) has no group axis to act on. Where every element maps the grid to itself
    (`n` in 1, 2, 4) the bank is one gather; otherwise a fixed resampling operator is applied as one einsum.

    Reshaped to `[k, k, h_in c_in, h c_out]` the bank is XLA's `HWIO`.

    Source: Cohen and Welling 2016 (right angles); the bank of Romero et al. 2020, section 2.
    """
    check_group(group)
    check_filter(w, group)
    check_sampling(sampling)
    return transformed(w, group, sampling)


def transformed(w: Array, group: Group, sampling: Sampling) -> Array:
    """`filter_bank` of checked arguments: the one place where filters are transformed."""
    k, _, h_in, c_in, c_out = w.shape
    if sampling.disc_mask:
        w = w * disc(k).astype(w.dtype)[:, :, None, None, None]
    if group.is_exact:
        rows = w.reshape(k * k * h_in, c_in, c_out)[_exact_gather(group, k, h_in)]
    else:
        acted = w.reshape(k * k, h_in, c_in, c_out)[:, _group_axis_gather(group, h_in)]
        operator = resampling_operator(group, k, sampling.kind).astype(w.dtype)
        rows = jnp.einsum("guv,vghio->uhgio", operator, acted).reshape(k * k * h_in, group.order, c_in, c_out)
    return rows.swapaxes(1, 2).reshape(k, k, h_in, c_in, group.order, c_out)


@functools.lru_cache(maxsize=256)
def grid_permutation(group: Group, size: int) -> np.ndarray:
    """`permutation[g, u]` is the flat index of `g^-1 u` on a `size x size` grid; integers `[order, size^2]`."""
    if not group.is_exact:
        raise ValueError(f"{group} does not map a square grid to itself; use resampling_operator")
    source = np.rint(_source_coordinates(group, size) + (size - 1) / 2).astype(np.int64)
    return frozen(source[..., 0] * size + source[..., 1])


@functools.lru_cache(maxsize=256)
def resampling_operator(group: Group, size: int, kind: str = "bilinear") -> np.ndarray:
    """`operator[g]` resamples a `size x size` grid at `g^-1 u`; float64 `[order, size^2, size^2]`.

        (L_g w)[u] = sum over v of operator[g, u, v] w[v],    operator[g, u, v] = kernel(g^-1 u - v)

    `kernel` is separable in `x` and `y`. Elements that map the grid to itself get their exact permutation; a source
    outside the grid counts as zero.
    """
    check_choice("kind", kind, _KERNELS)
    source = _source_coordinates(group, size) + (size - 1) / 2
    # Right angles must give an exact permutation: take away the rounding of the coordinates' arithmetic.
    source = np.where(np.abs(source - np.rint(source)) < 1e-9, np.rint(source), source)
    weights = _KERNELS[kind](source[..., None] - np.arange(size))
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
