"""Flax NNX modules: parameters and initialisers around the functions of this library.

What arguments mean, here and in the networks of `attgconv_jax.models`:

- `in_features`, `out_features`, `features`: channels of input and output, per group element;
- `kernel_size`, `stride`, `padding`, `dilation`: in pixels; padding also "SAME" or "VALID";
- `group`: acts on all weights;
- `lifting`: whether the input is an image (one group element) instead of a feature map;
- `haar`: whether sums over a feature map carry the Haar weight;
- `exact`: whether a sampling grid that the group does not map to itself raises;
- `antialiased`: whether feature maps are smoothed before pixels are left out; see `attgconv_jax.low_pass`;
- `sampling`: of filters, at other than right angles;
- `implementation`: of modules that convolve: a name that the function knows after which the module is named; None: the
  fastest. Networks take the names of all convolutions, and those that have none of this name the fastest.
  `attgconv_jax.computing` chooses for everything inside of a context, attention among it;
- `precision`: of products, and of those of derivatives: "default", "high", "highest", or None, as JAX is set; see
  `attgconv_jax.computing`;
- `norm` and names that end in `_norm` or `_norms`: the kind of a norm inside of attention: "batch"; "layer" or "group",
  which normalise every image by itself (see `attgconv_jax.nn.norm.GroupNorm`), so that single images are as good as
  many; None, for none; or what makes one, a class of Flax for example, called as `norm(features, dtype=, param_dtype=,
  rngs=)`, which then must commute with the group itself: as whatever knows channels alone does;
- `kernel_init`: of filters: an initialiser, or its name in `INITIALIZERS`;
- `dtype`: to compute in; None: the common type of input and parameters;
- `param_dtype`: of the parameters;
- `rngs`: source of the parameters' randomness.

Sizes out of range, unknown names and options without effect raise a `ValueError`. The exception is `implementation`
of a network: any convolution's, such as "shifts" of depthwise ones, also where the network has none of those.
"""

from attgconv_jax.initializers import INITIALIZERS
from attgconv_jax.nn import operator
from attgconv_jax.nn.attentive import AttentiveGroupConv
from attgconv_jax.nn.convolution import GroupConv
from attgconv_jax.nn.devices import set_axis_name
from attgconv_jax.nn.dropout import Dropout
from attgconv_jax.nn.lie import LieConv
from attgconv_jax.nn.lie_attention import LieAttention
from attgconv_jax.nn.operator import ATTENTIONS, OperatorAttention
from attgconv_jax.nn.pooling import GroupPool, SpatialPool
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
    "set_axis_name",
]

globals().update(operator.CLASSES)
