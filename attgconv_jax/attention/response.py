"""Weights of attention on responses, `alpha` of the attentive paper, turned by every group element."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.filters import Sampling, filter_bank, former_sampling
from attgconv_jax.groups import Group
from attgconv_jax.kernels import ChannelBank


class ResponseChannelWeights(NamedTuple):
    """Weights of the networks `mlp(s) = w2 relu(w1 s)`, one for every output channel `o`; on images `h` is 1."""

    w1: Float[Array, "o c_hid c h"]
    w2: Float[Array, "o c c_hid h"]


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

    def turned(w):
        o, c_out, c_in, h = w.shape
        if h not in (1, group.order):
            raise ValueError(f"weights have {h} group elements, but {group} needs 1 (on images) or {group.order}")
        bank = w[..., group.action] if h == group.order else jnp.repeat(w[..., None, :], group.order, axis=-2)
        return bank.transpose(4, 3, 0, 1, 2).reshape(h, group.order * o, c_out, c_in)

    return ChannelBank(*map(turned, weights))


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
    if isinstance(dilation, bool) or not isinstance(dilation, int) or dilation < 1:
        raise ValueError(f"attention_dilation must be a Python integer of at least 1, got {dilation!r}")
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
    if f.dtype != w.dtype:
        raise ValueError(f"f and w must have one dtype, got {f.dtype} and {w.dtype}; cast one of them")
    arrays = {} if channel is None else channel._asdict()
    for name, array in {**arrays, "spatial": spatial}.items():
        if array is not None and array.dtype != w.dtype:
            raise ValueError(f"{name} must have the dtype of w, {w.dtype}, got {array.dtype}; cast one of them")
