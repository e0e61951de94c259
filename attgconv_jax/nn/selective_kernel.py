"""Selective Kernel convolution as a Flax NNX module."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jaxtyping import Array, Float

from attgconv_jax.attention import SelectiveKernelWeights, selective_kernel
from attgconv_jax.attention.operator import NormOption, check_norm
from attgconv_jax.attention.sk import selective_kernel_weights
from attgconv_jax.checks import check_boolean, check_divisor, check_integer, check_odd, check_positive, check_window
from attgconv_jax.filters import former_sampling
from attgconv_jax.geometry import Padding
from attgconv_jax.groups import Group
from attgconv_jax.kernels.chunks import wide
from attgconv_jax.kernels.settings import computing
from attgconv_jax.nn.attention_norm import check_pooled_norm, in_operator, operator_norm
from attgconv_jax.nn.convolution import GroupConv, options_of_group_conv
from attgconv_jax.nn.module import Module
from attgconv_jax.nn.norm import batch_norm


class SelectiveKernelGroupConv(Module):
    """Group convolutions of several dilations, between which every channel chooses: `sum over b of alpha_b r_b`.

    `r_b` is the response of branch `b` after a batch norm and a relu; `alpha` is `attgconv_jax.selective_kernel` of the
    sum of all responses.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax import cyclic
    >>> from attgconv_jax.nn import SelectiveKernelGroupConv
    >>> layer = SelectiveKernelGroupConv(4, 6, 3, cyclic(4), padding=1, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones([2, 9, 9, 4, 4], jnp.float32)).shape
    (2, 9, 9, 4, 6)

    Arguments are those of `GroupConv` but `dilation` and `use_bias`; `kernel_size` is odd. The first branch has the
    `padding`, pixels, "SAME" (with stride 1) or "VALID"; dilated ones have as much more as keeps the outputs alike.

    Options:
      branches: how many, 2 at least.
      channel_groups: into how many separate parts the channels of all branches but the first fall.
      first_groups: into how many those of the first fall.
      dilated: whether branch `b` has dilation `b + 1`, or all have 1.
      split_input: whether every branch sees a part of the input channels, neighbours together, or all see all.
      reduction: output channels over hidden channels; None: 16, or the number of channels where that is smaller.
      hidden_features: hidden channels, in place of `reduction`.
      over_group: whether the choice's mean is over space and group instead of space alone.
      norm: of the hidden channels that choose; see `attgconv_jax.nn`.

    Source: Li et al. 2019 (arXiv 1903.06586), section 3.1; the second branch is their dilated 3x3 instead of a 5x5.
    """

    split_input = False

    @former_sampling
    @options_of_group_conv("dilation", "use_bias")
    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        group: Group,
        *,
        branches: int = 2,
        channel_groups: int = 1,
        first_groups: int = 1,
        dilated: bool = True,
        split_input: bool = False,
        reduction: int | None = None,
        hidden_features: int | None = None,
        over_group: bool = False,
        norm: NormOption = "batch",
        stride: int = 1,
        padding: Padding = "VALID",
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        check_odd("or dilated branches do not lie on the first", kernel_size=kernel_size)
        kernel_size, stride, padding, _ = check_window(kernel_size, stride, padding, 1)
        branches = check_integer("branches", branches, 2)
        check_boolean(over_group=over_group, dilated=dilated, split_input=split_input)
        check_norm("norm", norm)
        check_positive(in_features=in_features)
        if split_input:
            self.split_input = True
            check_divisor("branches", branches, in_features, of="input channels, which split_input splits")
            in_features //= branches
        shared = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.convs = nnx.List([])
        for b in range(branches):
            further = b if dilated else 0
            of_branch = dict(dilation=1 + further, padding=_padding(padding, kernel_size, stride, further))
            of_branch |= dict(stride=stride, channel_groups=channel_groups if b else first_groups)
            self.convs.append(
                GroupConv(in_features, out_features, kernel_size, group, **of_branch, **shared, **options)
            )
        self.conv_norms = nnx.List(batch_norm(out_features, **shared, epsilon=1e-5) for _ in range(branches))
        of_choice = dict(branches=branches, reduction=reduction, hidden_features=hidden_features)
        of_choice |= dict(over_group=over_group, dtype=param_dtype)
        weights = selective_kernel_weights(rngs.params, out_features, group, **of_choice)
        self.w1, self.w2 = map(nnx.Param, weights)
        hidden = len(weights.w1)
        check_pooled_norm("norm", norm, hidden, out_features, group, lifting=False, over_group=over_group)
        self.norm = nnx.data(None if norm is None else operator_norm(norm, hidden, **shared))
        self.group, self.over_group, self.dtype = group, over_group, dtype

    def __call__(self, f: Float[Array, "*batch x y h_in c_in"]) -> Float[Array, "*batch x_out y_out h c_out"]:
        """Convolves in all branches, and chooses."""
        responses = self._responses(f)
        # Not stacked, as `attend` would have them: that would be a copy of them all.
        shares = zip(self._shares(responses), responses, strict=True)
        return sum(wide(share) * wide(response) for share, response in shares).astype(responses[0].dtype)

    def branch_shares(self, f: Float[Array, "*batch x y h_in c_in"]) -> Float[Array, "branches *batch 1 1 #h c_out"]:
        """The share of every branch; see `attgconv_jax.selective_kernel`."""
        return self._shares(self._responses(f))

    def attention_maps(self, f: Float[Array, "*batch x y h_in c_in"]) -> Float[Array, "*batch 1 1 #h c_out"]:
        """The share of the last branch, which sees farthest."""
        return self.branch_shares(f)[-1]

    def _responses(self, f):
        count = len(self.convs)
        parts = jnp.split(f, count, axis=-1) if self.split_input else [f] * count
        branches = zip(self.convs, self.conv_norms, parts, strict=True)
        return [jax.nn.relu(norm(conv(part))) for conv, norm, part in branches]

    def _shares(self, responses):
        mixed, w1, w2 = promote_dtype((sum(responses), self.w1[...], self.w2[...]), dtype=self.dtype)
        weights = SelectiveKernelWeights(w1, w2)
        norm = None if self.norm is None else in_operator("norm", self.norm, mixed, self.group, self.over_group)
        with computing(precision=self.convs[0].precision):
            return selective_kernel(mixed, weights, self.group, over_group=self.over_group, norm=norm)


def _padding(padding, kernel_size, stride, branch):
    """The padding, in pixels, of a branch whose filters lie on those of the first."""
    if padding == "SAME" and stride > 1:
        raise ValueError(
            f'padding "SAME" needs stride 1, or branches do not lie on each other, got {stride}: give pixels'
        )
    first = {"SAME": kernel_size // 2, "VALID": 0}.get(padding, padding)
    return first + branch * (kernel_size // 2)
