"""Spatial pooling on grids of Lie groups."""

import math

from jaxtyping import Array, Float

from attgconv_jax.checks import check_feature_map
from attgconv_jax.convolution import max_pool as spatial_max_pool
from attgconv_jax.kernels.devices import on_images
from attgconv_jax.lie.checks import check_lie_group, pixel_symmetries
from attgconv_jax.lie.groups import LieGroup


def max_pool(
    f: Float[Array, "*batch x y h c"],
    group: LieGroup,
    *,
    window: int = 2,
    stride: int | None = None,
    padding: int = 0,
    exact: bool = True,
) -> Float[Array, "*batch x_out y_out h c"]:
    """Spatial maximum: `y[x, h, c] = max over u of f[x stride + u, h, c]`; padding counts as minus infinity.

    Arguments as of `attgconv_jax.max_pool`. On a group with several angles, quarter turns must map the grid of windows
    to itself, or a `ValueError` is raised if `exact` is set.

    Source: Cohen and Welling 2016, section 6.3.
    """
    check_lie_group(group)
    check_feature_map(f)
    if f.shape[-2] != group.order:
        raise ValueError(f"f must have the {group.order} elements of {group}, got shape {f.shape}")
    options = dict(window=window, stride=stride, padding=padding, exact=exact)

    def pooled(f):
        # A pooling does not mix elements: they are channels of an image to it.
        flat = f.reshape(*f.shape[:-2], 1, math.prod(f.shape[-2:]))
        out = spatial_max_pool(flat, pixel_symmetries(group), **options)
        return out.reshape(*out.shape[:-2], *f.shape[-2:])

    return on_images(pooled, f)
