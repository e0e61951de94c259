"""Continuous groups: rotations by any angle and changes of scale, with kernels that are functions on the group."""

from attgconv_jax.lie.convolution import (
    depthwise_conv,
    dgseparable_conv,
    dseparable_conv,
    gseparable_conv,
    nonseparable_conv,
    separable_conv,
)
from attgconv_jax.lie.groups import LieGroup, rotations, scalings, similarities
from attgconv_jax.lie.kernel_networks import KernelNetwork, Linear
from attgconv_jax.lie.kernel_networks.products import MultiplicativeWeights, multiplicative_filter_network
from attgconv_jax.lie.kernel_networks.sines import SirenWeights, siren
from attgconv_jax.lie.kernel_networks.splines import b_spline, cardinal_b_spline
from attgconv_jax.lie.kernel_networks.waves import FourierWeights, random_fourier_features
from attgconv_jax.lie.kernels import full_kernel, group_kernel, spatial_kernel
from attgconv_jax.lie.kinds import KINDS
from attgconv_jax.lie.layer import apply_kernels, lie_conv, lie_kernels
from attgconv_jax.lie.pooling import max_pool
from attgconv_jax.lie.product_convolution import gseparable_2d_conv, separable_2d_conv
from attgconv_jax.lie.weights import LieWeights, lie_weights

__all__ = [
    "KINDS",
    "FourierWeights",
    "KernelNetwork",
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
    "lie_weights",
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
