"""Separable group convolutions: filters that are the product of one on the group and one on the plane.

The filter on the group is that of a 1x1 group convolution, `[1, 1, h, c_in, c_out]`. An image has no group axis to
separate: lifting convolutions stay ordinary, as in the paper's networks.
"""

from typing import Any, Literal

from jaxtyping import Array, Float

from attgconv_jax import kernels
from attgconv_jax.antialiasing import smoothed_before
from attgconv_jax.bases import FilterBasis
from attgconv_jax.checks import check_boolean, check_dtypes, check_filter
from attgconv_jax.convolution import convolve_centred, group_conv
from attgconv_jax.deprecation import convert_arguments, warn_deprecated
from attgconv_jax.filters import Sampling, check_sampling, filter_size, former_sampling, transformed
from attgconv_jax.geometry import Padding, check_symmetric_grid, windows_of
from attgconv_jax.groups import Group, check_on_group
from attgconv_jax.kernels.devices import on_images

Kind = Literal["nonseparable", "gseparable", "separable"]
"""How a filter on a group factors; the last two are the forms "g" and "gc" of Lengyel and van Gemert."""


def gseparable_group_conv(
    f: Float[Array, "*batch x y h c_in"],
    group_filter: Float[Array, "1 1 h c_in c_out"],
    spatial_filter: Float[Array, "*pixels 1 c_in c_out"],
    group: Group,
    **options,
) -> Float[Array, "*batch x_out y_out h c_out"]:
    """Group convolution whose filter has one spatial part for every pair of channels, shared over the group.

        w[u, h', c, o] = w_H[h', c, o] w_X[u, c, o];    y = group_conv(f, w)

    It has `h + k^2` parameters for a pair of channels where `group_conv` has `h k^2`, and takes as long. `options` are
    those of `group_conv`.

    Source: Lengyel and van Gemert 2021, g-separable.
    """
    _check_factors(f, group_filter, spatial_filter, group, "gseparable", options.get("sampling", Sampling()))

    def convolved(f, *factors):
        return group_conv(f, product_filter(*factors), group, **options)

    return on_images(convolved, f, group_filter, spatial_filter)


def product_filter(group_filter: Array, spatial_filter: Array) -> Array:
    """`w_H[h', c, o] w_X[u, c, o]`, by pixels or by coefficients as `w_X` is."""
    return (group_filter if spatial_filter.ndim == group_filter.ndim else group_filter[0]) * spatial_filter


@former_sampling
def separable_group_conv(
    f: Float[Array, "*batch x y h c_in"],
    group_filter: Float[Array, "1 1 h c_in c_out"],
    spatial_filter: Float[Array, "*pixels 1 1 c_out"],
    group: Group,
    *,
    stride: int = 1,
    padding: Padding = "VALID",
    dilation: int = 1,
    haar: bool = False,
    exact: bool = True,
    antialiased: bool = False,
    sampling: Sampling | FilterBasis = Sampling(),
    implementation: str | None = None,
    precision: str | None = None,
) -> Float[Array, "*batch x_out y_out h c_out"]:
    """Group convolution whose filter has one spatial part for every output channel: a matrix product, then depthwise.

        z[x, g, o] = weight * sum over h', c of  f[x, h', c] (L_g w_H)[h', c, o]
        y[x, g, o] = sum over u of  z[x + u, g, o] (L_g w_X)[u, o]

    That is `group_conv` with the filter `w[u, h', c, o] = w_H[h', c, o] w_X[u, o]`, which is never made; `weight` as
    there. On the trivial group it is the depthwise separable convolution.

    >>> import jax.numpy as jnp
    >>> from attgconv_jax import cyclic, separable_group_conv
    >>> f, p4 = jnp.ones([8, 28, 28, 4, 10]), cyclic(4)
    >>> separable_group_conv(f, jnp.ones([1, 1, 4, 10, 16]), jnp.ones([3, 3, 1, 1, 16]), p4).shape
    (8, 26, 26, 4, 16)

    `group_filter` is `w_H` and `spatial_filter` `w_X`; further arguments as `group_conv`. `implementation` is that of
    the spatial convolution, see `attgconv_jax.kernels.depthwise_conv`.

    Source: Lengyel and van Gemert 2021, gc-separable.
    """
    _check_factors(f, group_filter, spatial_filter, group, "separable", sampling)
    check_boolean(haar=haar, exact=exact, antialiased=antialiased)
    x, y = f.shape[-4:-2]
    k, h, c_out = filter_size(spatial_filter, group, sampling), group.order, group_filter.shape[-1]
    windows = windows_of(k, stride, padding, dilation, (x, y))
    if exact:
        check_symmetric_grid(windows, group, (x, y), padding)

    def convolved(z, spatial_filter):
        bank = transformed(spatial_filter, group, sampling).reshape(k, k, h * c_out)
        flat = kernels.depthwise_conv(z.reshape(*z.shape[:3], h * c_out), bank, windows, implementation)
        return flat.reshape(*flat.shape[:3], h, c_out)

    with kernels.computing(precision=precision):
        if antialiased:
            f = smoothed_before(f, windows[0].stride)
        z = convolve_centred(f, group_filter, group, haar=haar)
        return on_images(convolved, z, spatial_filter)


SEPARABLE = {"gseparable": gseparable_group_conv, "separable": separable_group_conv}
"""The functions by kind."""


@convert_arguments
def former_kind(arguments: dict[str, Any]) -> dict[str, Any]:
    """`form` or `separable`, None, "g" or "gc", as the one `kind`: names until 0.1."""
    for name in {"form", "separable"} & arguments.keys():
        warn_deprecated(name, 'kind="nonseparable", "gseparable" or "separable"', stacklevel=4)
        form = arguments.pop(name)
        if "kind" in arguments:
            raise ValueError(f"kind takes the place of {name}: give kind alone")
        arguments["kind"] = {None: "nonseparable", "g": "gseparable", "gc": "separable"}.get(form, form)
    return arguments


def _check_factors(f, group_filter, spatial_filter, group, kind, sampling):
    """Raises a `ValueError` unless `f` is a feature map on `group` and these are filters on it, of this kind."""
    check_on_group(f, group)
    if f.shape[-2] != group.order:
        raise ValueError(
            f"f must be a feature map with {group.order} group elements, got shape {f.shape}; lift an image with "
            "group_conv, it has no group axis to separate"
        )
    check_sampling(sampling)
    check_filter(group_filter, group, "group_filter")
    filter_size(spatial_filter, group, sampling, "spatial_filter")
    c_in, c_out = f.shape[-1], group_filter.shape[-1]
    wanted = 1, 1, group.order, c_in, c_out
    if group_filter.shape != wanted:
        raise ValueError(f"group_filter must be {list(wanted)} to fit f, got shape {group_filter.shape}")
    pairs = 1, c_in if kind == "gseparable" else 1, c_out
    if spatial_filter.shape[-3:] != pairs:
        raise ValueError(
            f"spatial_filter must be [k, k, {', '.join(map(str, pairs))}] to be {kind}, to fit f and "
            f"group_filter, got shape {spatial_filter.shape}"
        )
    check_dtypes(f, group_filter=group_filter, spatial_filter=spatial_filter)
