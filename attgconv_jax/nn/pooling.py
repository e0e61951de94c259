"""Pooling as Flax NNX modules, for lists of layers."""

from typing import Literal

from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.checks import check_window
from attgconv_jax.convolution import max_pool, mean_pool, project_max, project_mean
from attgconv_jax.groups import Group, check_group

Reduction = Literal["max", "mean"]


def _choose(reduction, choices):
    if reduction not in choices:
        raise ValueError(f'reduction must be "max" or "mean", got {reduction!r}')
    return choices[reduction]


class GroupPool(nnx.Module):
    """Projection over the group; see `attgconv_jax.project_max` and `attgconv_jax.project_mean`.

    Args:
      reduction: "max" or "mean".

    Raises:
      ValueError: unknown reduction.
    """

    def __init__(self, reduction: Reduction = "max"):
        self.project = nnx.static(_choose(reduction, {"max": project_max, "mean": project_mean}))

    def __call__(self, f: Float[Array, "*batch x y h c"]) -> Float[Array, "*batch x y 1 c"]:
        """Projects a feature map to an image."""
        return self.project(f)


class SpatialPool(nnx.Module):
    """Spatial pooling; see `attgconv_jax.max_pool` and `attgconv_jax.mean_pool`.

    Args:
      group: must map the grid of windows to itself.
      reduction: "max" or "mean".
      window: size, in pixels.
      stride: between windows, in pixels; None: the window's size.
      padding: pixels on every side.
      exact: whether to refuse a grid that the group does not map to itself.

    Raises:
      ValueError: unknown reduction, or a setting is out of range.
    """

    def __init__(
        self,
        group: Group,
        reduction: Reduction = "max",
        *,
        window: int = 2,
        stride: int | None = None,
        padding: int = 0,
        exact: bool = True,
    ):
        check_group(group)
        check_window(window, window if stride is None else stride, padding, 1)
        self.pool = nnx.static(_choose(reduction, {"max": max_pool, "mean": mean_pool}))
        self.group = group
        self.window = window
        self.stride = stride
        self.padding = padding
        self.exact = exact

    def __call__(self, f: Float[Array, "*batch x y h c"]) -> Float[Array, "*batch x_out y_out h c"]:
        """Pools a feature map."""
        return self.pool(f, self.group, window=self.window, stride=self.stride, padding=self.padding, exact=self.exact)
