"""Attention operators `alpha = A[f]`, one file each: formula, initial weights and the record that names both.

A new file here that registers an `Operator` is a module, a name on the command line and a row of the tables. Weights
have axes as their annotations say. Of their group axes `h` and `h_in` are as long as that of `f` (on images 1), `h` is
1 also where statistics are over the group, and `order` is always the group's order. A map is in (0, 1) and
broadcastable to `f`, where it is no term to add. Arguments that mean the same in all operators:

Options:
  f: feature map, or image.
  weights: of the formula, a tuple of arrays or one.
  group: acts on the weights; its order is `h` unless `f` is an image.
  dilation: of spatial filters, in pixels.
  haar: whether the attention's group convolution carries the Haar weight.
  over_group: whether statistics are over space and group instead of space alone.
  sampling: of filters, at other than right angles.
  norm: batch norm or the like, of an array `[..., c_hid]`; None: none.
  reduction: channels over hidden channels; None: 16, or the number of channels where that is smaller.
  channel: whether `alpha_C` takes part.
  spatial: whether `alpha_X` takes part.
  hidden_features: hidden channels, in place of `reduction`.
  use_bias: whether linear maps of channels have biases.
  kernel_size: of spatial filters, odd, in pixels.
  kernel_init: of the filter; see `attgconv_jax.nn.INITIALIZERS`.

All differentiate forwards and in reverse, to any order.
"""

import sys

from attgconv_jax.attention.bam import BottleneckWeights, bottleneck_attention
from attgconv_jax.attention.cbam import ConvolutionalBlockWeights, convolutional_block_attention
from attgconv_jax.attention.channel import ChannelWeights, channel_attention
from attgconv_jax.attention.co import co_attention, input_co_attention
from attgconv_jax.attention.combination import attend
from attgconv_jax.attention.coordinate import CoordinateWeights, coordinate_attention
from attgconv_jax.attention.eca import efficient_channel_attention
from attgconv_jax.attention.gc import GlobalContextWeights, global_context
from attgconv_jax.attention.ge import GatherExciteWeights, gather_excite
from attgconv_jax.attention.group_self_attention import SelfAttentionWeights, self_attention
from attgconv_jax.attention.input import InputWeights, alpha_f, input_attention, input_attention_map
from attgconv_jax.attention.layers import MLPWeights
from attgconv_jax.attention.non_local_block import NonLocalWeights, non_local
from attgconv_jax.attention.operator import OPERATORS, Operator, register, register_files
from attgconv_jax.attention.response import ResponseMaps, response_attentive_group_conv
from attgconv_jax.attention.response_weights import (
    ResponseChannelWeights,
    response_channel_bank,
    response_spatial_bank,
)
from attgconv_jax.attention.se import squeeze_excitation
from attgconv_jax.attention.sge import GroupEnhanceWeights, spatial_group_enhance
from attgconv_jax.attention.sk import SelectiveKernelWeights, selective_kernel
from attgconv_jax.attention.spatial import spatial_attention
from attgconv_jax.attention.srm import style_recalibration

register_files(sys.modules[__name__])

__all__ = [
    "OPERATORS", "BottleneckWeights", "ChannelWeights", "ConvolutionalBlockWeights", "CoordinateWeights",
    "GatherExciteWeights", "GlobalContextWeights", "GroupEnhanceWeights", "InputWeights", "MLPWeights",
    "NonLocalWeights", "Operator", "ResponseChannelWeights", "ResponseMaps", "SelectiveKernelWeights",
    "SelfAttentionWeights", "alpha_f", "attend", "bottleneck_attention", "channel_attention", "co_attention",
    "convolutional_block_attention", "coordinate_attention", "efficient_channel_attention", "gather_excite",
    "global_context", "input_attention", "input_attention_map", "input_co_attention", "non_local", "register",
    "response_attentive_group_conv", "response_channel_bank", "response_spatial_bank", "selective_kernel",
    "self_attention", "spatial_attention", "spatial_group_enhance", "squeeze_excitation", "style_recalibration",
]  # fmt: skip
