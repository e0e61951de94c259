"""A scan over a few images at a time, so that what is made of them stays in the cache."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax


def scan_chunks(step: Callable, carry, images, chunk: int):
    """`lax.scan` over chunks of the leading axis: `step(carry, chunk) -> carry, outputs of the chunk`.

    A batch that does not divide is padded with zero images, whose outputs are dropped; `step` must add nothing to
    its carry for a zero image.

    Args:
      step: called with `chunk` images at most.
      carry: the first carry.
      images: arrays that share their leading axis.
      chunk: the most images in one step.

    Returns:
      The last carry, and the outputs with the batch axis restored.

    Source: our own.
    """
    batch = jax.tree.leaves(images)[0].shape[0]
    if batch <= chunk:
        return step(carry, images)
    divisor = max(d for d in range(1, chunk + 1) if batch % d == 0)
    size = divisor if 2 * divisor > chunk else math.ceil(batch / math.ceil(batch / chunk))
    count = math.ceil(batch / size)

    def split(x):
        padded = lax.pad(x, jnp.zeros((), x.dtype), [(0, count * size - batch, 0)] + [(0, 0, 0)] * (x.ndim - 1))
        return padded.reshape(count, size, *x.shape[1:])

    def join(x):
        return x.reshape(count * size, *x.shape[2:])[:batch]

    carry, outputs = lax.scan(step, carry, jax.tree.map(split, images))
    return carry, jax.tree.map(join, outputs)
