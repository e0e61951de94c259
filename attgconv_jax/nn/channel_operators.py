"""Operators with a weight a channel: Squeeze-and-Excitation and its relatives, as Flax NNX modules."""

import math

import jax.numpy as jnp
from flax import nnx

from attgconv_jax.attention import GatherExciteWeights, GlobalContextWeights
from attgconv_jax.checks import check_odd, check_positive
from attgconv_jax.groups import Group
from attgconv_jax.initializers import channel_uniform
from attgconv_jax.nn.operator import OperatorAttention, group_axis, mlp_weights, operator_norm, reduced


class SqueezeExcitation(OperatorAttention):
    """`squeeze_excitation` with weights of its own: `alpha f`.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax import cyclic
    >>> from attgconv_jax.nn import SqueezeExcitation
    >>> attention = SqueezeExcitation(32, cyclic(4), rngs=nnx.Rngs(0))
    >>> f = jnp.ones([2, 9, 9, 4, 32])
    >>> attention(f).shape, attention.attention_map(f).shape
    ((2, 9, 9, 4, 32), (2, 1, 1, 4, 32))

    Args:
      features: channels of the input.
      group: acts on the weights.
      lifting: whether the input is an image (one group element) instead of a feature map.
      reduction: channels over hidden channels; None: 16, or the number of channels where that is smaller.
      over_group: whether statistics are over space and group instead of space alone.
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
        reduction: int | None = None,
        over_group: bool = False,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        h = group_axis(group, lifting, over_group)
        weights = mlp_weights(features, reduced(features, reduction), h, param_dtype, rngs)
        super().__init__("se", weights, group, dtype, over_group=over_group)


class GatherExcite(OperatorAttention):
    """`gather_excite` with weights of its own: `alpha f`.

    Args:
      features: channels of the input.
      group: acts on the weights.
      lifting: whether the input is an image (one group element) instead of a feature map.
      extent: of a window, in pixels, a divisor of the map's sizes; None: the whole map.
      gather_size: of a filter that gathers, in pixels: the extent, or the map's size where that is None; None: means.
      excite: whether a network of channels excites. Without it and without a filter there are no parameters.
      reduction: channels over hidden channels; None: 16, or the number of channels where that is smaller.
      over_group: whether means are over space and group instead of space alone.
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
        extent: int | None = None,
        gather_size: int | None = None,
        excite: bool = True,
        reduction: int | None = None,
        over_group: bool = False,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        hidden = reduced(features, reduction)
        check_positive(**{name: n for name, n in (("extent", extent), ("gather_size", gather_size)) if n is not None})
        if extent is not None and gather_size not in (None, extent):
            raise ValueError(f"gather_size must be the extent of a window, {extent}, got {gather_size}")
        if over_group and gather_size is not None:
            raise ValueError("over_group is of means: a learnt gather weighs the group elements itself; leave out one")
        h = group_axis(group, lifting)
        gather = network = None
        if gather_size is not None:
            # A mean to begin with.
            gather = jnp.full((gather_size, gather_size, h, features), 1 / (gather_size**2 * h), param_dtype)
        if excite:
            network = mlp_weights(features, hidden, 1 if over_group else h, param_dtype, rngs)
        weights = GatherExciteWeights(gather, network)
        super().__init__("ge", weights, group, dtype, extent=extent, over_group=over_group)


class GlobalContext(OperatorAttention):
    """`global_context` with weights of its own, the last zero to begin with: `f + alpha`.

    Args:
      features: channels of the input.
      group: acts on the weights.
      lifting: whether the input is an image (one group element) instead of a feature map.
      reduction: channels over hidden channels; None: 16, or as many as leave four hidden channels. The layer norm takes
        the mean away and divides by the deviation: of two hidden channels it leaves little more than signs.
      over_group: whether the context is over space and group instead of space alone.
      dtype: to compute in; None: the common type of input and parameters.
      param_dtype: of the parameters.
      rngs: source of the parameters' randomness.

    Raises:
      ValueError: a size is out of range, or `reduction` leaves less than two hidden channels.
    """

    def __init__(
        self,
        features: int,
        group: Group,
        *,
        lifting: bool = False,
        reduction: int | None = None,
        over_group: bool = False,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        h = group_axis(group, lifting, over_group)
        hidden = max(reduced(features, None), min(4, features)) if reduction is None else reduced(features, reduction)
        if hidden < 2:
            raise ValueError(
                "global context needs 2 hidden channels at least, or its layer norm leaves nothing: reduction must be "
                f"at most half of the {features} channels, got {reduction}"
            )
        weights = GlobalContextWeights(
            key=channel_uniform(rngs.params(), (1, features, group_axis(group, lifting)), param_dtype),
            w1=channel_uniform(rngs.params(), (hidden, features, h), param_dtype),
            scale=jnp.ones(hidden, param_dtype),
            shift=jnp.zeros(hidden, param_dtype),
            w2=jnp.zeros((features, hidden, h), param_dtype),
            b1=jnp.zeros(hidden, param_dtype),
            b2=jnp.zeros(features, param_dtype),
        )
        super().__init__("gc", weights, group, dtype, over_group=over_group)


class StyleRecalibration(OperatorAttention):
    """`style_recalibration` with weights and a batch norm of its own, zero to begin with: `alpha f`.

    Args:
      features: channels of the input.
      group: acts on the weights.
      lifting: whether the input is an image (one group element) instead of a feature map.
      over_group: whether the style is over space and group instead of space alone.
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
        over_group: bool = False,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_positive(features=features)
        w = jnp.zeros((features, 2, group_axis(group, lifting, over_group)), param_dtype)
        norm = operator_norm(features, dtype, param_dtype, rngs)
        super().__init__("srm", w, group, dtype, {"norm": norm}, over_group=over_group)


class EfficientChannelAttention(OperatorAttention):
    """`efficient_channel_attention` with a filter of its own: `alpha f`.

    Args:
      features: channels of the input.
      group: acts on the filter.
      lifting: whether the input is an image (one group element) instead of a feature map.
      kernel_size: of the filter along the channels, odd; None: the paper's, `(log2(features) + 1) / 2` made odd.
      over_group: whether means are over space and group instead of space alone.
      dtype: to compute in; None: the common type of input and parameters.
      param_dtype: of the parameters.
      rngs: source of the parameters' randomness.

    Raises:
      ValueError: a size is out of range, or `kernel_size` even.
    """

    def __init__(
        self,
        features: int,
        group: Group,
        *,
        lifting: bool = False,
        kernel_size: int | None = None,
        over_group: bool = False,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_positive(features=features)
        if kernel_size is None:
            size = int((math.log2(features) + 1) / 2)
            kernel_size = size if size % 2 else size + 1
        check_odd(kernel_size=kernel_size)
        w = channel_uniform(rngs.params(), (1, kernel_size, group_axis(group, lifting, over_group)), param_dtype)[0]
        super().__init__("eca", w, group, dtype, over_group=over_group)
