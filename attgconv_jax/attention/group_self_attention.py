"""Group self-attention: each position attends to its neighbours, by what they hold and by where they are."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attgconv_jax.attention.layers import check_weights, group_axis, hidden_channels, zeros
from attgconv_jax.attention.non_local_block import SCORES
from attgconv_jax.attention.operator import Operator, register
from attgconv_jax.bases import FilterBasis
from attgconv_jax.checks import check_boolean, check_divisor, check_finite_positive, check_odd
from attgconv_jax.convolution import add_bias
from attgconv_jax.filters import Sampling, check_sampling, former_sampling, transformed
from attgconv_jax.groups import Group
from attgconv_jax.initializers import channel_uniform, key_source, paper_uniform
from attgconv_jax.kernels.chunks import map_chunks, wide
from attgconv_jax.kernels.devices import on_images
from attgconv_jax.kernels.taps import Window, pad, take_tap


class SelfAttentionWeights(NamedTuple):
    """Linear maps of the channels, the same for all group elements, the relative positions' vectors, and biases."""

    query: Float[Array, "c_hid c"]
    key: Float[Array, "c_hid c"]
    value: Float[Array, "c_hid c"]
    out: Float[Array, "c c_hid"]
    position: Float[Array, "k k h c_hid"]
    query_bias: Float[Array, " c_hid"] | None = None
    key_bias: Float[Array, " c_hid"] | None = None
    value_bias: Float[Array, " c_hid"] | None = None
    out_bias: Float[Array, " c"] | None = None


@former_sampling
def self_attention(
    f: Float[Array, "*batch x y h c"],
    weights: SelfAttentionWeights,
    group: Group,
    *,
    heads: int = 1,
    scale: float | None = None,
    sampling: Sampling | FilterBasis = Sampling(),
) -> Float[Array, "*batch x y h c"]:
    """What is added to every position: a mean of its neighbours on the group, weighed by content and relative position.

        score[(x, g), (u, h')] = scale (query f)[x, g] . ((key f)[x + u, h'] + position[g^-1 u, g^-1 h'])
        p = softmax over (u, h') of score                          neighbours outside the image take no part
        alpha[x, g] = out (sum over u, h' of  p[(x, g), (u, h')] (value f)[x + u, h'])

    `u` runs over a window of `k x k` pixels, `h'` over the whole group; heads split the hidden
    channels. On a group the vectors of relative positions are what a filter is to a convolution: the group acts on
    them, and they alone mix group elements. On an image they are lifted, and the mean over the group taken. It is no
    factor but a term, `f + alpha`.

    Time and scores grow with `x y |H|^2 k^2 c_hid`. It is computed in float32 at least. Scores are held for a few
    images at a time and computed again for the gradient, so memory does not grow with the batch.

    Options:
      heads: divide the hidden channels.
      scale: of the scores; None: `1 / sqrt(c_hid / heads)`. The code of Romero and Cordonnier has `1 / sqrt(c)`.

    Other arguments: see `attgconv_jax.attention`.
    Source: Romero and Cordonnier 2021 (arXiv 2010.00977), sections 4 and 5; on the trivial group Ramachandran et al.
    2019 (arXiv 1906.05909).
    """
    check_weights("self-attention", f, weights, SelfAttentionWeights, group)
    check_sampling(sampling)
    x, y, h, _ = f.shape[-4:]
    k, hidden = len(weights.position), len(weights.query)
    heads = check_divisor("heads", heads, hidden, of="hidden channels")
    features = hidden // heads
    if scale is not None:
        (scale,) = check_finite_positive(scale=scale)
    chunk = max(1, SCORES // (x * y * group.order * heads * k * k * max(h, features)))

    def attended(f, weights):
        position = transformed(weights.position[..., None], group, sampling)[..., 0]
        position = position.reshape(k * k, h, heads, features, group.order)
        out = _attend(f, weights, position, chunk, scale)
        return jnp.mean(out, axis=-2, keepdims=True) if h == 1 else out

    # Gradients of scores are sums over channels of products, which float16 does not hold.
    return on_images(attended, *jax.tree.map(wide, (f, weights))).astype(f.dtype)


def self_attention_weights(
    key,
    features,
    group,
    *,
    lifting=False,
    reduction: int | None = None,
    hidden_features: int | None = None,
    kernel_size: int = 5,
    heads: int = 1,
    use_bias: bool = False,
    dtype=jnp.float32,
) -> SelfAttentionWeights:
    """Initial weights of `self_attention`: `channel_uniform`, positions `paper_uniform`, the output zero.

    Options:
      reduction: channels over hidden channels; None: 2.
      kernel_size: of the window, odd, in pixels.
    """
    reduction = 2 if reduction is None and hidden_features is None else reduction
    hidden, next_key = hidden_channels(features, reduction, hidden_features), key_source(key)
    check_odd(kernel_size=kernel_size)
    check_divisor("heads", heads, hidden, of="hidden channels")
    check_boolean(use_bias=use_bias)
    query, key, value = (channel_uniform(next_key(), (hidden, features, 1), dtype)[..., 0] for _ in range(3))
    window = (kernel_size, kernel_size, group_axis(group, lifting), hidden, 1)
    position = paper_uniform(next_key(), window, dtype)[..., 0]
    biases = zeros(use_bias, dtype, hidden, hidden, hidden, features)
    return SelfAttentionWeights(query, key, value, jnp.zeros((features, hidden), dtype), position, *biases)


OPERATOR = register(
    Operator(
        "self",
        "GroupSelfAttention",
        "Group self-attention",
        self_attention_weights,
        self_attention,
        combination="add",
        pairwise=True,
    )
)


# Not inlined: what JAX makes of its loop for the gradient is then compiled once, too.
@functools.partial(jax.jit, static_argnames=("chunk", "scale"))
def _attend(f, weights, position, chunk, scale):
    """What every position sees of its window, for every pose in which it is looked at, so many images at a time."""
    taps, h, heads, features, order = position.shape
    k, (_, x, y, _, _) = math.isqrt(taps), f.shape
    windows = (Window(k, low=k // 2, high=k // 2),) * 2
    inside = jnp.asarray(_inside(x, y, k))
    query_bias, key_bias, value_bias, out_bias = weights[5:]

    def linear(f, weight, bias):
        out = f @ weight.T
        return out if bias is None else add_bias(out, bias)

    def neighbours(a):
        """`[image, x, y, u, h, head, c]`."""
        padded = pad(a.reshape(*a.shape[:3], h * heads * features), windows)
        shifted = [
            take_tap(take_tap(padded, windows[0], i, 1, x), windows[1], j, 2, y) for i in range(k) for j in range(k)
        ]
        return jnp.stack(shifted, axis=3).reshape(*a.shape[:3], taps, h, heads, features)

    @jax.checkpoint
    def attend(f):
        query = linear(f, weights.query, query_bias).reshape(*f.shape[:-1], heads, features)
        query = jnp.broadcast_to(query, (*f.shape[:3], order, heads, features))
        query = query / math.sqrt(features) if scale is None else query * scale
        content = jnp.einsum("bxygnd,bxyuhnd->bxygnuh", query, neighbours(linear(f, weights.key, key_bias)))
        score = content + jnp.einsum("bxygnd,uhndg->bxygnuh", query, position)
        score = jnp.where(inside[None, :, :, None, None, :, None], score, -jnp.inf)
        p = jax.nn.softmax(score, axis=(-2, -1))
        attended = jnp.einsum("bxygnuh,bxyuhnd->bxygnd", p, neighbours(linear(f, weights.value, value_bias)))
        return linear(attended.reshape(*attended.shape[:-2], heads * features), weights.out, out_bias)

    return map_chunks(attend, f, chunk)


def _inside(x, y, k):
    """Whether a tap of the window lies inside the image, `[x, y, u]`."""
    offset = np.arange(k) - k // 2
    rows, columns = (np.arange(n)[:, None] + offset for n in (x, y))
    rows, columns = ((at >= 0) & (at < n) for at, n in ((rows, x), (columns, y)))
    return (rows[:, None, :, None] & columns[None, :, None, :]).reshape(x, y, k * k)
