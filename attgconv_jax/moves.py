"""What elements of a finite or Lie group do to the plane, and to the group axis of feature maps."""

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from attgconv_jax.groups import Group, cyclic
from attgconv_jax.lie.groups import LieGroup

# How near a Lie group's element is to one of the grid to be that one, in steps of the grid.
_NEAR = 1e-4


class Move(NamedTuple):
    """What one element does to the plane, and to a group axis: `(L_g f)(h) = f[action[h]]`.

    `action` is -1 where `g^-1 h` is a scale that the grid lacks, and None where it is an element between those of the
    grid.
    """

    matrix: Float[np.ndarray, "2 2"]
    action: Int[np.ndarray, " h"] | None


def moves_of(group: Group | LieGroup, elements: Any = None) -> list[Move]:
    """What elements of a group do; they are given as `attgconv_jax.band_limited_error` takes them."""
    if not isinstance(group, Group | LieGroup):
        raise ValueError(
            "group must be a Group such as attgconv_jax.cyclic(8), or a LieGroup such as "
            f"attgconv_jax.lie.rotations(8), got {group!r}"
        )
    given = np.arange(group.order) if elements is None else np.asarray(elements)
    if given.size and given.ndim == 1 and np.issubdtype(given.dtype, np.integer):
        if given.min() < 0 or given.max() >= group.order:
            raise ValueError(f"elements must be from 0 to {group.order - 1}, those of {group}, got {given.tolist()}")
        if isinstance(group, Group):
            return [Move(group.matrices[g], group.action[g]) for g in given]
        return [_move(group, *divmod(int(g), group.scales or 1)) for g in given]
    floating = given.size and np.issubdtype(given.dtype, np.floating)
    if isinstance(group, Group) or not floating or given.shape[1:] != (group.dimension,):
        coordinates = "" if isinstance(group, Group) else f", or coordinates [n, {group.dimension}] of elements"
        raise ValueError(f"elements must be indices of elements of {group}{coordinates}, got {elements!r}")
    return [_between(group, element) for element in given.astype(np.float64)]


def _between(group, element):
    """The move of an element by its coordinates."""
    angle, scale = element[0] if group.angles else 0.0, element[-1] if group.scales else 1.0
    if not (np.isfinite(angle) and 0 < scale < np.inf):
        raise ValueError(f"elements must be finite, with scales above 0, got {element.tolist()}")
    turn = angle * (group.angles or 1) / (2 * math.pi)
    # Where there is but one scale, others are between those of the grid.
    place = math.log(scale) / math.log(_step(group)) if _step(group) > 1 else 0.5 * (abs(scale - 1) >= _NEAR)
    if max(abs(turn - round(turn)), abs(place - round(place))) < _NEAR:
        return _move(group, round(turn), round(place))
    cos, sin = math.cos(angle), math.sin(angle)
    return Move(scale * np.array([[cos, -sin], [sin, cos]]), None)


def _step(group):
    """What neighbouring scales of a grid differ by; 1 where there is but one."""
    return group.max_scale ** (1 / (group.scales - 1)) if (group.scales or 1) > 1 else 1.0


def _move(group, turn, place):
    """Of an element of the grid: so many angles on, and so many scales."""
    angles, scales = group.angles or 1, group.scales or 1
    angle, scale = np.divmod(np.arange(group.order), scales)
    source = scale - place
    action = np.where((source >= 0) & (source < scales), (angle - turn) % angles * scales + source, -1)
    return Move(cyclic(angles).matrices[turn % angles] * _step(group) ** place, action)


def on_the_group(f: Float[np.ndarray, "*shape h c"], move: Move) -> Float[np.ndarray, "*shape h c"]:
    """`f(g^-1 h)` on the group axis, zero where nothing comes in; of images `f`."""
    if f.shape[-2] == 1:
        return f
    return np.where((move.action >= 0)[:, None], f[..., move.action, :], 0)
