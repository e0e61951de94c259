"""Response attention of a few images and one input group element: what one tile computes, forward and backward."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Integer

from attgconv_jax.kernels.chunks import is_symbolic, largest_divisor, map_chunks
from attgconv_jax.kernels.devices import varying_alike
from attgconv_jax.kernels.response.planes import Strips, add_patches, patches
from attgconv_jax.kernels.response.statistics import (
    Statistics,
    channel_attention,
    first_largest,
    larger_of,
    statistics_backward,
)
from attgconv_jax.kernels.taps import count_outputs

# All measured on a CPU. Positions whose responses are compared at once.
_POSITIONS = 36
# How many times the bytes of the maps the patches of a chunk may take.
_PATCHES = 16


class Tiling(NamedTuple):
    """How large tiles may be, in bytes of float32: the maps of a chunk of images, and a tile of responses."""

    maps: int
    responses: int


class Weights(NamedTuple):
    """Of one input group element, or of all of them with an axis `h` before."""

    bank: Float[Array, "*h c u m"]
    channel: tuple[Float[Array, "*h m j c"], Float[Array, "*h m c j"]] | None
    spatial: Float[Array, "*h 2 m v"] | None


class Maps(NamedTuple):
    """Sum and maximum of `alpha_C r` over the channels, the maximum's channel, and `alpha_X` before its sigmoid."""

    total: Float[Array, "*b m n"]
    largest: Float[Array, "*b m n"] | None
    channel: Integer[Array, "*b m n"] | None
    logits: Float[Array, "*b m n"] | None


class Tiles:
    """The layer, cut into tiles: of images `[batch, x, y, h, c]` and a bank `[k, l, h, c, m]`."""

    def __init__(self, f_shape, bank_shape, spatial, windows, dilation, tiling):
        self.batch, *self.shape, self.h, self.c = f_shape
        k, l, _, _, self.m = bank_shape
        self.windows = windows
        self.x, self.y = count_outputs(windows, self.shape)
        self.taps = k * l
        self.size, self.dilation = None if spatial is None else len(spatial), dilation
        map_bytes, filter_bytes = 4 * self.m * self.x * self.y, 4 * self.m * self.c * self.taps
        patch_bytes = 4 * self.c * self.taps * self.x * self.y
        images = tiling.maps // map_bytes, tiling.responses // filter_bytes, _PATCHES * tiling.maps // patch_bytes
        self.chunk = 1 if is_symbolic(self.batch) else max(1, min(self.batch, *images))
        self.positions = max(1, min(_POSITIONS, tiling.responses // (4 * self.chunk * self.c * self.m)))
        self.tile_images = max(1, tiling.responses // (self.c * map_bytes))
        self.tile_channels = largest_divisor(self.c, tiling.responses // map_bytes)

    def kept_bytes(self, has_channel: bool) -> int:
        """What statistics and maps of the batch take, in bytes of float32."""
        maps = 0 if self.size is None else (12 + channel_dtype(self.c).itemsize) * self.m * self.x * self.y
        return self.batch * self.h * (maps + 12 * self.c * self.m * has_channel)

    def response_bytes(self) -> int:
        """What the responses of the batch take, in bytes of float32."""
        return 4 * self.batch * self.h * self.c * self.m * self.x * self.y

    def forward(self, planes: Float[Array, "b c x y"], weights: Weights, keep: bool) -> tuple[Statistics | None, Maps]:
        """Statistics and maps; the channel of the maximum only if asked to keep it."""
        p = patches(planes, self.windows)
        statistics = None if weights.channel is None else self._statistics(p, weights.bank)
        scaled = _scale(weights.bank, channel_attention(statistics, weights.channel), len(p))
        total = jnp.einsum("bcun,bcum->bmn", p, scaled)
        if weights.spatial is None:
            return statistics, Maps(total, None, None, None)
        largest, channel = self._largest(p, scaled, keep)
        return statistics, Maps(total, largest, channel, self._logits(total, largest, weights.spatial))

    def backward(self, weights, planes, kept, d_out: Float[Array, "b m n"]) -> tuple[Float[Array, "b c x y"], Weights]:
        """Gradients of planes and weights; what was not kept of `forward` is computed again."""
        statistics, maps = self.forward(planes, weights, keep=True) if kept is None else kept
        p = patches(planes, self.windows)
        alpha_c, pull_back = jax.vjp(channel_attention, statistics, weights.channel)
        scaled = _scale(weights.bank, alpha_c, len(p))
        if weights.spatial is None:
            d_spatial = None
            d_p = jnp.einsum("bcum,bmn->bcun", scaled, d_out)
            d_scaled = jnp.einsum("bcun,bmn->bcum", p, d_out)
        else:
            d_total, d_largest, d_spatial = self._maps_backward(maps, weights.spatial, d_out)
            d_p, d_scaled = self._products_backward(p, scaled, d_total, d_largest, maps.channel)
        if alpha_c is None:
            d_bank, d_channel = jnp.sum(d_scaled, axis=0), None
        else:
            d_bank = jnp.sum(d_scaled * alpha_c[:, :, None], axis=0)
            d_statistics, d_channel = pull_back(jnp.sum(d_scaled * weights.bank[None], axis=2))
            d_p, d_more = statistics_backward(p, weights.bank, statistics.at, d_statistics, d_p)
            d_bank += d_more
        return add_patches(d_p, self.windows, self.shape), Weights(d_bank, d_channel, d_spatial)

    def _statistics(self, p, bank):
        b, c, _, n = p.shape
        if not is_symbolic(b) and p.size >= 2**31:
            # The gradient counts them, see `statistics_backward`.
            raise NotImplementedError("the patches of one image are 2^31 numbers or more, too many to count in int32")
        length = min(self.positions, n)

        def block(best, i):
            # The last block overlaps the one before: a position seen twice is no other maximum.
            start = jnp.minimum(i * length, n - length)
            # In the order in which the product makes it: to turn it takes longer than to compare.
            r = jnp.einsum("bcun,cum->cbnm", lax.dynamic_slice_in_dim(p, start, length, 3), bank)
            # NaN may get lost here, but not in the mean.
            return larger_of(best, first_largest(r, start)), ()

        lowest = jnp.full((c, b, self.m), -jnp.inf, p.dtype), jnp.zeros((c, b, self.m), jnp.int32)
        best, _ = lax.scan(block, varying_alike(lowest, p), jnp.arange(-(-n // length), dtype=jnp.int32))
        highest, at = (x.swapaxes(0, 1) for x in best)
        return Statistics(jnp.einsum("bcu,cum->bcm", jnp.mean(p, axis=-1), bank), highest, at)

    def _largest(self, p, scaled, keep):
        """`max over c of alpha_C r` and, to be kept, the first channel that has it; else None."""

        @jax.custom_jvp
        def largest(p, scaled):
            return self._fold_largest(p, scaled, keep)

        @largest.defjvp
        def tangent(primals, tangents):
            (p, scaled), (p_dot, scaled_dot) = primals, tangents
            out = largest(p, scaled)
            at = out[1] if keep else self._fold_largest(*lax.stop_gradient(primals), keep=True)[1]

            def pick(carry, channel, r):
                picked, at = carry
                return picked + jnp.where(at == channel, r, 0), at

            nothing = jnp.zeros_like(out[0])
            r_dot = self._fold_responses(pick, (nothing, at), p_dot, scaled)[0]
            r_dot += self._fold_responses(pick, (nothing, at), p, scaled_dot)[0]
            return out, (r_dot, jax.custom_derivatives.zero_from_primal(at) if keep else None)

        return largest(p, scaled)

    def _fold_largest(self, p, scaled, keep):
        lowest = varying_alike(jnp.full((len(p), self.m, self.x * self.y), -jnp.inf, p.dtype), p)
        if not keep:
            return self._fold_responses(lambda largest, _, r: jnp.maximum(largest, r), lowest, p, scaled), None

        def step(best, channel, r):
            return larger_of(best, (r, channel))

        start = lowest, jnp.zeros_like(lowest, jnp.int32)
        largest, channel = self._fold_responses(step, start, p, scaled)
        return largest, channel.astype(channel_dtype(self.c))

    def _fold_responses(self, step, carry, p, scaled):
        """Folds `step(carry, c, alpha_C r)` over the channels, the responses of a tile at a time."""

        def images(inputs):
            carry, p, scaled = inputs

            def block(carry, inputs):
                channels, p, scaled = inputs
                r = jnp.einsum("cbun,cbum->cbmn", p, scaled)
                for channel, r_c in zip(channels, r, strict=True):
                    carry = step(carry, channel, r_c)
                return carry, ()

            arrays = _channels_first(p, scaled)
            if self.tile_channels == self.c:
                return block(carry, arrays)[0]
            count = self.c // self.tile_channels
            blocks = [x.reshape(count, self.tile_channels, *x.shape[1:]) for x in arrays]
            return lax.scan(block, carry, blocks)[0]

        return map_chunks(images, (carry, p, scaled), self.tile_images)

    def _products_backward(self, p, scaled, d_total, d_largest, at):
        """Gradients of patches and scaled filters from that of the products `alpha_C r`, a tile of them at a time."""

        def images(inputs):
            p, scaled, d_total, d_largest, at = inputs

            def block(channels, p, scaled):
                d_products = d_total[None] + jnp.where(at[None] == channels[:, None, None, None], d_largest[None], 0)
                d_p = jnp.einsum("cbum,cbmn->cbun", scaled, d_products)
                return d_p, jnp.einsum("cbun,cbmn->cbum", p, d_products)

            return _over_channels(block, p, scaled, self.tile_channels)

        return map_chunks(images, (p, scaled, d_total, d_largest, at), self.tile_images)

    def _logits(self, total, largest, filters):
        strips = self._strips(len(total))
        return strips.from_strips(strips.correlate(self._wide(strips, total, largest), filters))

    def _maps_backward(self, maps, filters, d_out):
        """Gradients of `total`, `largest` and the attention filter."""
        strips = self._strips(len(d_out))
        alpha = jax.nn.sigmoid(maps.logits)
        d_logits = strips.to_strips(d_out * maps.total * alpha * (1 - alpha))
        d_filters = strips.inner_products(self._wide(strips, maps.total, maps.largest), d_logits)
        d_mean, d_largest = map(strips.from_strips, strips.correlate_each(strips.widen(d_logits), filters[..., ::-1]))
        return d_out * alpha + d_mean / self.c, d_largest, d_filters

    def _wide(self, strips, total, largest):
        return jnp.stack([strips.widen(strips.to_strips(statistic)) for statistic in (total / self.c, largest)])

    def _strips(self, batch):
        return Strips((batch, self.x, self.y), self.size, self.dilation)


def channel_dtype(channels: int) -> jnp.dtype:
    """Of a channel's index, which is kept for every element of the maps: one byte where the largest is no index."""
    return jnp.dtype("uint8" if channels < 256 else "int32")


def attend(maps: Maps) -> Float[Array, "*b m n"]:
    """`alpha_X sum over c of alpha_C r`."""
    return maps.total if maps.logits is None else jax.nn.sigmoid(maps.logits) * maps.total


def _scale(bank, alpha_c, batch):
    """The filters of every image, `alpha_C bank`: `[b, c, u, m]`."""
    return jnp.broadcast_to(bank, (batch, *bank.shape)) if alpha_c is None else bank[None] * alpha_c[:, :, None]


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
