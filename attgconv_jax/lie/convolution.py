"""Convolutions with kernels on a Lie group, whole or in factors, on feature maps `[..., x, y, h, c]`.

They take kernels that have been evaluated, which `attgconv_jax.lie.lie_kernels` does: evaluated once, those serve any
number of feature maps. Cross-correlations, padded with zeros; `i` counts input channels, `j` output channels.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from attgconv_jax import kernels
from attgconv_jax.checks import check_feature_map
from attgconv_jax.geometry import Padding, windows_of
from attgconv_jax.lie.checks import require_axes, require_factor, require_input


def nonseparable_conv(
    f: Float[Array, "*batch x y h_in c_in"],
    kernel: Float[Array, "k k h_in c_in h c_out"],
    *,
    stride: int = 1,
    padding: Padding = "SAME",
    implementation: str | None = None,
) -> Float[Array, "*batch x_out y_out h c_out"]:
    """One kernel on the plane and the group; with one input element it lifts images.

        y[x, h, j] = sum over u, h~, i of  f[x + u, h~, i] k[u, h~, i, h, j]

    Args:
      f: feature map, or image.
      kernel: of the dtype of `f`.
      stride: in pixels.
      padding: pixels on every side, "SAME" or "VALID".
      implementation: of the convolution; see `attgconv_jax.kernels.conv`.

    Returns:
      Feature map.

    Raises:
      ValueError: shapes or dtypes do not fit.

    Source: Knigge et al. 2022, section 3.1.
    """
    require_axes(kernel, "kernel", "k k h_in c_in h c_out")
    k, _, h_in, c_in, h, c_out = kernel.shape
    require_input(f, kernel, "kernel", h_in, c_in)
    *batch, x, y, _, _ = f.shape
    windows = windows_of(k, stride, padding, 1, (x, y))
    flat = kernels.conv(
        f.reshape(-1, x, y, h_in * c_in), kernel.reshape(k, k, h_in * c_in, h * c_out), windows, implementation
    )
    return flat.reshape(*batch, *flat.shape[1:3], h, c_out)


def gseparable_conv(
    f: Float[Array, "*batch x y h_in c_in"],
    group_kernel: Float[Array, "h_in c_in h c_out"],
    spatial_kernel: Float[Array, "k k c_in h c_out"],
    **options,
) -> Float[Array, "*batch x_out y_out h c_out"]:
    """A kernel on the group times one on the plane, multiplied and convolved at once.

        y[x, h, j] = sum over u, h~, i of  f[x + u, h~, i] k_H[h~, i, h, j] k_X[u, i, h, j]

    Args:
      f: feature map.
      group_kernel: `k_H`.
      spatial_kernel: `k_X`.
      **options: further arguments of `nonseparable_conv`.

    Returns:
      Feature map.

    Raises:
      ValueError: as `nonseparable_conv`.

    Source: Knigge et al. 2022, section 3.2.
    """
    require_axes(group_kernel, "group_kernel", "h_in c_in h c_out")
    require_factor(f, spatial_kernel, "spatial_kernel", (*spatial_kernel.shape[:1] * 2, *group_kernel.shape[1:]))
    return nonseparable_conv(f, group_kernel * spatial_kernel[:, :, None], **options)


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

    Args:
      f: feature map.
      group_kernel: `k_H`.
      spatial_kernel: `k_X`.
      **options: further arguments of `depthwise_conv`.

    Returns:
      Feature map.

    Raises:
      ValueError: shapes or dtypes do not fit.

    Source: Knigge et al. 2022, section 3.2.
    """
    require_axes(group_kernel, "group_kernel", "h_in c_in h c_out")
    h_in, c_in, h, c_out = group_kernel.shape
    require_input(f, group_kernel, "group_kernel", h_in, c_in)
    require_factor(f, spatial_kernel, "spatial_kernel", (*spatial_kernel.shape[:1] * 2, h, c_out))

    def conv(f, group_kernel, spatial_kernel):
        z = jnp.tensordot(f, group_kernel, ((-2, -1), (0, 1)))
        return depthwise_conv(z, spatial_kernel, **options)

    return _by_images(conv, h * c_out, f, group_kernel, spatial_kernel)


def dseparable_conv(
    f: Float[Array, "*batch x y h_in c_in"],
    projection: Float[Array, "c_in c_out"],
    kernel: Float[Array, "k k h_in h c_out"],
    *,
    stride: int = 1,
    padding: Padding = "SAME",
    implementation: str | None = None,
) -> Float[Array, "*batch x_out y_out h c_out"]:
    """A matrix over the channels, then a kernel on the plane and the group for every channel.

        z[x, h~, j] = sum over i of  f[x, h~, i] w[i, j]
        y[x, h, j] = sum over u, h~ of  z[x + u, h~, j] k[u, h~, h, j]

    `z` is not kept for the gradient but computed again, on a CPU for a few images at a time.

    Args:
      f: feature map.
      projection: `w`.
      kernel: `k`.
      stride: in pixels.
      padding: pixels on every side, "SAME" or "VALID".
      implementation: of the convolution; see `attgconv_jax.kernels.channelwise_conv`.

    Returns:
      Feature map.

    Raises:
      ValueError: shapes or dtypes do not fit.

    Source: Knigge et al. 2022, section 3.2.
    """
    check_feature_map(f)
    require_axes(projection, "projection", "c_in c_out")
    require_factor(f, kernel, "kernel", (*kernel.shape[:1] * 2, None, None, projection.shape[1]))
    require_input(f, projection, "projection and kernel", kernel.shape[2], projection.shape[0])
    windows = windows_of(kernel.shape[0], stride, padding, 1, f.shape[-4:-2])

    def conv(f, projection, kernel):
        return kernels.channelwise_conv(f @ projection, kernel, windows, implementation)

    return _by_images(conv, f.shape[-2] * projection.shape[1], f, projection, kernel)


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

    Args:
      f: feature map.
      projection: `w`.
      group_kernel: `k_H`.
      spatial_kernel: `k_X`.
      **options: further arguments of `depthwise_conv`.

    Returns:
      Feature map.

    Raises:
      ValueError: shapes or dtypes do not fit.

    Source: Knigge et al. 2022, section 3.2.
    """
    check_feature_map(f)
    require_axes(projection, "projection", "c_in c_out")
    require_factor(f, group_kernel, "group_kernel", (None, None, projection.shape[1]))
    require_input(f, projection, "projection and group_kernel", group_kernel.shape[0], projection.shape[0])
    return separable_conv(f, projection[:, None] * group_kernel[:, None], spatial_kernel, **options)


def separable_2d_conv(
    f: Float[Array, "*batch x y h_in c_in"],
    rotation_kernel: Float[Array, "a_in c_in a c_out"],
    scale_kernel: Float[Array, "s_in s c_out"],
    spatial_kernel: Float[Array, "k k h c_out"],
    **options,
) -> Float[Array, "*batch x_out y_out h c_out"]:
    """Kernels on the rotations and, for every channel, on the scales and on the plane, one after the other.

    The group axis is `h = (a, s)`, scales fastest.

        z[x, a, s~, j] = sum over a~, i of  f[x, a~, s~, i] k_R[a~, i, a, j]
        z'[x, a, s, j] = sum over s~ of  z[x, a, s~, j] k_S[s~, s, j]
        y[x, h, j] = sum over u of  z'[x + u, h, j] k_X[u, h, j]

    Args:
      f: feature map.
      rotation_kernel: `k_R`.
      scale_kernel: `k_S`.
      spatial_kernel: `k_X`.
      **options: further arguments of `depthwise_conv`.

    Returns:
      Feature map.

    Raises:
      ValueError: shapes or dtypes do not fit.

    Source: Knigge et al. 2022, section 3.2 (separable+2d).
    """
    require_axes(rotation_kernel, "rotation_kernel", "a_in c_in a c_out")
    require_axes(scale_kernel, "scale_kernel", "s_in s c_out")
    a_in, c_in, a, c_out = rotation_kernel.shape
    s_in, s, _ = scale_kernel.shape
    require_input(f, rotation_kernel, "rotation_kernel and scale_kernel", a_in * s_in, c_in)
    require_factor(f, scale_kernel, "scale_kernel", (None, None, c_out))
    require_factor(f, spatial_kernel, "spatial_kernel", (*spatial_kernel.shape[:1] * 2, a * s, c_out))

    def conv(f, rotation_kernel, scale_kernel, spatial_kernel):
        f = f.reshape(*f.shape[:-2], a_in, s_in, c_in)
        z = jnp.tensordot(f, rotation_kernel, ((-3, -1), (0, 1)))
        # A few scales: a product for each pair of them, which XLA fuses, where a contraction would copy `z` twice.
        # Taken apart once: indexing in every product would make the gradient a full array a pair.
        parts = [part.squeeze(-3) for part in lax.split(z, [1] * s_in, axis=z.ndim - 3)]
        scales = [sum(part * scale_kernel[i, j] for i, part in enumerate(parts)) for j in range(s)]
        z = jnp.stack(scales, -2).reshape(*f.shape[:-3], a * s, c_out)
        return depthwise_conv(z, spatial_kernel, **options)

    return _by_images(conv, a * s * c_out, f, rotation_kernel, scale_kernel, spatial_kernel)


def gseparable_2d_conv(
    f: Float[Array, "*batch x y h_in c_in"],
    rotation_kernel: Float[Array, "a_in c_in a c_out"],
    scale_kernel: Float[Array, "s_in c_in s c_out"],
    spatial_kernel: Float[Array, "k k c_in h c_out"],
    **options,
) -> Float[Array, "*batch x_out y_out h c_out"]:
    """Kernels on the rotations, on the scales and on the plane, multiplied and convolved at once.

    The group axis is `h = (a, s)`, scales fastest.

        y[x, h, j] = sum over u, h~, i of  f[x + u, h~, i] k_R[a~, i, a, j] k_S[s~, i, s, j] k_X[u, i, h, j]

    Args:
      f: feature map.
      rotation_kernel: `k_R`.
      scale_kernel: `k_S`.
      spatial_kernel: `k_X`.
      **options: further arguments of `nonseparable_conv`.

    Returns:
      Feature map.

    Raises:
      ValueError: as `nonseparable_conv`.

    Source: Knigge et al. 2022, section 3.2 (gseparable+2d).
    """
    require_axes(rotation_kernel, "rotation_kernel", "a_in c_in a c_out")
    require_axes(scale_kernel, "scale_kernel", "s_in c_in s c_out")
    a_in, c_in, a, c_out = rotation_kernel.shape
    s_in, _, s, _ = scale_kernel.shape
    require_factor(f, scale_kernel, "scale_kernel", (None, c_in, None, c_out))
    on_group = rotation_kernel[:, None, :, :, None] * scale_kernel[None, :, :, None]
    return gseparable_conv(f, on_group.reshape(a_in * s_in, c_in, a * s, c_out), spatial_kernel, **options)


def depthwise_conv(
    f: Float[Array, "*batch x y h c"],
    kernel: Float[Array, "k k h c"],
    *,
    stride: int = 1,
    padding: Padding = "SAME",
    implementation: str | None = None,
) -> Float[Array, "*batch x_out y_out h c"]:
    """A kernel on the plane for every group element and channel.

        y[x, h, c] = sum over u of  f[x + u, h, c] k[u, h, c]

    Args:
      f: feature map.
      kernel: of the dtype of `f`.
      stride: in pixels.
      padding: pixels on every side, "SAME" or "VALID".
      implementation: of the convolution; see `attgconv_jax.kernels.depthwise_conv`.

    Returns:
      Feature map.

    Raises:
      ValueError: shapes or dtypes do not fit.

    Source: Knigge et al. 2022, section 3.2.
    """
    require_axes(kernel, "kernel", "k k h c")
    k, _, h, c = kernel.shape
    require_input(f, kernel, "kernel", h, c)
    *batch, x, y, _, _ = f.shape
    windows = windows_of(k, stride, padding, 1, (x, y))
    flat = kernels.depthwise_conv(f.reshape(-1, x, y, h * c), kernel.reshape(k, k, h * c), windows, implementation)
    return flat.reshape(*batch, *flat.shape[1:3], h, c)


def _by_images(conv, width, f, *weights):
    """`kernels.by_images` with any number of batch axes, and `width` numbers a pixel between the steps."""
    *batch, x, y, h_in, c_in = f.shape
    out = kernels.by_images(conv, x * y * width, f.reshape(-1, x, y, h_in, c_in), *weights)
    return out.reshape(*batch, *out.shape[1:])
