"""A convolution in several steps, a few images at a time on CPU: what lies between the steps is never held whole.

`jax.checkpoint` promises the same, but XLA:CPU finds the forward and the second computation equal and keeps the first.

| quantity | held for | elements an image |
|---|---|---|
| what lies between the steps, and its gradient | one chunk of images | `between` |
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.kernels.chunks import choose, compiled, images_a_chunk, map_chunks, scan_chunks, sum_dtype

# The fewest images at a time: with fewer, the products are too small.
FEWEST = 8


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def by_images(
    conv: Callable[..., Array], between: int, f: Float[Array, "batch ..."], *weights: Float[Array, "..."]
) -> Array:
    """`conv(f, *weights)`, a few images at a time where the computation is lowered for a CPU, else at once.

    Differentiable in reverse mode as often as `conv` is. Its gradient runs `conv` again. Where the batch is sharded
    over an explicit mesh it is at once on a CPU too.

    Options:
      conv: treats every image for itself, and keeps their axis; its gradient at an image of zeros must be finite. It
        is compared by value, or outside of `jit` it is compiled anew at every call: see `Bound`.
      between: numbers an image that lie between its steps.
      *weights: what else is to have gradients.
    """
    return _run_forward(conv, between, f, *weights)


def _forward(conv, between, f, *weights):
    return by_images(conv, between, f, *weights), (f, weights)


def _backward(conv, between, residuals, d_out):
    f, weights = residuals
    return _run_backward(conv, between, d_out, f, *weights)


by_images.defvjp(_forward, _backward)


@dataclasses.dataclass(frozen=True)
class Bound:
    """A function and further arguments by name, which are equal where these are: a partial function is not."""

    function: Callable
    arguments: tuple[tuple[str, Any], ...] = ()

    def __call__(self, *args):
        """Calls the function."""
        return self.function(*args, **dict(self.arguments))


@compiled("conv", "between")
def _run_forward(conv, between, f, *weights):
    def in_chunks(f, *weights):
        return map_chunks(lambda f: conv(f, *weights), f, images_a_chunk(between, FEWEST))

    return choose(None, ("chunks", in_chunks), ("whole", conv), f)(f, *weights)


@compiled("conv", "between")
def _run_backward(conv, between, d_out, f, *weights):
    in_chunks = functools.partial(_chunks_backward, conv, between)

    def whole(d_out, f, *weights):
        # The checkpoint's barrier keeps XLA from holding what the forward pass has computed.
        return jax.vjp(jax.checkpoint(conv), f, *weights)[1](d_out)

    return choose(None, ("chunks", in_chunks), ("whole", whole), f)(d_out, f, *weights)


def _chunks_backward(conv, between, d_out, f, *weights):
    def step(d_weights, chunk):
        d_out, f = chunk
        d_f, *gradients = jax.vjp(conv, f, *weights)[1](d_out)
        return jax.tree.map(jnp.add, d_weights, gradients), d_f

    zeros = [jnp.zeros(weight.shape, sum_dtype(weight)) for weight in weights]
    d_weights, d_f = scan_chunks(step, zeros, (d_out, f), images_a_chunk(between, FEWEST))
    return d_f, *(d_weight.astype(weight.dtype) for d_weight, weight in zip(d_weights, weights, strict=True))
