"""Flax NNX modules: parameters and initialisers around the functions of this library."""

from attgconv_jax.nn.attention import CoAttention, InputAttention
from attgconv_jax.nn.attentive import ATTENTIONS, AttentiveGroupConv
from attgconv_jax.nn.convolution import GroupConv
from attgconv_jax.nn.dropout import Dropout
from attgconv_jax.nn.initializers import INITIALIZERS
from attgconv_jax.nn.pooling import GroupPool, SpatialPool
from attgconv_jax.nn.response import ResponseAttentiveGroupConv

__all__ = [
    "ATTENTIONS",
    "INITIALIZERS",
    "AttentiveGroupConv",
    "CoAttention",
    "Dropout",
    "GroupConv",
    "GroupPool",
    "InputAttention",
    "ResponseAttentiveGroupConv",
    "SpatialPool",
]
