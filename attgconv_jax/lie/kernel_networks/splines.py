"""Sums of shifted B-splines."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from attgconv_jax.checks import check_integer, check_positive
from attgconv_jax.lie.kernel_networks.base import Axes, KernelNetwork, normal

# Integrals of the squares of cardinal B-splines, by degree.
_SQUARES = (1, 2 / 3, 11 / 20, 151 / 315)


def b_spline(
    x: Float[Array, "*shape d"],
    coefficients: Float[Array, "*centres m"],
    *,
    degree: int = 2,
    periodic: tuple[bool, ...] = (),
) -> Float[Array, "*shape m"]:
    """A sum of shifted B-splines: `sum over i of coefficients[i] product over a of B((x_a - t_i_a) / s_a)`.

    The centres `t` of an axis lie uniformly on `[-1, 1]`, ends included, or on the circle `[-1, 1)`; `s` is what they
    are apart. Beyond the outermost centres the splines run out to zero.

    Options:
      degree: of the piecewise polynomials, 0 to 3.
      periodic: which axes are circles; those left out are not.

    Source: Bekkers 2020 (1909.12057), section 3.2; on the circle our own.
    """
    check_degree(degree)
    *counts, _ = coefficients.shape
    if len(counts) != x.shape[-1]:
        raise ValueError(f"coefficients need an axis for each of {x.shape[-1]} coordinates, got {coefficients.shape}")
    values = coefficients.reshape(counts[0], -1) if counts else coefficients
    for axis, count in enumerate(counts):
        circle = axis < len(periodic) and periodic[axis]
        if circle and count <= degree:
            needed = f"at least {degree + 1} centres on a circle for splines of degree {degree}"
            raise ValueError(f"coefficients need {needed}, got {count}")
        step = 2 / count if circle else 2 / max(count - 1, 1)
        centres = step * jnp.arange(count, dtype=x.dtype) - 1 if count > 1 else jnp.zeros(1, x.dtype)
        offset = x[..., axis, None] - lax.broadcast_to_rank(centres, x.ndim)
        if circle:
            offset = (offset + 1) % 2 - 1
        weights = cardinal_b_spline(offset / step, degree)
        values = jnp.einsum("...c,...cr->...r", weights, values, precision="highest")
        values = values.reshape(*values.shape[:-1], counts[axis + 1], -1) if axis + 1 < len(counts) else values
    return values


def cardinal_b_spline(t: Float[Array, "*shape"], degree: int) -> Float[Array, "*shape"]:
    """The centred B-spline: the indicator of `[-1/2, 1/2)`, convolved `degree` (0 to 3) times with itself.

    Over all integers `i` the sum of `B(t - i)` is one.

    Source: Bekkers 2020 (1909.12057), section 3.2.
    """
    check_degree(degree)
    far = jnp.abs(t)
    if degree == 0:
        return ((t >= -0.5) & (t < 0.5)).astype(t.dtype)
    if degree == 1:
        return jnp.maximum(0, 1 - far)
    if degree == 2:
        return jnp.where(far < 0.5, 0.75 - far**2, 0.5 * jnp.maximum(0, 1.5 - far) ** 2)
    return jnp.where(far < 1, 2 / 3 - far**2 + far**3 / 2, jnp.maximum(0, 2 - far) ** 3 / 6)


def check_degree(degree: int) -> None:
    """Raises a `ValueError` unless splines of this degree are known."""
    if check_integer("degree", degree, 0) > 3:
        raise ValueError(f"degree must be 0, 1, 2 or 3, got {degree!r}")


def b_spline_weights(
    key: Array,
    axes: Axes,
    m: int,
    fan: int,
    dtype=jnp.float32,
    *,
    plane_centres: int = 5,
    angle_centres: int = 8,
    scale_centres: int = 5,
    degree: int = 2,
) -> Float[Array, "*centres m"]:
    """Of `b_spline`: normal coefficients.

    Their variance is `1 / fan` over the integral of `B^2` along every axis, which is `B` of degree `2 degree + 1` at 0.

    Options:
      plane_centres: along each axis of the plane.
      angle_centres: around the circle, more than the degree.
      scale_centres: along the logarithm of scale.
      degree: of the splines, 0 to 3.

    Source: Bekkers 2020 (1909.12057), section 3.2; the variance is our own.
    """
    check_degree(degree)
    check_positive(plane_centres=plane_centres, scale_centres=scale_centres)
    check_integer("angle_centres", angle_centres, degree + 1)
    counts = [plane_centres] * (2 * axes.plane) + [angle_centres] * axes.angle + [scale_centres] * axes.scale
    return normal(key, (*counts, m), 1 / (fan * _SQUARES[degree] ** len(counts)), dtype)


B_SPLINE = KernelNetwork("b_spline", b_spline, b_spline_weights, closes_circles=True)
