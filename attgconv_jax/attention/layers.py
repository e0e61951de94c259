"""What several operators share: statistics, 1x1 group convolutions, networks of two of them, and their weights."""

import functools
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from attgconv_jax.checks import check_boolean, check_dtypes, check_integer, check_positive
from attgconv_jax.convolution import add_bias
from attgconv_jax.groups import Group, check_group, check_on_group
from attgconv_jax.initializers import channel_uniform
from attgconv_jax.kernels.chunks import Bound, compiled, wide
from attgconv_jax.kernels.devices import by_device
from attgconv_jax.kernels.linear import linear
from attgconv_jax.kernels.platforms import on_cuda
from attgconv_jax.kernels.taps import permuted


class MLPWeights(NamedTuple):
    """Weights of the network `mlp(s) = W2 relu(W1 s + b1) + b2` on statistics `s[h, c]`; on images `h` is 1."""

    w1: Float[Array, "c_hid c h"]
    w2: Float[Array, "c c_hid h"]
    b1: Float[Array, " c_hid"] | None = None
    b2: Float[Array, " c"] | None = None


def mlp(
    s: Float[Array, "*batch h c"], weights: MLPWeights, group: Group, norm: Callable | None = None
) -> Float[Array, "*batch h c"]:
    """`W2 relu(norm(W1 s + b1)) + b2`, two 1x1 group convolutions."""
    hidden = statistic_linear(s, weights.w1, group, weights.b1)
    hidden = jax.nn.relu(hidden if norm is None else norm(hidden))
    return statistic_linear(hidden, weights.w2, group, weights.b2)


def group_linear(
    s: Float[Array, "*batch h c"],
    weight: Float[Array, "c_out c h"],
    group: Group,
    bias: Float[Array, " c_out"] | None = None,
) -> Float[Array, "*batch h c_out"]:
    """A 1x1 group convolution, `out[g, o] = bias[o] + sum over h', c of W(g^-1 h')[o, c] s[h', c]`."""

    def product(s, weight):
        return jnp.einsum("...hc,ocgh->...go", s, group_bank(weight.astype(s.dtype), group))

    out = by_device(product, s, weight)
    return out if bias is None else add_bias(out, bias)


def statistic_linear(
    s: Float[Array, "*batch h c"],
    weight: Float[Array, "c_out c h"],
    group: Group,
    bias: Float[Array, " c_out"] | None = None,
) -> Float[Array, "*batch h c_out"]:
    """`group_linear` of few numbers, which are moved in place of the weights: `sum over d, c of W(d)[o, c] s[g d, c]`.

    With `d = g^-1 h'` it is the same sum, in half the kernels on an accelerator.
    """
    weight = weight.astype(s.dtype)
    if weight.shape[-1] == group.order:
        out = jnp.einsum("...gcd,ocd->...go", _moved(s, group), weight)
    else:
        out = jnp.einsum("...gc,oc->...go", s, weight[..., 0])
    return out if bias is None else add_bias(out, bias)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _moved(s, group):
    """`moved[.., g, c, d] = s[.., g d, c]`."""
    return _moved_in_pieces(s, group)


@_moved.defjvp
def _moved_jvp(group, primals, tangents):
    of_group = (("group", group),)
    s_dot = linear(Bound(_moved_tangent, of_group), Bound(_moved_back, of_group), (), tangents)
    return _moved(*primals, group), s_dot


@compiled("group")
def _moved_in_pieces(s, group):
    return jnp.stack([permuted(s, group.product[:, d], s.ndim - 2) for d in range(group.order)], axis=-1)


def _moved_tangent(_, tangents, group):
    return _moved_in_pieces(*tangents, group)


def _moved_back(_, moved, wanted, group):
    del wanted
    return (on_cuda(_moved_back_in_pieces, _moved_back_by_product, moved, options=(group,)),)


def _moved_back_in_pieces(moved, group):
    inverses = np.argsort(group.product, axis=0)
    return sum(permuted(moved[..., d], inverses[:, d], moved.ndim - 3) for d in range(group.order))


def _moved_back_by_product(moved, group):
    # The gradient of statistics is broadcast to positions: XLA for CPUs would add pieces anew for each of them.
    moves = np.arange(group.order) == group.product.T[:, :, None]
    return jnp.einsum("...gcd,dgh->...hc", moved, moves.astype(moved.dtype), precision=lax.Precision.HIGHEST)


def group_bank(weight: Float[Array, "*shape h"], group: Group) -> Float[Array, "*shape _g h"]:
    """`bank[.., g, h'] = W[.., g^-1 h']`; of weights of one group element, that one for a single `g`."""
    if weight.shape[-1] != group.order:
        return weight[..., None, :]
    return jnp.stack([permuted(weight, action, weight.ndim - 1) for action in group.action], axis=-2)


def mean_statistic(f: Float[Array, "*batch x y h c"], over_group: bool) -> Float[Array, "*batch #h c"]:
    """The mean over space, or over space and group, whose axis then has length 1; in float32 at least."""
    mean = jnp.mean(wide(f), axis=(-4, -3))
    return jnp.mean(mean, axis=-2, keepdims=True) if over_group else mean


def over_space(s: Float[Array, "*batch h c"]) -> Float[Array, "*batch 1 1 h c"]:
    """The statistics with two spatial axes of length 1."""
    return s[..., None, None, :, :]


def check_weights(
    operator: str, f: Array, weights: Any, kind: Any, group: Group, over_group: bool = False, **lengths: int
) -> None:
    """Raises a `ValueError` unless `f` is a feature map on the group, and the operator's weights fit both.

    `weights` is an array or a tuple of arrays, `kind` their annotation. Of its axes, `c` and `h_in` are as long as in
    `f`, `h` too, or 1 over the group, and `order` is the group's; `k` is odd, `_` any length, a name in `lengths` as
    long as these say, and any other name of one length wherever it stands.
    """
    check_on_group(f, group)
    check_boolean(over_group=over_group)
    h, c = f.shape[-2:]
    lengths |= {"c": c, "h_in": h, "h": 1 if over_group else h, "order": group.order}
    arrays = list(_arrays(operator, weights, kind))
    # By axis its length and the array it is known from: of two that differ both are named.
    known, wrong = {}, set()
    for i, (_, array, axes) in enumerate(arrays):
        shape = getattr(array, "shape", None)
        if shape is None or len(shape) != len(axes):
            wrong.add(i)
            continue
        for axis, length in zip(axes, shape, strict=True):
            fixed = int(axis) if axis.isdecimal() else length if axis == "_" else lengths.get(axis)
            wanted, first = (fixed, i) if fixed is not None else known.setdefault(axis, (length, i))
            if not 0 < length == wanted or (axis == "k" and length % 2 == 0):
                wrong |= {i, first}
    if wrong:
        shown, misfits = lengths | {"_": "any length"}, [arrays[i] for i in sorted(wrong)]
        takes = [
            f"{name} [{', '.join(str(shown.get(a, a)) for a in axes)}]{' of odd size k' if 'k' in axes else ''}"
            for name, _, axes in misfits
        ]
        got = [f"{name} {getattr(array, 'shape', type(array).__name__)}" for name, array, _ in misfits]
        hint = "; of an image: make the module with lifting=True" if h == 1 < group.order else ""
        raise ValueError(
            f"{operator} on {h} group elements and {c} channels takes {', '.join(takes)}; got {', '.join(got)}{hint}"
        )
    check_dtypes(f, **{name: array for name, array, _ in arrays})


def _arrays(operator, weights, kind, name=""):
    """Name, array and axes of all arrays of these weights, but for those that are None where that is allowed."""
    kinds = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    if weights is None and types.NoneType in kinds:
        return
    kind, *others = (one for one in kinds if one is not types.NoneType)
    if hasattr(kind, "dim_str") and not others:
        yield name or "w", weights, kind.dim_str.split()
        return
    is_sequence = get_origin(kind) is tuple and get_args(kind)[1:] == (...,)
    if others or not (is_sequence or hasattr(kind, "_fields")):
        raise ValueError(
            f"{name or 'weights'} must be annotated as an array, a NamedTuple, tuple[X, ...], or one of these or None; "
            f"got {' | '.join(map(str, (kind, *others)))}"
        )
    if not isinstance(weights, Sequence if is_sequence else kind):
        takes = "a sequence" if is_sequence else kind.__name__
        raise ValueError(f"{operator} takes {name or 'its weights'} as {takes}, got {type(weights).__name__}")
    if is_sequence:
        parts = [(f"{name}[{i}]", part, get_args(kind)[0]) for i, part in enumerate(weights)]
    else:
        prefix, hints = name and f"{name}.", get_type_hints(kind)
        parts = [(prefix + field, getattr(weights, field), hints[field]) for field in kind._fields]
    for part_name, part, part_kind in parts:
        yield from _arrays(operator, part, part_kind, part_name)


def mlp_weights(
    next_key: Callable[[], Array], features: int, hidden: int, h: int, dtype=jnp.float32, *, use_bias: bool = True
) -> MLPWeights:
    """Initial weights of a network of statistics on `h` group elements: `channel_uniform`, biases zero."""
    check_boolean(use_bias=use_bias)
    w1, w2 = (channel_uniform(next_key(), shape, dtype) for shape in ((hidden, features, h), (features, hidden, h)))
    return MLPWeights(w1, w2, *zeros(use_bias, dtype, hidden, features))


def zeros(present: bool, dtype, *lengths: int) -> list[Array | None]:
    """Initial biases of these lengths; absent ones are None."""
    return [jnp.zeros(length, dtype) if present else None for length in lengths]


def hidden_channels(features: int, reduction: int | None, hidden_features: int | None = None) -> int:
    """Hidden channels: as given, or `features` over `reduction`, rounded down.

    Of a reduction None it is 16, or `features` where that is smaller.
    """
    check_positive(features=features)
    if hidden_features is not None:
        if reduction is not None:
            raise ValueError(
                f"hidden_features and reduction both say how many hidden channels there are, got {hidden_features!r} "
                f"and {reduction!r}; give one"
            )
        return check_integer("hidden_features", hidden_features)
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
