"""Attention and group convolution in one Flax NNX module."""

import functools
from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.groups import Group
from attgconv_jax.nn.attention import CoAttention, InputAttention
from attgconv_jax.nn.channel_operators import (
    EfficientChannelAttention,
    GatherExcite,
    GlobalContext,
    SqueezeExcitation,
    StyleRecalibration,
)
from attgconv_jax.nn.convolution import GroupConv
from attgconv_jax.nn.position_operators import (
    BottleneckAttention,
    ConvolutionalBlockAttention,
    CoordinateAttention,
    GroupSelfAttention,
    NonLocal,
    SpatialGroupEnhance,
)
from attgconv_jax.nn.separable import SeparableGroupConv
from attgconv_jax.separable import Form

AttentionName = Literal[
    "input",
    "input_channel",
    "input_spatial",
    "co",
    "se",
    "ge",
    "bam",
    "cbam",
    "sge",
    "gc",
    "srm",
    "eca",
    "coordinate",
    "non_local",
    "self",
]

ATTENTIONS = {
    "input": InputAttention,
    "input_channel": functools.partial(InputAttention, spatial=False),
    "input_spatial": functools.partial(InputAttention, channel=False),
    "co": CoAttention,
    "se": SqueezeExcitation,
    "ge": GatherExcite,
    "bam": BottleneckAttention,
    "cbam": ConvolutionalBlockAttention,
    "sge": SpatialGroupEnhance,
    "gc": GlobalContext,
    "srm": StyleRecalibration,
    "eca": EfficientChannelAttention,
    "coordinate": CoordinateAttention,
    "non_local": NonLocal,
    "self": GroupSelfAttention,
}
"""The modules by name; all are made as `Module(features, group, lifting=..., rngs=..., **options)`."""

ATTENTIVE_PAPER = ("input", "input_channel", "input_spatial", "co")
"""Those of the attentive paper: they read images as well, and their group convolutions may carry the Haar weight."""


class AttentiveGroupConv(nnx.Module):
    """Attention on the input of a group convolution, such as `group_conv((1 - alpha) f, w)`.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax import dihedral
    >>> from attgconv_jax.nn import AttentiveGroupConv
    >>> layer = AttentiveGroupConv(8, 16, 3, dihedral(4), attention="input", padding=1, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones([2, 9, 9, 8, 8])).shape
    (2, 9, 9, 8, 16)

    Args:
      in_features: input channels.
      out_features: output channels, per group element.
      kernel_size: of the convolution's square filter, in pixels.
      group: acts on all weights.
      attention: a name of `attgconv_jax.nn.ATTENTIONS`: the paper's "input" (channel and spatial), "input_channel",
        "input_spatial", "co", or any other operator on the input.
      attention_options: further arguments of the attention's module.
      lifting: whether the input is an image (one group element) instead of a feature map.
      separable: None, or the form of a separable convolution, on feature maps; see `SeparableGroupConv`.
      haar: whether the group convolutions carry the Haar weight, those of the paper's four attentions included.
      dtype: to compute in; None: the common type of input and parameters.
      param_dtype: of the parameters.
      rngs: source of the parameters' randomness.
      **options: further arguments of the convolution; see `GroupConv`.

    Raises:
      ValueError: unknown attention or form, a separable convolution of images, or a size is out of range.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        group: Group,
        *,
        attention: AttentionName = "input",
        attention_options: Mapping[str, Any] | None = None,
        lifting: bool = False,
        separable: Form | None = None,
        haar: bool = False,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
        **options,
    ):
        if attention not in ATTENTIONS:
            raise ValueError(
                f"attention must be one of {', '.join(ATTENTIONS)}, got {attention!r}; attention on responses is "
                "ResponseAttentiveGroupConv or SelectiveKernelGroupConv"
            )
        if separable is not None and lifting:
            raise ValueError(f"separable must be None with lifting: an image has no group axis; got {separable!r}")
        shared = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        of_attention = {"haar": haar} if attention in ATTENTIVE_PAPER else {}
        of_attention |= attention_options or {}
        self.attention = ATTENTIONS[attention](in_features, group, lifting=lifting, **shared, **of_attention)
        if separable is None:
            conv = functools.partial(GroupConv, lifting=lifting)
        else:
            conv = functools.partial(SeparableGroupConv, form=separable)
        self.conv = conv(in_features, out_features, kernel_size, group, haar=haar, **shared, **options)

    def __call__(self, f: Float[Array, "*batch x y h_in c_in"]) -> Float[Array, "*batch x_out y_out h c_out"]:
        """Attends, then convolves."""
        return self.conv(self.attention(f))

    def attention_maps(self, f: Float[Array, "*batch x y h_in c_in"]) -> Float[Array, "*batch #x #y h_in #c_in"]:
        """The map of the input: what is suppressed, or what it is scaled by, or what is added."""
        return self.attention.attention_map(f)
