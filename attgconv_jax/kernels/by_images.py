"""A convolution in several steps, a few images at a time on CPU: what lies between the steps is never held whole.

`jax.checkpoint` promises the same, but XLA:CPU finds the forward and the second computation equal and keeps the first.

| quantity | held for | elements an image |
|---|---|---|
| what lies between the steps, and its gradient | one chunk of images | that of the convolution |
| anything else | not stored | |
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.kernels import chunks
from attgconv_jax.kernels.chunks import choose, scan_chunks, sum_dtype

# The fewest images at a time: with fewer, the products are too small.
FEWEST = 8


def by_images(conv: Callable[..., Array], f: Float[Array, "batch ..."], *weights: Float[Array, "..."]) -> Array:
    """`conv(f, *weights)`, a few images at a time where the computation is lowered for a CPU, else at once.

    Differentiable in reverse mode as often as `conv` is. Its gradient runs `conv` again.

    Args:
      conv: treats every image for itself, and keeps their axis; must not close over arrays that are traced.
      f: images.
      *weights: what else is to have gradients.

    Returns:
      What `conv` returns.

    Source: our own.
    """
    return _by_images(conv, f, *weights)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _by_images(conv, f, *weights):
    return choose(None, ("chunks", functools.partial(_chunks_forward, conv)), ("whole", conv), f)(f, *weights)


def _forward(conv, f, *weights):
    return _by_images(conv, f, *weights), (f, weights)


def _backward(conv, residuals, d_out):
    f, weights = residuals
    in_chunks = functools.partial(_chunks_backward, conv)
    whole = functools.partial(_whole_backward, conv)
    return choose(None, ("chunks", in_chunks), ("whole", whole), f)(d_out, f, *weights)


_by_images.defvjp(_forward, _backward)


def _whole_backward(conv, d_out, f, *weights):
    # The checkpoint's barrier keeps XLA from holding what the forward pass has computed.
    return jax.vjp(jax.checkpoint(conv), f, *weights)[1](d_out)


def _chunks_forward(conv, f, *weights):
    return scan_chunks(lambda carry, f: (carry, conv(f, *weights)), (), f, _chunk(f))[1]


def _chunks_backward(conv, d_out, f, *weights):
    def step(d_weights, chunk):
        d_out, f = chunk
        d_f, *gradients = jax.vjp(conv, f, *weights)[1](d_out)
        return jax.tree.map(jnp.add, d_weights, gradients), d_f

    zeros = [jnp.zeros(weight.shape, sum_dtype(weight)) for weight in weights]
    d_weights, d_f = scan_chunks(step, zeros, (d_out, f), _chunk(f))
    return d_f, *(d_weight.astype(weight.dtype) for d_weight, weight in zip(d_weights, weights, strict=True))


def _chunk(f):
    return max(FEWEST, chunks.CHUNK_BYTES // (f.dtype.itemsize * math.prod(f.shape[1:])))
