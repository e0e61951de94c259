"""Co-attention: attention as a 1x1 group convolution."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.attention.layers import check_input, group_axis, lifting_hint
from attgconv_jax.attention.operator import Operator, register
from attgconv_jax.checks import check_array, check_boolean, check_positive
from attgconv_jax.convolution import group_conv, project_max
from attgconv_jax.groups import Group
from attgconv_jax.initializers import FilterInitializer, KeySource, filter_initializer, key_source


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
    check_input(f, group)
    check_array("w", w, "1 1 h c 1")
    check_boolean(haar=haar)
    h, c = f.shape[-2:]
    if w.shape != (1, 1, h, c, 1):
        raise ValueError(
            f"co-attention on {h} group elements and {c} channels takes a filter {(1, 1, h, c, 1)}, got {w.shape}"
            f"{lifting_hint(f, group)}"
        )
    logits = group_conv(f, w, group, haar=haar)
    return jax.nn.sigmoid(project_max(logits) if h == 1 else logits)


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


def co_attention_weights(
    key: KeySource,
    features: int,
    group: Group,
    *,
    lifting: bool = False,
    kernel_init: FilterInitializer = "paper_uniform",
    dtype=jnp.float32,
) -> Float[Array, "1 1 h c 1"]:
    """Initial filter of `co_attention`.

    Options:
      kernel_init: of the filter; see `attgconv_jax.nn.INITIALIZERS`.
    """
    check_positive(features=features)
    shape = (1, 1, group_axis(group, lifting), features, 1)
    return filter_initializer(kernel_init)(key_source(key)(), shape, dtype)


OPERATOR = register(
    Operator(
        name="co",
        module="CoAttention",
        title="Co-attention",
        init=co_attention_weights,
        apply=co_attention,
        combination="suppress",
        site="input",
        source="Romero and Hoogendoorn 2020 (1911.07849)",
    )
)
