"""Attention on the input as Flax NNX modules."""

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jaxtyping import Array, Float

from attgconv_jax.attention import ChannelWeights, co_attention
from attgconv_jax.attentive import input_attention, input_attention_map, input_co_attention
from attgconv_jax.checks import check_positive
from attgconv_jax.filters import Sampling, check_sampling, former_sampling
from attgconv_jax.groups import Group, check_group
from attgconv_jax.initializers import FilterInitializer, channel_uniform, filter_initializer


class InputAttention(nnx.Module):
    """`input_attention` with weights of its own: `(1 - alpha_X alpha_C) f`.

    Args:
      features: channels of the input.
      group: acts on the weights.
      lifting: whether the input is an image (one group element) instead of a feature map.
      channel: whether `alpha_C` takes part.
      spatial: whether `alpha_X` takes part.
      hidden_features: of the channel attention's network; None: half of `features`, at least 1.
      kernel_size: of the spatial attention filter, odd.
      dilation: of the spatial attention filter, in pixels.
      haar: whether the spatial attention's group convolution carries the Haar weight.
      sampling: of the spatial filter, at other than right angles.
      kernel_init: of the spatial filter; see `attgconv_jax.nn.INITIALIZERS`.
      dtype: to compute in; None: the common type of input and parameters.
      param_dtype: of the parameters.
      rngs: source of the parameters' randomness.

    Raises:
      ValueError: neither factor takes part, or a size is out of range.
    """

    @former_sampling
    def __init__(
        self,
        features: int,
        group: Group,
        *,
        lifting: bool = False,
        channel: bool = True,
        spatial: bool = True,
        hidden_features: int | None = None,
        kernel_size: int = 7,
        dilation: int = 1,
        haar: bool = False,
        sampling: Sampling = Sampling(),
        kernel_init: FilterInitializer = "paper_uniform",
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        hidden = max(1, features // 2) if hidden_features is None else hidden_features
        check_group(group)
        check_positive(features=features, hidden_features=hidden, kernel_size=kernel_size, dilation=dilation)
        check_sampling(sampling)
        if not (channel or spatial):
            raise ValueError("input attention needs channel=True or spatial=True: with neither there is no attention")
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, or attention is off centre, got {kernel_size}")
        h = 1 if lifting else group.order
        self.w1 = self.w2 = self.spatial = nnx.data(None)
        if channel:
            self.w1 = nnx.Param(channel_uniform(rngs.params(), (hidden, features, h), param_dtype))
            self.w2 = nnx.Param(channel_uniform(rngs.params(), (features, hidden, h), param_dtype))
        if spatial:
            shape = (kernel_size, kernel_size, h, 2, 1)
            self.spatial = nnx.Param(filter_initializer(kernel_init)(rngs.params(), shape, param_dtype))
        self.group = group
        self.dilation = dilation
        self.haar = haar
        self.sampling = sampling
        self.dtype = dtype

    def __call__(self, f: Float[Array, "*batch x y h c"]) -> Float[Array, "*batch x y h c"]:
        """Attends; see `attgconv_jax.input_attention`."""
        return self._apply(input_attention, f)

    def attention_map(self, f: Float[Array, "*batch x y h c"]) -> Float[Array, "*batch #x #y h #c"]:
        """What is suppressed; see `attgconv_jax.input_attention_map`."""
        return self._apply(input_attention_map, f)

    def _apply(self, function, f):
        weights = [None if w is None else w[...] for w in (self.w1, self.w2, self.spatial)]
        f, w1, w2, spatial = promote_dtype((f, *weights), dtype=self.dtype)
        return function(
            f,
            None if w1 is None else ChannelWeights(w1, w2),
            spatial,
            self.group,
            dilation=self.dilation,
            haar=self.haar,
            sampling=self.sampling,
        )


class CoAttention(nnx.Module):
    """`input_co_attention` with a filter of its own: `(1 - alpha_X) f`.

    Args:
      features: channels of the input.
      group: acts on the filter.
      lifting: whether the input is an image (one group element) instead of a feature map.
      haar: whether the attention's group convolution carries the Haar weight.
      kernel_init: of the filter; see `attgconv_jax.nn.INITIALIZERS`.
      dtype: to compute in; None: the common type of input and parameters.
      param_dtype: of the parameters.
      rngs: source of the parameters' randomness.

    Raises:
      ValueError: a size is out of range.
    """

    def __init__(
        self,
        features: int,
        group: Group,
        *,
        lifting: bool = False,
        haar: bool = False,
        kernel_init: FilterInitializer = "paper_uniform",
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_group(group)
        check_positive(features=features)
        shape = (1, 1, 1 if lifting else group.order, features, 1)
        self.w = nnx.Param(filter_initializer(kernel_init)(rngs.params(), shape, param_dtype))
        self.group = group
        self.haar = haar
        self.dtype = dtype

    def __call__(self, f: Float[Array, "*batch x y h c"]) -> Float[Array, "*batch x y h c"]:
        """Attends; see `attgconv_jax.input_co_attention`."""
        return self._apply(input_co_attention, f)

    def attention_map(self, f: Float[Array, "*batch x y h c"]) -> Float[Array, "*batch x y h 1"]:
        """What is suppressed; see `attgconv_jax.co_attention`."""
        return self._apply(co_attention, f)

    def _apply(self, function, f):
        f, w = promote_dtype((f, self.w[...]), dtype=self.dtype)
        return function(f, w, self.group, haar=self.haar)
