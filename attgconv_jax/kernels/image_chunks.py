"""A convolution in several steps, a few images at a time on CPU: what lies between the steps is never held whole.

`jax.checkpoint` promises the same, but XLA:CPU finds the forward and the second computation equal and keeps the first.

| quantity | held for | elements an image |
|---|---|---|
| what lies between the steps, and its gradient | one chunk of images | `between` |
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.kernels.chunks import Bound, choose, compiled, images_a_chunk, map_chunks, scan_chunks, sum_dtype
from attgconv_jax.kernels.linear import at_once, linear
from attgconv_jax.kernels.settings import Settings

# The fewest images at a time: with fewer, the products are too small.
FEWEST = 8


def by_images(
    conv: Callable[..., Array], between: int, f: Float[Array, "batch ..."], *weights: Float[Array, "..."]
) -> Array:
    """`conv(f, *weights)`, a few images at a time where the computation is lowered for a CPU, else at once.

    Differentiable as often as `conv` is, forwards and in reverse. Both run `conv` again. Where the batch is sharded
    over an explicit mesh it is at once on a CPU too.

    Options:
      conv: treats every image for itself, and keeps their axis; its gradient at an image of zeros must be finite. It
        is compared by value, or outside of `jit` it is compiled anew at every call: see `Bound`.
      between: numbers an image that lie between its steps.
      *weights: what else is to have gradients.
    """
    in_settings = Bound(_in_settings, (("conv", conv), ("settings", Settings.current())))
    return _by_images(in_settings, between, f, *weights)


def _in_settings(*arrays, conv, settings):
    with settings.restored():
        return conv(*arrays)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _by_images(conv, between, f, *weights):
    return _run_forward(conv, between, f, *weights)


@functools.partial(_by_images.defjvp, symbolic_zeros=True)
def _jvp(conv, between, primals, tangents):
    step = functools.partial(Bound, arguments=(("conv", conv), ("between", between)))
    return at_once(step(_by_name), *primals), linear(step(_tangent), step(_gradients), primals, tangents)


def _by_name(f, *weights, conv, between):
    return _by_images(conv, between, f, *weights)


@compiled("conv", "between")
def _run_forward(conv, between, f, *weights):
    def in_chunks(f, *weights):
        return map_chunks(lambda f: conv(f, *weights), f, images_a_chunk(between, FEWEST))

    return choose(None, ("chunks", in_chunks), ("whole", conv), f)(f, *weights)


@compiled("conv", "between")
def _tangent(primals, tangents, conv, between):
    wanted = tuple(tangent is not None for tangent in tangents)

    def whole(tangents, f, *weights):
        of_moving, moving = _of_moving(conv, (f, *weights), wanted)
        return jax.jvp(of_moving, (moving,), (tangents,))[1]

    def in_chunks(tangents, f, *weights):
        f_dot, *weight_dots = tangents

        def step(chunk):
            f, f_dot = chunk
            return whole((f_dot, *weight_dots), f, *weights)

        return map_chunks(step, (f, f_dot), images_a_chunk(between, FEWEST))

    return choose(None, ("chunks", in_chunks), ("whole", whole), primals[0])(tangents, *primals)


@compiled("wanted", "conv", "between")
def _gradients(primals, d_out, wanted, conv, between):
    def gradients_of(conv, d_out, f, *weights):
        of_moving, moving = _of_moving(conv, (f, *weights), wanted)
        return jax.vjp(of_moving, moving)[1](d_out)[0]

    def in_chunks(d_out, f, *weights):
        def step(d_weights, chunk):
            d_f, *gradients = gradients_of(conv, *chunk, *weights)
            return jax.tree.map(jnp.add, d_weights, gradients), d_f

        moving = _of_moving(conv, (f, *weights), wanted)[1][1:]
        zeros = jax.tree.map(lambda weight: jnp.zeros(weight.shape, sum_dtype(weight)), [*moving])
        d_weights, d_f = scan_chunks(step, zeros, (d_out, f), images_a_chunk(between, FEWEST))
        return d_f, *jax.tree.map(lambda d_weight, weight: d_weight.astype(weight.dtype), d_weights, [*moving])

    # The checkpoint's barrier keeps XLA from holding what the forward pass has computed.
    whole = functools.partial(gradients_of, jax.checkpoint(conv))
    return choose(None, ("chunks", in_chunks), ("whole", whole), primals[0])(d_out, *primals)


def _of_moving(conv, arrays, wanted):
    """`conv` as a function of the wanted arrays, in a tuple with None for the others; and that tuple."""
    moving = tuple(array if is_wanted else None for array, is_wanted in zip(arrays, wanted, strict=True))

    def of_moving(moving):
        return conv(*(array if moved is None else moved for array, moved in zip(arrays, moving, strict=True)))

    return of_moving, moving
