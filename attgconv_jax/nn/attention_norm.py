"""The norms inside of attention operators: which there are, and what to do where one has a single number."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from attgconv_jax.attention.layers import group_axis
from attgconv_jax.attention.operator import NormOption
from attgconv_jax.groups import Group
from attgconv_jax.nn.norm import BatchNorm, GroupNorm, batch_norm

# Channels a group: with so many Wu and He 2018 find what they find with 32 groups (table 3), and few channels suffice.
_GROUP_SIZE = 16


def operator_norm(kind: NormOption, features: int, *, dtype, param_dtype, rngs: nnx.Rngs) -> Callable:
    """A norm of an operator, of a kind that `Operator.check_options` allows."""
    wide = None if dtype is None else jnp.promote_types(dtype, jnp.float32)
    arrays = dict(dtype=wide, param_dtype=param_dtype, rngs=rngs)
    if callable(kind):
        return kind(features, **arrays)
    if kind == "batch":
        return batch_norm(features, **arrays, epsilon=1e-5)
    return GroupNorm(features, features // _channels_together(kind, features), **arrays)


def check_pooled_norm(
    name: str, kind: NormOption, channels: int, features: int, group: Group, *, lifting: bool, over_group: bool
) -> None:
    """Raises a `ValueError` where a norm of statistics, of one position an image, would have one number.

    `features` are those of the operator; fewer `channels` are its hidden ones.
    """
    if kind not in ("layer", "group") or _channels_together(kind, channels) > 1:
        return
    if group_axis(group, lifting, over_group) > 1:
        return
    one, other = f"groups of one of {channels} channels", f'{name}="layer"'
    if channels == 1:
        one, other = "one channel", f"larger {_width(channels, features)}"
    raise ValueError(
        f'{name} must have 2 numbers an image at least, got "{kind}" of one position, one group element and {one}: '
        f'take {other} or {name}="batch"{_without_over_group(group, over_group)}'
    )


def in_operator(name: str, norm: Callable | Sequence[Callable], f: Array, group: Group, over_group: bool) -> Any:
    """A norm as the formula of an operator on `f` calls it: it knows which axes count images, and what to advise.

    Of a list of norms, all of them so.
    """
    if isinstance(norm, Sequence):
        return [in_operator(name, one, f, group, over_group) for one in norm]
    if isinstance(norm, GroupNorm):
        return functools.partial(norm, batch_axes=f.ndim - 4)
    if not isinstance(norm, BatchNorm):
        return norm

    def checked(x):
        if not norm.use_running_average:
            norm.check_count(x, _batch_advice(name, x, f) + _without_over_group(group, over_group))
        return norm(x)

    return checked


def _batch_advice(name, x, f):
    """What to do where a batch norm has one number a channel: kinds of norms that have more, or how to have more."""
    channels = x.shape[-1]
    kinds = [f'{name}="{kind}"' for kind in ("layer", "group") if _channels_together(kind, channels) > 1]
    if kinds:
        return f"take larger batches, {' or '.join(kinds)}"
    # Statistics have no axes of space.
    larger = "maps" if x.ndim == f.ndim else f'{_width(channels, f.shape[-1])} and {name}="layer"'
    return f"take larger batches, or larger {larger}"


def _channels_together(kind, channels):
    """How many channels a norm of every image by itself normalises together."""
    return channels if kind == "layer" else max(n for n in range(1, _GROUP_SIZE + 1) if channels % n == 0)


def _width(channels, features):
    """The argument that decides how many channels a norm of an operator has."""
    return "features" if channels == features else "hidden_features"


def _without_over_group(group, over_group):
    """The further advice where statistics are over the group."""
    leaves = "or leave out over_group, which leaves one number of all group elements"
    return f", {leaves}" if over_group and group.order > 1 else ""
