"""What several operators share: statistics, 1x1 group convolutions, networks of two of them, and their weights."""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.checks import check_feature_map, check_positive
from attgconv_jax.convolution import add_bias
from attgconv_jax.groups import Group, check_group
from attgconv_jax.initializers import channel_uniform


class MLPWeights(NamedTuple):
    """Weights of the network `mlp(s) = W2 relu(W1 s + b1) + b2` on statistics `s[h, c]`; on images `h` is 1."""

    w1: Float[Array, "c_hid c h"]
    w2: Float[Array, "c_out c_hid h"]
    b1: Float[Array, " c_hid"] | None = None
    b2: Float[Array, " c_out"] | None = None


def mlp(s: Float[Array, "*batch h c"], weights: MLPWeights, group: Group) -> Float[Array, "*batch h c_out"]:
    """`W2 relu(W1 s + b1) + b2`, two 1x1 group convolutions.

    Args:
      s: statistics.
      weights: whose group axis is that of `s`.
      group: acts on the weights.

    Returns:
      The network's output.
    """
    hidden = jax.nn.relu(group_linear(s, weights.w1, group, weights.b1))
    return group_linear(hidden, weights.w2, group, weights.b2)


def group_linear(
    s: Float[Array, "*batch h c"],
    weight: Float[Array, "c_out c h"],
    group: Group,
    bias: Float[Array, " c_out"] | None = None,
) -> Float[Array, "*batch h c_out"]:
    """A 1x1 group convolution, `out[g, o] = bias[o] + sum over h', c of W(g^-1 h')[o, c] s[h', c]`.

    Args:
      s: on the group, or with one element alone.
      weight: whose group axis is that of `s`.
      group: acts on the weight.
      bias: one an output channel; None: none.

    Returns:
      What `s` becomes, with the same group axis.
    """
    out = jnp.einsum("...hc,ocgh->...go", s, group_bank(weight, group))
    return out if bias is None else add_bias(out, bias)


def group_bank(weight: Float[Array, "*shape h"], group: Group) -> Float[Array, "*shape _g h"]:
    """`bank[.., g, h'] = W[.., g^-1 h']`; of weights of one group element, that one for a single `g`."""
    return weight[..., group.action] if weight.shape[-1] == group.order else weight[..., None, :]


def mean_statistic(f: Float[Array, "*batch x y h c"], over_group: bool) -> Float[Array, "*batch #h c"]:
    """The mean over space, or over space and group, whose axis then has length 1.

    Args:
      f: feature map, or image.
      over_group: whether over the group too.

    Returns:
      The statistics.
    """
    mean = jnp.mean(f, axis=(-4, -3))
    return jnp.mean(mean, axis=-2, keepdims=True) if over_group else mean


def over_space(s: Float[Array, "*batch h c"]) -> Float[Array, "*batch 1 1 h c"]:
    """The statistics with two spatial axes of length 1."""
    return s[..., None, None, :, :]


def check_weights(
    operator: str,
    f: Array,
    group: Group,
    arrays: Mapping[str, tuple[Array | None, tuple[int | str, ...]]],
    optional: Collection[str] = (),
) -> None:
    """Raises a `ValueError` unless the weights fit a checked `f` (see `check_input`).

    Args:
      operator: its name, for the message.
      f: feature map, or image.
      group: that acts.
      arrays: by name the array and its shape; a name in a shape stands for any length of at least 1, the same wherever
        it stands.
      optional: names of arrays that may be None.
    """
    present = {name: pair for name, pair in arrays.items() if pair[0] is not None or name not in optional}
    lengths = {}
    fits = True
    for array, shape in present.values():
        fits &= hasattr(array, "shape") and len(array.shape) == len(shape)
        for length, wanted in zip(getattr(array, "shape", ()), shape, strict=False):
            fits &= length > 0 and length == (lengths.setdefault(wanted, length) if isinstance(wanted, str) else wanted)
    if not fits:
        wanted = ", ".join(f"{name} [{', '.join(map(str, shape))}]" for name, (_, shape) in present.items())
        got = ", ".join(
            f"{name} {getattr(array, 'shape', type(array).__name__)}" for name, (array, _) in present.items()
        )
        raise ValueError(
            f"{operator} on {f.shape[-2]} group elements and {f.shape[-1]} channels takes {wanted}; got "
            f"{got}{lifting_hint(f, group)}"
        )
    for name, (array, _) in present.items():
        if array.dtype != f.dtype:
            raise ValueError(f"{operator}: {name} must have the dtype of f, {f.dtype}, got {array.dtype}; cast one")


def check_input(f: Array, group: Group) -> tuple[int, int]:
    """Raises a `ValueError` unless `f` is a feature map on `group`; its group elements and channels."""
    check_group(group)
    check_feature_map(f, group)
    return f.shape[-2:]


def lifting_hint(f: Array, group: Group) -> str:
    """What to do where weights for feature maps meet an image."""
    return "; of an image: make the module with lifting=True" if f.shape[-2] == 1 < group.order else ""


def check_tuple(operator: str, weights, kind: type) -> None:
    """Raises a `ValueError` unless the weights are of this kind."""
    if not isinstance(weights, kind):
        raise ValueError(f"{operator} takes its weights as {kind.__name__}, got {type(weights).__name__}")


def mlp_shapes(weights: MLPWeights, c: int, h: int, prefix: str = "") -> dict:
    """The shapes that `check_weights` asks of a network's weights, on `c` channels and `h` group elements."""
    check_tuple("the network of statistics", weights, MLPWeights)
    return {
        f"{prefix}w1": (weights.w1, ("c_hid", c, h)),
        f"{prefix}w2": (weights.w2, (c, "c_hid", h)),
        **{
            f"{prefix}{name}": (bias, (length,))
            for name, bias, length in (("b1", weights.b1, "c_hid"), ("b2", weights.b2, c))
            if bias is not None
        },
    }


def mlp_weights(next_key: Callable[[], Array], features: int, hidden: int, h: int, dtype=jnp.float32) -> MLPWeights:
    """Initial weights of a network of statistics on `h` group elements: `channel_uniform`, biases zero."""
    return MLPWeights(
        channel_uniform(next_key(), (hidden, features, h), dtype),
        channel_uniform(next_key(), (features, hidden, h), dtype),
        jnp.zeros(hidden, dtype),
        jnp.zeros(features, dtype),
    )


def hidden_channels(features: int, reduction: int | None) -> int:
    """Hidden channels, `features` over `reduction`, rounded down; None: 16, or `features` where that is smaller.

    Raises:
      ValueError: a number is not at least 1, or the reduction is larger than the number of channels.
    """
    check_positive(features=features)
    if reduction is None:
        return max(1, features // 16)
    check_positive(reduction=reduction)
    if reduction > features:
        raise ValueError(f"reduction must be at most the {features} channels, got {reduction}: nothing would be left")
    return features // reduction


def group_axis(group: Group, lifting: bool, over_group: bool = False) -> int:
    """The length of the weights' group axis: 1 on images and where statistics are over the group too."""
    check_group(group)
    return 1 if lifting or over_group else group.order
