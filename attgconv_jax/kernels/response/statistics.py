"""Statistics of responses for the channel factor of response attention: mean, maximum and where it is."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Statistics(NamedTuple):
    """Of the responses, over the positions: mean, maximum and arg-maximum."""

    mean: Float[Array, "*b c m"]
    highest: Float[Array, "*b c m"]
    at: Int[Array, "*b c m"]


def channel_attention(statistics: Statistics | None, channel: tuple | None) -> Float[Array, "*b c m"] | None:
    """`alpha_C[c, m] = sigmoid(mlp(mean) + mlp(max))`; None without channel attention."""
    if channel is None:
        return None
    w1, w2 = channel
    hidden = (jax.nn.relu(jnp.einsum("bcm,mjc->bjm", s, w1)) for s in (statistics.mean, statistics.highest))
    return jax.nn.sigmoid(jnp.einsum("bjm,mcj->bcm", sum(hidden), w2))


def first_largest(r, start):
    """Maximum over the positions of `[c, b, n, m]`, which are numbered from `start`, and its position.

    Neighbours are compared elementwise, up to 16 at once; XLA:CPU's reduction of pairs is several times slower. A loop
    must carry the result, or XLA repeats the comparisons wherever it is used.
    """
    # Broadcast as late as can be: an array of all positions would be written and read.
    at = start + jnp.arange(r.shape[2], dtype=jnp.int32)[None, None, :, None]
    while (length := r.shape[2]) > 1:
        size = next((d for d in range(min(16, length), 1, -1) if length % d == 0), min(16, length))
        whole = length // size * size
        groups = [x[:, :, :whole].reshape(*x.shape[:2], whole // size, size, x.shape[3]) for x in (r, at)]
        largest = functools.reduce(larger_of, [tuple(x[:, :, :, i] for x in groups) for i in range(size)])
        rest = r[:, :, whole:], jnp.broadcast_to(at[:, :, whole:], (*r.shape[:2], length - whole, r.shape[3]))
        r, at = (jnp.concatenate(pair, 2) for pair in zip(largest, rest, strict=True))
    return r[:, :, 0], jnp.broadcast_to(at[:, :, 0], r[:, :, 0].shape)


def larger_of(left, right):
    """The pair with the larger value, the left one among equals."""
    (a, i), (b, j) = left, right
    return jnp.where(b > a, b, a), jnp.where(b > a, j, i)


def statistics_backward(p, bank, at, d_statistics, d_p):
    """Adds the gradient of the statistics to `d_p`; the gradient of the bank.

    That of a maximum goes to one patch: it is gathered for the bank, and scattered for the patches.
    """
    b, c, u, n = p.shape
    d_mean, d_highest = d_statistics.mean, d_statistics.highest
    position = jnp.arange(b * c * u, dtype=jnp.int32).reshape(b, c, u, 1) * n + at[:, :, None]
    highest_patches = p.reshape(-1).at[position].get(mode="promise_in_bounds")
    d_bank = jnp.sum(highest_patches * d_highest[:, :, None], axis=0)
    d_bank += jnp.einsum("bcu,bcm->cum", jnp.mean(p, axis=-1), d_mean)
    d_p += jnp.einsum("cum,bcm->bcu", bank, d_mean)[..., None] / n
    d_patches = bank[None] * d_highest[:, :, None]
    d_p = d_p.reshape(-1).at[position.reshape(-1)].add(d_patches.reshape(-1), mode="promise_in_bounds")
    return d_p.reshape(p.shape), d_bank
