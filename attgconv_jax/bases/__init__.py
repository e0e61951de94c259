"""Bases of filters whose transformed versions are known, at angles that the pixel grid lacks."""

from attgconv_jax.bases.basis import FilterBasis
from attgconv_jax.bases.eigenfunctions import least_error
from attgconv_jax.bases.harmonics import rings

__all__ = ["FilterBasis", "least_error", "rings"]
