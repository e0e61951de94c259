"""Attention and convolution put together: attention suppresses the input of a group convolution."""

from jaxtyping import Array, Float

from attgconv_jax.attention import ChannelWeights, channel_attention, co_attention, spatial_attention
from attgconv_jax.filters import Interpolation
from attgconv_jax.groups import Group


def input_attention(
    f: Float[Array, "*batch x y h c"],
    channel: ChannelWeights | None,
    spatial: Float[Array, "k k h 2 1"] | None,
    group: Group,
    *,
    dilation: int = 1,
    haar: bool = False,
    interpolation: Interpolation = "bilinear",
    disc_mask: bool = False,
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
      interpolation: of the spatial filter turned by other than right angles; see `filter_bank`.
      disc_mask: whether the spatial filter is zero outside a disc; see `filter_bank`.

    Returns:
      The attended feature map, same shape as `f`.

    Raises:
      ValueError: the weights' group axis does not fit `f` or `group`.

    Source: Romero et al. 2020, sections 3.2 and 3.3 (alpha_F).
    """
    if channel is None and spatial is None:
        return f
    alpha = input_attention_map(
        f, channel, spatial, group, dilation=dilation, haar=haar, interpolation=interpolation, disc_mask=disc_mask
    )
    return f - alpha * f


def input_attention_map(
    f: Float[Array, "*batch x y h c"],
    channel: ChannelWeights | None,
    spatial: Float[Array, "k k h 2 1"] | None,
    group: Group,
    *,
    dilation: int = 1,
    haar: bool = False,
    interpolation: Interpolation = "bilinear",
    disc_mask: bool = False,
) -> Float[Array, "*batch #x #y h #c"]:
    """What `input_attention` suppresses: `alpha_X alpha_C`, with `alpha_X` computed from `alpha_C f`.

    Args:
      f: feature map; an image has `h == 1`.
      channel: weights of `alpha_C`; None leaves that factor out.
      spatial: filter of `alpha_X`; None leaves that factor out.
      group: acts on the weights; its order is `h` unless `f` is an image.
      dilation: of the spatial attention filter, in pixels.
      haar: whether the spatial attention's group convolution carries the Haar weight.
      interpolation: of the spatial filter turned by other than right angles; see `filter_bank`.
      disc_mask: whether the spatial filter is zero outside a disc; see `filter_bank`.

    Returns:
      The attention map, in (0, 1), broadcastable to `f`.

    Raises:
      ValueError: both factors are left out, or the weights' group axis does not fit `f` or `group`.

    Source: Romero et al. 2020, sections 3.2 and 3.3.
    """
    if channel is None and spatial is None:
        raise ValueError("an attention map needs channel weights or a spatial filter, got neither")
    if channel is None:
        alpha_c, attended = 1, f
    else:
        alpha_c = channel_attention(f, channel, group)
        attended = alpha_c * f
    if spatial is None:
        return alpha_c
    alpha_x = spatial_attention(
        attended, spatial, group, dilation=dilation, haar=haar, interpolation=interpolation, disc_mask=disc_mask
    )
    return alpha_x * alpha_c


def input_co_attention(
    f: Float[Array, "*batch x y h c"], w: Float[Array, "1 1 h c 1"], group: Group, *, haar: bool = False
) -> Float[Array, "*batch x y h c"]:
    """Suppresses what co-attention marks: `(1 - alpha_X) f`.

    Args:
      f: feature map; an image has `h == 1`.
      w: filter of `alpha_X`, one pixel.
      group: acts on the filter; its order is `h` unless `f` is an image.
      haar: whether the attention's group convolution carries the Haar weight.

    Returns:
      The attended feature map, same shape as `f`.

    Raises:
      ValueError: the filter does not fit `f` or `group`.

    Source: Romero and Hoogendoorn 2020 (arXiv 1911.07849), as an input attention in Romero et al. 2020.
    """
    return f - co_attention(f, w, group, haar=haar) * f
