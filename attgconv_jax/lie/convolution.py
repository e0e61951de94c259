"""Convolutions with kernels on a Lie group, whole or in factors, on feature maps `[..., x, y, h, c]`.

They take kernels that have been evaluated, which `attgconv_jax.lie.lie_kernels` does: evaluated once, those serve any
number of feature maps. Cross-correlations, padded with zeros; `i` counts input channels, `j` output channels.

All raise a `ValueError` where shapes or dtypes do not fit, and take these options:

- `stride`, in pixels; `padding`, pixels on every side, "SAME" or "VALID";
- `implementation`, a name that `attgconv_jax.kernels.conv` knows where there is one convolution, `channelwise_conv`
  there for `dseparable_conv`, and `depthwise_conv` where a kernel on the plane comes last;
- `precision` of products and of those of derivatives: "default", "high", "highest", or None, as JAX is set; see
  `attgconv_jax.computing`.

Source: Knigge et al. 2022, sections 3.1 and 3.2.
"""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from attgconv_jax import kernels
from attgconv_jax.geometry import Padding, windows_of
from attgconv_jax.kernels.devices import on_images
from attgconv_jax.lie.checks import check_kernels


def nonseparable_conv(
    f: Float[Array, "*batch x y h_in c_in"],
    kernel: Float[Array, "k k h_in c_in h c_out"],
    *,
    stride: int = 1,
    padding: Padding = "SAME",
    implementation: str | None = None,
    precision: str | None = None,
) -> Float[Array, "*batch x_out y_out h c_out"]:
    """One kernel on the plane and the group; with one input element it lifts images.

    `y[x, h, j] = sum over u, h~, i of  f[x + u, h~, i] k[u, h~, i, h, j]`
    """
    check_kernels(f, "h_in c_in", kernel=(kernel, "k k h_in c_in h c_out"))
    return convolve(f, kernel, stride, padding, implementation, precision)


def gseparable_conv(
    f: Float[Array, "*batch x y h_in c_in"],
    group_kernel: Float[Array, "h_in c_in h c_out"],
    spatial_kernel: Float[Array, "k k c_in h c_out"],
    **options,
) -> Float[Array, "*batch x_out y_out h c_out"]:
    """A kernel on the group times one on the plane, multiplied and convolved at once.

    `y[x, h, j] = sum over u, h~, i of  f[x + u, h~, i] k_H[h~, i, h, j] k_X[u, i, h, j]`

    Options: see `attgconv_jax.lie.convolution`.
    """
    on_group, on_plane = (group_kernel, "h_in c_in h c_out"), (spatial_kernel, "k k c_in h c_out")
    check_kernels(f, "h_in c_in", group_kernel=on_group, spatial_kernel=on_plane)
    return convolve(f, group_kernel[None, None] * spatial_kernel[:, :, None], **options)


def separable_conv(
    f: Float[Array, "*batch x y h_in c_in"],
    group_kernel: Float[Array, "h_in c_in h c_out"],
    spatial_kernel: Float[Array, "k k h c_out"],
    **options,
) -> Float[Array, "*batch x_out y_out h c_out"]:
    """A kernel on the group, then one on the plane for every channel.

        z[x, h, j] = sum over h~, i of  f[x, h~, i] k_H[h~, i, h, j]
        y[x, h, j] = sum over u of  z[x + u, h, j] k_X[u, h, j]

    `z` is not kept for the gradient but computed again, on a CPU for a few images at a time.
    Options: see `attgconv_jax.lie.convolution`.
    """
    on_group, on_plane = (group_kernel, "h_in c_in h c_out"), (spatial_kernel, "k k h c_out")
    check_kernels(f, "h_in c_in", group_kernel=on_group, spatial_kernel=on_plane)
    return _separable(f, group_kernel, spatial_kernel, **options)


def dseparable_conv(
    f: Float[Array, "*batch x y h_in c_in"],
    projection: Float[Array, "c_in c_out"],
    kernel: Float[Array, "k k h_in h c_out"],
    *,
    stride: int = 1,
    padding: Padding = "SAME",
    implementation: str | None = None,
    precision: str | None = None,
) -> Float[Array, "*batch x_out y_out h c_out"]:
    """A matrix over the channels, then a kernel on the plane and the group for every channel.

        z[x, h~, j] = sum over i of  f[x, h~, i] w[i, j]
        y[x, h, j] = sum over u, h~ of  z[x + u, h~, j] k[u, h~, h, j]

    `z` is computed again for the gradient, as in `separable_conv`. Options: see `attgconv_jax.lie.convolution`.
    """
    check_kernels(f, "h_in c_in", projection=(projection, "c_in c_out"), kernel=(kernel, "k k h_in h c_out"))
    windows = windows_of(kernel.shape[0], stride, padding, 1, f.shape[-4:-2])

    conv = kernels.Bound(_channelwise, (("windows", windows), ("implementation", implementation)))
    return by_images(conv, f.shape[-2] * projection.shape[1], f, projection, kernel, precision=precision)


def dgseparable_conv(
    f: Float[Array, "*batch x y h_in c_in"],
    projection: Float[Array, "c_in c_out"],
    group_kernel: Float[Array, "h_in h c_out"],
    spatial_kernel: Float[Array, "k k h c_out"],
    **options,
) -> Float[Array, "*batch x_out y_out h c_out"]:
    """A matrix over the channels, then for every channel a kernel on the group, then one on the plane.

        y[x, h, j] = sum over u, h~, i of  f[x + u, h~, i] w[i, j] k_H[h~, h, j] k_X[u, h, j]

    The matrix and the kernel on the group act at one pixel, so their product is a kernel of `separable_conv`.
    Options: see `attgconv_jax.lie.convolution`.
    """
    on_group, on_plane = (group_kernel, "h_in h c_out"), (spatial_kernel, "k k h c_out")
    on_channels = projection, "c_in c_out"
    check_kernels(f, "h_in c_in", projection=on_channels, group_kernel=on_group, spatial_kernel=on_plane)
    return _separable(f, projection[None, :, None] * group_kernel[:, None], spatial_kernel, **options)


def depthwise_conv(
    f: Float[Array, "*batch x y h c"],
    kernel: Float[Array, "k k h c"],
    *,
    stride: int = 1,
    padding: Padding = "SAME",
    implementation: str | None = None,
    precision: str | None = None,
) -> Float[Array, "*batch x_out y_out h c"]:
    """A kernel on the plane for every group element and channel.

    `y[x, h, c] = sum over u of  f[x + u, h, c] k[u, h, c]`
    """
    check_kernels(f, "h c", kernel=(kernel, "k k h c"))
    return depthwise(f, kernel, stride, padding, implementation, precision)


def convolve(f, kernel, stride=1, padding="SAME", implementation=None, precision=None):
    """`nonseparable_conv` of checked arguments."""
    k, _, h_in, c_in, h, c_out = kernel.shape
    windows = windows_of(k, stride, padding, 1, f.shape[-4:-2])

    def convolved(f, kernel):
        images, filters = f.reshape(*f.shape[:3], h_in * c_in), kernel.reshape(k, k, h_in * c_in, h * c_out)
        flat = kernels.conv(images, filters, windows, implementation)
        return flat.reshape(*flat.shape[:3], h, c_out)

    with kernels.computing(precision=precision):
        return on_images(convolved, f, kernel)


def depthwise(f, kernel, stride=1, padding="SAME", implementation=None, precision=None):
    """`depthwise_conv` of checked arguments."""
    x, y, h, c = f.shape[-4:]
    k = len(kernel)
    windows = windows_of(k, stride, padding, 1, (x, y))

    def convolved(f, kernel):
        flat = kernels.depthwise_conv(
            f.reshape(*f.shape[:3], h * c), kernel.reshape(k, k, h * c), windows, implementation
        )
        return flat.reshape(*flat.shape[:3], h, c)

    with kernels.computing(precision=precision):
        return on_images(convolved, f, kernel)


def _channelwise(f, projection, kernel, windows, implementation):
    return kernels.channelwise_conv(f @ projection, kernel, windows, implementation)


def _separable(f, group_kernel, spatial_kernel, *, precision=None, **options):
    if len(spatial_kernel) == 1 and options.get("implementation") is None:
        # Of one pixel: the kernel on the plane is a factor of every output channel.
        return convolve(f, (group_kernel * spatial_kernel[0, 0])[None, None], precision=precision, **options)
    conv = kernels.Bound(_on_group_then_plane, tuple(options.items()))
    return by_images(conv, math.prod(group_kernel.shape[-2:]), f, group_kernel, spatial_kernel, precision=precision)


def _on_group_then_plane(f, group_kernel, spatial_kernel, **options):
    z = jnp.tensordot(f, group_kernel, ((-2, -1), (0, 1)))
    return depthwise(z, spatial_kernel, **options)


def by_images(conv, width, f, *weights, precision=None):
    """`kernels.by_images` with any number of batch axes, and `width` numbers a pixel between the steps."""

    def in_parts(f, *weights):
        # Made once: fused with the product over the channels, batch norm and relu are written in parts on GPUs.
        f = lax.optimization_barrier(f)
        return kernels.by_images(conv, math.prod(f.shape[1:3]) * width, f, *weights)

    with kernels.computing(precision=precision):
        return on_images(in_parts, f, *weights)
