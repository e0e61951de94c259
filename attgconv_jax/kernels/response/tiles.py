"""Response attention of a few images and one input group element: what one tile computes, forward and backward."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from attgconv_jax.kernels.chunks import largest_divisor, scan_chunks
from attgconv_jax.kernels.response.planes import Strips, add_patches, patches

# All measured on a CPU. Positions whose responses are compared at once.
_POSITIONS = 48
# How many times the bytes of the maps the patches of a chunk may take.
_PATCHES = 16
# Terms of an elementwise maximum over channels: in a block of a loop, but two channels at least; and without a loop.
_TERMS, _TERMS_AT_ONCE = 24, 128


class Tiling(NamedTuple):
    """How large tiles may be, in bytes of float32: the maps of a chunk of images, and a tile of responses."""

    maps: int
    responses: int


class Weights(NamedTuple):
    """Of one input group element, or of all of them with an axis `h` before."""

    bank: Float[Array, "*h c u m"]
    channel: tuple[Float[Array, "*h m j c"], Float[Array, "*h m c j"]] | None
    spatial: Float[Array, "*h 2 m v"] | None


class Statistics(NamedTuple):
    """Of the responses, over the positions: mean, maximum and arg-maximum."""

    mean: Float[Array, "*b c m"]
    highest: Float[Array, "*b c m"]
    at: Int[Array, "*b c m"]


class Maps(NamedTuple):
    """Sum and maximum of `alpha_C r` over the channels, and `alpha_X` before its sigmoid."""

    total: Float[Array, "*b m n"]
    largest: Float[Array, "*b m n"] | None
    logits: Float[Array, "*b m n"] | None


class Tiles:
    """The layer, cut into tiles.

    Args:
      f_shape: `[batch, x, y, h, c]`.
      bank_shape: `[k, l, h, c, m]`.
      spatial: filters of `alpha_X`, for their size, or None.
      windows: of the responses.
      dilation: of the attention filter.
      tiling: how large tiles may be.
    """

    def __init__(self, f_shape, bank_shape, spatial, windows, dilation, tiling):
        self.batch, *self.shape, self.h, self.c = f_shape
        k, l, _, _, self.m = bank_shape
        self.windows = windows
        self.x, self.y = (w.outputs(length) for w, length in zip(windows, self.shape, strict=True))
        self.taps = k * l
        self.size, self.dilation = None if spatial is None else len(spatial), dilation
        map_bytes, filter_bytes = 4 * self.m * self.x * self.y, 4 * self.m * self.c * self.taps
        patch_bytes = 4 * self.c * self.taps * self.x * self.y
        images = tiling.maps // map_bytes, tiling.responses // filter_bytes, _PATCHES * tiling.maps // patch_bytes
        self.chunk = max(1, min(self.batch, *images))
        self.positions = max(1, min(_POSITIONS, tiling.responses // (4 * self.chunk * self.c * self.m)))
        self.tile_images = max(1, tiling.responses // (self.c * map_bytes))
        self.tile_channels = largest_divisor(self.c, tiling.responses // map_bytes)

    def kept_bytes(self, has_channel: bool) -> int:
        """What statistics and maps of the batch take, in bytes of float32."""
        maps = 0 if self.size is None else 3 * self.m * self.x * self.y
        return 4 * self.batch * self.h * (maps + 3 * self.c * self.m * has_channel)

    def forward(self, planes: Float[Array, "b c x y"], weights: Weights) -> tuple[Statistics | None, Maps]:
        """Statistics and maps."""
        p = patches(planes, self.windows)
        statistics = None if weights.channel is None else self._statistics(p, weights.bank)
        scaled = _scale(weights.bank, channel_attention(statistics, weights.channel), len(p))
        total = jnp.einsum("bcun,bcum->bmn", p, scaled)
        if weights.spatial is None:
            return statistics, Maps(total, None, None)
        largest = self._largest(p, scaled)
        return statistics, Maps(total, largest, self._logits(total, largest, weights.spatial))

    def backward(
        self,
        weights: Weights,
        planes: Float[Array, "b c x y"],
        kept: tuple[Statistics | None, Maps | None] | None,
        d_out: Float[Array, "b m n"],
    ) -> tuple[Float[Array, "b c x y"], Weights]:
        """Gradients of planes and weights; what was not kept of the forward pass is computed again."""
        statistics, maps = self.forward(planes, weights) if kept is None else kept
        p = patches(planes, self.windows)
        alpha_c, pull_back = jax.vjp(channel_attention, statistics, weights.channel)
        scaled = _scale(weights.bank, alpha_c, len(p))
        if weights.spatial is None:
            d_spatial = None
            d_p = jnp.einsum("bcum,bmn->bcun", scaled, d_out)
            d_scaled = jnp.einsum("bcun,bmn->bcum", p, d_out)
        else:
            d_total, d_largest, d_spatial = self._maps_backward(maps, weights.spatial, d_out)
            d_p, d_scaled = self._products_backward(p, scaled, d_total, d_largest)
        if alpha_c is None:
            d_bank, d_channel = jnp.sum(d_scaled, axis=0), None
        else:
            d_bank = jnp.sum(d_scaled * alpha_c[:, :, None], axis=0)
            d_statistics, d_channel = pull_back(jnp.sum(d_scaled * weights.bank, axis=2))
            d_p, d_more = _statistics_backward(p, weights.bank, statistics.at, d_statistics, d_p)
            d_bank += d_more
        return add_patches(d_p, self.windows, self.shape), Weights(d_bank, d_channel, d_spatial)

    def _statistics(self, p, bank):
        b, c, _, n = p.shape
        if p.size >= 2**31:
            # The gradient counts them, see `_statistics_backward`.
            raise NotImplementedError("the patches of one image are 2^31 numbers or more, too many to count in int32")
        length = min(self.positions, n)

        def block(best, i):
            # The last block overlaps the one before: a position seen twice is no other maximum.
            start = jnp.minimum(i * length, n - length)
            r = jnp.einsum("bcun,cum->bcnm", lax.dynamic_slice_in_dim(p, start, length, 3), bank)
            # NaN may get lost here, but not in the mean.
            at = start + lax.broadcasted_iota(jnp.int32, r.shape, 2)
            return _larger(best, _first_largest(r, at)), ()

        lowest = jnp.full((b, c, self.m), -jnp.inf, p.dtype), jnp.zeros((b, c, self.m), jnp.int32)
        (highest, at), _ = lax.scan(block, lowest, jnp.arange(-(-n // length), dtype=jnp.int32))
        return Statistics(jnp.einsum("bcu,cum->bcm", jnp.mean(p, axis=-1), bank), highest, at)

    def _largest(self, p, scaled):
        """`max over c of alpha_C r`, of several channels in two blocks at least: a carry is computed on all cores."""
        block = min(max(2, _TERMS // self.taps), max(1, self.c // 2))

        def larger(largest, _, r):
            return jnp.maximum(largest, r)

        @jax.custom_jvp
        def largest(p, scaled):
            lowest = jnp.full((len(p), self.m, self.x * self.y), -jnp.inf, p.dtype)
            return _fold_responses(larger, lowest, p, scaled, block)

        @largest.defjvp
        def tangent(primals, tangents):
            (p, scaled), (p_dot, scaled_dot) = primals, tangents
            highest, at = largest(p, scaled), self._largest_at(p, scaled)

            def pick(picked, channel, r):
                return picked + jnp.where(at == channel, r, 0)

            nothing = jnp.zeros_like(highest)
            r_dot = _fold_responses(pick, nothing, p_dot, scaled, block)
            return highest, r_dot + _fold_responses(pick, nothing, p, scaled_dot, block)

        return largest(p, scaled)

    def _largest_at(self, p, scaled):
        """The first channel that attains the maximum; a number, so nothing is differentiated."""
        p, scaled = lax.stop_gradient((p, scaled))

        def larger(best, channel, r):
            return _larger(best, (r, channel))

        lowest = jnp.full((len(p), self.m, self.x * self.y), -jnp.inf, p.dtype)
        start = lowest, jnp.zeros(lowest.shape, jnp.int32)
        block = self.c if self.c * self.taps <= _TERMS_AT_ONCE else max(2, _TERMS // self.taps)
        return _fold_responses(larger, start, p, scaled, block)[1]

    def _products_backward(self, p, scaled, d_total, d_largest):
        """Gradients of patches and scaled filters from that of the products `alpha_C r`, a tile of them at a time."""

        def images(carry, inputs):
            p, scaled, d_total, d_largest, at = inputs

            def block(channels, p, scaled):
                d_products = d_total + jnp.where(at == channels[:, None, None, None], d_largest, 0)
                d_p = jnp.einsum("cbum,cbmn->cbun", scaled, d_products)
                return d_p, jnp.einsum("cbun,cbmn->cbum", p, d_products)

            return carry, _over_channels(block, p, scaled, self.tile_channels)

        inputs = p, scaled, d_total, d_largest, self._largest_at(p, scaled)
        return scan_chunks(images, (), inputs, self.tile_images)[1]

    def _logits(self, total, largest, filters):
        strips = self._strips(len(total))
        return strips.unlay(strips.correlate(self._wide(strips, total, largest), filters))

    def _maps_backward(self, maps, filters, d_out):
        """Gradients of `total`, `largest` and the attention filter."""
        strips = self._strips(len(d_out))
        alpha = jax.nn.sigmoid(maps.logits)
        d_logits = strips.lay(d_out * maps.total * alpha * (1 - alpha))
        d_filters = strips.inner_products(self._wide(strips, maps.total, maps.largest), d_logits)
        d_mean, d_largest = map(strips.unlay, strips.correlate_each(strips.widen(d_logits), filters[..., ::-1]))
        return d_out * alpha + d_mean / self.c, d_largest, d_filters

    def _wide(self, strips, total, largest):
        return jnp.stack([strips.widen(strips.lay(statistic)) for statistic in (total / self.c, largest)])

    def _strips(self, batch):
        return Strips((batch, self.x, self.y), self.size, self.dilation)


def attend(maps: Maps) -> Float[Array, "*b m n"]:
    """`alpha_X sum over c of alpha_C r`."""
    return maps.total if maps.logits is None else jax.nn.sigmoid(maps.logits) * maps.total


def channel_attention(statistics: Statistics | None, channel: tuple | None) -> Float[Array, "*b c m"] | None:
    """`alpha_C[c, m] = sigmoid(mlp(mean) + mlp(max))`; None without channel attention."""
    if channel is None:
        return None
    w1, w2 = channel
    hidden = (jax.nn.relu(jnp.einsum("bcm,mjc->bjm", s, w1)) for s in (statistics.mean, statistics.highest))
    return jax.nn.sigmoid(jnp.einsum("bjm,mcj->bcm", sum(hidden), w2))


def _first_largest(r, at):
    """Maximum over the positions of `[b, c, n, m]`, and the number `at` that comes with it.

    Neighbours are compared elementwise, up to 16 at once; XLA:CPU's reduction of pairs is several times slower. A loop
    must carry the result, or XLA repeats the comparisons wherever it is used.
    """
    while (length := r.shape[2]) > 1:
        size = next((d for d in range(min(16, length), 1, -1) if length % d == 0), min(16, length))
        whole = length // size * size
        groups = [x[:, :, :whole].reshape(*x.shape[:2], whole // size, size, x.shape[3]) for x in (r, at)]
        largest = functools.reduce(_larger, [tuple(x[:, :, :, i] for x in groups) for i in range(size)])
        r, at = (jnp.concatenate([x, rest[:, :, whole:]], 2) for x, rest in zip(largest, (r, at), strict=True))
    return r[:, :, 0], at[:, :, 0]


def _larger(left, right):
    """The pair with the larger value, the left one among equals."""
    (a, i), (b, j) = left, right
    return jnp.where(b > a, b, a), jnp.where(b > a, j, i)


def _statistics_backward(p, bank, at, d_statistics, d_p):
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
    d_patches = bank * d_highest[:, :, None]
    d_p = d_p.reshape(-1).at[position.reshape(-1)].add(d_patches.reshape(-1), mode="promise_in_bounds")
    return d_p.reshape(p.shape), d_bank


def _scale(bank, alpha_c, batch):
    """The filters of every image, `alpha_C bank`: `[b, c, u, m]`."""
    return jnp.broadcast_to(bank, (batch, *bank.shape)) if alpha_c is None else bank * alpha_c[:, :, None]


def _fold_responses(step, carry, p, scaled, block):
    """Folds `step(carry, c, alpha_C r)` over the channels, a block of them in one elementwise expression.

    What remains of the channels comes first, so that all blocks of the loop have one size: with few terms, or with the
    slices of the loop's inputs in the expression (what the barrier prevents), XLA:CPU computes it many times slower.
    """
    channels, p, scaled = _channels_first(p, scaled)
    c = len(channels)
    first = c % block or block

    def fold(carry, inputs):
        for channel, p_c, scaled_c in zip(*inputs, strict=True):
            # Elementwise: it fuses into what it is used in, and responses live in registers.
            r = sum(p_c[:, u, None] * scaled_c[:, u, :, None] for u in range(p.shape[2]))
            carry = step(carry, channel, r)
        return carry

    inputs = channels, p, scaled
    carry = fold(carry, [x[:first] for x in inputs])
    if first == c:
        return carry
    blocks = [x[first:].reshape((c - first) // block, block, *x.shape[1:]) for x in inputs]
    # Each behind a barrier of its own: one for all would make every array a part of what is differentiated.
    return lax.scan(lambda carry, block: (fold(carry, [*map(lax.optimization_barrier, block)]), ()), carry, blocks)[0]


def _over_channels(function, p, scaled, block):
    """Maps `function(channels, p, scaled)` over blocks of the channels, the first axis there, here the second."""
    arrays = _channels_first(p, scaled)
    c = len(arrays[0])
    if block == c:
        outputs = function(*arrays)
    else:
        blocks = tuple(x.reshape(c // block, block, *x.shape[1:]) for x in arrays)
        outputs = lax.map(lambda inputs: function(*inputs), blocks)
        outputs = jax.tree.map(lambda x: x.reshape(c, *x.shape[2:]), outputs)
    return jax.tree.map(lambda x: x.swapaxes(0, 1), outputs)


def _channels_first(p, scaled):
    """The numbers of the channels, and the arrays with the channels first."""
    return jnp.arange(p.shape[1], dtype=jnp.int32), p.swapaxes(0, 1), scaled.swapaxes(0, 1)
