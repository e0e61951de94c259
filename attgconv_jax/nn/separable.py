"""Separable group convolution as a Flax NNX module."""

from typing import Any, Literal, get_args

from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.checks import check_choice
from attgconv_jax.filters import former_sampling
from attgconv_jax.groups import Group
from attgconv_jax.initializers import draw_normal
from attgconv_jax.kernels.chunks import require_known
from attgconv_jax.kernels.settings import Dense, Depthwise
from attgconv_jax.nn.convolution import GroupConv, options_of_group_conv
from attgconv_jax.separable import SEPARABLE, former_kind, product_filter


class SeparableGroupConv(GroupConv):
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

    Arguments are those of `GroupConv` but `lifting` and `channel_groups`; `kernel_init` must draw all
    pixels alike.

    Options:
      kind: "separable", a spatial filter for every output channel; "gseparable", for every pair of channels.
      implementation: of kind "separable" "shifts" or "xla", see `attgconv_jax.separable_group_conv`; else as of
        `GroupConv`.

    Source: Lengyel and van Gemert 2021; the initialisation is our own.
    """

    _WEIGHTS = ("group_filter", "spatial_filter")

    @former_kind
    @former_sampling
    @options_of_group_conv("lifting", "channel_groups")
    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        group: Group,
        *,
        kind: Literal["gseparable", "separable"] = "separable",
        rngs: nnx.Rngs,
        **options: Any,
    ):
        check_choice("kind", kind, SEPARABLE)
        self.kind = kind
        super().__init__(in_features, out_features, kernel_size, group, rngs=rngs, **options)

    @property
    def w(self) -> Float[Array, "*pixels h c_in c_out"]:
        """The filter of the `GroupConv` that does the same."""
        return product_filter(self.group_filter[...], self.spatial_filter[...])

    def _check_implementation(self, implementation):
        require_known(implementation, get_args(Depthwise if self.kind == "separable" else Dense))

    def _draw(self, init, shape, dtype, rngs):
        size, _, _, in_features, out_features = shape
        # One pixel of an ordinary filter: an initialiser sees the shape that its variance is meant for.
        self.group_filter = nnx.Param(size * init(rngs.params(), shape, dtype)[:1, :1])
        pairs = size, size, 1, in_features if self.kind == "gseparable" else 1, out_features
        self.spatial_filter = nnx.Param(self._coefficients(draw_normal(rngs.params(), pairs, dtype) / size))

    def _convolve(self, f, group_filter, spatial_filter):
        return SEPARABLE[self.kind](f, group_filter, spatial_filter, self.group, **self._options)
