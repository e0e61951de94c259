"""Attention on the responses of a group convolution as a Flax NNX module."""

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jaxtyping import Array, Float

from attgconv_jax.attention import ResponseChannelWeights, ResponseMaps, response_attentive_group_conv
from attgconv_jax.attention.response_weights import response_attention_weights
from attgconv_jax.checks import check_boolean, check_positive, check_window
from attgconv_jax.filters import Sampling, check_sampling, former_sampling
from attgconv_jax.geometry import Padding
from attgconv_jax.groups import Group, check_group
from attgconv_jax.initializers import FilterInitializer, filter_initializer


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
      exact: whether a sampling grid that the group does not map to itself raises.
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
        check_positive(in_features=in_features, out_features=out_features, attention_dilation=attention_dilation)
        kernel_size, stride, padding, dilation = check_window(kernel_size, stride, padding, dilation)
        check_sampling(sampling)
        check_boolean(lifting=lifting, haar=haar, exact=exact)
        shape = (kernel_size, kernel_size, 1 if lifting else group.order, in_features, out_features)
        self.w = nnx.Param(filter_initializer(kernel_init)(rngs.params(), shape, param_dtype))
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
        w1, w2 = of_channel or (None, None)
        self.w1, self.w2, self.spatial = (nnx.data(w if w is None else nnx.Param(w)) for w in (w1, w2, of_spatial))
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
