"""Attention operators `alpha = A[f]`, one file each."""

from attgconv_jax.attention.channel import ChannelWeights, channel_attention
from attgconv_jax.attention.co_attention import co_attention
from attgconv_jax.attention.spatial import spatial_attention

__all__ = ["ChannelWeights", "channel_attention", "co_attention", "spatial_attention"]
