"""Dropout whose mask is computed where it is used, forward and backward, and never stored."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from attgconv_jax.kernels.devices import AxisName, is_spread, positions


def dropout(
    f: Float[Array, "..."],
    key: PRNGKeyArray,
    rate: float,
    start: int = 0,
    axis_name: AxisName | None = None,
) -> Float[Array, "..."]:
    """Zeroes each element with probability `rate`, a multiple of 2^-32, and scales the others by `1 / (1 - rate)`.

    The mask is a hash of the element's position with two words drawn from `key`: 32 uniform bits an element, an
    integer hash fused into the product instead of a cryptographic stream. It is as fast as the product itself,
    and the backward pass computes it again. Positions count from `start`: arrays that share a key have independent
    masks where their positions do not overlap.

    Inside of `jax.shard_map` all devices have the same mask; unless `axis_name` says along which axis of the mesh the
    leading axis is cut into parts: then, with a `start` that counts what one device has, the mask of the whole array.

    Source: Srivastava et al. 2014. The mixing function is "lowbias32" of C. Wellons' hash prospector.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate must be in [0, 1), got {rate}")
    if not jnp.issubdtype(f.dtype, jnp.floating):
        raise ValueError(f"f must be floating, got {f.dtype}; cast it")
    if start < 0:
        raise ValueError(f"start must be at least 0, got {start}")
    devices = 1 if axis_name is None else lax.axis_size(axis_name)
    if (start + f.size) * devices >= 2**32:
        on_devices = f" on each of {devices} devices" if devices > 1 else ""
        raise ValueError(
            f"dropout takes fewer than 2^32 elements a key, got {start} before shape {f.shape}{on_devices}"
        )
    if rate == 0:
        return f
    first, second = jax.random.bits(key, (2,), jnp.uint32)
    position = _positions(f) + jnp.uint32(start * devices)
    if axis_name is not None:
        position += lax.axis_index(axis_name).astype(jnp.uint32) * jnp.uint32(f.size)
    bits = _mix(_mix(position ^ first) + second)
    dropped = min(round(rate * 2**32), 2**32 - 1)
    return jnp.where(bits >= jnp.uint32(dropped), f * (2**32 / (2**32 - dropped)), 0)


def _positions(f):
    """Of elements in memory, spread over devices as `f` is."""
    if not is_spread(f):
        return lax.iota(jnp.uint32, f.size).reshape(f.shape)
    return sum(math.prod(f.shape[i + 1 :]) * positions(f, i, jnp.uint32) for i in range(f.ndim))


def _mix(bits):
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x7FEB352D)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x846CA68B)
    return bits ^ (bits >> 16)
