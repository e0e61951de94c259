"""The attentive paper's alpha_F: channels first, then positions, as what to suppress in an input."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.attention.channel import ChannelWeights, alpha_c
from attgconv_jax.attention.combination import attend
from attgconv_jax.attention.layers import check_weights, group_axis
from attgconv_jax.attention.operator import Operator, register_factors
from attgconv_jax.attention.spatial import alpha_x, check_spatial_options
from attgconv_jax.bases import FilterBasis
from attgconv_jax.checks import check_boolean, check_odd, check_positive
from attgconv_jax.deprecation import warn_deprecated
from attgconv_jax.filters import Sampling, former_sampling
from attgconv_jax.groups import Group
from attgconv_jax.initializers import FilterInitializer, channel_uniform, filter_initializer, key_source
from attgconv_jax.kernels.chunks import wide


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
    sampling: Sampling | FilterBasis = Sampling(),
) -> Float[Array, "*batch #x #y h #c"]:
    """What to suppress in the input of a group convolution, as `(1 - alpha) f`.

        alpha = alpha_X alpha_C,    alpha_C from f (`channel_attention`), alpha_X from alpha_C f (`spatial_attention`)

    Arguments: see `attgconv_jax.attention`.
    Source: Romero et al. 2020 (arXiv 2002.03830), sections 3.2 and 3.3.
    """
    check_weights("alpha_F", f, weights, InputWeights, group)
    dilation = check_spatial_options(dilation, haar, sampling)
    channel, spatial = weights
    if channel is None and spatial is None:
        raise ValueError("an attention map needs channel weights or a spatial filter, got neither")
    of_channels = 1 if channel is None else alpha_c(f, channel, group)
    if spatial is None:
        return of_channels.astype(f.dtype)
    attended = f if channel is None else of_channels * wide(f)
    alpha = alpha_x(attended, spatial, group, dilation, haar=haar, sampling=sampling) * of_channels
    return alpha.astype(f.dtype)


@former_sampling
def input_attention(
    f: Float[Array, "*batch x y h c"],
    channel: ChannelWeights | None,
    spatial: Float[Array, "k k h 2 1"] | None,
    group: Group,
    *,
    dilation: int = 1,
    haar: bool = False,
    sampling: Sampling | FilterBasis = Sampling(),
) -> Float[Array, "*batch x y h c"]:
    """Suppresses what attention marks: `(1 - alpha) f` with `alpha = alpha_X alpha_C` of `alpha_f`.

    With the group convolution after it this is the paper's `alpha_F`. `channel` are the weights of `alpha_C`, `spatial`
    is the filter of `alpha_X`; None leaves that factor out, both None `f` as it is. Other arguments: see
    `attgconv_jax.attention`.

    >>> import jax.numpy as jnp
    >>> from attgconv_jax import ChannelWeights, cyclic, input_attention
    >>> f = jnp.ones([8, 12, 12, 4, 10])
    >>> channel = ChannelWeights(w1=jnp.zeros([5, 10, 4]), w2=jnp.zeros([10, 5, 4]))
    >>> float(input_attention(f, channel, None, cyclic(4))[0, 0, 0, 0, 0])
    0.5
    """
    if channel is None and spatial is None:
        return f
    alpha = alpha_f(f, InputWeights(channel, spatial), group, dilation=dilation, haar=haar, sampling=sampling)
    return attend(f, alpha, "suppress")


def input_attention_map(f, channel, spatial, group, **options):
    """The former name of `alpha_f`, with its weights as two arguments."""
    warn_deprecated("input_attention_map", "alpha_f")
    return alpha_f(f, InputWeights(channel, spatial), group, **options)


def input_weights(
    key,
    features,
    group,
    *,
    lifting=False,
    channel: bool = True,
    spatial: bool = True,
    hidden_features: int | None = None,
    kernel_size: int = 7,
    kernel_init: FilterInitializer = "paper_uniform",
    dtype=jnp.float32,
) -> InputWeights:
    """Initial weights of `alpha_f`: `channel_uniform`, and the filter of `kernel_init`.

    Options:
      hidden_features: of the channel network; None: half of `features`, at least 1.
    """
    hidden = max(1, features // 2) if hidden_features is None else hidden_features
    check_positive(features=features, hidden_features=hidden)
    check_odd(kernel_size=kernel_size)
    check_boolean(channel=channel, spatial=spatial)
    if not (channel or spatial):
        raise ValueError("input attention needs channel=True or spatial=True: with neither there is no attention")
    h, next_key = group_axis(group, lifting), key_source(key)
    network = filter_ = None
    if channel:
        shapes = (hidden, features, h), (features, hidden, h)
        network = ChannelWeights(*(channel_uniform(next_key(), shape, dtype) for shape in shapes))
    if spatial:
        filter_ = filter_initializer(kernel_init)(next_key(), (kernel_size, kernel_size, h, 2, 1), dtype)
    return InputWeights(network, filter_)


register_factors(
    Operator("input", "InputAttention", "alpha_F", input_weights, alpha_f, combination="suppress", site="input"),
    channel="alpha_F, channels only",
    spatial="alpha_F, positions only",
)
