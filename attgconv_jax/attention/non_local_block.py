"""Non-local attention: every position on the group attends to every other."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.attention.layers import check_weights, group_axis, group_linear, hidden_channels, zeros
from attgconv_jax.attention.operator import Norm, NormOption, Operator, register
from attgconv_jax.checks import check_boolean, check_finite_positive
from attgconv_jax.groups import Group
from attgconv_jax.initializers import channel_uniform, key_source
from attgconv_jax.kernels.chunks import map_chunks, wide
from attgconv_jax.kernels.devices import on_images

# Scores of as many images as have so many are held at once, forward and backward.
SCORES = 2**24


class NonLocalWeights(NamedTuple):
    """Four 1x1 group convolutions, and their biases."""

    query: Float[Array, "c_hid c h"]
    key: Float[Array, "c_hid c h"]
    value: Float[Array, "c_hid c h"]
    out: Float[Array, "c c_hid h"]
    query_bias: Float[Array, " c_hid"] | None = None
    key_bias: Float[Array, " c_hid"] | None = None
    value_bias: Float[Array, " c_hid"] | None = None
    out_bias: Float[Array, " c"] | None = None


def non_local(
    f: Float[Array, "*batch x y h c"],
    weights: NonLocalWeights,
    group: Group,
    *,
    over_group: bool = True,
    scale: float = 1.0,
    norm: Callable | None = None,
) -> Float[Array, "*batch x y h c"]:
    """What is added to every position: a mean of all, each weighed by how its key answers the position's query.

        p[(x, h), (x~, h~)] = softmax over (x~, h~) of  scale (query f)[x, h] . (key f)[x~, h~]
        alpha[x, h, c] = norm(out (sum over (x~, h~) of  p[(x, h), (x~, h~)] (value f)[x~, h~]))

    The paper's embedded Gaussian. On a group: all four are 1x1 group convolutions, and positions are those on the
    group. Not over the group: an `h` attends to itself alone, `h~ = h`. No position is told from another by where it
    is. Made for the end of a stage of a network; it is no factor but a term, `f + alpha`.

    Time grows with the square of the positions, `(x y |H|)^2 c_hid` (`|H|` times less where each `h` attends to
    itself). It is computed in float32 at least. Scores are held for a few images at a time and computed again for the
    gradient, so memory does not grow with the batch.

    Options:
      over_group: whether the softmax is over space and group instead of space alone.
      scale: of the scores: published are 1 (the paper), `c_hid**-0.5` (its code) and `c**-0.5` (timm).
      norm: batch norm or the like, of an array `[..., c]`, as in the paper's networks; None: none.

    Other arguments: see `attgconv_jax.attention`.
    Source: Wang et al. 2018 (arXiv 1711.07971), section 3.
    """
    check_weights("non-local attention", f, weights, NonLocalWeights, group)
    check_boolean(over_group=over_group)
    (scale,) = check_finite_positive(scale=scale)
    x, y, h, _ = f.shape[-4:]
    # Gradients of scores are sums over channels of products, which float16 does not hold.
    images = wide(f)
    query, key, value = (
        group_linear(images, w, group, bias) for w, bias in zip(weights[:3], weights[4:7], strict=True)
    )
    embedded = (query if scale == 1 else scale * query), key, value
    # An axis of positions that attend to each other, and one of those that do not.
    together, apart = (x * y * h, 1) if over_group else (x * y, h)
    options = dict(together=together, apart=apart, chunk=max(1, SCORES // (together**2 * apart)))
    attended = on_images(functools.partial(_attend, **options), embedded)
    out = group_linear(attended, weights.out, group, weights.out_bias)
    return (out if norm is None else norm(out)).astype(f.dtype)


def non_local_weights(
    key,
    features,
    group,
    *,
    lifting=False,
    reduction: int | None = None,
    hidden_features: int | None = None,
    use_bias: bool = False,
    norm: NormOption = None,
    dtype=jnp.float32,
) -> NonLocalWeights:
    """Initial weights of `non_local`: `channel_uniform`, biases zero, the output zero unless a norm makes it so.

    Options:
      reduction: channels over hidden channels; None: 2.
    """
    reduction = 2 if reduction is None and hidden_features is None else reduction
    hidden, h = hidden_channels(features, reduction, hidden_features), group_axis(group, lifting)
    check_boolean(use_bias=use_bias)
    next_key = key_source(key)
    embeddings = [channel_uniform(next_key(), (hidden, features, h), dtype) for _ in range(3)]
    shape = (features, hidden, h)
    out = jnp.zeros(shape, dtype) if norm is None else channel_uniform(next_key(), shape, dtype)
    return NonLocalWeights(*embeddings, out, *zeros(use_bias, dtype, hidden, hidden, hidden, features))


OPERATOR = register(
    Operator(
        "non_local",
        "NonLocal",
        "Non-local attention",
        non_local_weights,
        non_local,
        combination="add",
        site="stage",
        norms={"norm": Norm(lambda weights: len(weights.out), default=None, zero=True)},
        pairwise=True,
    )
)


# Not inlined: what JAX makes of its loop for the gradient is then compiled once, too.
@functools.partial(jax.jit, static_argnames=("together", "apart", "chunk"))
def _attend(embedded, together, apart, chunk):
    """What positions see of each other, from their query, key and value, a few images at a time."""
    shape = embedded[0].shape
    rows = [a.reshape(shape[0], together, apart, shape[-1]) for a in embedded]

    @jax.checkpoint
    def attend(rows):
        query, key, value = rows
        score = jnp.einsum("bqhd,bkhd->bhqk", query, key)
        return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(score), value)

    return map_chunks(attend, rows, chunk).reshape(shape)
