"""Kernel networks by name: their function, and their initial weights.

The values of a fresh network have mean 0 and variance about `1 / fan`, over the coordinates and the weights' draws.
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.checks import check_positive
from attgconv_jax.lie.groups import LieGroup
from attgconv_jax.lie.networks import (
    FourierWeights,
    Linear,
    MultiplicativeWeights,
    SirenWeights,
    b_spline,
    multiplicative_filter_network,
    random_fourier_features,
    siren,
)

KernelNetworkName = Literal["siren", "fourier", "multiplicative", "b_spline"]


class Axes(NamedTuple):
    """The coordinates of a kernel's factor: how many, of the plane, of an angle (with `d` coordinates), of a scale."""

    plane: bool = False
    angle: int = 0
    scale: bool = False

    @property
    def count(self) -> int:
        """All of them."""
        return 2 * self.plane + self.angle + self.scale


def siren_weights(
    key,
    axes: Axes,
    m: int,
    fan: int,
    dtype=jnp.float32,
    *,
    hidden_features: int = 64,
    hidden_layers: int = 1,
    first_frequency: float = 10.0,
    frequency: float = 10.0,
) -> SirenWeights:
    """Of `siren`, with `d` coordinates: uniform in the bounds below; the other biases are zero.

        first layer   weights +-1 / d                       biases +-1 / sqrt(d)
        hidden layer  weights +-sqrt(6 / hidden) / frequency
        last layer    weights +-sqrt(6 / hidden) / sqrt(fan)

    Args:
      key: of the draws.
      axes: the coordinates.
      m: values of the kernel.
      fan: products that the kernel's convolution adds up: pixels of the filter times input channels.
      dtype: of the weights.
      hidden_features: of every hidden layer.
      hidden_layers: after the first.
      first_frequency: of the first layer; not of its bounds. Kernels of a lower one vary less between pixels: from
        10 down to 5 fresh layers commute ever better with turns and scalings that are no symmetry of the pixels.
      frequency: of the hidden layers.

    Returns:
      The weights.

    Source: Sitzmann et al. 2020, section 3.2; Knigge et al. 2022, appendix B, and its code.
    """
    del first_frequency
    d, keys = axes.count, iter(jax.random.split(key, hidden_layers + 3))
    zeros = jnp.zeros(hidden_features, dtype)
    bound = math.sqrt(6 / hidden_features)
    first = Linear(
        _uniform(next(keys), (d, hidden_features), 1 / d, dtype),
        _uniform(next(keys), (hidden_features,), 1 / math.sqrt(d), dtype),
    )
    hidden = [
        Linear(_uniform(next(keys), (hidden_features, hidden_features), bound / frequency, dtype), zeros)
        for _ in range(hidden_layers)
    ]
    out = _uniform(next(keys), (hidden_features, m), bound / math.sqrt(fan), dtype)
    return SirenWeights((first, *hidden), Linear(out, jnp.zeros(m, dtype)))


def fourier_weights(
    key,
    axes: Axes,
    m: int,
    fan: int,
    dtype=jnp.float32,
    *,
    hidden_features: int = 64,
    hidden_layers: int = 1,
    frequency: float = 3.0,
) -> FourierWeights:
    """Of `random_fourier_features`: normal frequencies of this deviation, He's normal weights, biases zero.

    Args:
      key: of the draws.
      axes: the coordinates.
      m: values of the kernel.
      fan: products that the kernel's convolution adds up.
      dtype: of the weights.
      hidden_features: of every layer, even: the waves' sines and cosines together.
      hidden_layers: after the waves.
      frequency: deviation of the waves' frequencies, radians a unit.

    Returns:
      The weights.

    Raises:
      ValueError: `hidden_features` is odd.

    Source: Tancik et al. 2020, section 4; He et al. 2015.
    """
    _require_even(hidden_features)
    keys = iter(jax.random.split(key, hidden_layers + 2))
    waves = frequency * jax.random.normal(next(keys), (axes.count, hidden_features // 2), dtype)
    zeros = jnp.zeros(hidden_features, dtype)
    gains = [1, *[2] * hidden_layers]  # of what enters: waves have variance 1, and a relu halves the second moment
    hidden = [
        Linear(_normal(next(keys), (hidden_features, hidden_features), gains[i] / hidden_features, dtype), zeros)
        for i in range(hidden_layers)
    ]
    out = _normal(next(keys), (hidden_features, m), gains[-1] / hidden_features / fan, dtype)
    return FourierWeights(waves, tuple(hidden), Linear(out, jnp.zeros(m, dtype)))


def multiplicative_weights(
    key,
    axes: Axes,
    m: int,
    fan: int,
    dtype=jnp.float32,
    *,
    hidden_features: int = 64,
    hidden_layers: int = 1,
    frequency: float = 6.0,
) -> MultiplicativeWeights:
    """Of `multiplicative_filter_network`: waves uniform in frequency and phase, He's normal weights, biases zero.

    Frequencies are uniform in `+-frequency / (layers + 1)`, since a product of waves adds up their frequencies.

    Args:
      key: of the draws.
      axes: the coordinates.
      m: values of the kernel.
      fan: products that the kernel's convolution adds up.
      dtype: of the weights.
      hidden_features: of every layer.
      hidden_layers: how many products of waves.
      frequency: the largest along one coordinate, radians a unit.

    Returns:
      The weights.

    Source: Fathony et al. 2021, section 3.1; the bounds are our own.
    """
    keys = iter(jax.random.split(key, 3 * hidden_layers + 3))
    zeros = jnp.zeros(hidden_features, dtype)
    waves = [
        Linear(
            _uniform(next(keys), (axes.count, hidden_features), frequency / (hidden_layers + 1), dtype),
            _uniform(next(keys), (hidden_features,), math.pi, dtype),
        )
        for _ in range(hidden_layers + 1)
    ]
    # The square of a sine is 1/2 on average.
    hidden = [
        Linear(_normal(next(keys), (hidden_features, hidden_features), 2 / hidden_features, dtype), zeros)
        for _ in range(hidden_layers)
    ]
    out = _normal(next(keys), (hidden_features, m), 2 / hidden_features / fan, dtype)
    return MultiplicativeWeights(tuple(waves), tuple(hidden), Linear(out, jnp.zeros(m, dtype)))


def b_spline_weights(
    key,
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

    Args:
      key: of the draws.
      axes: the coordinates.
      m: values of the kernel.
      fan: products that the kernel's convolution adds up.
      dtype: of the weights.
      plane_centres: along each axis of the plane.
      angle_centres: around the circle.
      scale_centres: along the logarithm of scale.
      degree: of the splines, 0 to 3.

    Returns:
      The coefficients.

    Source: Bekkers 2020 (1909.12057), section 3.2; the variance is our own.
    """
    counts = [plane_centres] * (2 * axes.plane) + [angle_centres] * axes.angle + [scale_centres] * axes.scale
    return _normal(key, (*counts, m), 1 / (fan * _SQUARES[degree] ** len(counts)), dtype)


class _KernelNetwork(NamedTuple):
    function: Callable
    initialise: Callable


NETWORKS = {
    "siren": _KernelNetwork(siren, siren_weights),
    "fourier": _KernelNetwork(random_fourier_features, fourier_weights),
    "multiplicative": _KernelNetwork(multiplicative_filter_network, multiplicative_weights),
    "b_spline": _KernelNetwork(b_spline, b_spline_weights),
}
# Integrals of the squares of cardinal B-splines, by degree.
_SQUARES = (1, 2 / 3, 11 / 20, 151 / 315)
_GIVEN = {"key", "axes", "m", "fan", "dtype"}


def network_options(name: str) -> dict[str, type]:
    """The options of the kernel network of this name: `int` or `float`."""
    parameters = inspect.signature(NETWORKS[name].initialise).parameters
    return {option: parameter.annotation for option, parameter in parameters.items() if option not in _GIVEN}


def check_network(name: str, options: Mapping[str, Any], group: LieGroup) -> None:
    """Raises a `ValueError` unless there is a kernel network of this name, and these options act on a kernel of it."""
    if name not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {name!r}")
    known = network_options(name)
    for option, value in options.items():
        if option not in known:
            raise ValueError(f"{name} has the options {', '.join(known)}; got {option!r}")
        _check_option(option, value)
        axes = {"angle_centres": group.angles, "scale_centres": group.scales}
        if axes.get(option, option) is None:
            raise ValueError(f"{option} has no effect on {group}; leave it out")
    if name == "siren" and options.get("hidden_layers") == 0 and "frequency" in options:
        raise ValueError("frequency has no effect without hidden layers; leave it out")
    if name == "fourier":
        _require_even(options.get("hidden_features", 0))
    degree, centres = options.get("degree", 2), options.get("angle_centres", 8)
    if name == "b_spline" and centres <= degree:
        raise ValueError(f"angle_centres must be at least {degree + 1} for splines of degree {degree}, got {centres}")


def network_function(name: str, options: Mapping[str, Any], axes: Axes) -> Callable:
    """The kernel network of this name as a function of coordinates and weights, with those options that are its own."""
    function = NETWORKS[name].function
    known = inspect.signature(function).parameters
    own = {option: value for option, value in options.items() if option in known}
    if name == "b_spline":
        own["periodic"] = (False, False) * axes.plane + (True,) * axes.angle + (False,) * axes.scale
    return functools.partial(function, **own)


def _check_option(option, value):
    if option.endswith("frequency"):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ValueError(f"{option} must be a positive number, got {value!r}")
    elif option == "degree":
        if isinstance(value, bool) or not isinstance(value, int) or value not in range(4):
            raise ValueError(f"degree must be 0, 1, 2 or 3, got {value!r}")
    elif option == "hidden_layers":
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{option} must be a Python integer of at least 0, got {value!r}")
    else:
        check_positive(**{option: value})


def _require_even(hidden_features):
    if hidden_features % 2:
        raise ValueError(f"hidden_features must be even, a sine for every cosine, got {hidden_features}")


def _uniform(key, shape, bound, dtype):
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def _normal(key, shape, variance, dtype):
    return jax.random.normal(key, shape, dtype) * jnp.asarray(math.sqrt(variance), dtype)
