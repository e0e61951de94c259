"""The attentive paper's alpha_F: channels first, then positions, as what to suppress in an input."""

from typing import NamedTuple

from jaxtyping import Array, Float

from attgconv_jax.attention.channel import ChannelWeights, channel_attention
from attgconv_jax.attention.mlp import check_tuple
from attgconv_jax.attention.spatial import spatial_attention
from attgconv_jax.filters import Sampling, former_sampling
from attgconv_jax.groups import Group


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
