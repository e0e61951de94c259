"""Filters of least error: of all functions on a grid those that rotations between its pixels transform best."""

import functools
import math

import numpy as np
from jaxtyping import Complex, Float

from attgconv_jax.bases.basis import FilterBasis, cosines, steered
from attgconv_jax.bases.grid import grid_permutation, pixels
from attgconv_jax.groups import Group, cyclic, dihedral

BAND = 0.075
"""Standard deviation of the spectrum for which the error is least, in cycles a pixel."""

# That by which functions are told apart which all err by nothing.
_WIDE_BAND = 0.25

# White noise in that spectrum, over its power. It decides what functions do where the spectrum has next to nothing.
_NOISE = 1e-10


@functools.lru_cache(maxsize=256)
def least_error(group: Group, size: int, tolerance: float = 0.01, lowpass: float | None = None) -> FilterBasis:
    """All functions on `size x size` pixels that every rotation of a group transforms with an error below `tolerance`.

    A function of angular frequency `m` is multiplied by `e^{-i m theta}` when it is turned by `theta`. Turned in the
    plane, as the band-limited function of spectrum `Psi(w) = sum over u of psi(u) e^{-2 pi i w u}`, it errs by

        lambda = sum over g of <|Psi(g^-1 w) - e^{-i m theta_g} Psi(w)|^2> / <|Psi(w)|^2>

    where `<>` is the mean over frequencies `w` of a Gaussian of deviation `BAND` along each axis. The functions are the
    eigenvectors of this quotient with `lambda <= tolerance^2`, among those on which the elements that map the grid to
    itself act exactly, and which reflections conjugate.

    So a convolution of an image with that spectrum errs by at most `tolerance` for every element, in the L2 norm over
    that of its output, for a filter of one angular frequency.

    Args:
      group: of rotations and reflections, of any order.
      size: `k`, pixels along each axis of the filter; at least 2.
      tolerance: the largest error.
      lowpass: see `filter_basis`.

    Raises:
      ValueError: no function errs so little; the message names the least error.

    Source: our own.
    """
    functions, frequencies, least = [], [], np.inf
    for frequency in range(group.rotations // 2 + 1):
        errors, found = _eigenfunctions(group.rotations, size, frequency)
        least = min(least, np.sqrt(max(0, np.min(errors, initial=np.inf))))
        good = found[:, errors <= tolerance**2].T
        functions += list(good)
        frequencies += [frequency] * len(good)
    if not functions:
        # Rounded up, or it would be refused as well.
        digit = 10.0 ** (math.floor(math.log10(least)) - 1)
        least = digit * math.ceil(1.0001 * least / digit)
        raise ValueError(
            f"tolerance must be at least {least:.2g} for filters of {size} pixels on {group}, got {tolerance}"
        )
    origin = f"least_error(tolerance={tolerance}, lowpass={lowpass})"
    return steered(group, functions, frequencies, lowpass=lowpass, origin=origin)


@functools.lru_cache(maxsize=256)
def _eigenfunctions(
    rotations: int, size: int, frequency: int
) -> tuple[Float[np.ndarray, " d"], Complex[np.ndarray, "u d"]]:
    """`lambda` and the functions of an angular frequency, by increasing error.

    Where the whole group keeps the grid nothing errs, and any functions would do: they are those of most power in a
    wider spectrum, which no solver can choose otherwise.
    """
    grid, group = pixels(size), cyclic(rotations)
    cos, sin = cosines(frequency, rotations)
    power = _correlation(grid, grid) + _NOISE * np.eye(len(grid))
    difference = np.zeros(power.shape, complex)
    for matrix, c, s, exact in zip(group.matrices, cos, sin, group.preserves_grid, strict=True):
        if not exact:
            cross = (c + 1j * s) * _correlation(grid, grid @ matrix.T)
            difference += 2 * power - cross - cross.conj().T
    if group.is_exact:
        difference, power = np.eye(len(grid)), _correlation(grid, grid, _WIDE_BAND)
    errors, functions = [], []
    for basis in _exact_functions(rotations, size, frequency):
        # Coefficients are real, so both forms are symmetric.
        forms = [np.real(basis.conj().T @ form @ basis) for form in (difference, power)]
        inverse = np.linalg.inv(np.linalg.cholesky((forms[1] + forms[1].T) / 2))
        values, vectors = np.linalg.eigh(inverse @ (forms[0] + forms[0].T) @ inverse.T / 2)
        errors.append(0 * values if group.is_exact else values)
        functions.append(_with_sign(basis @ (inverse.T @ vectors)))
    errors, functions = np.concatenate(errors), np.concatenate(functions, axis=1)
    order = np.argsort(errors, kind="stable")
    return errors[order], functions[:, order]


def _with_sign(functions):
    """The functions or their negatives, the same whatever signs an eigenvalue solver gives: saved networks need that.

    The first part of a pixel that is not small becomes positive. (Parts equal by symmetry are far from the bound.)
    """
    parts = np.concatenate([functions.real, functions.imag])
    first = np.argmax(np.abs(parts) > 0.62 * np.max(np.abs(parts), axis=0), axis=0)
    return functions * np.sign(np.take_along_axis(parts, first[None], axis=0)[0])


def _correlation(first, second, band=BAND):
    """`<e^{2 pi i w (u - v)}>` between points: the transform of the Gaussian spectrum."""
    distance = np.sum((first[:, None] - second[None]) ** 2, axis=-1)
    return np.exp(-2 * (np.pi * band) ** 2 * distance)


def _exact_functions(rotations, size, frequency) -> list[Complex[np.ndarray, "u d"]]:
    """Orthonormal functions on which rotations that keep the grid act as `e^{-i m theta}`, and reflections conjugate.

    Sums of these with real coefficients are all such functions. Where `e^{-i m theta}` is real, even functions and odd
    ones, which are imaginary, do not mix: they come as two.
    """
    exact = cyclic(math.gcd(rotations, 4))
    projector = np.zeros((size**2, size**2), complex)
    cos, sin = cosines(frequency, rotations)
    phases = (cos + 1j * sin)[:: rotations // exact.order]
    for phase, permutation in zip(phases, grid_permutation(exact, size), strict=True):
        projector[np.arange(size**2), permutation] += phase / exact.order
    flip = grid_permutation(dihedral(1), size)[1]
    candidates = np.concatenate([projector, 1j * projector], axis=1)
    candidates = candidates + candidates[flip].conj()
    if 2 * frequency % rotations == 0:
        return [found for part in (candidates.real, 1j * candidates.imag) if (found := _orthonormal(part)).size]
    return [_orthonormal(candidates)]


def _orthonormal(columns):
    """A basis of the real span of complex columns, orthonormal for `Re(a* b)`."""
    vectors, values, _ = np.linalg.svd(np.concatenate([columns.real, columns.imag]), full_matrices=False)
    vectors = vectors[:, values > 1e-9 * max(1.0, values[0])]
    return vectors[: len(columns)] + 1j * vectors[len(columns) :]
