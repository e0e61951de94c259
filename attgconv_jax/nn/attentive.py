"""Attention and group convolution in one Flax NNX module."""

from collections.abc import Mapping
from typing import Any, get_args

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax import kernels
from attgconv_jax.attention import OPERATORS
from attgconv_jax.bases import FilterBasis
from attgconv_jax.checks import check_choice
from attgconv_jax.filters import Sampling, former_sampling
from attgconv_jax.groups import Group
from attgconv_jax.nn.convolution import GroupConv, options_of_group_conv
from attgconv_jax.nn.module import Module
from attgconv_jax.nn.operator import ATTENTIONS
from attgconv_jax.nn.separable import SeparableGroupConv
from attgconv_jax.separable import Kind, former_kind


class AttentiveGroupConv(Module):
    """Attention on the input of a group convolution, such as `group_conv((1 - alpha) f, w)`.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax import dihedral
    >>> from attgconv_jax.nn import AttentiveGroupConv
    >>> layer = AttentiveGroupConv(8, 16, 3, dihedral(4), attention="input", padding=1, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones([2, 9, 9, 8, 8])).shape
    (2, 9, 9, 8, 16)

    Further arguments are those of `GroupConv`; `sampling`, `haar`, `implementation` and `precision` are also those of
    the attention.

    Options:
      attention: a name of `attgconv_jax.nn.ATTENTIONS`: the paper's "input" (channel and spatial), "input_channel",
        "input_spatial", "co", or any other operator on the input.
      attention_options: further arguments of the attention's module.
      kind: of the filter: "nonseparable", or on feature maps "gseparable" or "separable"; see `SeparableGroupConv`.
    """

    @former_kind
    @former_sampling
    @options_of_group_conv()
    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        group: Group,
        *,
        attention: str = "input",
        attention_options: Mapping[str, Any] | None = None,
        lifting: bool = False,
        kind: Kind = "nonseparable",
        sampling: Sampling | FilterBasis = Sampling(),
        haar: bool = False,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        if not isinstance(attention, str) or attention not in ATTENTIONS:
            raise ValueError(
                f"attention must be one of {', '.join(ATTENTIONS)}, got {attention!r}; attention on responses is "
                "ResponseAttentiveGroupConv or SelectiveKernelGroupConv"
            )
        check_choice("kind", kind, get_args(Kind))
        if kind != "nonseparable" and lifting:
            raise ValueError(f'kind must be "nonseparable" with lifting: an image has no group axis; got {kind!r}')
        if kind != "nonseparable" and "channel_groups" in options:
            raise ValueError(f'channel_groups are of kind "nonseparable", got kind {kind!r}: leave one out')
        OPERATORS[attention].check_options(attention_options or {})
        shared = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        of_filters = dict(haar=haar, sampling=sampling)
        of_attention = {name: value for name, value in of_filters.items() if name in OPERATORS[attention].options}
        of_attention |= attention_options or {}
        self.attention = ATTENTIONS[attention](in_features, group, lifting=lifting, **shared, **of_attention)
        conv, of_conv = GroupConv, dict(lifting=lifting)
        if kind != "nonseparable":
            conv, of_conv = SeparableGroupConv, dict(kind=kind)
        sizes = in_features, out_features, kernel_size, group
        self.conv = conv(*sizes, **of_conv, **of_filters, **shared, **options)

    def __call__(self, f: Float[Array, "*batch x y h_in c_in"]) -> Float[Array, "*batch x_out y_out h c_out"]:
        """Attends, then convolves."""
        with self._computing():
            return self.conv(self.attention(f))

    def attention_maps(self, f: Float[Array, "*batch x y h_in c_in"]) -> Float[Array, "*batch #x #y h_in #c_in"]:
        """The map of the input: what is suppressed, or what it is scaled by, or what is added."""
        with self._computing():
            return self.attention.attention_maps(f)

    def _computing(self):
        """Of the attention too, which may convolve."""
        return kernels.computing(implementation=self.conv.implementation, precision=self.conv.precision)
