"""Convolutions with kernels in factors of rotation and scale, the "+2d" kinds, on groups that have both.

The group axis is `h = (a, s)`, scales fastest. Options and errors are those of `attgconv_jax.lie.convolution`.

Source: Knigge et al. 2022, section 3.2 (separable+2d, gseparable+2d).
"""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from attgconv_jax import kernels
from attgconv_jax.lie.checks import check_kernels
from attgconv_jax.lie.convolution import by_images, convolve, depthwise


def separable_2d_conv(
    f: Float[Array, "*batch x y h_in c_in"],
    rotation_kernel: Float[Array, "a_in c_in a c_out"],
    scale_kernel: Float[Array, "s_in s c_out"],
    spatial_kernel: Float[Array, "k k h c_out"],
    *,
    precision: str | None = None,
    **options,
) -> Float[Array, "*batch x_out y_out h c_out"]:
    """Kernels on the rotations and, for every channel, on the scales and on the plane, one after the other.

        z[x, a, s~, j] = sum over a~, i of  f[x, a~, s~, i] k_R[a~, i, a, j]
        z'[x, a, s, j] = sum over s~ of  z[x, a, s~, j] k_S[s~, s, j]
        y[x, h, j] = sum over u of  z'[x + u, h, j] k_X[u, h, j]

    Neither `z` nor `z'` is kept for the gradient, as in `separable_conv`. Options: see `attgconv_jax.lie.convolution`.
    """
    check_kernels(
        f,
        "a_in*s_in c_in",
        rotation_kernel=(rotation_kernel, "a_in c_in a c_out"),
        scale_kernel=(scale_kernel, "s_in s c_out"),
        spatial_kernel=(spatial_kernel, "k k a*s c_out"),
    )
    conv = kernels.Bound(_one_after_the_other, tuple(options.items()))
    arrays = f, rotation_kernel, scale_kernel, spatial_kernel
    return by_images(conv, math.prod(spatial_kernel.shape[2:]), *arrays, precision=precision)


def gseparable_2d_conv(
    f: Float[Array, "*batch x y h_in c_in"],
    rotation_kernel: Float[Array, "a_in c_in a c_out"],
    scale_kernel: Float[Array, "s_in c_in s c_out"],
    spatial_kernel: Float[Array, "k k c_in h c_out"],
    **options,
) -> Float[Array, "*batch x_out y_out h c_out"]:
    """Kernels on the rotations, on the scales and on the plane, multiplied and convolved at once.

    `y[x, h, j] = sum over u, h~, i of  f[x + u, h~, i] k_R[a~, i, a, j] k_S[s~, i, s, j] k_X[u, i, h, j]`

    Options: see `attgconv_jax.lie.convolution`.
    """
    check_kernels(
        f,
        "a_in*s_in c_in",
        rotation_kernel=(rotation_kernel, "a_in c_in a c_out"),
        scale_kernel=(scale_kernel, "s_in c_in s c_out"),
        spatial_kernel=(spatial_kernel, "k k c_in a*s c_out"),
    )
    on_group = rotation_kernel[:, None, :, :, None] * scale_kernel[None, :, :, None]
    on_group = on_group.reshape(1, 1, f.shape[-2], f.shape[-1], *spatial_kernel.shape[-2:])
    return convolve(f, on_group * spatial_kernel[:, :, None], **options)


def _one_after_the_other(f, rotation_kernel, scale_kernel, spatial_kernel, **options):
    a_in, c_in, a, c_out = rotation_kernel.shape
    s_in, s, _ = scale_kernel.shape
    f = f.reshape(*f.shape[:-2], a_in, s_in, c_in)
    z = jnp.tensordot(f, rotation_kernel, ((-3, -1), (0, 1)))
    # A few scales: a product for each pair of them, which XLA fuses, where a contraction would copy `z` twice.
    # Taken apart once: indexing in every product would make the gradient a full array a pair.
    parts = [part.squeeze(-3) for part in lax.split(z, [1] * s_in, axis=z.ndim - 3)]
    factors = lax.broadcast_to_rank(scale_kernel, 2 + parts[0].ndim)
    scales = [sum(part * factors[..., i, j, :] for i, part in enumerate(parts)) for j in range(s)]
    z = jnp.stack(scales, -2).reshape(*f.shape[:-3], a * s, c_out)
    return depthwise(z, spatial_kernel, **options)
