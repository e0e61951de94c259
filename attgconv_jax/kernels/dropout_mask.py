"""Dropout whose mask is computed where it is used, forward and backward, and never stored."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray


def dropout(f: Float[Array, "..."], key: PRNGKeyArray, rate: float, start: int = 0) -> Float[Array, "..."]:
    """Zeroes each element with probability `rate`, a multiple of 2^-32, and scales the others by `1 / (1 - rate)`.

    The mask is a hash of the element's position with two words drawn from `key`: 32 uniform bits an element, an
    integer hash fused into the product instead of a cryptographic stream. It is as fast as the product itself,
    and the backward pass computes it again. Positions count from `start`: arrays that share a key have independent
    masks where their positions do not overlap.

    Source: Srivastava et al. 2014. The mixing function is "lowbias32" of C. Wellons' hash prospector.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate must be in [0, 1), got {rate}")
    if not jnp.issubdtype(f.dtype, jnp.floating):
        raise ValueError(f"f must be floating, got {f.dtype}; cast it")
    if start < 0:
        raise ValueError(f"start must be at least 0, got {start}")
    if start + f.size >= 2**32:
        raise ValueError(f"dropout takes fewer than 2^32 elements a key, got {start} before shape {f.shape}")
    if rate == 0:
        return f
    first, second = jax.random.bits(key, (2,), jnp.uint32)
    position = lax.iota(jnp.uint32, f.size).reshape(f.shape) + jnp.uint32(start)
    bits = _mix(_mix(position ^ first) + second)
    dropped = min(round(rate * 2**32), 2**32 - 1)
    return jnp.where(bits >= jnp.uint32(dropped), f * (2**32 / (2**32 - dropped)), 0)


def _mix(bits):
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x7FEB352D)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x846CA68B)
    return bits ^ (bits >> 16)
