"""Attention on the responses of a group convolution as a Flax NNX module."""

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jaxtyping import Array, Float

from attgconv_jax.attention import ResponseChannelWeights
from attgconv_jax.attentive import ResponseMaps, response_attentive_group_conv
from attgconv_jax.checks import check_positive, check_window
from attgconv_jax.filters import Sampling, check_sampling, former_sampling
from attgconv_jax.geometry import Padding
from attgconv_jax.groups import Group, check_group
from attgconv_jax.initializers import FilterInitializer, channel_uniform, filter_initializer


class ResponseAttentiveGroupConv(nnx.Module):
    """`response_attentive_group_conv` with weights of its own: attention during the convolution, the paper's `alpha`.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax import dihedral
    >>> from attgconv_jax.nn import ResponseAttentiveGroupConv
    >>> layer = ResponseAttentiveGroupConv(4, 6, 3, dihedral(4), padding=1, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones([2, 9, 9, 8, 4])).shape
    (2, 9, 9, 8, 6)

    Args:
      in_features: input channels.
      out_features: output channels, per group element.
      kernel_size: of the convolution's square filter, in pixels.
      group: acts on all weights.
      channel: whether `alpha_C` takes part.
      spatial: whether `alpha_X` takes part.
      hidden_features: of the channel attention's networks; None: half of `in_features`, at least 1.
      attention_kernel_size: of the spatial attention filter, odd, in pixels.
      attention_dilation: of the spatial attention filter, in pixels.
      lifting: whether the input is an image (one group element) instead of a feature map.
      stride: in pixels.
      padding: pixels on every side, "SAME" or "VALID".
      dilation: of the convolution's filter, in pixels.
      haar: whether the sum over a feature map carries the weight `2 pi / |H|`.
      exact: whether to refuse a sampling grid that the group does not map to itself.
      sampling: of filters, at other than right angles.
      kernel_init: of the filter, an initialiser or its name; see `attgconv_jax.nn.INITIALIZERS`.
      attention_init: of the spatial attention filter, likewise.
      dtype: to compute in; None: the common type of input and parameters.
      param_dtype: of the parameters.
      rngs: source of the parameters' randomness.

    Raises:
      ValueError: neither factor takes part, a size is out of range, or unknown padding or initialiser.
    """

    @former_sampling
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
        lifting: bool = False,
        stride: int = 1,
        padding: Padding = "VALID",
        dilation: int = 1,
        haar: bool = False,
        exact: bool = True,
        sampling: Sampling = Sampling(),
        kernel_init: FilterInitializer = "he_normal",
        attention_init: FilterInitializer = "paper_uniform",
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_group(group)
        check_positive(in_features=in_features, out_features=out_features, kernel_size=kernel_size)
        hidden = max(1, in_features // 2) if hidden_features is None else hidden_features
        check_positive(hidden_features=hidden)
        check_positive(attention_kernel_size=attention_kernel_size, attention_dilation=attention_dilation)
        check_window(kernel_size, stride, padding, dilation)
        check_sampling(sampling)
        if not (channel or spatial):
            raise ValueError(
                "response attention needs channel=True or spatial=True: with neither it is GroupConv, take that"
            )
        if attention_kernel_size % 2 == 0:
            raise ValueError(
                f"attention_kernel_size must be odd, or attention is off centre, got {attention_kernel_size}"
            )
        h = 1 if lifting else group.order
        shape = (kernel_size, kernel_size, h, in_features, out_features)
        self.w = nnx.Param(filter_initializer(kernel_init)(rngs.params(), shape, param_dtype))
        self.w1 = self.w2 = self.spatial = nnx.data(None)
        if channel:
            shapes = (out_features, hidden, in_features, h), (out_features, in_features, hidden, h)
            self.w1, self.w2 = (nnx.Param(channel_uniform(rngs.params(), shape, param_dtype)) for shape in shapes)
        if spatial:
            shape = (attention_kernel_size, attention_kernel_size, h, 2, out_features)
            self.spatial = nnx.Param(filter_initializer(attention_init)(rngs.params(), shape, param_dtype))
        self.group = group
        # Pairs and no dict: a graph definition that holds a dict cannot be hashed, nor be a static argument.
        self._options = (
            ("stride", stride),
            ("padding", padding),
            ("dilation", dilation),
            ("attention_dilation", attention_dilation),
            ("haar", haar),
            ("exact", exact),
            ("sampling", sampling),
        )
        self.dtype = dtype

    def __call__(self, f: Float[Array, "*batch x y h_in c_in"]) -> Float[Array, "*batch x_out y_out h c_out"]:
        """Attends while it convolves; see `attgconv_jax.response_attentive_group_conv`."""
        return self._apply(f)

    def attention_maps(self, f: Float[Array, "*batch x y h_in c_in"]) -> ResponseMaps:
        """What is suppressed; see `attgconv_jax.ResponseMaps`."""
        return self._apply(f, return_attention=True)[1]

    def _apply(self, f, **options):
        weights = [None if w is None else w[...] for w in (self.w, self.w1, self.w2, self.spatial)]
        f, w, w1, w2, spatial = promote_dtype((f, *weights), dtype=self.dtype)
        channel = None if w1 is None else ResponseChannelWeights(w1, w2)
        return response_attentive_group_conv(f, w, channel, spatial, self.group, **dict(self._options), **options)
