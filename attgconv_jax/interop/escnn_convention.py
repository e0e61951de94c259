"""Feature maps and filters in escnn's convention and in ours.

escnn's feature maps are `[batch, fields, x, y]` with the elements of a regular field next to each other, its filters
`[fields out, fields in, x, y]`. Its elements are ours in another order, see `escnn_elements`.
"""

import math
import numbers

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from attgconv_jax.checks import check_array, check_boolean
from attgconv_jax.groups import Group, check_group, check_on_group, frozen

VERTICAL = math.pi / 2
"""The angle of the axis of reflection in escnn's `flipRot2dOnR2`, from the horizontal."""


def escnn_elements(group: Group, axis: float = VERTICAL) -> Int[np.ndarray, " order"]:
    """Which of our elements each of escnn's is.

    escnn writes the elements of its dihedral group as `R^r F^a` and lists them by `a`, then by `r`. `F` reflects about
    a line at the angle `axis` to the horizontal, our `M` about the horizontal: `F = R^s M` with `s = n axis / pi`, and

        R^r F = R^(r+s) M = M R^-(r+s)
        elements[r] = r,    elements[n + r] = n + (-(r + s) mod n)

    >>> from attgconv_jax import dihedral
    >>> from attgconv_jax.interop import escnn_elements
    >>> escnn_elements(dihedral(4)).tolist()
    [0, 1, 2, 3, 6, 5, 4, 7]

    Args:
      group: ours.
      axis: that of escnn's `flipRot2dOnR2`, in radians; a multiple of `pi / n`. Its own default is `pi / 2`, a vertical
        line, which flips an image's last axis.

    Raises:
      ValueError: `F` is no element of the group; of odd `n` the vertical line is no axis, and escnn takes `axis=0`.
    """
    check_group(group)
    n, rotations = group.rotations, np.arange(group.rotations)
    if not group.reflections:
        return frozen(rotations)
    if (
        not isinstance(axis, numbers.Real)
        or not abs(steps := n * axis / math.pi) < 1e6
        or abs(steps - round(steps)) > 1e-6
    ):
        raise ValueError(
            f"axis must be a multiple of pi / {n} for {group} to hold the reflection about it, got {axis!r}"
        )
    return frozen(np.concatenate([rotations, n + (-rotations - round(steps)) % n]))


def feature_map_from_escnn(
    f: Float[Array | np.ndarray, "*batch fields x y"], group: Group, *, axis: float = VERTICAL
) -> Float[Array, "*batch x y h c"]:
    """A feature map of regular fields of escnn in our axes; of trivial fields, an image, with `trivial()` as the group.

    ours[x, elements[i], c] = theirs[c |H| + i, x],    elements = escnn_elements(group, axis)
    """
    order = escnn_elements(group, axis)
    check_array("f", f, "... fields x y")
    *batch, fields, x, y = f.shape
    ours = jnp.asarray(f).reshape(*batch, _count("f", "fields", fields, group), group.order, x, y)
    return jnp.moveaxis(ours[..., np.argsort(order), :, :], (-4, -3), (-1, -2))


def feature_map_to_escnn(
    f: Float[Array | np.ndarray, "*batch x y h c"], group: Group, *, axis: float = VERTICAL
) -> Float[Array, "*batch fields x y"]:
    """Our feature map, or image, in escnn's convention: the inverse of `feature_map_from_escnn`."""
    order = escnn_elements(group, axis)
    check_on_group(f, group)
    *batch, x, y, h, c = f.shape
    theirs = jnp.asarray(f) if h == 1 else jnp.asarray(f)[..., order, :]
    return jnp.moveaxis(theirs, (-1, -2), (-4, -3)).reshape(*batch, c * h, x, y)


def filter_bank_from_escnn(
    filters: Float[Array | np.ndarray, "fields_out fields_in k k"],
    group: Group,
    *,
    lifting: bool = False,
    axis: float = VERTICAL,
) -> Float[Array, "k k h_in c_in h c_out"]:
    """An expanded filter of escnn in our axes: a bank, of which `bank[..., 0, :]` is the filter of the identity.

        ours[u, elements[j], c, elements[i], o] = theirs[o |H| + i, c |H| + j, u]

    Options:
      filters: `R2Conv.filter` in evaluation mode, or `R2Conv.expand_parameters()[0]`.
      lifting: whether input fields are trivial ones.
    """
    order = escnn_elements(group, axis)
    check_boolean(lifting=lifting)
    check_array("filters", filters, "fields_out fields_in k k")
    fields_out, fields_in, *pixels = filters.shape
    c_out = _count("filters", "output fields", fields_out, group)
    c_in = fields_in if lifting else _count("filters", "input fields", fields_in, group)
    h = fields_in // c_in
    ours = jnp.asarray(filters).reshape(c_out, group.order, c_in, h, *pixels)[:, np.argsort(order)]
    return (ours if lifting else ours[:, :, :, np.argsort(order)]).transpose(4, 5, 3, 2, 1, 0)


def filter_bank_to_escnn(
    bank: Float[Array | np.ndarray, "k k h_in c_in h c_out"], group: Group, *, axis: float = VERTICAL
) -> Float[Array, "fields_out fields_in k k"]:
    """A bank, see `attgconv_jax.filter_bank`, as escnn's expanded filter: the inverse of `filter_bank_from_escnn`."""
    order = escnn_elements(group, axis)
    check_array("bank", bank, "k k h_in c_in h c_out")
    k, l, h_in, c_in, h, c_out = bank.shape
    if h != group.order or h_in not in (1, h):
        raise ValueError(f"bank must be of {group.order} elements, those of {group}, got shape {bank.shape}")
    theirs = jnp.asarray(bank)[:, :, :, :, order]
    theirs = theirs if h_in == 1 else theirs[:, :, order]
    return theirs.transpose(5, 4, 3, 2, 0, 1).reshape(c_out * h, c_in * h_in, k, l)


def _count(name, axis, fields, group):
    if fields % group.order:
        raise ValueError(f"{name} must have a multiple of {group.order} {axis}, the order of {group}, got {fields}")
    return fields // group.order
