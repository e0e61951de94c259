"""Filters of Gaussian rings times circular harmonics."""

import functools

import numpy as np

from attgconv_jax.bases.basis import FilterBasis, steered
from attgconv_jax.bases.grid import pixels
from attgconv_jax.groups import Group

# Standard deviation of a ring's profile, in pixels.
_WIDTH = 0.5

# Angular frequencies are at most this many times a ring's radius in pixels.
_FREQUENCIES = 1.5


@functools.lru_cache(maxsize=256)
def rings(group: Group, size: int, lowpass: float | None = None) -> FilterBasis:
    """Gaussian rings times circular harmonics, on `size x size` pixels.

        psi(u) = exp(-(|u| - rho)^2 / (2 s^2)) e^{i m phi(u)},    m <= round(1.5 rho),    s = 1/2 pixel

    `rho` goes from 0 to half a pixel inside the filter's border in steps of about a pixel, and `phi` is measured from
    the axis that reflections keep.

    Args:
      group: of rotations and reflections, of any order.
      size: `k`, pixels along each axis of the filter; at least 2.
      lowpass: see `filter_basis`.

    Source: Weiler et al. 2018 (1711.07289), whose frequencies are chosen otherwise.
    """
    x, y = pixels(size).T
    radius, angle = np.hypot(x, y), np.arctan2(-x, y)
    outer = (size - 1) / 2
    functions, frequencies = [], []
    for rho in np.linspace(0, outer - 0.5, max(1, round(outer) + 1)):
        profile = np.exp(-((radius - rho) ** 2) / (2 * _WIDTH**2))
        for frequency in range(round(_FREQUENCIES * rho) + 1):
            # The harmonics have no value at the centre.
            ring = np.where((radius < 1e-9) & (frequency > 0), 0, profile)
            functions.append(ring * np.exp(1j * frequency * angle))
            frequencies.append(frequency)
    return steered(group, functions, frequencies, lowpass=lowpass, origin=f"rings(lowpass={lowpass})")
