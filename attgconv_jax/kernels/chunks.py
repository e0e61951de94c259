"""What kernels share: a scan over a few images at a time, and the choice of implementation."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from attgconv_jax.kernels.devices import may_be_spread, varying_alike
from attgconv_jax.kernels.portability import is_portable

# What is made of one chunk of images should stay in a CPU's last-level cache; measured best between 4 and 10 MB.
CHUNK_BYTES = 6_000_000


def compiled(*static: str) -> Callable:
    """Decorates a kernel, which outside of `jit` is then compiled once for arguments of the same shapes.

    A loop is a new program at every call otherwise, as it is made of functions that are. `static` are the names of
    arguments that are no arrays; they are compared by value. Inside of `jit` nothing changes.
    """
    return functools.partial(jax.jit, static_argnames=static, inline=True)


@dataclasses.dataclass(frozen=True)
class Bound:
    """A function and further arguments by name, which are equal where these are: a partial function is not."""

    function: Callable
    arguments: tuple[tuple[str, Any], ...] = ()

    def __call__(self, *args):
        """Calls the function."""
        return self.function(*args, **dict(self.arguments))


def choose(implementation: str | None, cpu: tuple[str, Callable], other: tuple[str, Callable], f: Array) -> Callable:
    """The function of the named implementation; with None of that for the platform, decided when it is lowered.

    Those for CPUs scan over chunks of the batch: where that of `f` may be spread over devices, or is a symbol, and
    inside of `attgconv_jax.kernels.portable`, `other` runs.
    """
    functions = dict([cpu, other])
    require_known(implementation, functions)
    if implementation is not None:
        return functions[implementation]
    if is_portable() or is_symbolic(f.shape[0]) or may_be_spread(f):
        return other[1]
    return functools.partial(lax.platform_dependent, cpu=cpu[1], default=other[1])


def is_symbolic(length) -> bool:
    """Whether a length is a symbol of `jax.export`. Callers then take the path that is valid for every length."""
    return not isinstance(length, int | np.integer)


def by_transposition(forward: Callable) -> dict[str, Callable]:
    """The steps of a convolution `forward(f, w, windows)` whose gradients are those that JAX makes of it."""

    def backward(f, w, d_out, windows):
        return jax.vjp(functools.partial(forward, windows=windows), f, w)[1](d_out)

    def backward_filter(f, w, d_out, windows):
        return jax.vjp(lambda w: forward(f, w, windows), w)[1](d_out)[0]

    return {"forward": forward, "backward": backward, "backward_filter": backward_filter}


def require_known(implementation: str | None, names: Iterable[str]) -> None:
    """Raises a `ValueError` unless the implementation is None or one of these."""
    if implementation is not None and not (isinstance(implementation, str) and implementation in names):
        known = ", ".join(f'"{name}"' for name in names)
        raise ValueError(f"implementation must be None or one of {known}, got {implementation!r}")


def require_images(f: Array, w: Array, ranks: tuple[int, int]) -> None:
    """Raises a `ValueError` unless images and filter have these ranks and one floating dtype."""
    if (f.ndim, w.ndim) != ranks:
        raise ValueError(f"images and filter must have {ranks[0]} and {ranks[1]} axes, got shapes {f.shape}, {w.shape}")
    if f.dtype != w.dtype or not jnp.issubdtype(f.dtype, jnp.floating):
        raise ValueError(f"images and filter must have one floating dtype, got {f.dtype} and {w.dtype}")


def sum_dtype(x: Array):
    """What sums over `x` are accumulated in: float32 at least."""
    return jnp.promote_types(x.dtype, jnp.float32)


def wide(x: Array) -> Array:
    """`x` in `sum_dtype`: what is broadcast over many positions has a cotangent that sums over them."""
    return x.astype(sum_dtype(x))


def images_a_chunk(elements: int, fewest: int = 1) -> int:
    """How many images of so many numbers, of four bytes each, stay in the cache; at least `fewest`."""
    return max(fewest, CHUNK_BYTES // (4 * max(1, elements)))


def largest_divisor(n: int, most: int) -> int:
    """The largest divisor of `n` that is at most `most`, or 1."""
    return max(d for d in range(1, max(1, min(n, most)) + 1) if n % d == 0)


def scan_chunks(step: Callable, carry, images, chunk: int):
    """`lax.scan` over at most `chunk` images at a time: `step(carry, chunk) -> carry, outputs of the chunk`.

    Images are arrays that share their leading axis, which the outputs have again. A batch that does not divide is
    padded with zero images, whose outputs are dropped; `step` must add nothing to its carry for a zero image. Of a
    symbolic batch it is one image at a time, and inside of `attgconv_jax.kernels.portable` all at once.
    """
    batch = jax.tree.leaves(images)[0].shape[0]
    if is_portable():
        return step(carry, images)
    if is_symbolic(batch):
        carry, outputs = lax.scan(step, carry, jax.tree.map(lambda x: jnp.expand_dims(x, 1), images))
        return carry, jax.tree.map(lambda x: jnp.squeeze(x, 1), outputs)
    if batch <= chunk:
        return step(carry, images)
    divisor = largest_divisor(batch, chunk)
    size = divisor if 2 * divisor > chunk else math.ceil(batch / math.ceil(batch / chunk))
    count = math.ceil(batch / size)
    carry = varying_alike(carry, images)

    def split(x):
        padded = lax.pad(x, jnp.zeros((), x.dtype), [(0, count * size - batch, 0)] + [(0, 0, 0)] * (x.ndim - 1))
        return padded.reshape(count, size, *x.shape[1:])

    def join(x):
        return x.reshape(count * size, *x.shape[2:])[:batch]

    carry, outputs = _scan(step, carry, jax.tree.map(split, images))
    return carry, jax.tree.map(join, outputs)


def map_chunks(function: Callable, images, chunk: int):
    """`scan_chunks` of a function without a carry."""
    return scan_chunks(lambda carry, chunk: (carry, function(chunk)), (), images, chunk)[1]


def _scan(step, carry, images):
    """`lax.scan`, its outputs written into buffers that come to be when the images do.

    XLA:CPU gives memory to the zeros that `lax.scan` itself starts from, which depend on nothing, from the start of
    the program on: in a network for every layer at once. Over a mesh nobody but `lax.scan` knows how they are laid out.
    """
    if not jax.sharding.get_abstract_mesh().empty:
        return lax.scan(step, carry, images)
    # Traced once, for the shapes and for the loop.
    step = jax.jit(step, inline=True)
    leaves = jax.tree.leaves(images)
    first = leaves[0].ravel()[0]
    # Any value would do; this one depends on the images and is a number whatever they are.
    start = lax.ne(first, first)
    outputs = jax.eval_shape(step, carry, jax.tree.map(lambda x: x[0], images))[1]
    buffers = jax.tree.map(lambda out: jnp.full((len(leaves[0]), *out.shape), start, out.dtype), outputs)

    def body(loop, chunk):
        carry, buffers = loop
        i, images = chunk
        carry, outputs = step(carry, images)
        write = functools.partial(lax.dynamic_update_index_in_dim, index=i, axis=0)
        return (carry, jax.tree.map(write, buffers, outputs)), ()

    return lax.scan(body, (carry, buffers), (jnp.arange(len(leaves[0])), images))[0]
