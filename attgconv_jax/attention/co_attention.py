"""Co-attention: attention as a 1x1 group convolution."""

import jax
from jaxtyping import Array, Float

from attgconv_jax.checks import check_feature_map
from attgconv_jax.convolution import group_conv, project_max
from attgconv_jax.groups import Group


def co_attention(
    f: Float[Array, "*batch x y h c"], w: Float[Array, "1 1 h c 1"], group: Group, *, haar: bool = False
) -> Float[Array, "*batch x y h 1"]:
    """How much each position on the group matters, from all channels at once.

        alpha_X[x, h] = sigmoid(group_conv(f, w))

    On an image the filter is lifted and the maximum over the group taken before the sigmoid.

    Args:
      f: feature map, or image.
      w: filter of one pixel.
      group: acts on the filter.
      haar: whether the group convolution carries the Haar weight.

    Returns:
      The attention map, in (0, 1).

    Raises:
      ValueError: the filter does not fit `f` or `group`.

    Source: Romero and Hoogendoorn 2020 (arXiv 1911.07849), as an input attention in Romero et al. 2020.
    """
    check_feature_map(f, group)
    h, c = f.shape[-2:]
    if w.shape != (1, 1, h, c, 1):
        raise ValueError(
            f"co-attention on {h} group elements and {c} channels takes a filter {(1, 1, h, c, 1)}, got {w.shape}"
        )
    logits = group_conv(f, w, group, haar=haar)
    return jax.nn.sigmoid(project_max(logits) if h == 1 else logits)
