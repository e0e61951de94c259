"""Continuous groups: rotations by any angle and changes of scale, with kernels that are functions on the group."""

from attgconv_jax.lie.convolution import (
    depthwise_conv,
    dgseparable_conv,
    dseparable_conv,
    gseparable_2d_conv,
    gseparable_conv,
    nonseparable_conv,
    separable_2d_conv,
    separable_conv,
)
from attgconv_jax.lie.groups import LieGroup, rotations, scalings, similarities
from attgconv_jax.lie.kernels import full_kernel, group_kernel, spatial_kernel
from attgconv_jax.lie.layer import KINDS, LieWeights, apply_kernels, lie_conv, lie_kernels
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
from attgconv_jax.lie.pooling import max_pool

__all__ = [
    "KINDS",
    "FourierWeights",
    "LieGroup",
    "LieWeights",
    "Linear",
    "MultiplicativeWeights",
    "SirenWeights",
    "apply_kernels",
    "b_spline",
    "cardinal_b_spline",
    "depthwise_conv",
    "dgseparable_conv",
    "dseparable_conv",
    "full_kernel",
    "group_kernel",
    "gseparable_2d_conv",
    "gseparable_conv",
    "lie_conv",
    "lie_kernels",
    "max_pool",
    "multiplicative_filter_network",
    "nonseparable_conv",
    "random_fourier_features",
    "rotations",
    "scalings",
    "separable_2d_conv",
    "separable_conv",
    "similarities",
    "siren",
    "spatial_kernel",
]
