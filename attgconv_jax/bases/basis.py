"""Functions on the pixels of a filter whose transformed versions are known."""

import functools
import hashlib
from typing import Any

import numpy as np
from jaxtyping import Float, Inexact

from attgconv_jax.bases.scales import scales
from attgconv_jax.groups import Group, frozen


class FilterBasis:
    """Functions of which filters are sums, with their transformed versions.

        w[u, h', c, o] = sum over j of a[j, h', c, o] psi_j(u)
        (L_g psi_j)(u) = psi_j(g^-1 u) = table[g, u, j]

    A filter's parameters are its coefficients `a [j, h_in, c_in, c_out]`: functions such as `group_conv` take them in
    place of a filter `[k, k, h_in, c_in, c_out]` where `sampling` is a basis. A filter of pixels is replaced by the
    nearest one that is such a sum.

    Make one with `attgconv_jax.filter_basis`, or of functions of your own, whose scale decides what a layer's initial
    weights do. A basis is compared and hashed by its table. Its `repr`, by which saved modules are compared, names its
    origin, since tables that are computed differ by rounding between machines; else it has a digest of the table.

    >>> import jax.numpy as jnp
    >>> from attgconv_jax import cyclic, filter_basis, group_conv
    >>> c8 = cyclic(8)
    >>> basis = filter_basis(c8, 5)
    >>> basis
    FilterBasis(11 functions on 5x5 pixels, cyclic(8), least_error(tolerance=0.01, lowpass=0.2))
    >>> group_conv(jnp.ones([28, 28, 1, 3]), jnp.ones([11, 1, 3, 16]), c8, sampling=basis).shape
    (24, 24, 8, 16)

    Args:
      table: the functions at every pixel of a square filter, row by row, for every element of a group in its order.
      origin: what the table follows from, with the group and the size; None: nothing but itself.
      group: whose elements they are; None: any of as many.

    Attributes:
      table: the same, float64 and read-only.
      size: `k`, pixels along each axis of the filter.
    """

    def __init__(self, table: Float[np.ndarray, "g u j"], origin: str | None = None, group: Group | None = None):
        if np.iscomplexobj(table):
            raise ValueError("table must be real, got complex functions: take real and imaginary parts as two of them")
        table = np.array(table, np.float64)
        if table.ndim != 3 or 0 in table.shape:
            raise ValueError(f"table must be [group elements, pixels, functions], got shape {table.shape}")
        size = round(table.shape[1] ** 0.5)
        if size**2 != table.shape[1]:
            raise ValueError(f"table must have the pixels of a square filter, such as 25, got {table.shape[1]}")
        if not np.all(np.isfinite(table)):
            raise ValueError("table must be finite; it has NaN or infinity")
        self.table, self.size, self._group = frozen(table), size, group
        self._hash = hash(table.tobytes())
        self._origin = origin or f"table {hashlib.sha256(table.tobytes()).hexdigest()[:16]}"

    @property
    def functions(self) -> Float[np.ndarray, "u j"]:
        """The functions as they are, those of the identity."""
        return self.table[0]

    @functools.cached_property
    def projection(self) -> Float[np.ndarray, "j u"]:
        """The coefficients of the nearest filter to a filter of pixels."""
        return frozen(np.linalg.pinv(self.functions))

    def check_group(self, group: Group) -> None:
        """Raises a `ValueError` unless this basis is one for the group, or for any of its order."""
        if self._group not in (None, group):
            raise ValueError(f"sampling is a basis for {self._group}, not for {group}: make one with filter_basis")
        if len(self.table) != group.order:
            raise ValueError(f"sampling is a basis of {len(self.table)} group elements, but {group} has {group.order}")

    def __len__(self) -> int:
        """The number of functions."""
        return self.table.shape[2]

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, FilterBasis) and (self is other or np.array_equal(self.table, other.table))

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        pixels = f"{self.size}x{self.size} pixels"
        elements = f"{len(self.table)} group elements" if self._group is None else str(self._group)
        return f"FilterBasis({len(self)} functions on {pixels}, {elements}, {self._origin})"


def steered(
    group: Group,
    functions: list[Inexact[np.ndarray, " u"]],
    frequencies: list[int],
    *,
    lowpass: float | None,
    origin: str,
) -> FilterBasis:
    """The basis of complex functions with `L_R psi = e^{-i m theta} psi` and `L_M psi = conj(psi)`, each with its `m`.

    Real and imaginary parts are its functions, those that vanish left out. They are scaled as `scales` says.
    """
    columns, tables = [], []
    for function, frequency in zip(functions, frequencies, strict=True):
        parts = np.stack([function.real, function.imag], -1)
        kept = np.linalg.norm(parts, axis=0) > 1e-9 * np.linalg.norm(parts)
        columns.append(parts / np.sqrt(np.sum(parts**2) / np.sum(kept)))
        tables.append(np.einsum("ui,gij->guj", columns[-1], _turns(group, frequency))[:, :, kept])
    table = np.concatenate(tables, axis=2)
    return FilterBasis(table * scales(table, lowpass), origin, group)


def cosines(frequency: int, rotations: int) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """`cos(m theta)` and `sin(m theta)` of every rotation, exact at right angles."""
    quarters = 4 * (frequency * np.arange(rotations) % rotations) / rotations
    right = quarters % 1 == 0
    angle = quarters * np.pi / 2
    return tuple(np.where(right, np.round(values), values) for values in (np.cos(angle), np.sin(angle)))


def _turns(group, frequency):
    """How real and imaginary part of a function of this angular frequency are transformed: `[g, part, part]`."""
    cos, sin = cosines(frequency, group.rotations)
    rotations = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    conjugation = np.diag([1.0, -1.0])
    return np.concatenate([rotations, conjugation @ rotations]) if group.reflections else rotations
