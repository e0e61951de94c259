"""Initialisers `(key, shape, dtype)`, by name: a good default and those of the papers."""

import functools
import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

Initializer = Callable
FilterInitializer = Literal["he_normal", "paper_uniform", "paper_normal"] | Initializer
KeySource = Array | Callable[[], Array]


def draw_normal(key: Array, shape: tuple[int, ...], dtype=jnp.float32, scale: float = 1.0) -> Array:
    """Normal numbers of deviation `scale`: those of `jax.random.normal` times `scale`, but drawn flat.

    Every size is a program of its own, and XLA compiles a flat one several times faster.
    """
    return _first(jax.random.normal(key, _size(key, shape), dtype) * jnp.asarray(scale, dtype), tuple(shape))


def draw_uniform(key: Array, shape: tuple[int, ...], bound: float, dtype=jnp.float32) -> Array:
    """Uniform numbers in `+-bound`: those of `jax.random.uniform`, but drawn flat, as in `draw_normal`."""
    return _first(jax.random.uniform(key, _size(key, shape), dtype, -bound, bound), tuple(shape))


def _size(key, shape):
    """One of few sizes that are enough: with partitionable keys a number depends on its place alone."""
    count = math.prod(shape)
    if jax.config.jax_threefry_partitionable and str(jax.random.key_impl(key)) == "threefry2x32":
        return (next((size for size in _SIZES if size >= count), count),)
    return (count,)


_SIZES = tuple(4**n for n in range(6, 12))


@functools.partial(jax.jit, static_argnames="shape")
def _first(drawn, shape):
    """As many as the shape takes."""
    return drawn[: math.prod(shape)].reshape(shape)


def key_source(key: KeySource) -> Callable[[], Array]:
    """A function that returns a new key at every call.

    A random stream such as `nnx.Rngs(0).params` is returned as it is; a key is folded with a count, as streams do.
    """
    if callable(key):
        return key
    keys = (jax.random.fold_in(key, count) for count in range(2**32))
    return lambda: next(keys)


def he_normal(key, shape, dtype=jnp.float32):
    """Normal with variance `2 / (k^2 h c_in)`, for filters `[k, k, h, c_in, c_out]` before a relu.

    Responses to rectified normal inputs then have the variance those had before the relu, whatever the group's order.

    Source: He et al. 2015, with the group axis in the fan.
    """
    return draw_normal(key, shape, dtype, np.sqrt(2 / np.prod(shape[:4])))


def paper_uniform(key, shape, dtype=jnp.float32):
    """Uniform in `+-1 / sqrt(k^2 c_in)`, for filters `[k, k, h, c_in, c_out]`; the group axis is not counted.

    Source: the code of Romero et al. 2020.
    """
    k, l, _, c_in, _ = shape
    return draw_uniform(key, shape, 1 / np.sqrt(k * l * c_in), dtype)


def paper_normal(key, shape, dtype=jnp.float32):
    """Normal with variance `1 / (k^2 c_in)`, for filters `[k, k, 1, c_in, c_out]` of ordinary networks.

    Source: the code of Romero et al. 2020 (its Z2 networks).
    """
    k, l, _, c_in, _ = shape
    return draw_normal(key, shape, dtype, np.sqrt(1 / (k * l * c_in)))


def channel_uniform(key, shape, dtype=jnp.float32):
    """Uniform in `+-1 / sqrt(c h)`, for weights `[c_out, c, h]` of channel attention.

    Source: the code of Romero et al. 2020 (PyTorch's `kaiming_uniform_` with `a = sqrt(5)`).
    """
    return draw_uniform(key, shape, 1 / np.sqrt(np.prod(shape[1:])), dtype)


def scaled(scale: float, init: Initializer) -> Initializer:
    """An initialiser times a number."""
    return lambda key, shape, dtype=jnp.float32: scale * init(key, shape, dtype)


INITIALIZERS = {"he_normal": he_normal, "paper_uniform": paper_uniform, "paper_normal": paper_normal}


def filter_initializer(name: FilterInitializer) -> Initializer:
    """The initialiser of filters with this name; a function `(key, shape, dtype)` is passed through."""
    if callable(name):
        return name
    if name not in INITIALIZERS:
        raise ValueError(f"initialiser must be one of {', '.join(INITIALIZERS)} or a function, got {name!r}")
    return INITIALIZERS[name]
