"""Weights of attention on responses, `alpha` of the attentive paper: initial ones, and transformed by the group."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.attention.layers import group_axis
from attgconv_jax.checks import check_boolean, check_dtypes, check_odd, check_positive
from attgconv_jax.filters import Sampling, filter_bank, former_sampling
from attgconv_jax.groups import Group
from attgconv_jax.initializers import FilterInitializer, KeySource, channel_uniform, filter_initializer, key_source
from attgconv_jax.kernels import ChannelBank


class ResponseChannelWeights(NamedTuple):
    """Weights of the networks `mlp(s) = w2 relu(w1 s)`, one for every output channel `o`; on images `h` is 1."""

    w1: Float[Array, "o c_hid c h"]
    w2: Float[Array, "o c c_hid h"]


def response_attention_weights(
    key: KeySource,
    features: int,
    group: Group,
    *,
    out_features: int,
    lifting: bool = False,
    channel: bool = True,
    spatial: bool = True,
    hidden_features: int | None = None,
    attention_kernel_size: int = 7,
    attention_init: FilterInitializer = "paper_uniform",
    dtype=jnp.float32,
) -> tuple[ResponseChannelWeights | None, Float[Array, "k k h 2 o"] | None]:
    """Initial weights of both factors: `channel_uniform`, and the filters of `attention_init`.

    Options:
      out_features: output channels of the convolution.
      channel: whether `alpha_C` takes part.
      spatial: whether `alpha_X` takes part.
      hidden_features: of the channel attention's networks; None: half of `features`, at least 1.
      attention_kernel_size: of the spatial attention filter, odd, in pixels.
      attention_init: of the spatial attention filter; see `attgconv_jax.nn.INITIALIZERS`.
    """
    hidden = max(1, features // 2) if hidden_features is None else hidden_features
    check_positive(hidden_features=hidden)
    check_odd(attention_kernel_size=attention_kernel_size)
    check_boolean(channel=channel, spatial=spatial)
    if not (channel or spatial):
        raise ValueError(
            "response attention needs channel=True or spatial=True: with neither it is GroupConv, take that"
        )
    h, next_key = group_axis(group, lifting), key_source(key)
    weights = filter_ = None
    if channel:
        shapes = (out_features, hidden, features, h), (out_features, features, hidden, h)
        weights = ResponseChannelWeights(*(channel_uniform(next_key(), shape, dtype) for shape in shapes))
    if spatial:
        shape = (attention_kernel_size, attention_kernel_size, h, 2, out_features)
        filter_ = filter_initializer(attention_init)(next_key(), shape, dtype)
    return weights, filter_


def response_channel_bank(weights: ResponseChannelWeights, group: Group) -> ChannelBank:
    """The networks for every input group element `h'` and every filter `(g, o)`.

        bank[h', (g, o)] = W(g^-1 h')[o]

    `h'` is carried along, not summed: group elements do not mix. On an image every `g` has the same network.

    Args:
      weights: of the networks.
      group: acts on the weights.

    Returns:
      The bank, its axis `m` the filters `(g, o)`.

    Raises:
      ValueError: the weights' group axis has neither length 1 nor the group's order.

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
    w: Float[Array, "k k h 2 o"], group: Group, *, sampling: Sampling = Sampling()
) -> Float[Array, "k k 2 h m"]:
    """The spatial attention's filters for every input group element `h'` and every filter `m = (g, o)`.

        bank[u, s, h', (g, o)] = (L_g w)[u, h', s, o]

    Args:
      w: filter on the two statistics, the mean first.
      group: acts on the filter.
      sampling: of filters, at other than right angles.

    Returns:
      The bank.

    Raises:
      ValueError: as `filter_bank`.

    Source: Romero et al. 2020, section 4.
    """
    bank = filter_bank(w, group, sampling=sampling)
    k, _, h, _, order, o = bank.shape
    return bank.swapaxes(2, 3).reshape(k, k, 2, h, order * o)


def check_response_weights(
    f: Array, w: Array, channel: ResponseChannelWeights | None, spatial: Array | None, dilation: int
) -> None:
    """Raises a `ValueError` unless weights and dilation fit input and filter `[k, k, h, c, o]` of the convolution."""
    check_positive(attention_dilation=dilation)
    h, c, o = w.shape[2:]
    if channel is not None:
        if not isinstance(channel, ResponseChannelWeights) or not all(hasattr(array, "ndim") for array in channel):
            parts = f" of {', '.join(type(part).__name__ for part in channel)}" if isinstance(channel, tuple) else ""
            raise ValueError(
                f"channel must be None or ResponseChannelWeights of two arrays, got {type(channel).__name__}{parts}"
            )
        hidden = channel.w1.shape[1] if channel.w1.ndim == 4 else "c_hid"
        if channel.w1.shape != (o, hidden, c, h) or channel.w2.shape != (o, c, hidden, h) or hidden == 0:
            raise ValueError(
                f"response attention with a filter {w.shape} takes channel weights w1 [{o}, c_hid, {c}, {h}] and w2 "
                f"[{o}, {c}, c_hid, {h}] with c_hid of at least 1, got {channel.w1.shape} and {channel.w2.shape}"
            )
    if spatial is not None and (
        not hasattr(spatial, "ndim")
        or spatial.ndim != 5
        or spatial.shape[0] != spatial.shape[1]
        or spatial.shape[2:] != (h, 2, o)
        or spatial.shape[0] % 2 == 0
    ):
        raise ValueError(
            f"response attention with a filter {w.shape} takes a spatial filter [k, k, {h}, 2, {o}] of odd size k, "
            f"got {getattr(spatial, 'shape', type(spatial).__name__)}"
        )
    arrays = {} if channel is None else channel._asdict()
    arrays |= {} if spatial is None else {"spatial": spatial}
    check_dtypes(f, w=w, **arrays)
