"""Attention operators `alpha = A[f]`, one file each.

All differentiate in reverse mode. Those with a maximum (CBAM, alpha_F; on images also BAM, Gather-Excite with a filter,
Coordinate and co-attention) do not in forward mode: see `attgconv_jax.maximum`.
"""

from attgconv_jax.attention.alpha_f import InputWeights, alpha_f
from attgconv_jax.attention.bottleneck import BottleneckWeights, bottleneck_attention
from attgconv_jax.attention.channel import ChannelWeights, channel_attention
from attgconv_jax.attention.co_attention import co_attention
from attgconv_jax.attention.convolutional_block import ConvolutionalBlockWeights, convolutional_block_attention
from attgconv_jax.attention.coordinate import CoordinateWeights, coordinate_attention
from attgconv_jax.attention.efficient_channel import efficient_channel_attention
from attgconv_jax.attention.gather_excite import GatherExciteWeights, gather_excite
from attgconv_jax.attention.global_context import GlobalContextWeights, global_context
from attgconv_jax.attention.mlp import MLPWeights
from attgconv_jax.attention.non_local import NonLocalWeights, non_local
from attgconv_jax.attention.operators import OPERATORS, Operator
from attgconv_jax.attention.response import ResponseChannelWeights, response_channel_bank, response_spatial_bank
from attgconv_jax.attention.selective_kernel import SelectiveKernelWeights, selective_kernel
from attgconv_jax.attention.self_attention import SelfAttentionWeights, self_attention
from attgconv_jax.attention.spatial import spatial_attention
from attgconv_jax.attention.spatial_group_enhance import GroupEnhanceWeights, spatial_group_enhance
from attgconv_jax.attention.squeeze_excitation import squeeze_excitation
from attgconv_jax.attention.style_recalibration import style_recalibration

__all__ = [
    "OPERATORS",
    "BottleneckWeights",
    "ChannelWeights",
    "ConvolutionalBlockWeights",
    "CoordinateWeights",
    "GatherExciteWeights",
    "GlobalContextWeights",
    "GroupEnhanceWeights",
    "InputWeights",
    "MLPWeights",
    "NonLocalWeights",
    "Operator",
    "ResponseChannelWeights",
    "SelectiveKernelWeights",
    "SelfAttentionWeights",
    "alpha_f",
    "bottleneck_attention",
    "channel_attention",
    "co_attention",
    "convolutional_block_attention",
    "coordinate_attention",
    "efficient_channel_attention",
    "gather_excite",
    "global_context",
    "non_local",
    "response_channel_bank",
    "response_spatial_bank",
    "selective_kernel",
    "self_attention",
    "spatial_attention",
    "spatial_group_enhance",
    "squeeze_excitation",
    "style_recalibration",
]
