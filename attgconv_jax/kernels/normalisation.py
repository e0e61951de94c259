"""Batch norm with a gradient of its own: two sums over the batch, and nothing held but its input; and group norm."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from attgconv_jax.kernels.chunks import is_symbolic, largest_divisor, wide
from attgconv_jax.kernels.devices import AxisName
from attgconv_jax.kernels.platforms import on_cuda

# On CUDA about so many blocks of positions are summed each for itself, then their sums: as many as keep a GPU busy, and
# few enough that XLA does not take these sums apart again; of at least so many positions, or it adds block after block.
BLOCKS, LEAST = 512, 64


def normalised(
    x: Float[Array, "*positions c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    epsilon: float,
    axis_name: AxisName | None = None,
) -> tuple[Float[Array, "*positions c"], Float[Array, " c"], Float[Array, " c"]]:
    """`scale (x - mean) / sqrt(variance + epsilon) + bias` over all positions, the means and the variances.

    In float32 at least; the variance is the mean of squared deviations. With `z` what is scaled,

        d_bias = sum of d,   d_scale = sum of d z
        d_x = scale (d - d_bias / n - z d_scale / n) / sqrt(variance + epsilon)

    which takes two sums that are made in one pass, where derivatives of one step after another take five. `z` is made
    again from `x`. Differentiable to any order, forwards and in reverse.

    Inside of `jax.shard_map` positions are those of all devices along the axis of the mesh `axis_name`; None: of one.
    """
    return _normalised(wide(x), wide(scale), wide(bias), epsilon, axis_name)


def group_normalised(
    x: Float[Array, "*batch_and_positions c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    channel_groups: int,
    epsilon: float,
    batch_axes: int,
) -> Float[Array, "*batch_and_positions c"]:
    """`scale (x - mean) / sqrt(variance + epsilon) + bias`, for every image over positions and a group of channels.

    In float32 at least. The first `batch_axes` axes count images, the others but the last positions.
    """
    x, scale, bias = (wide(array) for array in (x, scale, bias))
    grouped = x.reshape(*x.shape[:-1], channel_groups, x.shape[-1] // channel_groups)
    axes = (*range(batch_axes, x.ndim - 1), -1)
    z = jax.nn.standardize(grouped, axes, epsilon=epsilon, algorithm="stable").reshape(x.shape)
    scale, bias = (jnp.expand_dims(array, range(x.ndim - 1)) for array in (scale, bias))
    return scale * z + bias


def _in_blocks(x):
    """`[blocks, positions, c]`; one block of the shape of `x` where that is empty, or of a symbolic batch.

    On CUDA alone: a TPU would lay the whole array out anew.
    """
    if is_symbolic(x.shape[0]) or x.size == 0:
        return x[None]
    positions = math.prod(x.shape[1:-1])
    blocks = len(x) * largest_divisor(positions, max(1, min(BLOCKS // len(x), positions // LEAST)))
    return x.reshape(blocks, -1, x.shape[-1])


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _normalised(x, scale, bias, epsilon, axis_name):
    mean, variance = on_cuda(_two_passes_by_blocks, _two_passes, x)
    if axis_name is not None:
        own, mean = mean, lax.pmean(mean, axis_name)
        variance = lax.pmean(variance + jnp.square(own - mean), axis_name)
    return (x - mean) * (lax.rsqrt(variance + epsilon) * scale) + bias, mean, variance


@_normalised.defjvp
def _normalised_jvp(epsilon, axis_name, primals, tangents):
    y, mean, variance = _normalised(*primals, epsilon, axis_name)
    x, scale, _ = primals
    return (y, mean, variance), _tangents(tangents, x, scale, mean, variance, epsilon, axis_name)


@functools.partial(jax.checkpoint, static_argnums=(5, 6), prevent_cse=False)
def _tangents(tangents, x, scale, mean, variance, epsilon, axis_name):
    """Linear in the tangents, ordered such that the transpose sums over positions before it scales."""
    x_dot, scale_dot, bias_dot = tangents
    axes = tuple(range(x.ndim - 1))
    inverse = lax.rsqrt(variance + epsilon)
    z = (x - mean) * inverse
    mean_dot, along_z = jnp.mean(x_dot, axes), jnp.mean(z * x_dot, axes)
    if axis_name is not None:
        mean_dot, along_z = lax.pmean((mean_dot, along_z), axis_name)
    factor = scale * inverse
    shift, slope = bias_dot - factor * mean_dot, scale_dot - factor * along_z
    y_dot = on_cuda(_added_to_blocks, _added, factor * x_dot, z, shift, slope)
    return y_dot, mean_dot, 2 * along_z / inverse


def _added(y, z, shift, slope):
    return y + shift + z * slope


def _added_to_blocks(y, z, shift, slope):
    """Side by side for every block: the transpose adds the blocks' sums of both in one kernel."""
    shape, y, z = y.shape, _in_blocks(y), _in_blocks(z)
    both = jnp.stack([shift, slope])
    both = jnp.broadcast_to(both, (len(z), *both.shape))
    shift, slope = (jnp.expand_dims(both[:, i], range(1, z.ndim - 1)) for i in range(2))
    return (y + shift + z * slope).reshape(shape)


def _two_passes(x):
    """Means over all axes but the last, and means of squared deviations from them; not for differentiation."""
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(x, axes)
    return mean, jnp.mean(jnp.square(x - mean), axes)


def _two_passes_by_blocks(x):
    """`_two_passes`, with deviations from the mean of their block.

    The blocks' means count from the first of these, which is as near to the others as deviations are large.
    """
    x = _in_blocks(x)
    within = tuple(range(1, x.ndim - 1))
    count = math.prod(x.shape[1:-1])
    # Scaled before the sum: scaled after it is a kernel of its own.
    means = jnp.sum(x * (1 / (count if is_symbolic(count) else max(1, count))), within, keepdims=True)
    inside = jnp.mean(jnp.square(x - means), within)
    means = jnp.squeeze(means, within)
    apart = means - means[:1]
    shift = jnp.mean(apart, 0)
    variance = jnp.mean(jnp.square(apart) + inside, 0) - jnp.square(shift)
    return means[0] + shift, jnp.maximum(variance, 0)
