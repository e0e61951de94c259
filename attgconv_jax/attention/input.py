"""The attentive paper's alpha_F: channels first, then positions, as what to suppress in an input."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.attention.channel import ChannelWeights, channel_attention
from attgconv_jax.attention.layers import check_tuple, group_axis
from attgconv_jax.attention.operator import Operator, register
from attgconv_jax.attention.spatial import spatial_attention
from attgconv_jax.checks import check_boolean, check_odd, check_positive
from attgconv_jax.deprecation import warn_deprecated
from attgconv_jax.filters import Sampling, former_sampling
from attgconv_jax.groups import Group
from attgconv_jax.initializers import FilterInitializer, KeySource, channel_uniform, filter_initializer, key_source


class InputWeights(NamedTuple):
    """The channel network and the filter on the two spatial statistics; None leaves that factor out, but not both."""

    channel: ChannelWeights | None
    spatial: Float[Array, "k k h 2 1"] | None


@former_sampling
def alpha_f(
    f: Float[Array, "*batch x y h c"],
    weights: InputWeights,
    group: Group,
    *,
    dilation: int = 1,
    haar: bool = False,
    sampling: Sampling = Sampling(),
) -> Float[Array, "*batch #x #y h #c"]:
    """What to suppress in the input of a group convolution.

        alpha = alpha_X alpha_C,    alpha_C from f (`channel_attention`), alpha_X from alpha_C f (`spatial_attention`)

    Applied to the input as `(1 - alpha) f`.

    Args:
      f: feature map; an image has `h == 1`.
      weights: of both factors.
      group: acts on the weights; its order is `h` unless `f` is an image.
      dilation: of the spatial attention filter, in pixels.
      haar: whether the spatial attention's group convolution carries the Haar weight.
      sampling: of the spatial filter, at other than right angles.

    Returns:
      The attention map, in (0, 1), broadcastable to `f`.

    Raises:
      ValueError: both factors are left out, or the weights' group axis does not fit `f` or `group`.

    Source: Romero et al. 2020, sections 3.2 and 3.3.
    """
    check_boolean(haar=haar)
    check_tuple("alpha_F", weights, InputWeights)
    channel, spatial = weights
    if channel is None and spatial is None:
        raise ValueError("an attention map needs channel weights or a spatial filter, got neither")
    if channel is None:
        alpha_c, attended = 1, f
    else:
        alpha_c = channel_attention(f, channel, group)
        attended = alpha_c * f
    if spatial is None:
        return alpha_c
    alpha_x = spatial_attention(attended, spatial, group, dilation=dilation, haar=haar, sampling=sampling)
    return alpha_x * alpha_c


@former_sampling
def input_attention(
    f: Float[Array, "*batch x y h c"],
    channel: ChannelWeights | None,
    spatial: Float[Array, "k k h 2 1"] | None,
    group: Group,
    *,
    dilation: int = 1,
    haar: bool = False,
    sampling: Sampling = Sampling(),
) -> Float[Array, "*batch x y h c"]:
    """Suppresses what attention marks: `(1 - alpha_X alpha_C) f`.

    `alpha_C` is computed from `f`, `alpha_X` from `alpha_C f`. With the group convolution after it this is the
    paper's `alpha_F`.

    >>> import jax.numpy as jnp
    >>> from attgconv_jax import ChannelWeights, cyclic, input_attention
    >>> f = jnp.ones([8, 12, 12, 4, 10])
    >>> channel = ChannelWeights(w1=jnp.zeros([5, 10, 4]), w2=jnp.zeros([10, 5, 4]))
    >>> float(input_attention(f, channel, None, cyclic(4))[0, 0, 0, 0, 0])
    0.5

    Args:
      f: feature map; an image has `h == 1`.
      channel: weights of `alpha_C`; None leaves that factor out.
      spatial: filter of `alpha_X`; None leaves that factor out. Both None: `f` itself.
      group: acts on the weights; its order is `h` unless `f` is an image.
      dilation: of the spatial attention filter, in pixels.
      haar: whether the spatial attention's group convolution carries the Haar weight.
      sampling: of the spatial filter, at other than right angles.

    Returns:
      The attended feature map, same shape as `f`.

    Raises:
      ValueError: the weights' group axis does not fit `f` or `group`.

    Source: Romero et al. 2020, sections 3.2 and 3.3 (alpha_F).
    """
    if channel is None and spatial is None:
        return f
    alpha = alpha_f(f, InputWeights(channel, spatial), group, dilation=dilation, haar=haar, sampling=sampling)
    return f - alpha * f


def input_attention_map(f, channel, spatial, group, **options):
    """The former name of `alpha_f`, with its weights as two arguments."""
    warn_deprecated("input_attention_map", "alpha_f")
    return alpha_f(f, InputWeights(channel, spatial), group, **options)


def input_weights(
    key: KeySource,
    features: int,
    group: Group,
    *,
    lifting: bool = False,
    channel: bool = True,
    spatial: bool = True,
    hidden_features: int | None = None,
    kernel_size: int = 7,
    kernel_init: FilterInitializer = "paper_uniform",
    dtype=jnp.float32,
) -> InputWeights:
    """Initial weights of `alpha_f`: `channel_uniform`, and the filter of `kernel_init`.

    Options:
      channel: whether `alpha_C` takes part.
      spatial: whether `alpha_X` takes part.
      hidden_features: of the channel attention's network; None: half of `features`, at least 1.
      kernel_size: of the spatial attention filter, odd, in pixels.
      kernel_init: of the spatial filter; see `attgconv_jax.nn.INITIALIZERS`.
    """
    hidden = max(1, features // 2) if hidden_features is None else hidden_features
    check_positive(features=features, hidden_features=hidden)
    check_odd(kernel_size=kernel_size)
    check_boolean(channel=channel, spatial=spatial)
    if not (channel or spatial):
        raise ValueError("input attention needs channel=True or spatial=True: with neither there is no attention")
    h, next_key = group_axis(group, lifting), key_source(key)
    channel_weights = filter_ = None
    if channel:
        shapes = (hidden, features, h), (features, hidden, h)
        channel_weights = ChannelWeights(*(channel_uniform(next_key(), shape, dtype) for shape in shapes))
    if spatial:
        filter_ = filter_initializer(kernel_init)(next_key(), (kernel_size, kernel_size, h, 2, 1), dtype)
    return InputWeights(channel_weights, filter_)


OPERATOR = register(
    Operator(
        name="input",
        module="InputAttention",
        title="alpha_F",
        init=input_weights,
        apply=alpha_f,
        combination="suppress",
        site="input",
        source="Romero et al. 2020 (2002.03830)",
    )
)
CHANNEL_OPERATOR = register(
    dataclasses.replace(
        OPERATOR, name="input_channel", title="alpha_F, channels only", settings={"channel": True, "spatial": False}
    )
)
SPATIAL_OPERATOR = register(
    dataclasses.replace(
        OPERATOR, name="input_spatial", title="alpha_F, positions only", settings={"channel": False, "spatial": True}
    )
)
