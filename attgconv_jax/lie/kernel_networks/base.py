"""What kernel networks have in common: their record, their coordinates, and linear layers."""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from attgconv_jax.checks import check_finite_positive, check_integer, check_positive
from attgconv_jax.initializers import draw_normal


class Axes(NamedTuple):
    """The coordinates of a kernel's factor: how many, of the plane, of an angle (with `d` coordinates), of a scale."""

    plane: bool = False
    angle: int = 0
    scale: bool = False

    @property
    def count(self) -> int:
        """All of them."""
        return 2 * self.plane + self.angle + self.scale


@dataclasses.dataclass(frozen=True)
class KernelNetwork:
    """A function from coordinates on a group to the values of convolution kernels, with its initial weights.

    The values of a fresh network have mean 0 and variance about `1 / fan`, over the coordinates and the draws.

    Attributes:
      name: as `LieConv` takes it.
      function: the formula, `(x, weights, **options)`, from coordinates `[..., d]` to values `[..., m]`.
      init: `(key, axes, m, fan, dtype, **options)`, the weights for the coordinates `axes` and `m` values; `fan` is the
        number of products that the convolution adds up, pixels of the filter times input channels. Its keyword-only
        arguments are the network's options, annotated `int` or `float`; it raises a `ValueError` where one is out of
        range. Those that `function` takes are passed to it as well. An option named `angle_...` or `scale_...` has an
        effect only on groups with such a coordinate.
      fixed: fields of the weights that are drawn once and not trained.
      needs: of options without effect where another one is 0, the name of that one.
      closes_circles: whether `function` is periodic in angles by itself: it takes `periodic`, a boolean a coordinate,
        and of an angle the one coordinate of `coordinates="angle"`.
    """

    name: str
    function: Callable[..., Array]
    init: Callable[..., Any]
    fixed: tuple[str, ...] = ()
    needs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    closes_circles: bool = False

    @property
    def options(self) -> dict[str, type]:
        """The names of the options and their types, `int` or `float`."""
        parameters = inspect.signature(self.init).parameters.values()
        return {each.name: each.annotation for each in parameters if each.kind is each.KEYWORD_ONLY}

    def on(self, axes: Axes, options: Mapping[str, Any]) -> Callable[[Array, Any], Array]:
        """The function of these coordinates and the weights, with those of the options that it takes."""
        known = inspect.signature(self.function).parameters
        own = {option: value for option, value in options.items() if option in known}
        if self.closes_circles:
            own["periodic"] = (False, False) * axes.plane + (True,) * axes.angle + (False,) * axes.scale
        return functools.partial(self.function, **own)

    def coordinates(self, coordinates: str) -> str:
        """Those that the network is given where these are asked for."""
        return "angle" if self.closes_circles and coordinates == "periodic" else coordinates


class Linear(NamedTuple):
    """`x @ w + b`."""

    w: Float[Array, "d_in d_out"]
    b: Float[Array, " d_out"]

    def __call__(self, x: Float[Array, "*shape d_in"]) -> Float[Array, "*shape d_out"]:
        """The layer's output."""
        out = matmul(x, self.w)
        return out + lax.broadcast_to_rank(self.b, out.ndim)


def matmul(x: Float[Array, "*shape d_in"], w: Float[Array, "d_in d_out"]) -> Float[Array, "*shape d_out"]:
    """In full precision: accelerators round factors to fewer digits, which high frequencies would magnify."""
    return jnp.matmul(x, w, precision="highest")


def normal(key: Array, shape: tuple[int, ...], variance: float, dtype) -> Array:
    """Normal numbers of this variance."""
    return draw_normal(key, shape, dtype) * jnp.asarray(math.sqrt(variance), dtype)


def check_layers(hidden_features: int, hidden_layers: int, **frequencies: float) -> None:
    """Raises a `ValueError` unless these are at least 1, at least 0, and positive."""
    check_positive(hidden_features=hidden_features)
    check_integer("hidden_layers", hidden_layers, 0)
    check_finite_positive(**frequencies)
