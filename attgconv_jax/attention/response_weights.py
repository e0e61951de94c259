"""Weights of attention on responses, `alpha` of the attentive paper: initial ones, and transformed by the group."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.attention.layers import group_axis
from attgconv_jax.bases import FilterBasis
from attgconv_jax.checks import check_boolean, check_odd, check_positive
from attgconv_jax.filters import Sampling, filter_bank, former_sampling
from attgconv_jax.groups import Group
from attgconv_jax.initializers import FilterInitializer, channel_uniform, filter_initializer, key_source
from attgconv_jax.kernels import ChannelBank


class ResponseChannelWeights(NamedTuple):
    """Weights of the networks `mlp(s) = w2 relu(w1 s)`, one for every output channel `o`; on images `h` is 1."""

    w1: Float[Array, "o c_hid c h"]
    w2: Float[Array, "o c c_hid h"]


class ResponseWeights(NamedTuple):
    """The channel networks and the filters on the two spatial statistics; None leaves that factor out."""

    channel: ResponseChannelWeights | None
    spatial: Float[Array, "k k h 2 o"] | None


def response_attention_weights(
    key,
    features,
    group,
    *,
    out_features: int,
    lifting=False,
    channel: bool = True,
    spatial: bool = True,
    hidden_features: int | None = None,
    attention_kernel_size: int = 7,
    attention_init: FilterInitializer = "paper_uniform",
    dtype=jnp.float32,
) -> ResponseWeights:
    """Initial weights of both factors: `channel_uniform`, and the filters of `attention_init`.

    Options:
      out_features: output channels of the convolution.
      hidden_features: of the channel networks; None: half of `features`, at least 1.
      attention_kernel_size: of the spatial attention filter, odd, in pixels.
      attention_init: of the spatial attention filter; see `attgconv_jax.nn.INITIALIZERS`.
    """
    hidden = max(1, features // 2) if hidden_features is None else hidden_features
    check_positive(hidden_features=hidden)
    check_odd(attention_kernel_size=attention_kernel_size)
    check_boolean(channel=channel, spatial=spatial)
    if not (channel or spatial):
        raise ValueError("response attention needs channel=True or spatial=True: with neither it is GroupConv")
    h, next_key = group_axis(group, lifting), key_source(key)
    networks = filters = None
    if channel:
        shapes = (out_features, hidden, features, h), (out_features, features, hidden, h)
        networks = ResponseChannelWeights(*(channel_uniform(next_key(), shape, dtype) for shape in shapes))
    if spatial:
        shape = (attention_kernel_size, attention_kernel_size, h, 2, out_features)
        filters = filter_initializer(attention_init)(next_key(), shape, dtype)
    return ResponseWeights(networks, filters)


def response_channel_bank(weights: ResponseChannelWeights, group: Group) -> ChannelBank:
    """The networks for every input group element `h'` and every filter `(g, o)`.

        bank[h', (g, o)] = W(g^-1 h')[o]

    `h'` is carried along, not summed: group elements do not mix. On an image every `g` has the same network.

    Source: Romero et al. 2020, section 4. Its code rolls the weights cyclically for every group, which is right for
    rotations alone.
    """

    def transform(w):
        o, c_out, c_in, h = w.shape
        if h not in (1, group.order):
            raise ValueError(f"weights have {h} group elements, but {group} needs 1 (on images) or {group.order}")
        bank = w[..., group.action] if h == group.order else jnp.repeat(w[..., None, :], group.order, axis=-2)
        return bank.transpose(4, 3, 0, 1, 2).reshape(h, group.order * o, c_out, c_in)

    return ChannelBank(*map(transform, weights))


@former_sampling
def response_spatial_bank(
    w: Float[Array, "k k h 2 o"], group: Group, *, sampling: Sampling | FilterBasis = Sampling()
) -> Float[Array, "k k 2 h m"]:
    """The spatial attention's filters for every input group element `h'` and every filter `m = (g, o)`.

        bank[u, s, h', (g, o)] = (L_g w)[u, h', s, o]

    Source: Romero et al. 2020, section 4.
    """
    bank = filter_bank(w, group, sampling=sampling)
    k, _, h, _, order, o = bank.shape
    return bank.swapaxes(2, 3).reshape(k, k, 2, h, order * o)
