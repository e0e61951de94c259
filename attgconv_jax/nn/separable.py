"""Separable group convolution as a Flax NNX module."""

from typing import Literal

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jaxtyping import Array, Float

from attgconv_jax.checks import check_boolean, check_choice, check_positive, check_window
from attgconv_jax.convolution import add_bias
from attgconv_jax.filters import Sampling, check_sampling, former_sampling
from attgconv_jax.geometry import Padding
from attgconv_jax.groups import Group, check_group
from attgconv_jax.initializers import FilterInitializer, draw_normal, filter_initializer
from attgconv_jax.separable import SEPARABLE, former_kind


class SeparableGroupConv(nnx.Module):
    """`separable_group_conv` or `gseparable_group_conv` with filters of its own, on feature maps.

    With a variance `s^2` of `kernel_init`, `w_H` is drawn with `k^2 s^2` and `w_X` from a normal with `1 / k^2`; they
    are independent with mean zero, so their product has `E[w_H^2] E[w_X^2] = s^2`, as the filter of `GroupConv`.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax import cyclic
    >>> from attgconv_jax.nn import SeparableGroupConv
    >>> conv = SeparableGroupConv(10, 16, 3, cyclic(4), padding=1, rngs=nnx.Rngs(0))
    >>> conv(jnp.ones([8, 28, 28, 4, 10])).shape
    (8, 28, 28, 4, 16)

    Args:
      in_features: input channels.
      out_features: output channels, per group element.
      kernel_size: of the square filter, in pixels.
      group: acts on the filters.
      kind: "separable", a spatial filter for every output channel; "gseparable", for every pair of channels.
      stride: in pixels.
      padding: pixels on every side, "SAME" or "VALID".
      dilation: of the filter, in pixels.
      haar: whether the sum over a feature map carries the Haar weight.
      use_bias: whether a bias per channel is added.
      exact: whether a sampling grid that the group does not map to itself raises.
      sampling: of filters, at other than right angles.
      kernel_init: an initialiser or its name, of the ordinary filter, all of whose pixels it draws alike; see
        `attgconv_jax.nn.INITIALIZERS`.
      dtype: to compute in; None: the common type of input and parameters.
      param_dtype: of the parameters.
      rngs: source of the parameters' randomness.

    Raises:
      ValueError: a size is not at least 1; unknown kind, padding or initialiser.

    Source: Lengyel and van Gemert 2021; the initialisation is our own.
    """

    @former_kind
    @former_sampling
    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        group: Group,
        *,
        kind: Literal["gseparable", "separable"] = "separable",
        stride: int = 1,
        padding: Padding = "VALID",
        dilation: int = 1,
        haar: bool = False,
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
        check_boolean(haar=haar, use_bias=use_bias, exact=exact)
        check_choice("kind", kind, SEPARABLE)
        kernel_size, stride, padding, dilation = check_window(kernel_size, stride, padding, dilation)
        check_sampling(sampling)
        # One pixel of an ordinary filter: an initialiser sees the shape that its variance is meant for.
        ordinary = kernel_size, kernel_size, group.order, in_features, out_features
        pixel = filter_initializer(kernel_init)(rngs.params(), ordinary, param_dtype)[:1, :1]
        self.group_filter = nnx.Param(kernel_size * pixel)
        pairs = kernel_size, kernel_size, 1, in_features if kind == "gseparable" else 1, out_features
        self.spatial_filter = nnx.Param(draw_normal(rngs.params(), pairs, param_dtype) / kernel_size)
        self.bias = nnx.Param(jnp.zeros(out_features, param_dtype)) if use_bias else nnx.data(None)
        self.group = group
        self.kind = kind
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.haar = haar
        self.exact = exact
        self.sampling = sampling
        self.dtype = dtype

    @property
    def w(self) -> Float[Array, "k k h c_in c_out"]:
        """The filter of the `GroupConv` that does the same."""
        return self.group_filter[...] * self.spatial_filter[...]

    def __call__(self, f: Float[Array, "*batch x y h c_in"]) -> Float[Array, "*batch x_out y_out h c_out"]:
        """Convolves; see `attgconv_jax.separable_group_conv`."""
        bias = None if self.bias is None else self.bias[...]
        f, group_filter, spatial_filter, bias = promote_dtype(
            (f, self.group_filter[...], self.spatial_filter[...], bias), dtype=self.dtype
        )
        y = SEPARABLE[self.kind](
            f,
            group_filter,
            spatial_filter,
            self.group,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            haar=self.haar,
            exact=self.exact,
            sampling=self.sampling,
        )
        return y if bias is None else add_bias(y, bias)
