"""Response attention in blocks, for accelerators: many images at once, in few products and passes over memory.

For all input group elements `h` and a block of images `b`:

    p[h, c, u, b, n]  patches                 r[h, c, b, n, m] = sum over u of  p[h, c, u, b, n] w[h, c, u, m]
    mean over n of r                          from the mean patch
    max over n of r, and where                one pass over r
    t, s = sum and max over c of alpha_C r    another pass, which stores the channel of the maximum too
    alpha_X                                   t / c and s, correlated with the attention filter
    out[b, n, m] = sum over h of  alpha_X t

Where that much was kept, the backward pass does without `r`; else it begins with all of the above. With `z` the logits
of `alpha_C`, `C` the channel of `s` and `N` the position of the maximum over `n`,

    d_r[c, n, m] = alpha_C[c, m] (d_t[n, m] + [c = C] d_s[n, m]) + [n = N] d_max[c, m]
    d_z[c, m] = (1 - alpha_C) (alpha_C sum over u of  w[c, u, m] sum over n of p[c, u, n] d_t[n, m]
                               + sum over n of [c = C] d_s[n, m] s[n, m])

so that beside the patches one array as large as the responses is written, their gradient, and two products read it. The
gradient of the mean goes through the mean patch.

| quantity | elements | held |
|---|---|---|
| responses; their gradient | `h c b n m` | one block |
| patches, twice, and their gradient | `h c u b n` | one block |
| `t`, `s`, the logits of `alpha_X`, and their gradients | `h b n m` | one block |

beside what `attgconv_jax.kernels.response.xla` holds whole. A block takes about as much as the budget of memory; where
one image with all `h` takes more, it is one input group element at a time, of as many images as fit, at least one.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from attgconv_jax.kernels.chunks import is_symbolic, map_chunks, scan_chunks
from attgconv_jax.kernels.maxima import larger
from attgconv_jax.kernels.response.statistics import Statistics
from attgconv_jax.kernels.response.tiles import Maps, Weights, attend, channel_dtype
from attgconv_jax.kernels.taps import Window, count_outputs, pad, take_pixels


class Blocks(NamedTuple):
    """The layer of images `[batch, x, y, h, c]`, cut into blocks."""

    windows: tuple[Window, Window]
    dilation: int
    counts: tuple[int, int]
    group_elements: int
    """Of the input, at a time: all or one."""
    chunk: int
    """Images at a time."""

    @classmethod
    def make(cls, f_shape, bank_shape, windows, dilation, memory_budget) -> "Blocks":
        """The largest blocks that take about as much memory as there is; the bank is `[h, c, u, m]`.

        Counted in compiled programs: at once there are two arrays like the responses, three like the patches, or ten
        like the maps, whichever is most.
        """
        batch, *lengths, h, c = f_shape
        counts = tuple(count_outputs(windows, lengths))
        taps, m = bank_shape[-2:]
        bytes_of_one = 4 * math.prod(counts) * max(2 * c * m, 3 * c * taps, 10 * m)
        group_elements = h if h * bytes_of_one <= memory_budget else 1
        images = 1 if is_symbolic(batch) else min(batch, memory_budget // (group_elements * bytes_of_one))
        return cls(windows, dilation, counts, group_elements, max(1, images))

    def forward(self, f: Float[Array, "b x y h c"], weights: Weights) -> tuple[Float[Array, "b n m"], tuple]:
        """What is attended to, summed over `h`, and what the backward pass needs of it, images first."""
        p, w = self._patches(f), weights.bank
        r = jnp.einsum("hcubn,hcum->hcbnm", p, w)
        statistics = None
        if weights.channel is not None:
            statistics = Statistics(_mean(jnp.mean(p, axis=4), w), *_maximum(r, axis=3))
            z = _channel_logits(weights.channel, statistics.mean, statistics.highest)
            r = jax.nn.sigmoid(z)[:, :, :, None] * r
        if weights.spatial is None:
            return jnp.sum(r, axis=(0, 1)), _images_first((statistics, None))
        total, largest, channel = _sum_and_maximum(r)
        maps = Maps(total, largest, channel, self._correlate(total, largest, weights.spatial, f.shape[-1]))
        return jnp.sum(attend(maps), axis=0), _images_first((statistics, maps))

    def backward(self, weights: Weights, f, kept, d_out: Float[Array, "b n m"]) -> tuple[Array, Weights]:
        """Gradients of images and weights; what was not kept of `forward` is computed again."""
        kept = self.forward(f, weights)[1] if kept is None else kept
        statistics, maps = _images_inside(kept)
        d_spatial = d_largest = None
        d_out = jnp.broadcast_to(d_out, (f.shape[3], *d_out.shape))
        d_total = d_out
        if weights.spatial is not None:
            alpha = jax.nn.sigmoid(maps.logits)
            d_logits = d_out * maps.total * alpha * (1 - alpha)
            correlate = functools.partial(self._correlate, channels=f.shape[-1])
            pull_back = jax.vjp(correlate, maps.total, maps.largest, weights.spatial)[1]
            d_mean, d_largest, d_spatial = pull_back(d_logits)
            d_total = d_out * alpha + d_mean
        p, pull_back = jax.vjp(self._patches, f)
        # Behind the barrier, as XLA would make both layouts of the patches at once and hold them.
        again = self._patches(lax.optimization_barrier(f))
        d_p, d_w, d_channel = _responses_backward(p, again, weights, statistics, maps, d_total, d_largest)
        return pull_back(d_p)[0], Weights(d_w, d_channel, d_spatial)

    def _patches(self, f):
        planes = pad(f.transpose(3, 4, 0, 1, 2), self.windows, axis=3)
        taps = jnp.stack(list(take_pixels(planes, self.windows, self.counts, 3)), axis=2)
        return taps.reshape(*taps.shape[:4], math.prod(self.counts))

    def _correlate(self, total, largest, filters, channels):
        """Logits of `alpha_X`: every pair of maps with filters of its own."""
        h, b, n, m = total.shape
        size = round(filters.shape[-1] ** 0.5)
        maps = jnp.stack([total / channels, largest], axis=-1).transpose(1, 2, 0, 3, 4)
        filters = filters.reshape(h, 2, m, size, size).transpose(3, 4, 1, 0, 2)
        reach = self.dilation * (size // 2)
        logits = lax.conv_general_dilated(
            maps.reshape(b, *self.counts, h * m * 2),
            filters.reshape(size, size, 2, h * m),
            window_strides=(1, 1),
            padding=[(reach, reach)] * 2,
            rhs_dilation=(self.dilation, self.dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=h * m,
        )
        return logits.reshape(b, n, h, m).transpose(2, 0, 1, 3)


def forward(f, weights, windows, dilation, memory_budget):
    """What is attended to, `[b, n, m]`, and what to keep for the backward pass, with axes `h b` first."""
    blocks = Blocks.make(f.shape, weights.bank.shape, windows, dilation, memory_budget)

    def images(f, weights):
        out, kept = map_chunks(lambda f: blocks.forward(f, weights), f, blocks.chunk)
        return out, jax.tree.map(lambda x: x.swapaxes(0, 1), kept)

    if blocks.group_elements == f.shape[3]:
        return images(f, weights)

    def element(out, inputs):
        more, kept = images(*inputs)
        return out + more, jax.tree.map(lambda x: x[0], kept)

    nothing = jnp.zeros((f.shape[0], math.prod(blocks.counts), weights.bank.shape[-1]), f.dtype)
    return lax.scan(element, nothing, _elements_first(f, weights))


def backward(f, weights, kept, d_out, windows, dilation, memory_budget):
    """Gradients of images and weights."""
    blocks = Blocks.make(f.shape, weights.bank.shape, windows, dilation, memory_budget)

    def images(f, weights, kept):
        def chunk(d_weights, inputs):
            d_f, d_chunk = blocks.backward(weights, *inputs)
            return jax.tree.map(jnp.add, d_weights, d_chunk), d_f

        nothing = jax.tree.map(jnp.zeros_like, weights)
        kept = jax.tree.map(lambda x: x.swapaxes(0, 1), kept)
        return scan_chunks(chunk, nothing, (f, kept, d_out), blocks.chunk)

    if blocks.group_elements == f.shape[3]:
        d_weights, d_f = images(f, weights, kept)
        return d_f, d_weights
    kept = jax.tree.map(lambda x: x[:, None], kept)
    d_weights, d_f = lax.map(lambda inputs: images(*inputs), (*_elements_first(f, weights), kept))
    return jnp.moveaxis(d_f[..., 0, :], 0, 3), jax.tree.map(lambda x: x[:, 0], d_weights)


def _elements_first(f, weights):
    """The input group elements one by one, each with an axis of length 1 where all of them have theirs."""
    return jnp.moveaxis(f, 3, 0)[..., None, :], jax.tree.map(lambda x: x[:, None], weights)


def _responses_backward(p, again, weights, statistics, maps, d_total, d_largest):
    """Gradients of patches `[h, c, u, b, n]`, filters and channel networks; `again` are the patches once more."""
    w = weights.bank
    d_r, d_p, d_w, d_channel = d_total[:, None], 0, 0, None
    if d_largest is not None:
        here = _is_at(maps.channel, 1, w.shape[1])
        d_r = d_r + jnp.where(here, d_largest[:, None], 0)
    if weights.channel is not None:
        z, pull_back = jax.vjp(_channel_logits, weights.channel, statistics.mean, statistics.highest)
        alpha = jax.nn.sigmoid(z)
        along_w = jnp.einsum("hcubn,hbnm->hcubm", again, d_total)
        # alpha_C times its gradient: the slope of the sigmoid is `alpha_C (1 - alpha_C)`.
        scaled = alpha * jnp.sum(w[:, :, :, None] * along_w, axis=2)
        if d_largest is not None:
            scaled += jnp.sum(jnp.where(here, (d_largest * maps.largest)[:, None], 0), axis=3)
        d_channel, d_mean, d_highest = pull_back((1 - alpha) * scaled)
        at = _is_at(statistics.at, 3, p.shape[4])
        d_r = alpha[:, :, :, None] * d_r + jnp.where(at, d_highest[:, :, :, None], 0)
        d_patch, d_w = jax.vjp(_mean, jnp.mean(p, axis=4), w)[1](d_mean)
        d_p = d_patch[..., None] / p.shape[4]
    d_r = jnp.broadcast_to(d_r, (*w.shape[:2], *d_total.shape[1:]))
    d_p += jnp.einsum("hcbnm,hcum->hcubn", d_r, w)
    d_w += jnp.einsum("hcubn,hcbnm->hcum", p, d_r)
    return d_p, d_w, d_channel


def _mean(patch, w):
    """Of the responses, from the mean patch; a sum of products, which XLA fuses where a matrix product stands alone."""
    return jnp.sum(patch[..., None] * w[:, :, :, None], axis=2)


def _channel_logits(channel, mean, highest):
    """`mlp(mean) + mlp(max)`, `[h, c, b, m]`; sums of products again."""
    w1, w2 = (w.transpose(0, *axes, 1)[:, :, :, None] for w, axes in zip(channel, ((2, 3), (3, 2)), strict=True))
    hidden = sum(jax.nn.relu(jnp.sum(w1 * s[:, None], axis=2)) for s in (mean, highest))
    return jnp.sum(w2 * hidden[:, :, None], axis=1)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _maximum(r, axis):
    """Maximum along an axis and the first index that has it."""
    start = jnp.array(-jnp.inf, r.dtype), jnp.int32(jnp.iinfo(jnp.int32).max)
    return tuple(lax.reduce((r, lax.broadcasted_iota(jnp.int32, r.shape, axis)), start, larger, (axis,)))


@_maximum.defjvp
def _maximum_jvp(axis, primals, tangents):
    (r,), (r_dot,) = primals, tangents
    largest, index = _maximum(r, axis)
    return (largest, index), (_at(index, r_dot, axis), jax.custom_derivatives.zero_from_primal(index))


@jax.custom_jvp
def _sum_and_maximum(r):
    """Over the channels of `[h, c, b, n, m]`, and the first channel that has the maximum, in one pass."""
    index_dtype = channel_dtype(r.shape[1])
    start = jnp.zeros((), r.dtype), jnp.array(-jnp.inf, r.dtype), jnp.array(jnp.iinfo(index_dtype).max, index_dtype)

    def combine(left, right):
        return left[0] + right[0], *larger(left[1:], right[1:])

    return tuple(lax.reduce((r, r, lax.broadcasted_iota(index_dtype, r.shape, 1)), start, combine, (1,)))


@_sum_and_maximum.defjvp
def _sum_and_maximum_jvp(primals, tangents):
    (r,), (r_dot,) = primals, tangents
    total, largest, channel = _sum_and_maximum(r)
    zero = jax.custom_derivatives.zero_from_primal(channel)
    return (total, largest, channel), (jnp.sum(r_dot, axis=1), _at(channel, r_dot, 1), zero)


def _at(index, x, axis):
    """`x` at the index along an axis."""
    return jnp.sum(jnp.where(_is_at(index, axis, x.shape[axis]), x, 0), axis)


def _is_at(index, axis, count):
    """One-hot along an axis that the index lacks."""
    shape = [1] * (index.ndim + 1)
    shape[axis] = count
    return jnp.expand_dims(index, axis) == lax.broadcasted_iota(index.dtype, shape, axis)


def _images_first(kept):
    """To statistics `[b, h, c, m]` and maps `[b, h, m, n]`, as tiles keep them: both make the same arrays."""
    return _transposed(kept, statistics=(2, 0, 1, 3), maps=(1, 0, 3, 2))


def _images_inside(kept):
    """The inverse: statistics `[h, c, b, m]` and maps `[h, b, n, m]`."""
    return _transposed(kept, statistics=(1, 2, 0, 3), maps=(1, 0, 3, 2))


def _transposed(kept, statistics, maps):
    transposes = (functools.partial(jnp.transpose, axes=axes) for axes in (statistics, maps))
    return tuple(jax.tree.map(transpose, part) for transpose, part in zip(transposes, kept, strict=True))
