"""Non-local attention: every position on the group attends to every other."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.attention.layers import check_weights, group_axis, group_linear, hidden_channels
from attgconv_jax.attention.operator import Operator, register
from attgconv_jax.checks import check_boolean
from attgconv_jax.groups import Group
from attgconv_jax.initializers import channel_uniform, key_source
from attgconv_jax.kernels.chunks import map_chunks, sum_dtype

# Scores of as many images as have so many are held at once, forward and backward.
SCORES = 2**24


class NonLocalWeights(NamedTuple):
    """Four 1x1 group convolutions."""

    query: Float[Array, "c_hid c h"]
    key: Float[Array, "c_hid c h"]
    value: Float[Array, "c_hid c h"]
    out: Float[Array, "c c_hid h"]


def non_local(
    f: Float[Array, "*batch x y h c"], weights: NonLocalWeights, group: Group, *, over_group: bool = True
) -> Float[Array, "*batch x y h c"]:
    """What is added to every position: a mean of all, each weighed by how its key answers the position's query.

        p[(x, h), (x~, h~)] = softmax over (x~, h~) of  (query f)[x, h] . (key f)[x~, h~]
        alpha[x, h, c] = out (sum over (x~, h~) of  p[(x, h), (x~, h~)] (value f)[x~, h~])

    The paper's embedded Gaussian. On a group: all four are 1x1 group convolutions, and positions are those on the
    group. Not over the group: an `h` attends to itself alone, `h~ = h`. No position is told from another by where it
    is. Made for the end of a stage of a network; it is no factor but a term, `f + alpha`.

    Time grows with the square of the positions, `(x y |H|)^2 c_hid` (`|H|` times less where each `h` attends to
    itself). Scores are held for a few images at a time and computed again for the gradient, so memory does not grow
    with the batch.

    Options:
      over_group: whether the softmax is over space and group instead of space alone.

    Other arguments: see `attgconv_jax.attention`.
    Source: Wang et al. 2018 (arXiv 1711.07971), section 3.
    """
    check_weights("non-local attention", f, weights, NonLocalWeights, group)
    check_boolean(over_group=over_group)
    *batch, x, y, h, c = f.shape
    images = f.reshape(math.prod(batch), x, y, h, c)
    # An axis of positions that attend to each other, and one of those that do not.
    together, apart = (x * y * h, 1) if over_group else (x * y, h)
    hidden = len(weights.query)
    embedded = [group_linear(images, w, group) for w in weights[:3]]
    rows = [a.reshape(*a.shape[:1], together, apart, hidden) for a in embedded]

    attended = _attend(rows, max(1, SCORES // (together**2 * apart)))
    return group_linear(attended.reshape(*batch, x, y, h, hidden), weights.out, group)


def non_local_weights(key, features, group, *, lifting=False, reduction: int = 2, dtype=jnp.float32) -> NonLocalWeights:
    """Initial weights of `non_local`: `channel_uniform`, the output zero."""
    hidden, h, next_key = hidden_channels(features, reduction), group_axis(group, lifting), key_source(key)
    embeddings = (channel_uniform(next_key(), (hidden, features, h), dtype) for _ in range(3))
    return NonLocalWeights(*embeddings, out=jnp.zeros((features, hidden, h), dtype))


OPERATOR = register(
    Operator(
        "non_local",
        "NonLocal",
        "Non-local attention",
        non_local_weights,
        non_local,
        combination="add",
        site="stage",
        pairwise=True,
    )
)


# Not inlined: what JAX makes of its loop for the gradient is then compiled once, too.
@functools.partial(jax.jit, static_argnames="chunk")
def _attend(rows, chunk):
    """What positions see of each other, from their query, key and value, so many images at a time."""

    @jax.checkpoint
    def attend(rows):
        query, key, value = rows
        score = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=sum_dtype(query))
        return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(score).astype(value.dtype), value)

    return map_chunks(attend, rows, chunk)
