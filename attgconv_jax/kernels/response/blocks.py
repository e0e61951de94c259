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

    d_r[c, n, m] = alpha_C[c, m] (d_t[n, m] + [c = C] d_s[n, m]) + [n = N] d_max[c, m] + d_mean[c, m] / |n|
    d_z[c, m] = (1 - alpha_C) (alpha_C sum over u of  w[c, u, m] sum over n of p[c, u, n] d_t[n, m]
                               + sum over n of [c = C] d_s[n, m] s[n, m])

so that beside the patches one array as large as the responses is written, their gradient, and two products read it.
What weights need is laid out once, before the blocks. Barriers keep XLA from what would save it a pass over a small
array and cost memory: a second layout of the gradient, patches held from the forward pass on.

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

from attgconv_jax.kernels.chunks import is_symbolic, scan_chunks
from attgconv_jax.kernels.devices import varying_alike
from attgconv_jax.kernels.response.correlation import Correlation, turn
from attgconv_jax.kernels.response.reductions import is_at, maximum, sum_and_maximum, sums
from attgconv_jax.kernels.response.statistics import Statistics
from attgconv_jax.kernels.response.tiles import Maps, Weights, attend
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
    whole: bool
    """Whether that is all there is, in one block."""

    @classmethod
    def make(cls, f_shape, bank_shape, windows, dilation, memory_budget) -> "Blocks":
        """The largest blocks that take about as much memory as there is; the bank is `[h, c, u, m]`.

        Counted in compiled programs: at once there are one array like the responses, three like the patches, four like
        the maps and ten like the statistics, or ten like the maps.
        """
        batch, *lengths, h, c = f_shape
        counts = tuple(count_outputs(windows, lengths))
        taps, m = bank_shape[-2:]
        n = math.prod(counts)
        bytes_of_one = 4 * max(n * (c * m + 3 * c * taps + 4 * m) + 10 * c * m, 10 * n * m)
        group_elements = h if h * bytes_of_one <= memory_budget else 1
        images = 1 if is_symbolic(batch) else min(batch, memory_budget // (group_elements * bytes_of_one))
        whole = group_elements == h and not is_symbolic(batch) and images == batch
        return cls(windows, dilation, counts, group_elements, max(1, images), whole)

    def prepare(self, weights: Weights) -> Weights:
        """Made once for all blocks: `(w1, w2)` as `[h, j, c, m]`, attention filters as `[k, k, 2, h, m]`.

        The attention filter of the mean takes the sum, and is divided by the number of channels instead.
        """
        bank, channel, spatial = weights
        # XLA for GPUs has no kernel for some products that lay the bank out while they read it.
        bank = _written(bank)
        if channel is not None:
            channel = tuple(w.transpose(0, *axes, 1) for w, axes in zip(channel, ((2, 3), (3, 2)), strict=True))
        if spatial is not None:
            size = round(spatial.shape[-1] ** 0.5)
            parts = jnp.array([1 / bank.shape[1], 1], spatial.dtype)
            spatial = (parts[None, :, None, None] * spatial).reshape(*spatial.shape[:3], size, size)
            spatial = spatial.transpose(3, 4, 1, 0, 2)
        return Weights(bank, channel, spatial)

    def forward(self, f: Float[Array, "b h c x y"], weights: Weights) -> tuple[Float[Array, "b n m"], tuple]:
        """What is attended to, summed over `h`, and what the backward pass needs of it, images first."""
        p, w = self._patches(f), weights.bank
        r = jnp.einsum("hcubn,hcum->hcbnm", p, w)
        statistics = None
        if weights.channel is not None:
            statistics = Statistics(_mean(p, w), *maximum(r, axis=3))
            z = _channel_logits(weights.channel, statistics.mean, statistics.highest)
            r = jax.nn.sigmoid(z)[:, :, :, None] * r
        if weights.spatial is None:
            return jnp.sum(r, axis=(0, 1)), _images_first((statistics, None))
        total, largest, channel = sum_and_maximum(r)
        maps = Maps(total, largest, channel, self._correlation.logits((total, largest), weights.spatial))
        return jnp.sum(attend(maps), axis=0), _images_first((statistics, maps))

    def backward(self, weights: Weights, turned, f, kept, d_out: Float[Array, "b n m"]) -> tuple[Array, Weights]:
        """Gradients of images and weights; what was not kept of `forward` is computed again."""
        kept = self.forward(f, weights)[1] if kept is None else kept
        statistics, maps = _images_inside(kept)
        d_spatial = d_largest = None
        d_out = jnp.broadcast_to(d_out, (f.shape[1], *d_out.shape))
        d_total = d_out
        if weights.spatial is not None:
            alpha = jax.nn.sigmoid(maps.logits)
            d_logits = d_out * maps.total * alpha * (1 - alpha)
            correlated = (maps.total, maps.largest), weights.spatial, turned
            (d_sum, d_largest), d_spatial = self._correlation.backward(*correlated, d_logits)
            d_total = d_out * alpha + d_sum
        p, pull_back = jax.vjp(self._patches, f)
        # Behind the barrier, as XLA would make both layouts of the patches at once and hold them.
        again = self._patches(lax.optimization_barrier(f) if self.whole else f)
        d_p, d_w, d_channel = _responses_backward(p, again, weights, statistics, maps, d_total, d_largest)
        # As else XLA for GPUs transposes one tap after another.
        return pull_back(_written(d_p))[0], Weights(d_w, d_channel, d_spatial)

    def _patches(self, f):
        planes = pad(f.transpose(1, 2, 0, 3, 4), self.windows, axis=3)
        taps = jnp.stack(list(take_pixels(planes, self.windows, self.counts, 3)), axis=2)
        return taps.reshape(*taps.shape[:4], math.prod(self.counts))

    @property
    def _correlation(self):
        return Correlation(self.counts, self.dilation)


def forward(f, weights, windows, dilation, memory_budget):
    """What is attended to, `[b, n, m]`, and what to keep for the backward pass, with axes `h b` first."""
    blocks = Blocks.make(f.shape, weights.bank.shape, windows, dilation, memory_budget)

    def images(f, weights):
        weights = blocks.prepare(weights)
        out, kept = _scan(lambda _, f: ((), blocks.forward(f, weights)), (), f, blocks.chunk)[1]
        return out, jax.tree.map(lambda x: x.swapaxes(0, 1), kept)

    planes = _planes(f)
    if blocks.group_elements == f.shape[3]:
        return images(planes, weights)

    def element(out, inputs):
        more, kept = images(*inputs)
        return out + more, jax.tree.map(lambda x: x[0], kept)

    nothing = jnp.zeros((f.shape[0], math.prod(blocks.counts), weights.bank.shape[-1]), f.dtype)
    return lax.scan(element, varying_alike(nothing, f), _elements_first(planes, weights))


def backward(f, weights, kept, d_out, windows, dilation, memory_budget):
    """Gradients of images and weights."""
    blocks = Blocks.make(f.shape, weights.bank.shape, windows, dilation, memory_budget)

    def images(f, weights, kept):
        weights, pull_back = jax.vjp(blocks.prepare, weights)
        turned = None if weights.spatial is None else turn(weights.spatial)

        def block(d_weights, inputs):
            d_f, d_block = blocks.backward(weights, turned, *inputs)
            return jax.tree.map(jnp.add, d_weights, d_block), d_f

        nothing = jax.tree.map(jnp.zeros_like, weights)
        kept = jax.tree.map(lambda x: x.swapaxes(0, 1), kept)
        d_weights, d_f = _scan(block, nothing, (f, kept, d_out), blocks.chunk)
        return pull_back(d_weights)[0], d_f

    if kept is None or not blocks.whole:
        # XLA would compute again what it needs before it has `d_out`, or hold it since the forward pass.
        f, d_out = lax.optimization_barrier((f, d_out))
    planes, pull_back = jax.vjp(_planes, f)
    if blocks.group_elements == f.shape[3]:
        d_weights, d_planes = images(planes, weights, kept)
    else:
        kept = jax.tree.map(lambda x: x[:, None], kept)
        inputs = *_elements_first(planes, weights), kept
        d_weights, d_planes = lax.map(lambda inputs: images(*inputs), inputs)
        d_weights = jax.tree.map(lambda x: x[:, 0], d_weights)
        d_planes = jnp.moveaxis(d_planes[:, :, 0], 0, 1)
    return pull_back(d_planes)[0], d_weights


def _planes(f):
    """`[b, x, y, h, c] -> [b, h, c, x, y]`."""
    return f.transpose(0, 3, 4, 1, 2)


def _scan(step, carry, images, most):
    """`scan_chunks` over as few blocks as there can be, of a batch that is padded where it does not divide."""
    batch = jax.tree.leaves(images)[0].shape[0]
    if is_symbolic(batch) or batch <= most:
        return scan_chunks(step, carry, images, most)
    count = math.ceil(batch / most)
    size = math.ceil(batch / count)
    rest = count * size - batch
    padded = jax.tree.map(lambda x: jnp.pad(x, [(0, rest), *[(0, 0)] * (x.ndim - 1)]), images)
    carry, outputs = scan_chunks(step, carry, padded, size)
    return carry, jax.tree.map(lambda x: x[:batch], outputs)


def _elements_first(planes, weights):
    """The input group elements one by one, each with an axis of length 1 where all of them have theirs."""
    return jnp.moveaxis(planes, 1, 0)[:, :, None], jax.tree.map(lambda x: x[:, None], weights)


def _responses_backward(p, again, weights, statistics, maps, d_total, d_largest):
    """Gradients of patches `[h, c, u, b, n]`, filters and channel networks; `again` are the patches once more."""
    w = weights.bank
    d_r, d_channel = d_total[:, None], None
    if d_largest is not None:
        here = is_at(maps.channel, 1, w.shape[1])
        d_r = d_r + jnp.where(here, d_largest[:, None], 0)
    if weights.channel is not None:
        z, pull_back = jax.vjp(_channel_logits, weights.channel, statistics.mean, statistics.highest)
        alpha = jax.nn.sigmoid(z)
        along_w = jnp.einsum("hcubn,hbnm->hcubm", again, d_total)
        # alpha_C times its gradient: the slope of the sigmoid is `alpha_C (1 - alpha_C)`.
        scaled = alpha * jnp.sum(w[:, :, :, None] * along_w, axis=2)
        if d_largest is not None:
            scaled += jnp.sum(jnp.where(here, d_largest[:, None], 0) * maps.largest[:, None], axis=3)
        d_channel, d_mean, d_highest = pull_back((1 - alpha) * scaled)
        at = is_at(statistics.at, 3, p.shape[4])
        d_r = alpha[:, :, :, None] * d_r + jnp.where(at, d_highest[:, :, :, None], 0)
        d_r += d_mean[:, :, :, None] / p.shape[4]
    d_r = jnp.broadcast_to(d_r, (*w.shape[:2], *d_total.shape[1:]))
    return *_products_backward(p, w, d_r), d_channel


def _products_backward(p, w, d_r):
    """Gradients of patches and filters from that of the responses."""
    if w.shape[2] == 1:
        # Sums, of which XLA computes what it needs as it goes; products with one tap it transposes beforehand.
        d_p = jnp.sum(d_r * w[:, :, 0, None, None], axis=-1)
        d_w = jnp.sum(p[:, :, 0, ..., None] * d_r, axis=(2, 3))
        return d_p[:, :, None], d_w[:, :, None]
    # In one piece along `n m`, or XLA for GPUs writes it in two layouts, for a product each.
    d_r = _written(d_r.reshape(*d_r.shape[:3], math.prod(d_r.shape[3:]))).reshape(d_r.shape)
    return jnp.einsum("hcbnm,hcum->hcubn", d_r, w), jnp.einsum("hcubn,hcbnm->hcum", p, d_r)


def _written(x):
    """The array, behind a barrier but on TPUs, whose products compute their operands as they need them."""
    return lax.platform_dependent(x, tpu=lambda x: x, default=lax.optimization_barrier)


def _mean(p, w):
    """Of the responses, from the mean patch."""
    return jnp.einsum("hcub,hcum->hcbm", jnp.mean(p, axis=4), w)


def _channel_logits(channel, mean, highest):
    """`mlp(mean) + mlp(max)`, `[h, c, b, m]`; sums of products, which XLA fuses where matrix products stand alone."""
    w1, w2 = (w[:, :, :, None] for w in channel)
    hidden = (jax.nn.relu(s)[:, :, None] for s in sums(w1 * mean[:, None], w1 * highest[:, None], 2))
    return jnp.sum(sum(w2 * s for s in hidden), axis=1)


def _images_first(kept):
    """To statistics `[b, h, c, m]` and maps `[b, h, m, n]`, as tiles keep them: both make the same arrays."""
    return _transposed(kept, statistics=(2, 0, 1, 3), maps=(1, 0, 3, 2))


def _images_inside(kept):
    """The inverse: statistics `[h, c, b, m]` and maps `[h, b, n, m]`."""
    return _transposed(kept, statistics=(1, 2, 0, 3), maps=(1, 0, 3, 2))


def _transposed(kept, statistics, maps):
    transposes = (functools.partial(jnp.transpose, axes=axes) for axes in (statistics, maps))
    return tuple(jax.tree.map(transpose, part) for transpose, part in zip(transposes, kept, strict=True))
