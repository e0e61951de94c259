"""Operators with a weight a position: SGE, CBAM, BAM, Coordinate, non-local and self-attention, as Flax NNX modules."""

import math

import jax.numpy as jnp
from flax import nnx

from attgconv_jax.attention import (
    BottleneckWeights,
    ConvolutionalBlockWeights,
    CoordinateWeights,
    GroupEnhanceWeights,
    NonLocalWeights,
    SelfAttentionWeights,
)
from attgconv_jax.attention.coordinate import check_right_angles
from attgconv_jax.attention.self_attention import check_heads
from attgconv_jax.attention.spatial_group_enhance import Grouping, check_grouping, check_groups
from attgconv_jax.checks import check_odd, check_positive
from attgconv_jax.groups import Group
from attgconv_jax.initializers import channel_uniform, he_normal, paper_uniform
from attgconv_jax.nn.operator import OperatorAttention, group_axis, mlp_weights, operator_norm, reduced


class SpatialGroupEnhance(OperatorAttention):
    """`spatial_group_enhance` with scale and shift of its own, 0 and 1 to begin with: `alpha f`.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax import cyclic
    >>> from attgconv_jax.nn import SpatialGroupEnhance
    >>> SpatialGroupEnhance(32, cyclic(4), groups=8, rngs=nnx.Rngs(0))(jnp.ones([2, 9, 9, 4, 32])).shape
    (2, 9, 9, 4, 32)

    Args:
      features: channels of the input.
      group: of transformations.
      lifting: whether the input is an image (one group element); it changes nothing here.
      groups: of channels, a divisor of `features`; None: the greatest common divisor with 64, the paper's number.
      grouping: "element" or "joint"; see `attgconv_jax.spatial_group_enhance`.
      over_group: whether statistics are over space and group instead of space alone.
      dtype: to compute in; None: the common type of input and parameters.
      param_dtype: of the parameters.
      rngs: not used: nothing is random.

    Raises:
      ValueError: the groups do not divide the channels, unknown grouping, or `over_group` with "joint".
    """

    def __init__(
        self,
        features: int,
        group: Group,
        *,
        lifting: bool = False,
        groups: int | None = None,
        grouping: Grouping = "element",
        over_group: bool = False,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_positive(features=features)
        groups = math.gcd(64, features) if groups is None else groups
        check_positive(groups=groups)
        check_groups(groups, features)
        check_grouping(grouping, over_group)
        weights = GroupEnhanceWeights(jnp.zeros(groups, param_dtype), jnp.ones(groups, param_dtype))
        super().__init__("sge", weights, group, dtype, grouping=grouping, over_group=over_group)


class ConvolutionalBlockAttention(OperatorAttention):
    """`convolutional_block_attention` (CBAM) with weights of its own: `alpha f`.

    Args:
      features: channels of the input.
      group: acts on the weights.
      lifting: whether the input is an image (one group element) instead of a feature map.
      reduction: channels over hidden channels; None: 16, or the number of channels where that is smaller.
      kernel_size: of the spatial filter, odd, in pixels.
      over_group: whether the channels' statistics are over space and group instead of space alone.
      dtype: to compute in; None: the common type of input and parameters.
      param_dtype: of the parameters.
      rngs: source of the parameters' randomness.

    Raises:
      ValueError: a size is out of range, `reduction` larger than `features`, or `kernel_size` even.
    """

    def __init__(
        self,
        features: int,
        group: Group,
        *,
        lifting: bool = False,
        reduction: int | None = None,
        kernel_size: int = 7,
        over_group: bool = False,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        hidden = reduced(features, reduction)
        check_odd(kernel_size=kernel_size)
        channel = mlp_weights(features, hidden, group_axis(group, lifting, over_group), param_dtype, rngs)
        shape = (kernel_size, kernel_size, group_axis(group, lifting), 2, 1)
        weights = ConvolutionalBlockWeights(channel, paper_uniform(rngs.params(), shape, param_dtype))
        super().__init__("cbam", weights, group, dtype, over_group=over_group)


class BottleneckAttention(OperatorAttention):
    """`bottleneck_attention` (BAM) with weights and batch norms of its own: `(1 + alpha) f`.

    Args:
      features: channels of the input.
      group: acts on the weights.
      lifting: whether the input is an image (one group element) instead of a feature map.
      reduction: channels over hidden channels; None: 16, or the number of channels where that is smaller.
      kernel_size: of the two dilated filters, odd, in pixels.
      dilation: of the two dilated filters, in pixels.
      over_group: whether the channels' mean is over space and group instead of space alone.
      dtype: to compute in; None: the common type of input and parameters.
      param_dtype: of the parameters.
      rngs: source of the parameters' randomness.

    Raises:
      ValueError: a size is out of range, `reduction` larger than `features`, or `kernel_size` even.
    """

    def __init__(
        self,
        features: int,
        group: Group,
        *,
        lifting: bool = False,
        reduction: int | None = None,
        kernel_size: int = 3,
        dilation: int = 4,
        over_group: bool = False,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        hidden, order = reduced(features, reduction), group.order
        check_odd(kernel_size=kernel_size)
        check_positive(dilation=dilation)

        def filters(*shape):
            return he_normal(rngs.params(), shape, param_dtype)

        weights = BottleneckWeights(
            channel=mlp_weights(features, hidden, group_axis(group, lifting, over_group), param_dtype, rngs),
            reduce=filters(1, 1, group_axis(group, lifting), features, hidden),
            dilated=tuple(filters(kernel_size, kernel_size, order, hidden, hidden) for _ in range(2)),
            expand=filters(1, 1, order, hidden, 1),
            biases=tuple(jnp.zeros(n, param_dtype) for n in (hidden, hidden, hidden, 1)),
        )
        norms = {
            "channel_norm": operator_norm(features, dtype, param_dtype, rngs),
            "spatial_norm": operator_norm(1, dtype, param_dtype, rngs),
        }
        super().__init__("bam", weights, group, dtype, norms, dilation=dilation, over_group=over_group)


class CoordinateAttention(OperatorAttention):
    """`coordinate_attention` with weights and a batch norm of its own: `alpha f`.

    Args:
      features: channels of the input.
      group: acts on the weights; of right angles.
      lifting: whether the input is an image (one group element) instead of a feature map.
      reduction: channels over hidden channels; None: 16, or the number of channels where that is smaller.
      dtype: to compute in; None: the common type of input and parameters.
      param_dtype: of the parameters.
      rngs: source of the parameters' randomness.

    Raises:
      ValueError: a size is out of range, `reduction` larger than `features`, or the group turns by other than right
        angles.
    """

    def __init__(
        self,
        features: int,
        group: Group,
        *,
        lifting: bool = False,
        reduction: int | None = None,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        hidden, h = reduced(features, reduction), group_axis(group, lifting)
        check_right_angles(group)
        weights = CoordinateWeights(
            w1=channel_uniform(rngs.params(), (hidden, features, h), param_dtype),
            first=channel_uniform(rngs.params(), (features, hidden, h), param_dtype),
            second=channel_uniform(rngs.params(), (features, hidden, h), param_dtype),
            b1=jnp.zeros(hidden, param_dtype),
            b_first=jnp.zeros(features, param_dtype),
            b_second=jnp.zeros(features, param_dtype),
        )
        super().__init__("coordinate", weights, group, dtype, {"norm": operator_norm(hidden, dtype, param_dtype, rngs)})


class NonLocal(OperatorAttention):
    """`non_local` with weights of its own, the last zero to begin with: `f + alpha`.

    Args:
      features: channels of the input.
      group: acts on the weights.
      lifting: whether the input is an image (one group element) instead of a feature map.
      reduction: channels over hidden channels; the paper halves them.
      over_group: whether a position attends to all group elements instead of its own alone.
      dtype: to compute in; None: the common type of input and parameters.
      param_dtype: of the parameters.
      rngs: source of the parameters' randomness.

    Raises:
      ValueError: a size is out of range, or `reduction` larger than `features`.
    """

    def __init__(
        self,
        features: int,
        group: Group,
        *,
        lifting: bool = False,
        reduction: int = 2,
        over_group: bool = True,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        hidden, h = reduced(features, reduction), group_axis(group, lifting)
        embeddings = (channel_uniform(rngs.params(), (hidden, features, h), param_dtype) for _ in range(3))
        weights = NonLocalWeights(*embeddings, out=jnp.zeros((features, hidden, h), param_dtype))
        super().__init__("non_local", weights, group, dtype, over_group=over_group)


class GroupSelfAttention(OperatorAttention):
    """`self_attention` with weights of its own, the last zero to begin with: `f + alpha`.

    Args:
      features: channels of the input.
      group: acts on the relative positions.
      lifting: whether the input is an image (one group element) instead of a feature map.
      reduction: channels over hidden channels.
      kernel_size: of the window, odd, in pixels.
      heads: divide the hidden channels.
      dtype: to compute in; None: the common type of input and parameters.
      param_dtype: of the parameters.
      rngs: source of the parameters' randomness.

    Raises:
      ValueError: a size is out of range, `reduction` larger than `features`, `kernel_size` even, or the heads do not
        divide the hidden channels.
    """

    def __init__(
        self,
        features: int,
        group: Group,
        *,
        lifting: bool = False,
        reduction: int = 2,
        kernel_size: int = 5,
        heads: int = 1,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        hidden = reduced(features, reduction)
        check_odd(kernel_size=kernel_size)
        check_heads(heads, hidden)
        shape = (hidden, features, 1)
        query, key, value = (channel_uniform(rngs.params(), shape, param_dtype)[..., 0] for _ in range(3))
        window = (kernel_size, kernel_size, group_axis(group, lifting), hidden, 1)
        weights = SelfAttentionWeights(
            query,
            key,
            value,
            out=jnp.zeros((features, hidden), param_dtype),
            position=paper_uniform(rngs.params(), window, param_dtype)[..., 0],
        )
        super().__init__("self", weights, group, dtype, heads=heads)
