"""Flax NNX modules: parameters and initialisers around the functions of this library."""

from attgconv_jax.initializers import INITIALIZERS
from attgconv_jax.nn.attention import CoAttention, InputAttention
from attgconv_jax.nn.attentive import ATTENTIONS, AttentiveGroupConv
from attgconv_jax.nn.channel_operators import (
    EfficientChannelAttention,
    GatherExcite,
    GlobalContext,
    SqueezeExcitation,
    StyleRecalibration,
)
from attgconv_jax.nn.convolution import GroupConv
from attgconv_jax.nn.dropout import Dropout
from attgconv_jax.nn.lie import LieConv
from attgconv_jax.nn.lie_attention import LieAttention
from attgconv_jax.nn.operator import OperatorAttention
from attgconv_jax.nn.pooling import GroupPool, SpatialPool
from attgconv_jax.nn.position_operators import (
    BottleneckAttention,
    ConvolutionalBlockAttention,
    CoordinateAttention,
    GroupSelfAttention,
    NonLocal,
    SpatialGroupEnhance,
)
from attgconv_jax.nn.response import ResponseAttentiveGroupConv
from attgconv_jax.nn.selective_kernel import SelectiveKernelGroupConv
from attgconv_jax.nn.separable import SeparableGroupConv

__all__ = [
    "ATTENTIONS",
    "INITIALIZERS",
    "AttentiveGroupConv",
    "BottleneckAttention",
    "CoAttention",
    "ConvolutionalBlockAttention",
    "CoordinateAttention",
    "Dropout",
    "EfficientChannelAttention",
    "GatherExcite",
    "GlobalContext",
    "GroupConv",
    "GroupPool",
    "GroupSelfAttention",
    "InputAttention",
    "LieAttention",
    "LieConv",
    "NonLocal",
    "OperatorAttention",
    "ResponseAttentiveGroupConv",
    "SelectiveKernelGroupConv",
    "SeparableGroupConv",
    "SpatialGroupEnhance",
    "SpatialPool",
    "SqueezeExcitation",
    "StyleRecalibration",
]
