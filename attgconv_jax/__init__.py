"""Group-equivariant convolutions and attention for images, in JAX.

Pure functions stand at the top level; continuous groups (`lie`), Flax NNX modules (`nn`), networks (`models`),
published weights (`interop`) and exported files (`export`) are loaded when they are first used.
"""

from attgconv_jax.antialiasing import circular_mask, low_pass, oversampled
from attgconv_jax.attention import (
    OPERATORS,
    BottleneckWeights,
    ChannelWeights,
    ConvolutionalBlockWeights,
    CoordinateWeights,
    GatherExciteWeights,
    GlobalContextWeights,
    GroupEnhanceWeights,
    InputWeights,
    MLPWeights,
    NonLocalWeights,
    ResponseChannelWeights,
    ResponseMaps,
    SelectiveKernelWeights,
    SelfAttentionWeights,
    alpha_f,
    attend,
    bottleneck_attention,
    channel_attention,
    co_attention,
    convolutional_block_attention,
    coordinate_attention,
    efficient_channel_attention,
    gather_excite,
    global_context,
    input_attention,
    input_attention_map,
    input_co_attention,
    non_local,
    response_attentive_group_conv,
    selective_kernel,
    self_attention,
    spatial_attention,
    spatial_group_enhance,
    squeeze_excitation,
    style_recalibration,
)
from attgconv_jax.bases import FilterBasis
from attgconv_jax.convolution import (
    group_conv,
    grouped_group_conv,
    max_pool,
    mean_pool,
    project_max,
    project_mean,
    smooth_max_pool,
)
from attgconv_jax.deprecation import former_attributes
from attgconv_jax.equivariance import act, equivariance_error
from attgconv_jax.filters import Sampling, filter_bank, filter_basis
from attgconv_jax.groups import Group, cyclic, dihedral, trivial
from attgconv_jax.kernels import computing, maximum
from attgconv_jax.probes import BandLimitedError, band_limited_error
from attgconv_jax.separable import gseparable_group_conv, separable_group_conv

__version__ = "0.1.0"

__all__ = [
    "OPERATORS", "BandLimitedError", "BottleneckWeights", "ChannelWeights", "ConvolutionalBlockWeights",
    "CoordinateWeights", "FilterBasis", "GatherExciteWeights", "GlobalContextWeights", "Group",
    "GroupEnhanceWeights", "InputWeights", "MLPWeights", "NonLocalWeights", "ResponseChannelWeights",
    "ResponseMaps", "Sampling", "SelectiveKernelWeights", "SelfAttentionWeights", "act", "alpha_f", "attend",
    "band_limited_error", "bottleneck_attention", "channel_attention", "circular_mask", "co_attention", "computing",
    "convolutional_block_attention", "coordinate_attention", "cyclic", "dihedral", "efficient_channel_attention",
    "equivariance_error", "filter_bank", "filter_basis", "gather_excite", "global_context", "group_conv",
    "grouped_group_conv", "gseparable_group_conv", "input_attention", "input_attention_map", "input_co_attention",
    "low_pass", "max_pool", "maximum", "mean_pool", "non_local", "oversampled", "project_max", "project_mean",
    "response_attentive_group_conv", "selective_kernel", "self_attention", "separable_group_conv", "smooth_max_pool",
    "spatial_attention", "spatial_group_enhance", "squeeze_excitation", "style_recalibration", "trivial",
]  # fmt: skip

_LAZY = ("export", "interop", "lie", "models", "nn", "plotting")
_FORMER = {"g_separable_group_conv": "gseparable_group_conv", "gc_separable_group_conv": "separable_group_conv"}

__getattr__ = former_attributes(__name__, _FORMER, lazy=_LAZY)


def __dir__():
    return sorted([*__all__, *_LAZY])
