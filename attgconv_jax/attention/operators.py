"""All operators by name: what each is, where it acts and how it is put together with what it attends to."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from attgconv_jax.attention.alpha_f import alpha_f
from attgconv_jax.attention.bottleneck import bottleneck_attention
from attgconv_jax.attention.co_attention import co_attention
from attgconv_jax.attention.convolutional_block import convolutional_block_attention
from attgconv_jax.attention.coordinate import coordinate_attention
from attgconv_jax.attention.efficient_channel import efficient_channel_attention
from attgconv_jax.attention.gather_excite import gather_excite
from attgconv_jax.attention.global_context import global_context
from attgconv_jax.attention.non_local import non_local
from attgconv_jax.attention.selective_kernel import selective_kernel
from attgconv_jax.attention.self_attention import self_attention
from attgconv_jax.attention.spatial_group_enhance import spatial_group_enhance
from attgconv_jax.attention.squeeze_excitation import squeeze_excitation
from attgconv_jax.attention.style_recalibration import style_recalibration

Site = Literal["input", "residual", "response"]
Combination = Literal["scale", "suppress", "emphasise", "add", "choose"]


class Operator(NamedTuple):
    """An attention operator `alpha = function(f, weights, group)`."""

    function: Callable
    acts: Site
    """Where its paper puts it: on the input of a convolution, on what a residual branch adds, or on a convolution's
    responses. Every operator may stand anywhere."""
    combination: Combination
    """With what it attends to; see `attgconv_jax.attend`. "choose": of several responses."""
    source: str


OPERATORS = {
    "input": Operator(alpha_f, "input", "suppress", "Romero et al. 2020 (2002.03830)"),
    "co": Operator(co_attention, "input", "suppress", "Romero and Hoogendoorn 2020 (1911.07849)"),
    "se": Operator(squeeze_excitation, "residual", "scale", "Hu et al. 2018 (1709.01507)"),
    "ge": Operator(gather_excite, "residual", "scale", "Hu et al. 2018 (1810.12348)"),
    "bam": Operator(bottleneck_attention, "residual", "emphasise", "Park et al. 2018 (1807.06514)"),
    "cbam": Operator(convolutional_block_attention, "residual", "scale", "Woo et al. 2018 (1807.06521)"),
    "sge": Operator(spatial_group_enhance, "residual", "scale", "Li, Hu and Yang 2019 (1905.09646)"),
    "sk": Operator(selective_kernel, "response", "choose", "Li et al. 2019 (1903.06586)"),
    "gc": Operator(global_context, "residual", "add", "Cao et al. 2019 (1904.11492)"),
    "srm": Operator(style_recalibration, "residual", "scale", "Lee et al. 2019 (1903.10829)"),
    "eca": Operator(efficient_channel_attention, "residual", "scale", "Wang et al. 2020 (1910.03151)"),
    "coordinate": Operator(coordinate_attention, "residual", "scale", "Hou et al. 2021 (2103.02907)"),
    "non_local": Operator(non_local, "residual", "add", "Wang et al. 2018 (1711.07971)"),
    "self": Operator(self_attention, "residual", "add", "Romero and Cordonnier 2021 (2010.00977)"),
}
"""By the name that configurations use. The paper's alpha, attention on the responses of every pair of group elements,
is no map of `f` alone: it is `attgconv_jax.response_attentive_group_conv`, "response" in configurations."""
