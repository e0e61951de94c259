"""Spatial attention on the input, `alpha_X` of the attentive paper."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax import kernels
from attgconv_jax.attention.layers import check_input, lifting_hint
from attgconv_jax.convolution import group_conv, project_max
from attgconv_jax.filters import Sampling, former_sampling
from attgconv_jax.groups import Group


@former_sampling
def spatial_attention(
    f: Float[Array, "*batch x y h c"],
    w: Float[Array, "k k h 2 1"],
    group: Group,
    *,
    dilation: int = 1,
    haar: bool = False,
    sampling: Sampling = Sampling(),
) -> Float[Array, "*batch x y h 1"]:
    """How much each position on the group matters.

        alpha_X[x, h] = sigmoid(group_conv([mean over c of f, max over c of f], w))

    On an image the filter is lifted and the maximum over the group taken before the sigmoid.

    Args:
      f: feature map, or image.
      w: filter on the two statistics, the mean first; of odd size.
      group: acts on the filter.
      dilation: of the filter, in pixels.
      haar: whether the group convolution carries the Haar weight.
      sampling: of filters, at other than right angles.

    Returns:
      The attention map, in (0, 1).

    Raises:
      ValueError: the filter does not fit `f` or `group`, or is of even size.

    Source: Romero et al. 2020, sections 3.2 and 3.3.
    """
    h, _ = check_input(f, group)
    shape = getattr(w, "shape", type(w).__name__)
    if shape[2:] != (h, 2, 1) or w.shape[0] % 2 == 0:
        raise ValueError(
            f"spatial attention on {h} group elements takes a filter [k, k, {h}, 2, 1] of odd size k, got {shape}"
            f"{lifting_hint(f, group)}"
        )
    statistics = jnp.stack([jnp.mean(f, axis=-1), kernels.maximum(f, axis=-1)], axis=-1)
    logits = group_conv(
        statistics,
        w,
        group,
        padding=dilation * (w.shape[0] // 2),
        dilation=dilation,
        haar=haar,
        sampling=sampling,
    )
    return jax.nn.sigmoid(project_max(logits) if h == 1 else logits)
