"""The Lie groups of rotations and scalings of the plane: elements, exponential map, action, and grids of samples."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from attgconv_jax.checks import check_finite_positive, check_integer


@dataclasses.dataclass(frozen=True)
class LieGroup:
    """`H`: the rotations SO(2), the scalings R+ or their direct product, and how densely it is sampled.

    Make one with `rotations`, `scalings` or `similarities`: together with the translations of the plane they are SE(2),
    `R^2 x R+` and Sim(2). A group is frozen and hashable: pass it to `jax.jit` as a static argument.

    An element is an array `[..., d]` of its coordinates: the angle in radians, counter-clockwise, if the group turns;
    then the factor, if it scales. A vector of the Lie algebra holds the angle and the logarithm of the factor:

        exp (v, w) = (v mod 2 pi, e^w)        log (theta, s) = (theta in [-pi, pi), log s)

    `H` is commutative, so `g h = exp(log g + log h)`.

    Attributes:
      angles: how many rotations are sampled, uniformly; None: the group does not turn.
      scales: how many scalings are sampled, uniformly in their logarithm; None: the group does not scale.
      max_scale: the largest scaling of the grid; the smallest is 1. A single scale is 1, and then this only says what
        scales filters leave room for and random grids reach.
    """

    angles: int | None = None
    scales: int | None = None
    max_scale: float = 1.0

    def __post_init__(self):
        # Python's own numbers, so that equal groups print alike and can be written as JSON.
        for name in ("angles", "scales"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_integer(name, getattr(self, name)))
        object.__setattr__(self, "max_scale", *check_finite_positive(max_scale=self.max_scale))
        if self.angles is None and self.scales is None:
            raise ValueError("a LieGroup needs angles, scales or both; without either take attgconv_jax.trivial()")
        if self.max_scale < 1:
            raise ValueError(f"max_scale must be at least 1, got {self.max_scale!r}")
        if self.scales is None and self.max_scale != 1:
            raise ValueError(f"max_scale must be left out without scales, got {self.max_scale!r}")
        if self.scales is not None and self.scales > 1 and self.max_scale == 1:
            raise ValueError(f"max_scale must be above 1, or all {self.scales} scales are the same; got 1")

    def __repr__(self) -> str:
        if self.scales is None:
            return f"rotations({self.angles})"
        if self.angles is None:
            return f"scalings({self.scales}, {self.max_scale})"
        return f"similarities({self.angles}, {self.scales}, {self.max_scale})"

    @property
    def order(self) -> int:
        """`n`, the number of elements of a grid."""
        return (self.angles or 1) * (self.scales or 1)

    @property
    def dimension(self) -> int:
        """`d`, the number of coordinates of an element."""
        return (self.angles is not None) + (self.scales is not None)

    def exp(self, v: Float[Array, "*shape d"]) -> Float[Array, "*shape d"]:
        """The element that a vector of the Lie algebra generates."""
        return self._map(_whole_turns_less, jnp.exp, v)

    def log(self, g: Float[Array, "*shape d"]) -> Float[Array, "*shape d"]:
        """The shortest vector of the Lie algebra that generates an element; its angle lies in `[-pi, pi)`."""
        return self._map(lambda angles: _whole_turns_less(angles + math.pi) - math.pi, jnp.log, g)

    def product(self, g: Float[Array, "*#shape d"], h: Float[Array, "*#shape d"]) -> Float[Array, "*product d"]:
        """`g h`."""
        return self.exp(self.log(g) + self.log(h))

    def inverse(self, g: Float[Array, "*shape d"]) -> Float[Array, "*shape d"]:
        """`g^-1`."""
        return self.exp(-self.log(g))

    def distance(self, g: Float[Array, "*#shape d"], h: Float[Array, "*#shape d"]) -> Float[Array, "*distance"]:
        """`|log(g^-1 h)|`, which is the same for `u g` and `u h`."""
        square = jnp.sum(self.log(self.product(self.inverse(g), h)) ** 2, axis=-1)
        # The root has no derivative where the elements are the same.
        same = square == 0
        return jnp.where(same, 0, jnp.sqrt(jnp.where(same, 1, square)))

    def matrices(self, g: Float[Array, "*shape d"]) -> Float[Array, "*shape 2 2"]:
        """What elements do to `(x, y)`, `x` down the rows: they turn counter-clockwise and scale."""
        angles, scales = self._split(g)
        if angles is None:
            return lax.broadcast_to_rank(jnp.eye(2, dtype=g.dtype), g.ndim + 1) * scales[..., None, None]
        cos, sin = jnp.cos(angles), jnp.sin(angles)
        matrices = jnp.stack([jnp.stack([cos, -sin], -1), jnp.stack([sin, cos], -1)], -2)
        return matrices if scales is None else matrices * scales[..., None, None]

    def determinant(self, g: Float[Array, "*shape d"]) -> Float[Array, "*shape"]:
        """How much larger elements make an area: the square of the factor."""
        _, scales = self._split(g)
        return jnp.ones(g.shape[:-1], g.dtype) if scales is None else scales**2

    def grid(self, key: Key[Array, ""] | None = None) -> Float[Array, "n d"]:
        """The sampled elements, scales fastest; without a key the identity is the first.

        With a key the whole grid is multiplied by one element, drawn uniformly from the cell around the identity, so
        that over many draws every element of the circle, and of the scales between, is as likely as every other:

            angle in [-pi / angles, pi / angles)        log scale in [-d / 2, d / 2)

        where `d = log(max_scale) / (scales - 1)` is what neighbouring scales differ by; `log(max_scale)` of one alone.
        So the smallest scale may be `e^(-d/2)`, at which small filters sample a kernel coarsely.

        Source: Knigge et al. 2022, section 3.2 (random grids); the cell is our own.
        """
        axes, cells = [], []
        if self.angles is not None:
            cells.append(2 * math.pi / self.angles)
            axes.append(jnp.arange(self.angles) * cells[-1])
        if self.scales is not None:
            cells.append(math.log(self.max_scale) / max(self.scales - 1, 1))
            axes.append(jnp.arange(self.scales) * cells[-1])
        vectors = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1).reshape(self.order, self.dimension)
        if key is not None:
            vectors += ((jax.random.uniform(key, (self.dimension,), vectors.dtype) - 0.5) * jnp.array(cells))[None]
        return self.exp(vectors)

    def check(self, g: Float[Array, "*shape"]) -> None:
        """Raises a `ValueError` unless the last axis holds the coordinates of an element, as floating-point numbers."""
        if not isinstance(g, jax.Array | np.ndarray) or not jnp.issubdtype(g.dtype, jnp.floating):
            got = getattr(g, "dtype", type(g).__name__)
            raise ValueError(f"elements of {self} are arrays of floating-point numbers, got {got}")
        if g.shape[-1:] != (self.dimension,):
            raise ValueError(f"elements of {self} are [..., {self.dimension}], got shape {g.shape}")

    def _split(self, g):
        """Angles and scales, None where the group has none."""
        self.check(g)
        return (None if self.angles is None else g[..., 0]), (None if self.scales is None else g[..., -1])

    def _map(self, of_angles, of_scales, g):
        angles, scales = self._split(g)
        parts = [] if angles is None else [of_angles(angles)]
        parts += [] if scales is None else [of_scales(scales)]
        return jnp.stack(parts, -1)


def _whole_turns_less(angles):
    """In `[0, 2 pi)`, also where rounding would give `2 pi`."""
    rest = angles % (2 * math.pi)
    return jnp.where(rest >= 2 * math.pi, 0, rest)


def rotations(n: int) -> LieGroup:
    """SO(2), sampled at the `n` multiples of `2 pi / n`, as `attgconv_jax.cyclic(n)`; with the translations SE(2)."""
    return LieGroup(angles=n)


def scalings(n: int, max_scale: float) -> LieGroup:
    """R+, sampled at `n` scales from 1 to `max_scale`, uniform in their logarithm; with the translations `R^2 x R+`."""
    return LieGroup(scales=n, max_scale=max_scale)


def similarities(angles: int, scales: int, max_scale: float) -> LieGroup:
    """SO(2) x R+, sampled at all pairs of one of `rotations` and one of `scalings`; with the translations Sim(2)."""
    return LieGroup(angles, scales, max_scale)
