"""Convolution kernels as functions on a group: where they are evaluated, masked and weighed.

A group convolution on `G`, the translations and `H`, is

    y(x, h) = integral over u in the plane and h~ in H of  f(x + u, h~) k(h^-1 u, h^-1 h~) du dh~ / det h

Kernels live on the Lie algebra: `h^-1 h~` enters through its logarithm. `1 / det h` makes a kernel a density on the
plane: with `u = h v` and `du = det h dv`,

    integral over u of k(h^-1 u) du / det h = integral over v of k(v) dv        for every h,

so a constant image has the same response at every scale, however large the kernel is there, up to the sampling on
pixels and to what the filter's square cuts off the largest kernel. A filter of one pixel is `k(0)` times a delta
function, and has no weight: `delta(h^-1 u) / det h = delta(u)`.

`e` ends a kernel at distance 1 in the plane, and `e_S` along the scales:

    e(v) = sigmoid(b (1 - |v|)), or whether |v| <= 1        e_S(s) = sigmoid(10 (log(max_scale) / n - |log s|))

for `n` scales; a single scale has no `e_S`. `b = 10 max(1, (k - 1) / (6 max_scale))` for filters of `k` pixels: 10 as
long as the kernel of scale 1 has at most 7 pixels. Of larger ones the edges stay as many pixels wide, so that the
square that a filter is cuts off little of them.

The paper's own kernels differ, each a case of `coordinates="paper"`:

| | here | paper |
|---|---|---|
| angle of `h^-1 h~` | cosine and sine | `[0, 2 pi)` as a number of `[-1, 1)`, torn at the identity |
| scale of `h^-1 h~` | `log s / log max_scale` | `log s` |
| coordinates of the plane | `x, y` | `y, x`, so that angles turn clockwise; not swapped in full kernels of scalings |
| mask of rotations | smooth disc | hard disc |
| mask of scalings | smooth disc | smooth square, steeper in group convolutions than in lifting |
| filters of one pixel | `k(0)` | with scalings `k` at the corner of a larger filter, `-max_scale` |
| weight of the plane | `1 / s^2`, none of filters of one pixel | `1 / s^2`; lifting to similarities `1 / s` |

`coordinates="angle"` is for kernel networks that are periodic themselves, as B-splines on a circle: the angle as a
number of `[-1, 1)`, 0 at the identity; all else is as here, `coordinates="periodic"`. `mask` says how kernels end at
distance 1, "smooth" or "hard"; the paper's coordinates have masks of their own.

The functions below take grids of elements of the group, `h~` and `h`, and filters' sizes in pixels, odd and large
enough for every scale (`check_size`).

Source: Knigge et al. 2022, sections 3.1 and 4.
"""

import math
from collections.abc import Callable
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attgconv_jax.checks import check_boolean, check_choice, check_odd
from attgconv_jax.kernels import maximum
from attgconv_jax.lie.checks import check_grid, check_lie_group
from attgconv_jax.lie.groups import LieGroup

Kernel = Callable[[Float[Array, "*shape d"]], Float[Array, "*shape m"]]
Coordinates = Literal["periodic", "angle", "paper"]
Mask = Literal["smooth", "hard"]

# Of the sigmoids that end a kernel: in the plane, of kernels up to so many pixels, and along the logarithm of scale.
EDGE, EDGE_SIZE, SCALE_EDGE = 10.0, 7, 10.0

PAPER_FREQUENCY = 10.0
"""The first frequency of the paper's kernels, networks of sines."""


def spatial_kernel(
    kernel: Kernel,
    group: LieGroup,
    out_grid: Float[Array, "h d"],
    size: int,
    *,
    coordinates: Coordinates = "periodic",
    mask: Mask = "smooth",
    lifting: bool = False,
) -> Float[Array, "k k h m"]:
    """A kernel on the plane, moved by every element: `k(h^-1 u) e(h^-1 u) / det h`.

    Two coordinates, which lie in `[-1, 1]` in the largest scale's filter. `lifting` chooses among the paper's masks.
    """
    check_coordinates(group, coordinates, mask)
    size = check_size("size", size, group, coordinates)
    check_boolean(lifting=lifting)
    check_grid(group, out_grid=out_grid)
    return on_plane(kernel, group, out_grid, size, coordinates, mask, lifting)


def on_plane(kernel, group, out_grid, size, coordinates, mask, lifting):
    """`spatial_kernel` of checked arguments."""
    x = _plane(group, out_grid, size, coordinates, swapped=True)
    edge, density = _edge_and_density(group, out_grid, x, coordinates, mask, lifting)
    return kernel(x) * (edge * density[None, None])[..., None]


def group_kernel(
    kernel: Kernel,
    group: LieGroup,
    in_grid: Float[Array, "h_in d"],
    out_grid: Float[Array, "h d"],
    *,
    coordinates: Coordinates = "periodic",
) -> Float[Array, "h_in h m"]:
    """A kernel on `H`, moved by every element: `k(h^-1 h~) e_S(h^-1 h~)`.

    The coordinates are cosine and sine of the angle, or with "angle" and "paper" the angle; then the scale's logarithm.
    """
    check_coordinates(group, coordinates)
    check_grid(group, in_grid=in_grid, out_grid=out_grid)
    return on_group(kernel, group, in_grid, out_grid, coordinates)


def on_group(kernel, group, in_grid, out_grid, coordinates):
    """`group_kernel` of checked arguments."""
    v = _algebra(group, in_grid, out_grid, coordinates)
    return kernel(v) * _scale_edge(group, in_grid, out_grid, coordinates)[..., None]


def full_kernel(
    kernel: Kernel,
    group: LieGroup,
    in_grid: Float[Array, "h_in d"],
    out_grid: Float[Array, "h d"],
    size: int,
    *,
    coordinates: Coordinates = "periodic",
    mask: Mask = "smooth",
) -> Float[Array, "k k h_in h m"]:
    """A kernel on the plane and `H`, moved by every element: `k(h^-1 u, h^-1 h~) e(h^-1 u) e_S(h^-1 h~) / det h`.

    The coordinates are those of `spatial_kernel`, then those of `group_kernel`.
    """
    check_coordinates(group, coordinates, mask)
    size = check_size("size", size, group, coordinates)
    check_grid(group, in_grid=in_grid, out_grid=out_grid)
    return on_both(kernel, group, in_grid, out_grid, size, coordinates, mask)


def on_both(kernel, group, in_grid, out_grid, size, coordinates, mask):
    """`full_kernel` of checked arguments."""
    x = _plane(group, out_grid, size, coordinates, swapped=group.angles is not None)
    v = _algebra(group, in_grid, out_grid, coordinates)
    edge, density = _edge_and_density(group, out_grid, x, coordinates, mask, lifting=False)
    shape = (size, size, *v.shape[:2])
    both = [jnp.broadcast_to(x[:, :, None], (*shape, 2)), jnp.broadcast_to(v, (*shape, v.shape[-1]))]
    ends = edge[:, :, None] * _scale_edge(group, in_grid, out_grid, coordinates)[None, None]
    return kernel(jnp.concatenate(both, -1)) * (ends * density[None, None, None])[..., None]


def check_coordinates(group: LieGroup, coordinates: Coordinates, mask: Mask = "smooth") -> None:
    """Raises a `ValueError` unless this is a Lie group, and these are coordinates and a mask of kernels on it."""
    check_lie_group(group)
    check_choice("coordinates", coordinates, get_args(Coordinates))
    check_choice("mask", mask, get_args(Mask))


def check_size(name: str, size: int, group: LieGroup, coordinates: Coordinates = "periodic") -> int:
    """Raises a `ValueError` unless filters of this size, in pixels, hold a kernel at every scale of the group's grid.

    At scale 1 a kernel ends `(size - 1) / (2 max_scale)` pixels from its centre: that must be one pixel at least.
    """
    (size,) = check_odd("or filters are off centre", **{name: size})
    if coordinates != "paper" and 1 < size < 2 * group.max_scale + 1:
        raise ValueError(
            f"{name} must be 1 or at least {least_size(group)}, or filters cannot hold kernels of scales up to "
            f"{group.max_scale}: at scale 1 the mask ends them before the first pixel; got {size}"
        )
    return size


def first_frequency(group: LieGroup, size: int, coordinates: Coordinates = "periodic") -> float:
    """Of `siren` kernels on filters of `size` pixels: what pixels can follow, and at most the paper's.

        min(10, 7 (size - 1) / (6 max_scale))

    7 where a kernel of scale 1 has 7 pixels, and as much from pixel to pixel on others. With 10 liftings to 8 rotations
    err by 29 % on 5 pixels. The paper's coordinates, and filters of one pixel, have the paper's. Kernels on angles and
    scales, which no pixel limits, have that of their layer.

    Args:
      group: of the convolution.
      size: of the filter, in pixels; checked by `check_size`.
      coordinates: of the kernels; checked by `check_coordinates`.

    Source: our own; 10 is that of Knigge et al. 2022.
    """
    if coordinates == "paper" or size == 1:
        return PAPER_FREQUENCY
    return min(PAPER_FREQUENCY, 7 * (size - 1) / (EDGE_SIZE - 1) / group.max_scale)


def least_size(group: LieGroup) -> int:
    """The smallest filter, in pixels, but for a single pixel, that can hold a kernel at every scale of the grid."""
    return 2 * math.ceil(group.max_scale) + 1


def _plane(group, out_grid, size, coordinates, swapped):
    """`h^-1 u` for the pixels `u` of a filter, `[k, k, h, 2]`."""
    paper = coordinates == "paper"
    at_corner = paper and group.scales is not None
    ends = np.linspace(-1, 1, size) if size > 1 or at_corner else np.zeros(1)
    plane = group.max_scale * np.stack(np.meshgrid(ends, ends, indexing="ij"), -1)
    plane = plane[..., ::-1] if paper and swapped else plane
    matrices = group.matrices(group.inverse(out_grid))
    return jnp.einsum("hij,klj->klhi", matrices, plane.astype(out_grid.dtype), precision="highest")


def _algebra(group, in_grid, out_grid, coordinates):
    """Coordinates of `h^-1 h~`, `[h_in, h, d]` or one more for periodic angles."""
    parts = []
    if group.angles is not None:
        angle = in_grid[:, None, 0] - out_grid[None, :, 0]
        if coordinates == "periodic":
            parts += [jnp.cos(angle), jnp.sin(angle)]
        else:
            start = 0 if coordinates == "paper" else math.pi
            parts.append((angle + start) % (2 * math.pi) / math.pi - 1)
    if group.scales is not None:
        unit = 1 if coordinates == "paper" or group.scales == 1 else math.log(group.max_scale)
        parts.append(_log_scales(in_grid, out_grid) / unit)
    return jnp.stack(parts, -1)


def _log_scales(in_grid, out_grid):
    """`log s` of `h^-1 h~`, `[h_in, h]`."""
    return jnp.log(in_grid[:, None, -1] / out_grid[None, :, -1])


def _edge_and_density(group, out_grid, x, coordinates, mask, lifting):
    """What a kernel on the plane is multiplied by: how it ends, `[k, k, h]`, and `1 / det h`, `[h]`."""
    square, density = jnp.sum(x**2, axis=-1), 1 / group.determinant(out_grid)
    # The root has no derivative at the centre of a filter.
    distance = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    if coordinates != "paper":
        steepness = EDGE * max(1, (len(x) - 1) / (EDGE_SIZE - 1) / group.max_scale)
        smooth, hard = jax.nn.sigmoid(steepness * (1 - distance)), (distance <= 1 + 1e-6).astype(x.dtype)
        return smooth if mask == "smooth" else hard, density if len(x) > 1 else jnp.ones_like(density)
    if group.scales is None:
        return (distance <= 1 + 1e-6).astype(x.dtype), density
    if group.angles is None:
        return jax.nn.sigmoid((2 if lifting else 3) * (1 - maximum(jnp.abs(x), axis=-1))), density
    edge = jax.nn.sigmoid((3 if lifting else 2) * (1 - distance))
    return edge, jnp.sqrt(density) if lifting else density


def _scale_edge(group, in_grid, out_grid, coordinates):
    """How a kernel ends along the scales, `[h_in, h]`."""
    if group.scales is None or (group.scales == 1 and coordinates != "paper"):
        return jnp.ones((len(in_grid), len(out_grid)), in_grid.dtype)
    width = math.log(group.max_scale) / group.scales
    return jax.nn.sigmoid(SCALE_EDGE * (width - jnp.abs(_log_scales(in_grid, out_grid))))
