"""Finite groups of rotations and reflections of the plane, as static NumPy tables."""

import dataclasses
import functools
import math

import numpy as np
from jaxtyping import Array

from attgconv_jax.checks import check_boolean, check_feature_map, check_integer


@dataclasses.dataclass(frozen=True)
class Group:
    """`n` rotations by `2 pi / n`, with or without the reflection of axis `x`.

    Make one with `trivial`, `cyclic` or `dihedral`. A group is frozen and hashable: pass it to `jax.jit` as a
    static argument. Element `m * n + r` is `M^m R_n^r`: rotate counter-clockwise first, then flip axis `x`, so

        M^a R^r . M^b R^s = M^(a+b) R^((-1)^b r + s)

    Every table below follows from this product.

    Attributes:
      rotations: `n`, the number of rotations.
      reflections: whether the group holds `M`.
    """

    rotations: int
    reflections: bool = False

    def __post_init__(self):
        # Python's own, so that equal groups print alike and can be written as JSON.
        object.__setattr__(self, "rotations", check_integer("rotations", self.rotations))
        object.__setattr__(self, "reflections", *check_boolean(reflections=self.reflections))

    def __repr__(self) -> str:
        if self.order == 1:
            return "trivial()"
        return f"{'dihedral' if self.reflections else 'cyclic'}({self.rotations})"

    @property
    def order(self) -> int:
        """`|H|`, the number of elements."""
        return self.rotations * (2 if self.reflections else 1)

    @property
    def haar_weight(self) -> float:
        """The measure one element stands for: `2 pi / n`, and twice that with reflections.

        p4: `2 pi / 4`; p4m: `2 (2 pi / 4)`. The published networks multiply their group convolutions by it.
        """
        return 2 * math.pi / self.rotations * (2 if self.reflections else 1)

    @functools.cached_property
    def product(self) -> np.ndarray:
        """`product[g, h]` is the index of `g h`; integers `[order, order]`."""
        reflection, rotation = np.divmod(np.arange(self.order), self.rotations)
        rotations = np.where(reflection == 1, -1, 1)[None, :] * rotation[:, None] + rotation[None, :]
        reflections = (reflection[:, None] + reflection[None, :]) % 2
        return frozen(reflections * self.rotations + rotations % self.rotations)

    @functools.cached_property
    def inverse(self) -> np.ndarray:
        """`inverse[g]` is the index of `g^-1`; integers `[order]`."""
        return frozen(np.argmin(self.product, axis=1))

    @functools.cached_property
    def action(self) -> np.ndarray:
        """`action[g, h]` is the index of `g^-1 h`; integers `[order, order]`.

        Row `g` gathers a group axis: `(L_g f)(h) = f(g^-1 h)` is `f[action[g]]`.
        """
        return frozen(self.product[self.inverse])

    @functools.cached_property
    def matrices(self) -> np.ndarray:
        """`matrices[g]` acts on `(x, y)`, `x` down the rows; float64 `[order, 2, 2]`, exact for right angles."""
        quarter_turns = 4 * np.arange(self.rotations) / self.rotations
        right = quarter_turns % 1 == 0
        angle = quarter_turns * np.pi / 2
        cos, sin = (np.where(right, np.round(table), table) for table in (np.cos(angle), np.sin(angle)))
        rotations = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
        flip_x = np.diag([-1.0, 1.0])
        return frozen(np.concatenate([rotations, flip_x @ rotations]) if self.reflections else rotations)

    @functools.cached_property
    def preserves_grid(self) -> np.ndarray:
        """`preserves_grid[g]`: whether `g` maps a square grid to itself; booleans `[order]`."""
        return frozen(np.all(self.matrices == np.round(self.matrices), axis=(1, 2)))

    @property
    def is_exact(self) -> bool:
        """Whether every element maps a square grid to itself, so that nothing is interpolated."""
        return bool(self.preserves_grid.all())

    @property
    def reversed_axes(self) -> tuple[bool, bool]:
        """Whether some element does not keep the direction of axis `x`, and of axis `y`.

        Along such an axis a sampling grid must be symmetric, or the group cannot map it to itself.
        """
        return self.order > 1, self.rotations > 1


def check_group(group: Group) -> None:
    """Raises a `ValueError` unless this is a finite group."""
    if not isinstance(group, Group):
        raise ValueError(
            f"group must be a finite Group such as attgconv_jax.cyclic(4), got {group!r}; what Lie groups have is in "
            "attgconv_jax.lie, attgconv_jax.nn.LieConv and LieAttention"
        )


def check_on_group(f: Array, group: Group) -> None:
    """Raises a `ValueError` unless the group is a finite one, and `f` a feature map on it or an image."""
    check_group(group)
    check_feature_map(f, group)


def trivial() -> Group:
    """The group of the identity alone; a group convolution on it is an ordinary convolution."""
    return Group(1)


def cyclic(n: int) -> Group:
    """The `n` rotations by multiples of `2 pi / n`; `cyclic(4)` on the pixel grid is p4."""
    return Group(n)


def dihedral(n: int) -> Group:
    """The `n` rotations by multiples of `2 pi / n` and as many reflections; `dihedral(4)` on the pixel grid is p4m."""
    return Group(n, reflections=True)


def frozen(table: np.ndarray) -> np.ndarray:
    """The table, made read-only: tables are shared by all who ask for them."""
    # A gather with int64 fails in JAX where x64 is switched on after its first compilation.
    if np.issubdtype(table.dtype, np.integer):
        table = table.astype(np.int32)
    table.setflags(write=False)
    return table
