"""Spatial Group-wise Enhance: each group of channels looks for what it has most of."""

import functools
import math
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from attgconv_jax.attention.layers import check_weights
from attgconv_jax.attention.operator import Operator, register
from attgconv_jax.checks import check_choice, check_divisor, check_finite_positive, check_positive
from attgconv_jax.groups import Group, check_group
from attgconv_jax.kernels.chunks import sum_dtype, wide
from attgconv_jax.kernels.devices import on_images
from attgconv_jax.kernels.platforms import on_cuda

Grouping = Literal["element", "joint"]

# All but one entry in a row of the product's matrix are zero: beyond so many columns a plain sum has less to do.
MOST_COLUMNS = 16


class GroupEnhanceWeights(NamedTuple):
    """Scale and shift of every group of channels; the published initial values are 0 and 1."""

    weight: Float[Array, " groups"]
    bias: Float[Array, " groups"]


def spatial_group_enhance(
    f: Float[Array, "*batch x y h c"],
    weights: GroupEnhanceWeights,
    group: Group,
    *,
    grouping: Grouping = "element",
    over_group: bool = False,
    epsilon: float = 1e-5,
) -> Float[Array, "*batch x y #h c"]:
    """A weight for every position and group of channels: how alike the position is to the group's mean vector.

        t[x, h, i] = sum over c in group i of  f[x, h, c] (mean over x of f)[h, c]
        t' = (t - mean over x of t) / (deviation over x of t + epsilon)        the unbiased deviation
        alpha[x, h, c] = sigmoid(weight[i] t'[x, h, i] + bias[i])              for every channel c of group i

    A group of channels is `c / groups` neighbours. On a group of transformations there are two ways to form it.
    "element": those channels at one `h`, as above. "joint": those channels at all `h`, so that `t` sums over `h` too
    and all group elements share a map. Over the group ("element" only): all means and the deviation are over `x` and
    `h`. Weights have no group axis. Made to scale the last responses of a residual branch, `alpha f`.

    >>> import jax.numpy as jnp
    >>> from attgconv_jax import GroupEnhanceWeights, cyclic, spatial_group_enhance
    >>> weights = GroupEnhanceWeights(weight=jnp.zeros(4), bias=jnp.ones(4))
    >>> spatial_group_enhance(jnp.ones([2, 9, 9, 4, 32]), weights, cyclic(4)).shape
    (2, 9, 9, 4, 32)

    Options:
      grouping: "element" or "joint".
      epsilon: added to the deviation.

    Other arguments: see `attgconv_jax.attention`.
    Source: Li, Hu and Yang 2019 (arXiv 1905.09646), section 3.
    """
    check_weights("spatial group-wise enhance", f, weights, GroupEnhanceWeights, group, over_group)
    x, y, h, c = f.shape[-4:]
    check_divisor("groups", len(weights.weight), c)
    _check_grouping(grouping, over_group)
    check_finite_positive(epsilon=epsilon)
    if x * y * (h if over_group else 1) < 2:
        raise ValueError("spatial group-wise enhance has no deviation over one position; take a larger map")
    factors = functools.partial(_factors, grouping=grouping, over_group=over_group, epsilon=epsilon)
    return on_images(factors, f, weights)


def _factors(f, weights, grouping, over_group, epsilon):
    """`spatial_group_enhance` of images along one axis."""
    batch, x, y, h, c = f.shape
    groups = len(weights.weight)
    positions = x * y * (h if over_group else 1)
    vectors = f.reshape(batch, x * y, h * c)
    descriptor = jnp.mean(vectors, axis=-2, keepdims=True)
    if over_group:
        descriptor = jnp.tile(jnp.mean(descriptor.reshape(batch, 1, h, c), axis=-2), h)
    parts = 1 if grouping == "joint" else h
    t = _similarities(vectors, descriptor, h, parts, groups).reshape(batch, x * y, parts, groups)
    axes = (-3, -2) if over_group else -3
    # Scaled before the sum: on a GPU to scale after it is a kernel of its own.
    t = t - jnp.sum(t * (1 / positions), axis=axes, keepdims=True)
    variance = jnp.sum(jnp.square(t) * (1 / (positions - 1)), axis=axes, keepdims=True)
    t = t / (_root(variance) + epsilon)
    weight, bias = _for_every_image(weights, (batch, 1, parts, groups))
    alpha = jax.nn.sigmoid(weight * t + bias).astype(f.dtype)
    return jnp.repeat(alpha, c // groups, axis=-1).reshape(batch, x, y, parts, c)


def group_enhance_weights(
    key,
    features,
    group,
    *,
    lifting=False,
    groups: int | None = None,
    grouping: Grouping = "element",
    over_group: bool = False,
    dtype=jnp.float32,
) -> GroupEnhanceWeights:
    """Initial weights of `spatial_group_enhance`, the published ones: scale 0 and shift 1.

    Options:
      groups: of channels, a divisor of `features`; None: the greatest common divisor with 64, the paper's number.
    """
    check_positive(features=features)
    check_group(group)
    groups = math.gcd(64, features) if groups is None else check_divisor("groups", groups, features)
    _check_grouping(grouping, over_group)
    return GroupEnhanceWeights(jnp.zeros(groups, dtype), jnp.ones(groups, dtype))


OPERATOR = register(
    Operator("sge", "SpatialGroupEnhance", "Spatial Group-wise Enhance", group_enhance_weights, spatial_group_enhance)
)


def _similarities(vectors, descriptor, h, parts, groups):
    """`t[n, (part, i)]`, the sum of `vectors descriptor` over the channels of group `i`, in float32 at least."""
    dtype = sum_dtype(vectors)
    *rows, hc = vectors.shape
    if parts * groups > MOST_COLUMNS:
        # Of `(h, c)` the group elements that share a part, the part, the group, and the channels to add.
        # Wide, as float16 does not hold products of two numbers of 256.
        split = (wide(vectors) * wide(descriptor)).reshape(*rows, h // parts, parts, groups, hc // h // groups)
        return jnp.sum(split, axis=(-4, -1), dtype=dtype).reshape(*rows, parts * groups)
    # A matrix product takes half the time of a sum over the few channels of a group, last in memory.
    of_group = np.kron(np.eye(groups), np.ones((hc // h // groups, 1)))
    members = np.tile(of_group, (h, 1)) if parts == 1 else np.kron(np.eye(h), of_group)
    columns = jnp.swapaxes(descriptor, -1, -2) * jnp.expand_dims(
        jnp.asarray(members, vectors.dtype), range(descriptor.ndim - 2)
    )
    return jnp.einsum("...nc,...cp->...np", vectors, columns, preferred_element_type=dtype)


def _for_every_image(weights, shape):
    """Scales and shifts, broadcast to this shape in one array, so that sums for the gradients of both are one kernel.

    On CUDA that array is made before all else: XLA would copy what it reads again once the weights have moved.
    """
    both = _materialised(jnp.stack([wide(w) for w in weights]))
    return jnp.broadcast_to(jnp.expand_dims(both, range(1, len(shape))), (2, *shape))


@jax.custom_jvp
def _materialised(x):
    return on_cuda(lax.optimization_barrier, _unchanged, x)


# The derivative of a choice among platforms is compiled anew at every call outside of `jit`.
_materialised.defjvps(lambda x_dot, out, x: x_dot)


def _unchanged(x):
    return x


def _check_grouping(grouping: Grouping, over_group: bool) -> None:
    """Raises a `ValueError` unless the grouping is known and has a group axis left for statistics over the group."""
    check_choice("grouping", grouping, get_args(Grouping))
    if over_group and grouping == "joint":
        raise ValueError('over_group needs grouping "element": a joint group of channels holds all group elements')


def _root(variance):
    """The square root whose gradient is zero, not infinite, where all positions are alike."""
    alike = variance == 0
    return jnp.where(alike, 0, jnp.sqrt(jnp.where(alike, 1, variance)))
