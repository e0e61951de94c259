"""Filter banks: one filter transformed by every element of a group."""

import dataclasses
import functools
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from attgconv_jax.bases import FilterBasis, least_error, rings
from attgconv_jax.bases.grid import source_pixels
from attgconv_jax.checks import (
    check_array,
    check_boolean,
    check_choice,
    check_filter,
    check_finite_positive,
    check_group_axis,
    check_integer,
)
from attgconv_jax.deprecation import convert_arguments, warn_deprecated
from attgconv_jax.groups import Group, check_group, frozen
from attgconv_jax.kernels.taps import permuted


def _hat(t: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - np.abs(t))


def _keys(t: np.ndarray) -> np.ndarray:
    t = np.abs(t)
    inner = (1.5 * t - 2.5) * t**2 + 1
    outer = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return np.where(t <= 1, inner, np.where(t < 2, outer, 0))


_KERNELS = {"bilinear": _hat, "cubic": _keys}


BASES = {"least_error": least_error, "rings": rings}
"""Kinds of `Sampling` that are bases."""

# Pixels of a filter whose functions of least error are a point and little else.
_LEAST_SIZE = 3


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How a filter is transformed by elements that do not map its grid to itself, such as turns by 45 degrees.

    One object reaches every filter of a layer or network, those of its attention included. A *basis* makes filters sums
    of functions whose transformed versions are known; an *interpolation* reads between the pixels of free filters.
    Where all elements map the grid to itself (`n` in 1, 2, 4, and reflections) pixels are permuted, unless a basis is
    asked for. Filters of one pixel are as they are.

    Attributes:
      kind: "least_error" (see `attgconv_jax.bases.least_error`) or "rings" (`attgconv_jax.bases.rings`), bases;
        "bilinear" or "cubic" (Keys 1981, a = -1/2), interpolations, for which the filter is zero outside its grid.
        None: a permutation where there is one, else "rings" for filters of 3 pixels and "least_error" for others. On 3
        pixels random sums of the functions that err least have hardly a direction, on more than 12 rotations none.
      disc_mask: of interpolations: whether the filter is zero farther than `(k - 1) / 2` pixels from its centre, so
        that no rotation moves a tap off the grid. (Filters of size 2 keep their four taps.)
      tolerance: of "least_error": the largest relative error of a function.
      lowpass: of bases: deviation of the spectrum of random filters in cycles a pixel; None: as flat as the
        functions allow. Low-pass filters err less behind a nonlinearity.
    """

    kind: Literal["least_error", "rings", "bilinear", "cubic"] | None = None
    disc_mask: bool = False
    tolerance: float = 0.01
    lowpass: float | None = 0.2

    def __post_init__(self):
        if self.kind is not None:
            check_choice("kind", self.kind, (*BASES, *_KERNELS))
        check_boolean(disc_mask=self.disc_mask)
        check_finite_positive(tolerance=self.tolerance)
        if self.lowpass is not None:
            check_finite_positive(lowpass=self.lowpass)
        if self.disc_mask and self.kind not in _KERNELS:
            raise ValueError(f'disc_mask is of kind "bilinear" or "cubic", got kind={self.kind!r}')
        fields = {field.name: field.default for field in dataclasses.fields(Sampling)}
        if self.tolerance != fields["tolerance"] and self.kind not in (None, "least_error"):
            raise ValueError(f'tolerance is of kind "least_error", got kind={self.kind!r}')
        if self.kind in _KERNELS:
            if self.lowpass not in (None, fields["lowpass"]):
                raise ValueError(f'lowpass is of kind "least_error" or "rings", got kind={self.kind!r}')
            object.__setattr__(self, "lowpass", None)


def filter_basis(group: Group, size: int, sampling: Sampling | FilterBasis = Sampling()) -> FilterBasis:
    """The functions of which filters are sums; `sampling` is of kind "least_error", "rings" or None, or a basis.

    The functions are scaled so that independent coefficients of one variance make filters of a spectrum as flat as the
    functions allow, near that of independent pixels, or of a Gaussian one of deviation `sampling.lowpass`, which
    weakens what is finer; and so that ten layers of them with ReLUs between keep the variance, as layers of
    independent pixels do: on images of frequencies up to 1/8 cycle a pixel, with many channels initialised by
    `he_normal`, to 0.85 to 1.2 of what the first layer leaves, for a `lowpass` of 0.15 or more.

    Args:
      group: of rotations and reflections, of any order.
      size: `k`, pixels along each axis of the filter; at least 2.
      sampling: kind of basis and its options.

    Raises:
      ValueError: a filter of one pixel, an interpolation, or a tolerance that no function meets.
    """
    check_group(group)
    check_sampling(sampling)
    size = check_integer("size", size)
    if size == 1:
        raise ValueError("size must be at least 2, got 1: a filter of one pixel has nothing to turn and needs no basis")
    if isinstance(sampling, FilterBasis):
        sampling.check_group(group)
        if sampling.size != size:
            raise ValueError(
                f"sampling is a basis of {sampling.size}x{sampling.size} filters, but the filter has {size}x{size} "
                f"pixels: make one with filter_basis(group, {size})"
            )
        return sampling
    if sampling.kind in _KERNELS:
        raise ValueError(f'sampling must be of kind "least_error" or "rings" to be a basis, got "{sampling.kind}"')
    if sampling.kind == "rings" or (sampling.kind is None and size == _LEAST_SIZE):
        return rings(group, size, sampling.lowpass)
    return least_error(group, size, sampling.tolerance, sampling.lowpass)


def basis_of(group: Group, size: int, sampling: Sampling | FilterBasis) -> FilterBasis | None:
    """The basis of which filters of this size are sums; None where they are free in every pixel."""
    if isinstance(sampling, FilterBasis):
        return filter_basis(group, size, sampling)
    if size == 1 or sampling.kind in _KERNELS or (sampling.kind is None and group.is_exact):
        return None
    return filter_basis(group, size, sampling)


@convert_arguments
def former_sampling(arguments: dict[str, Any]) -> dict[str, Any]:
    """`interpolation` and `disc_mask`, two arguments until 0.1, as the one `sampling`."""
    former = {name: arguments.pop(name) for name in ("interpolation", "disc_mask") if name in arguments}
    if former:
        if "sampling" in arguments:
            raise ValueError(f"sampling takes the place of {' and '.join(former)}: give sampling alone")
        warn_deprecated(" and ".join(former), "sampling=Sampling(...)", stacklevel=4)
        former["kind"] = former.pop("interpolation", "bilinear")
        arguments["sampling"] = Sampling(**former)
    return arguments


def check_sampling(sampling: Sampling | FilterBasis) -> None:
    """Raises a `ValueError` unless this is a `Sampling`, or a basis."""
    if not isinstance(sampling, Sampling | FilterBasis):
        raise ValueError(
            f'sampling must be a Sampling, such as Sampling("least_error"), or a FilterBasis, got {sampling!r}'
        )


@former_sampling
def filter_bank(
    w: Float[Array, "*pixels h_in c_in c_out"], group: Group, *, sampling: Sampling | FilterBasis = Sampling()
) -> Float[Array, "k k h_in c_in h c_out"]:
    """Transforms a filter by every group element.

        bank[u, h', c, g, o] = (L_g w)[u, h', c, o] = w[g^-1 u, g^-1 h', c, o]

    A filter on images (`h_in == 1`) has no group axis to act on. Where every element maps the grid to itself
    (`n` in 1, 2, 4) the bank is made of slices; otherwise a static table is applied as one einsum. `w` is `[k, k, h_in,
    c_in, c_out]`, or coefficients `[j, h_in, c_in, c_out]` if `sampling` is a `FilterBasis`.

    Reshaped to `[k, k, h_in c_in, h c_out]` the bank is XLA's `HWIO`.

    Source: Cohen and Welling 2016 (right angles); Weiler et al. 2018 (bases); Romero et al. 2020, section 2.
    """
    check_group(group)
    check_sampling(sampling)
    filter_size(w, group, sampling)
    return transformed(w, group, sampling)


def filter_size(w: Array, group: Group, sampling: Sampling | FilterBasis = Sampling(), name: str = "w") -> int:
    """`k`, pixels along each axis of a filter; a `ValueError` unless it is a filter that the group acts on.

    It is `[k, k, h_in, c_in, c_out]`, or coefficients `[j, h_in, c_in, c_out]` where `sampling` is a basis.
    """
    is_basis = isinstance(sampling, FilterBasis)
    if is_basis:
        sampling.check_group(group)
    if getattr(w, "ndim", 5) == 4:
        if not is_basis:
            raise ValueError(
                f"{name} must be [k, k, h_in, c_in, c_out], got shape {w.shape}; for coefficients [j, h_in, c_in, "
                "c_out] let sampling be their basis, filter_basis(group, k)"
            )
        check_array(name, w, "j h_in c_in c_out")
        check_group_axis(w, group, name)
        if len(w) != len(sampling):
            raise ValueError(
                f"{name} must have {len(sampling)} coefficients, one a function of {sampling}, got {len(w)}"
            )
        return sampling.size
    check_filter(w, group, name)
    if is_basis and len(w) not in (1, sampling.size):
        raise ValueError(f"{name} must have {sampling.size} pixels, those of {sampling}, got shape {w.shape}")
    return len(w)


def transformed(w: Array, group: Group, sampling: Sampling | FilterBasis) -> Array:
    """`filter_bank` of checked arguments: the one place where filters are transformed."""
    *pixels, h_in, c_in, c_out = w.shape
    k = sampling.size if len(pixels) == 1 else pixels[0]
    basis = None if k == 1 else basis_of(group, k, sampling)
    if isinstance(sampling, Sampling) and sampling.disc_mask:
        w = w * disc(k).astype(w.dtype)[:, :, None, None, None]
    if basis is not None:
        if len(pixels) > 1:
            w = jnp.einsum("ju,uhio->jhio", basis.projection.astype(w.dtype), w.reshape(k * k, h_in, c_in, c_out))
        rows = _combined(basis.table, w, group)
    elif k == 1 or group.is_exact:
        return jnp.stack([_moved(w, group, g) for g in range(group.order)], axis=-2)
    else:
        operator = resampling_operator(group, k, sampling.kind)
        rows = _combined(operator, w.reshape(k * k, h_in, c_in, c_out), group)
    return rows.swapaxes(1, 2).reshape(k, k, h_in, c_in, group.order, c_out)


def _moved(w, group, g):
    """`w[g^-1 u, g^-1 h']` of an element that keeps the grid, by slices, whose transpose is no scatter."""
    if len(w) > 1:
        matrix = group.matrices[g]
        # Signs of `g^-1 u` along the axes of `w`, of whichever entry is in that column of the matrix.
        swapped = matrix[0, 0] == 0
        signs = (matrix[1, 0], matrix[0, 1]) if swapped else np.diag(matrix)
        w = lax.rev(w, [axis for axis, sign in enumerate(signs) if sign < 0])
        w = jnp.swapaxes(w, 0, 1) if swapped else w
    return w if w.shape[2] == 1 else permuted(w, group.action[g], 2)


def _combined(table, w, group):
    """`sum over j of table[g, u, j] w[j, g^-1 h']`: rows `(u, h')` of the bank."""
    h_in, c_in, c_out = w.shape[1:]
    acted = w[:, _group_axis_gather(group, h_in)]
    rows = jnp.einsum("guj,jghio->uhgio", table.astype(w.dtype), acted)
    return rows.reshape(-1, group.order, c_in, c_out)


@functools.lru_cache(maxsize=256)
def resampling_operator(group: Group, size: int, kind: str = "bilinear") -> np.ndarray:
    """`operator[g]` resamples a `size x size` grid at `g^-1 u`; float64 `[order, size^2, size^2]`.

        (L_g w)[u] = sum over v of operator[g, u, v] w[v],    operator[g, u, v] = kernel(g^-1 u - v)

    `kernel` is separable in `x` and `y`. Elements that map the grid to itself get their exact permutation; a source
    outside the grid counts as zero.
    """
    check_choice("kind", kind, _KERNELS)
    source = source_pixels(group, size) + (size - 1) / 2
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


def _group_axis_gather(group: Group, h_in: int) -> np.ndarray:
    """`g^-1 h'` for every element: `[order, h_in]`; an image has no group axis to act on."""
    return group.action if h_in == group.order else np.zeros((group.order, 1), np.int32)
