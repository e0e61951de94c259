"""Pooling as Flax NNX modules, for lists of layers."""

from typing import Literal, get_args

from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.checks import check_boolean, check_choice, check_pooling
from attgconv_jax.convolution import max_pool, mean_pool, project_max, project_mean
from attgconv_jax.groups import Group, check_group
from attgconv_jax.nn.module import Module

Reduction = Literal["max", "mean"]


class GroupPool(Module):
    """Projection over the group; see `attgconv_jax.project_max` and `attgconv_jax.project_mean`."""

    def __init__(self, reduction: Reduction = "max"):
        check_choice("reduction", reduction, get_args(Reduction))
        self.project = nnx.static({"max": project_max, "mean": project_mean}[reduction])

    def __call__(self, f: Float[Array, "*batch x y h c"]) -> Float[Array, "*batch x y 1 c"]:
        """Projects a feature map to an image."""
        return self.project(f)


class SpatialPool(Module):
    """Spatial pooling; see `attgconv_jax.max_pool` and `attgconv_jax.mean_pool`."""

    def __init__(
        self,
        group: Group,
        reduction: Reduction = "max",
        *,
        window: int = 2,
        stride: int | None = None,
        padding: int = 0,
        exact: bool = True,
        antialiased: bool = False,
    ):
        check_group(group)
        check_boolean(exact=exact, antialiased=antialiased)
        check_pooling(window, stride, padding)
        check_choice("reduction", reduction, get_args(Reduction))
        self.pool = nnx.static({"max": max_pool, "mean": mean_pool}[reduction])
        self.group, self.window, self.stride, self.padding = group, window, stride, padding
        self.exact, self.antialiased = exact, antialiased

    def __call__(self, f: Float[Array, "*batch x y h c"]) -> Float[Array, "*batch x_out y_out h c"]:
        """Pools a feature map."""
        names = "window", "stride", "padding", "exact", "antialiased"
        return self.pool(f, self.group, **{name: getattr(self, name) for name in names})
