"""A convolution on a Lie group from its kernel networks: evaluated kernels, and `lie_conv`."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attgconv_jax.checks import check_boolean, check_choice, check_feature_map, check_integer
from attgconv_jax.deprecation import warn_deprecated
from attgconv_jax.geometry import Padding
from attgconv_jax.lie.checks import check_exact, check_grid
from attgconv_jax.lie.groups import LieGroup, rotations, scalings
from attgconv_jax.lie.kernel_networks.sines import siren
from attgconv_jax.lie.kernels import (
    Coordinates,
    Mask,
    check_coordinates,
    check_size,
    first_frequency,
    on_both,
    on_group,
    on_plane,
)
from attgconv_jax.lie.kinds import KINDS, Kind, check_kind
from attgconv_jax.lie.weights import LieWeights

Network = Callable[[Float[Array, "*shape d"], Any], Float[Array, "*shape m"]]


def lie_conv(
    f: Float[Array, "*batch x y h_in c_in"],
    weights: LieWeights,
    group: LieGroup,
    in_grid: Float[Array, "h_in d"] | None,
    out_grid: Float[Array, "h d"],
    size: int,
    kind: str | None = None,
    *,
    network: Network | Sequence[Network] | None = None,
    coordinates: Coordinates = "periodic",
    mask: Mask = "smooth",
    stride: int = 1,
    padding: Padding = "SAME",
    exact: bool = True,
    implementation: str | None = None,
    precision: str | None = None,
) -> Float[Array, "*batch x_out y_out h c_out"]:
    """Group convolution on a Lie group, between any two grids of it.

        y[x, h, j] = sum over u, h~, i of  f[x + u, h~, i] k_ij(h^-1 u, h^-1 h~) / det h

    The sum over `h~` has no weight: on a denser `in_grid` it is larger. Differentiable forwards and in reverse.

    The `kind` says how `k_ij` comes in factors: "nonseparable", "gseparable", "separable", "dseparable",
    "dgseparable", on similarities also "separable+2d" and "gseparable+2d". Its formula is that of the function of that
    name, as `separable_conv` and `separable_2d_conv`. There is nothing to factor on images.

    >>> import jax, jax.numpy as jnp
    >>> from attgconv_jax.lie import lie_conv, lie_weights, rotations
    >>> se2, image = rotations(8), jnp.ones([2, 28, 28, 1, 3], jnp.float32)
    >>> weights = lie_weights(jax.random.key(0), 3, 10, 7, se2, lifting=True)
    >>> lie_conv(image, weights, se2, None, se2.grid(), 7).shape
    (2, 28, 28, 8, 10)

    Options:
      f: feature map on `in_grid`, or an image.
      weights: of the kernel networks, in the order of the kernel's factors, and the matrix `w` if there is one.
      in_grid, out_grid: the elements `h~` and `h`; without `in_grid` `f` is an image, which is lifted. The "+2d" kinds
        take grids of all pairs of some angles and the group's number of scales, scales fastest; whether traced grids
        are that cannot be checked.
      size: of the filters, in pixels.
      kind: as above; None: "separable", or nothing on images.
      network: the kernel network, a function of coordinates and weights; or one a factor; None: `siren` with
        `attgconv_jax.lie.kernels.first_frequency`.
      coordinates, mask: see `attgconv_jax.lie.kernels`.
      stride, padding, implementation, precision: see `attgconv_jax.lie.convolution`. Kernel networks are always
        evaluated with "highest".
      exact: whether positions of the filters that quarter turns do not map to themselves raise, if the group rotates.

    Kernels are evaluated in the common dtype of weights and grids, then cast to that of `f`.

    Source: Knigge et al. 2022, section 3.
    """
    kind, networks = _check(weights, group, in_grid, out_grid, size, kind, network, coordinates, mask)
    check_feature_map(f)
    check_boolean(exact=exact)
    if exact:
        check_exact(f, group, size, stride, padding)
    evaluated = evaluate(weights, group, in_grid, out_grid, size, f.shape[-1], kind, networks, coordinates, mask)
    evaluated = (kernel.astype(f.dtype) for kernel in evaluated)
    options = dict(stride=stride, padding=padding, implementation=implementation, precision=precision)
    return kind.conv(f, *evaluated, **options)


def apply_kernels(
    f: Float[Array, "*batch x y h_in c_in"], evaluated: tuple[Array, ...], kind: str, **options
) -> Float[Array, "*batch x_out y_out h c_out"]:
    """The convolution of this kind with kernels that `lie_kernels` has evaluated; of those for images "nonseparable".

    The options are stride, padding, implementation and precision of `lie_conv`.
    """
    if kind == "lifting":
        warn_deprecated('kind="lifting"', 'kind="nonseparable"')
        kind = "nonseparable"
    check_choice("kind", kind, KINDS)
    wanted = len(KINDS[kind].factors) + KINDS[kind].projection
    if (count := len(evaluated)) != wanted:
        raise ValueError(f"evaluated must be {wanted} kernels of {kind}, as lie_kernels makes them, got {count}")
    return KINDS[kind].conv(f, *(kernel.astype(f.dtype) for kernel in evaluated), **options)


def lie_kernels(
    weights: LieWeights,
    group: LieGroup,
    in_grid: Float[Array, "h_in d"] | None,
    out_grid: Float[Array, "h d"],
    size: int,
    c_in: int,
    kind: str | None = None,
    *,
    network: Network | Sequence[Network] | None = None,
    coordinates: Coordinates = "periodic",
    mask: Mask = "smooth",
) -> tuple[Array, ...]:
    """The kernels of a convolution, evaluated between two grids: what `apply_kernels` takes.

    These are the matrix over the channels if there is one, then an array for every factor. Arguments are those of
    `lie_conv`, with the number of channels, `c_in`, in place of the feature map.
    """
    kind, networks = _check(weights, group, in_grid, out_grid, size, kind, network, coordinates, mask)
    c_in = check_integer("c_in", c_in)
    return evaluate(weights, group, in_grid, out_grid, size, c_in, kind, networks, coordinates, mask)


def _check(weights, group, in_grid, out_grid, size, kind, network, coordinates, mask):
    """The checked kind, and the kernel network of every factor."""
    check_coordinates(group, coordinates, mask)
    check_size("size", size, group, coordinates)
    if kind == "lifting":
        warn_deprecated('kind="lifting"', "in_grid=None and no kind", stacklevel=4)
        if in_grid is not None:
            raise ValueError(f"in_grid must be None where images are lifted, got shape {np.shape(in_grid)}")
        kind = None
    kind = check_kind(kind, group, lifting=in_grid is None)
    check_grid(group, **({} if in_grid is None else dict(in_grid=in_grid)), out_grid=out_grid)
    count, projection = len(weights.factors), weights.projection is not None
    if (count, projection) != (len(kind.factors), kind.projection):
        raise ValueError(
            f"weights must be of {len(kind.factors)} kernel networks and {'a' if kind.projection else 'no'} projection "
            f"for {kind.name}, got {count} and {'a' if projection else 'no'} projection"
        )
    if network is None:
        network = functools.partial(siren, first_frequency=first_frequency(group, size, coordinates))
    networks = [network] * len(kind.factors) if callable(network) else network
    if len(networks) != len(kind.factors):
        raise ValueError(f"network must be {len(kind.factors)} for {kind.name}, or one for all, got {len(networks)}")
    return kind, networks


def evaluate(weights, group, in_grid, out_grid, size, c_in, kind: Kind, networks, coordinates, mask):
    """`lie_kernels` of checked arguments, among them a `Kind` and a network a factor."""
    evaluated = [] if weights.projection is None else [weights.projection]
    if kind.name.endswith("+2d"):
        angles, scales = _angles_and_scales(group, in_grid=in_grid, out_grid=out_grid)
    for factor, network, of_factor in zip(kind.factors, networks, weights.factors, strict=True):
        kernel = functools.partial(lambda network, weights, x: network(x, weights), network, of_factor)
        match factor.domain:
            case "plane":
                values = on_plane(kernel, group, out_grid, size, coordinates, mask, lifting=in_grid is None)
            case "plane and group":
                values = on_both(kernel, group, in_grid, out_grid, size, coordinates, mask)
            case "group":
                values = on_group(kernel, group, in_grid, out_grid, coordinates)
            case "rotations":
                values = on_group(kernel, rotations(group.angles), *angles, coordinates)
            case "scales":
                values = on_group(kernel, scalings(group.scales, group.max_scale), *scales, coordinates)
        if factor.pairs:
            values = _by_channels(values, c_in, kind.name)
        evaluated.append(values[:, :, None] if in_grid is None else values)
    return tuple(evaluated)


def _by_channels(values, c_in, kind):
    """Splits the last axis into pairs of channels, the input channel before the output's element."""
    if values.shape[-1] % c_in:
        raise ValueError(
            f"network must return a value for every pair of {c_in} input channels and the output channels of {kind}, "
            f"got {values.shape[-1]} values"
        )
    return jnp.moveaxis(values.reshape(*values.shape[:-1], c_in, -1), -2, -3)


def _angles_and_scales(group, **grids):
    """The angles of all grids, and their scales: grids must hold all pairs of them, traced ones cannot be checked."""
    for name, grid in grids.items():
        good = len(grid) % group.scales == 0
        if good and not isinstance(grid, jax.core.Tracer):
            pairs = np.asarray(grid).reshape(-1, group.scales, 2)
            good = np.allclose(pairs[..., 0], pairs[:, :1, 0]) and np.allclose(pairs[..., 1], pairs[:1, :, 1])
        if not good:
            raise ValueError(
                f"{name} must hold all pairs of some angles and {group.scales} scales, scales fastest, as "
                f"{group}.grid() does, for kernels factored in rotation and scale; got {len(grid)} other elements"
            )
    pairs = [grid.reshape(-1, group.scales, 2) for grid in grids.values()]
    return [each[:, 0, :1] for each in pairs], [each[0, :, 1:] for each in pairs]
