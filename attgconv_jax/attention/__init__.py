"""Attention operators `alpha = A[f]`, one file each."""

from attgconv_jax.attention.channel import ChannelWeights, channel_attention
from attgconv_jax.attention.co_attention import co_attention
from attgconv_jax.attention.response import ResponseChannelWeights, response_channel_bank, response_spatial_bank
from attgconv_jax.attention.spatial import spatial_attention

__all__ = [
    "ChannelWeights",
    "ResponseChannelWeights",
    "channel_attention",
    "co_attention",
    "response_channel_bank",
    "response_spatial_bank",
    "spatial_attention",
]
