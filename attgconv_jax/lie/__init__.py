"""Continuous groups: rotations by any angle and changes of scale, with kernels that are functions on the group."""

from attgconv_jax.lie.groups import LieGroup, rotations, scalings, similarities
from attgconv_jax.lie.kernels import full_kernel, group_kernel, spatial_kernel
from attgconv_jax.lie.networks import (
    FourierWeights,
    Linear,
    MultiplicativeWeights,
    SirenWeights,
    b_spline,
    cardinal_b_spline,
    multiplicative_filter_network,
    random_fourier_features,
    siren,
)

__all__ = [
    "FourierWeights",
    "LieGroup",
    "Linear",
    "MultiplicativeWeights",
    "SirenWeights",
    "b_spline",
    "cardinal_b_spline",
    "full_kernel",
    "group_kernel",
    "multiplicative_filter_network",
    "random_fourier_features",
    "rotations",
    "scalings",
    "similarities",
    "siren",
    "spatial_kernel",
]
