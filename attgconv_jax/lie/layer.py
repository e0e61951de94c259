"""A convolution on a Lie group from its kernel networks: which kinds there are, their kernels, and `lie_conv`."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attgconv_jax.checks import check_feature_map
from attgconv_jax.geometry import Padding, check_symmetric_grid, windows_of
from attgconv_jax.lie import convolution
from attgconv_jax.lie.checks import quarter_turns, require_grid, require_lie_group
from attgconv_jax.lie.groups import LieGroup, rotations, scalings
from attgconv_jax.lie.kernels import Coordinates, Mask, full_kernel, group_kernel, spatial_kernel
from attgconv_jax.lie.networks import siren

Domain = Literal["plane", "group", "rotations", "scales", "plane and group"]
Network = Callable[[Float[Array, "*shape d"], Any], Float[Array, "*shape m"]]


class Factor(NamedTuple):
    """A factor of a kernel.

    Attributes:
      domain: what it is a function of.
      pairs: whether there is one for every pair of an input and an output channel, or for every output channel.
    """

    domain: Domain
    pairs: bool


class Kind(NamedTuple):
    """How a kernel comes in factors.

    Attributes:
      conv: the convolution, a function of the feature map, the projection if there is one, and the evaluated factors.
      factors: of the kernel.
      projection: whether a matrix over the channels comes first.
    """

    conv: Callable
    factors: tuple[Factor, ...]
    projection: bool = False


KINDS = {
    "lifting": Kind(convolution.nonseparable_conv, (Factor("plane", True),)),
    "nonseparable": Kind(convolution.nonseparable_conv, (Factor("plane and group", True),)),
    "gseparable": Kind(convolution.gseparable_conv, (Factor("group", True), Factor("plane", True))),
    "separable": Kind(convolution.separable_conv, (Factor("group", True), Factor("plane", False))),
    "dseparable": Kind(convolution.dseparable_conv, (Factor("plane and group", False),), projection=True),
    "dgseparable": Kind(
        convolution.dgseparable_conv, (Factor("group", False), Factor("plane", False)), projection=True
    ),
    "separable+2d": Kind(
        convolution.separable_2d_conv, (Factor("rotations", True), Factor("scales", False), Factor("plane", False))
    ),
    "gseparable+2d": Kind(
        convolution.gseparable_2d_conv, (Factor("rotations", True), Factor("scales", True), Factor("plane", True))
    ),
}


class LieWeights(NamedTuple):
    """Of `lie_conv`: a kernel network's weights for every factor, and the matrix over the channels or None."""

    factors: tuple[Any, ...]
    projection: Float[Array, "c_in c_out"] | None = None


def lie_conv(
    f: Float[Array, "*batch x y h_in c_in"],
    weights: LieWeights,
    group: LieGroup,
    in_grid: Float[Array, "h_in d"] | None,
    out_grid: Float[Array, "h d"],
    size: int,
    kind: str = "separable",
    *,
    network: Network | Sequence[Network] = siren,
    coordinates: Coordinates = "periodic",
    mask: Mask = "smooth",
    stride: int = 1,
    padding: Padding = "SAME",
    exact: bool = True,
    implementation: str | None = None,
) -> Float[Array, "*batch x_out y_out h c_out"]:
    """Group convolution on a Lie group, between any two grids of it.

        y[x, h, j] = sum over u, h~, i of  f[x + u, h~, i] k_ij(h^-1 u, h^-1 h~) / det h

    The sum over `h~` has no weight: on a denser `in_grid` it is larger. Differentiable in reverse mode.

    | `kind` | `k_ij(x, h)` | computed as |
    |---|---|---|
    | "lifting" | `k_ij(x)` | a convolution of images |
    | "nonseparable" | `k_ij(x, h)` | a convolution |
    | "gseparable" | `k_ij(h) k_ij(x)` | a convolution |
    | "separable" | `k_ij(h) k_j(x)` | a product over `(h, i)`, then a depthwise convolution |
    | "dseparable" | `w_ij k_j(x, h)` | a product over `i`, then a convolution of every channel |
    | "dgseparable" | `w_ij k_j(h) k_j(x)` | as "separable" |
    | "separable+2d" | `k_ij(r) k_j(s) k_j(x)` | two products over rotations and scales, then a depthwise convolution |
    | "gseparable+2d" | `k_ij(r) k_ij(s) k_ij(x)` | a convolution |

    >>> import jax, jax.numpy as jnp
    >>> from attgconv_jax.lie import LieWeights, b_spline, lie_conv, rotations
    >>> se2, image, coefficients = rotations(8), jnp.ones([2, 28, 28, 1, 3]), jnp.ones([5, 5, 3 * 10])
    >>> lie_conv(image, LieWeights((coefficients,)), se2, None, se2.grid(), 7, "lifting", network=b_spline).shape
    (2, 28, 28, 8, 10)

    Args:
      f: feature map on `in_grid`, or an image.
      weights: of the kernel networks, in the order of the kernel's factors, and the matrix `w` if there is one.
      group: of the grids.
      in_grid: the elements `h~`; None: for lifting an image. The "+2d" kinds take grids of all pairs of some angles and
        the group's number of scales, scales fastest; of traced grids they cannot see whether they are that.
      out_grid: the elements `h`.
      size: of the filters, in pixels.
      kind: how the kernel comes in factors.
      network: the kernel network, a function of coordinates and weights; or one a factor.
      coordinates: "periodic", "angle" or "paper"; see `attgconv_jax.lie.kernels`.
      mask: how kernels end at distance 1: "smooth" or "hard"; the paper's coordinates have masks of their own.
      stride: in pixels.
      padding: pixels on every side, "SAME" or "VALID".
      exact: whether to refuse positions of the filters that quarter turns do not map to themselves, if the group turns.
      implementation: of the convolution; see `attgconv_jax.kernels`.

    Returns:
      Feature map on `out_grid`. Kernels are evaluated in the common dtype of weights and grids, then cast to that of
      `f`.

    Raises:
      ValueError: unknown kind, or grids, sizes or weights that do not fit.

    Source: Knigge et al. 2022, section 3.
    """
    if exact:
        require_exact(f, group, size, stride, padding)
    evaluated = lie_kernels(
        weights,
        group,
        in_grid,
        out_grid,
        size,
        f.shape[-1],
        kind,
        network=network,
        coordinates=coordinates,
        mask=mask,
    )
    return apply_kernels(f, evaluated, kind, stride=stride, padding=padding, implementation=implementation)


def require_exact(f: Array, group: LieGroup, size: int, stride: int, padding: Padding) -> None:
    """Raises a `ValueError` where the group turns and quarter turns do not map the filters' positions to themselves."""
    check_feature_map(f)
    shape = f.shape[-4:-2]
    check_symmetric_grid(windows_of(size, stride, padding, 1, shape), quarter_turns(group), shape, padding)


def apply_kernels(
    f: Float[Array, "*batch x y h_in c_in"], evaluated: tuple[Array, ...], kind: str, **options
) -> Float[Array, "*batch x_out y_out h c_out"]:
    """The convolution of this kind with kernels that `lie_kernels` has evaluated.

    Args:
      f: feature map, or image.
      evaluated: the kernels.
      kind: of which they are.
      **options: stride, padding and implementation, as of `lie_conv`.

    Returns:
      Feature map.

    Raises:
      ValueError: unknown kind, or shapes that do not fit.

    Source: Knigge et al. 2022, section 3.
    """
    check_kind(kind)
    wanted = len(KINDS[kind].factors) + KINDS[kind].projection
    if len(evaluated) != wanted:
        raise ValueError(f"{kind} takes {wanted} evaluated kernels, as lie_kernels makes them, got {len(evaluated)}")
    return KINDS[kind].conv(f, *(kernel.astype(f.dtype) for kernel in evaluated), **options)


def lie_kernels(
    weights: LieWeights,
    group: LieGroup,
    in_grid: Float[Array, "h_in d"] | None,
    out_grid: Float[Array, "h d"],
    size: int,
    c_in: int,
    kind: str = "separable",
    *,
    network: Network | Sequence[Network] = siren,
    coordinates: Coordinates = "periodic",
    mask: Mask = "smooth",
) -> tuple[Array, ...]:
    """The kernels of a convolution, evaluated between two grids: what `apply_kernels` takes.

    Args:
      weights: of the kernel networks, in the order of the kernel's factors, and the matrix `w` if there is one.
      group: of the grids.
      in_grid: the elements `h~`; None: for lifting an image.
      out_grid: the elements `h`.
      size: of the filters, in pixels.
      c_in: input channels.
      kind: how the kernel comes in factors.
      network: the kernel network, or one a factor.
      coordinates: "periodic", "angle" or "paper".
      mask: how kernels end at distance 1; the paper's coordinates have masks of their own.

    Returns:
      The matrix over the channels if there is one, and an array a factor.

    Raises:
      ValueError: unknown kind, or grids, sizes or weights that do not fit.

    Source: Knigge et al. 2022, section 3.
    """
    check_kind(kind, group)
    if (in_grid is None) != (kind == "lifting"):
        raise ValueError(f"{kind} takes {'no' if kind == 'lifting' else 'an'} in_grid: only lifting takes images")
    wanted = KINDS[kind]
    if len(weights.factors) != len(wanted.factors) or (weights.projection is not None) != wanted.projection:
        raise ValueError(
            f"{kind} takes weights of {len(wanted.factors)} kernel networks and {'a' if wanted.projection else 'no'} "
            f"projection, got {len(weights.factors)} and {'no' if weights.projection is None else 'a'} projection"
        )
    evaluated = [] if weights.projection is None else [weights.projection]
    networks = [network] * len(wanted.factors) if callable(network) else network
    if len(networks) != len(wanted.factors):
        raise ValueError(f"{kind} takes {len(wanted.factors)} kernel networks, or one for all, got {len(networks)}")
    named = ("in_grid", in_grid), ("out_grid", out_grid)
    for factor, function, of_factor in zip(wanted.factors, networks, weights.factors, strict=True):
        kernel = functools.partial(_call, function, of_factor)
        match factor.domain:
            case "plane":
                values = spatial_kernel(
                    kernel, group, out_grid, size, mask=mask, lifting=kind == "lifting", coordinates=coordinates
                )
            case "plane and group":
                values = full_kernel(kernel, group, in_grid, out_grid, size, mask=mask, coordinates=coordinates)
            case "group":
                values = group_kernel(kernel, group, in_grid, out_grid, coordinates=coordinates)
            case "rotations":
                grids = (_factored(group, *grid)[0] for grid in named)
                values = group_kernel(kernel, rotations(group.angles), *grids, coordinates=coordinates)
            case "scales":
                grids = (_factored(group, *grid)[1] for grid in named)
                values = group_kernel(kernel, scalings(group.scales, group.max_scale), *grids, coordinates=coordinates)
        evaluated.append(_by_channels(values, c_in, factor, kind))
    return tuple(evaluated)


def _call(network, weights, x):
    return network(x, weights)


def _by_channels(values, c_in, factor, kind):
    """Splits the last axis into pairs of channels, the input channel before the output's element."""
    if not factor.pairs:
        return values
    if values.shape[-1] % c_in:
        raise ValueError(
            f"the kernel network of {kind} must return a value for every pair of {c_in} input channels and the output "
            f"channels, got {values.shape[-1]} values"
        )
    values = jnp.moveaxis(values.reshape(*values.shape[:-1], c_in, -1), -2, -3)
    return values[:, :, None] if kind == "lifting" else values


def _factored(group, name, grid):
    """The angles and the scales of a grid of all their pairs, scales fastest."""
    require_grid(group, grid, name)
    if len(grid) % group.scales == 0 and _holds_all_pairs(group, grid):
        pairs = grid.reshape(-1, group.scales, 2)
        return pairs[:, 0, :1], pairs[0, :, 1:]
    raise ValueError(
        f"{name} must hold all pairs of some angles and {group.scales} scales, scales fastest, as {group}.grid() does, "
        f"for kernels factored in rotation and scale; got {len(grid)} other elements"
    )


def _holds_all_pairs(group, grid):
    """Whether a grid is of all pairs of some angles and scales; what is traced has no numbers to look at."""
    if isinstance(grid, jax.core.Tracer):
        return True
    pairs = np.asarray(grid).reshape(-1, group.scales, 2)
    return np.allclose(pairs[..., 0], pairs[:, :1, 0]) and np.allclose(pairs[..., 1], pairs[:1, :, 1])


def check_kind(kind: str, group: LieGroup | None = None) -> None:
    """Raises a `ValueError` unless there is this kind of convolution, and it is one of the group."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if group is None:
        return
    require_lie_group(group)
    if kind.endswith("+2d") and (group.angles is None or group.scales is None):
        raise ValueError(f"{kind} factors rotation and scale, and {group} does not have both: take {kind[:-3]}")
