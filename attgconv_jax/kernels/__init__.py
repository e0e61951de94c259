"""Compiled kernels: what is fast on which backend. Nothing above this package knows which implementation runs."""

from attgconv_jax.kernels.conv import conv
from attgconv_jax.kernels.depthwise import depthwise_conv
from attgconv_jax.kernels.dropout import dropout
from attgconv_jax.kernels.maximum import maximum

__all__ = ["conv", "depthwise_conv", "dropout", "maximum"]
