"""Group convolution as a Flax NNX module."""

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jaxtyping import Array, Float

from attgconv_jax.checks import check_boolean, check_divisor, check_positive, check_window
from attgconv_jax.convolution import add_bias, grouped_group_conv
from attgconv_jax.filters import Sampling, check_sampling, former_sampling
from attgconv_jax.geometry import Padding
from attgconv_jax.groups import Group, check_group
from attgconv_jax.initializers import FilterInitializer, filter_initializer


class GroupConv(nnx.Module):
    """`group_conv` with a filter of its own.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax import cyclic
    >>> from attgconv_jax.nn import GroupConv
    >>> lift = GroupConv(3, 10, 5, cyclic(4), lifting=True, rngs=nnx.Rngs(0))
    >>> lift(jnp.ones([8, 28, 28, 1, 3])).shape
    (8, 24, 24, 4, 10)

    Args:
      in_features: input channels.
      out_features: output channels, per group element.
      kernel_size: of the square filter, in pixels.
      group: acts on the filter.
      lifting: whether the input is an image (one group element) instead of a feature map.
      stride: in pixels.
      padding: pixels on every side, "SAME" or "VALID".
      dilation: of the filter, in pixels.
      haar: whether the sum over a feature map carries the Haar weight.
      channel_groups: into how many separate parts the channels fall; see `attgconv_jax.grouped_group_conv`.
      use_bias: whether a bias per channel is added.
      exact: whether a sampling grid that the group does not map to itself raises.
      sampling: of filters, at other than right angles.
      kernel_init: an initialiser or its name; see `attgconv_jax.nn.INITIALIZERS`.
      dtype: to compute in; None: the common type of input and parameters.
      param_dtype: of the parameters.
      rngs: source of the parameters' randomness.

    Raises:
      ValueError: a size is not at least 1; `channel_groups` does not divide the channels; unknown padding or
      initialiser.
    """

    @former_sampling
    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        group: Group,
        *,
        lifting: bool = False,
        stride: int = 1,
        padding: Padding = "VALID",
        dilation: int = 1,
        haar: bool = False,
        channel_groups: int = 1,
        use_bias: bool = False,
        exact: bool = True,
        sampling: Sampling = Sampling(),
        kernel_init: FilterInitializer = "he_normal",
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_group(group)
        in_features, out_features = check_positive(in_features=in_features, out_features=out_features)
        kernel_size, stride, padding, dilation = check_window(kernel_size, stride, padding, dilation)
        check_sampling(sampling)
        check_boolean(lifting=lifting, haar=haar, use_bias=use_bias, exact=exact)
        channel_groups = check_divisor("channel_groups", channel_groups, in_features, out_features)
        shape = (kernel_size, kernel_size, 1 if lifting else group.order, in_features // channel_groups, out_features)
        self.w = nnx.Param(filter_initializer(kernel_init)(rngs.params(), shape, param_dtype))
        self.bias = nnx.Param(jnp.zeros(out_features, param_dtype)) if use_bias else nnx.data(None)
        self.group = group
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.haar = haar
        self.channel_groups = channel_groups
        self.exact = exact
        self.sampling = sampling
        self.dtype = dtype

    def __call__(self, f: Float[Array, "*batch x y h_in c_in"]) -> Float[Array, "*batch x_out y_out h c_out"]:
        """Convolves; see `attgconv_jax.group_conv`."""
        bias = None if self.bias is None else self.bias[...]
        f, w, bias = promote_dtype((f, self.w[...], bias), dtype=self.dtype)
        y = grouped_group_conv(
            f,
            w,
            self.group,
            self.channel_groups,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            haar=self.haar,
            exact=self.exact,
            sampling=self.sampling,
        )
        return y if bias is None else add_bias(y, bias)
