"""Compiled kernels: what is fast on which backend. Nothing above this package knows which implementation runs."""

from attgconv_jax.kernels.channelwise import channelwise_conv
from attgconv_jax.kernels.convolution import conv
from attgconv_jax.kernels.depthwise import depthwise_conv
from attgconv_jax.kernels.dropout_mask import dropout
from attgconv_jax.kernels.image_chunks import Bound, by_images
from attgconv_jax.kernels.maxima import maximum, mean_and_maximum
from attgconv_jax.kernels.portability import portable
from attgconv_jax.kernels.response import ChannelBank, check_implementation, response_attention, response_attention_maps
from attgconv_jax.kernels.windows import window_maximum, window_sum

__all__ = [
    "Bound",
    "ChannelBank",
    "by_images",
    "channelwise_conv",
    "check_implementation",
    "conv",
    "depthwise_conv",
    "dropout",
    "maximum",
    "mean_and_maximum",
    "portable",
    "response_attention",
    "response_attention_maps",
    "window_maximum",
    "window_sum",
]
