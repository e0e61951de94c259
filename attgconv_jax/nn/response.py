"""Attention on the responses of a group convolution as a Flax NNX module."""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.attention import ResponseChannelWeights, ResponseMaps, response_attentive_group_conv
from attgconv_jax.attention.response_weights import response_attention_weights
from attgconv_jax.checks import check_bytes, check_positive
from attgconv_jax.filters import former_sampling
from attgconv_jax.groups import Group
from attgconv_jax.initializers import FilterInitializer
from attgconv_jax.kernels import check_implementation
from attgconv_jax.kernels.response import MEMORY_BUDGET
from attgconv_jax.nn.convolution import GroupConv, options_of_group_conv


class ResponseAttentiveGroupConv(GroupConv):
    """`response_attentive_group_conv` with weights of its own: attention during the convolution, the paper's `alpha`.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax import dihedral
    >>> from attgconv_jax.nn import ResponseAttentiveGroupConv
    >>> layer = ResponseAttentiveGroupConv(4, 6, 3, dihedral(4), padding=1, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones([2, 9, 9, 8, 4])).shape
    (2, 9, 9, 8, 6)

    Arguments are those of `GroupConv` but `channel_groups` and `use_bias`; the Haar weight is `2 pi / |H|`.

    Options:
      channel: whether `alpha_C` takes part.
      spatial: whether `alpha_X` takes part.
      hidden_features: of the channel attention's networks; None: half of `in_features`, at least 1.
      attention_kernel_size: of the spatial attention filter, odd, in pixels.
      attention_dilation: of the spatial attention filter, in pixels.
      attention_init: of the spatial attention filter, as `kernel_init`.
      memory_budget: bytes that temporary arrays may take on a GPU or TPU, where more is faster; by default 1 GB. See
        `attgconv_jax.response_attentive_group_conv`.
      implementation: of the attention "tiles" (for CPUs), "blocks" (for GPUs and TPUs), "reference", or of the
        convolution; see `attgconv_jax.response_attentive_group_conv`.
    """

    _WEIGHTS = ("w", "w1", "w2", "spatial")

    @former_sampling
    @options_of_group_conv("channel_groups", "use_bias")
    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        group: Group,
        *,
        channel: bool = True,
        spatial: bool = True,
        hidden_features: int | None = None,
        attention_kernel_size: int = 7,
        attention_dilation: int = 1,
        attention_init: FilterInitializer = "paper_uniform",
        memory_budget: int = MEMORY_BUDGET,
        lifting: bool = False,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        (self.attention_dilation,) = check_positive(attention_dilation=attention_dilation)
        (self.memory_budget,) = check_bytes(memory_budget=memory_budget)
        options |= dict(lifting=lifting, param_dtype=param_dtype, rngs=rngs)
        super().__init__(in_features, out_features, kernel_size, group, **options)
        of_channel, of_spatial = response_attention_weights(
            rngs.params,
            in_features,
            group,
            out_features=out_features,
            lifting=lifting,
            channel=channel,
            spatial=spatial,
            hidden_features=hidden_features,
            attention_kernel_size=attention_kernel_size,
            attention_init=attention_init,
            dtype=param_dtype,
        )
        weights = *(of_channel or (None, None)), of_spatial
        self.w1, self.w2, self.spatial = (nnx.data(w if w is None else nnx.Param(w)) for w in weights)

    def attention_maps(self, f: Float[Array, "*batch x y h_in c_in"]) -> ResponseMaps:
        """What is suppressed; see `attgconv_jax.ResponseMaps`."""
        *arrays, _ = self._promoted(f)
        return self._convolve(*arrays, return_attention=True)[1]

    def _check_implementation(self, implementation):
        check_implementation(implementation)

    def _convolve(self, f, w, w1, w2, spatial, **options):
        channel = None if w1 is None else ResponseChannelWeights(w1, w2)
        names = "attention_dilation", "memory_budget"
        options |= {name: getattr(self, name) for name in names} | self._options
        options["attention_sampling"] = self.sampling
        return response_attentive_group_conv(f, w, channel, spatial, self.group, **options)
