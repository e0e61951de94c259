"""Pixels of a square filter, and where group elements take them."""

import functools

import numpy as np
from jaxtyping import Float, Int

from attgconv_jax.groups import Group, frozen


@functools.lru_cache(maxsize=256)
def pixels(size: int) -> Float[np.ndarray, "u 2"]:
    """Offsets `(x, y)` of the pixels of a `size x size` filter from its centre, row by row."""
    offset = np.arange(size) - (size - 1) / 2
    return frozen(np.stack(np.meshgrid(offset, offset, indexing="ij"), -1).reshape(-1, 2))


def source_pixels(group: Group, size: int) -> Float[np.ndarray, "g u 2"]:
    """`g^-1 u` for every element and every pixel, from the centre of the filter."""
    return np.einsum("gji,uj->gui", group.matrices, pixels(size))


@functools.lru_cache(maxsize=256)
def grid_permutation(group: Group, size: int) -> Int[np.ndarray, "g u"]:
    """`permutation[g, u]` is the flat index of `g^-1 u` on a `size x size` grid."""
    if size > 1 and not group.is_exact:
        raise ValueError(f"{group} does not map a square grid to itself; use resampling_operator")
    source = np.rint(source_pixels(group, size) + (size - 1) / 2).astype(np.int64)
    return frozen(source[..., 0] * size + source[..., 1])
