"""Response attention in tiles: no array ever holds the responses of an image to all filters.

For one input group element `h` and a few images (a chunk) at a time:

    p[c, u, n]   patches                                     r[c, m, n] = sum over u of p[c, u, n] bank[c, u, m]
    mean over n of r     from the mean patch                 max over n of r      one block of channels after another
    t[m, n] = sum over c of alpha_C r = p * (alpha_C bank)   one matrix product
    s[m, n] = max over c of alpha_C r                        elementwise, `r` lives in registers
    alpha_X[m, n] = sigmoid(correlation of (t / c, s) with the attention filter)
    out[m, n] += alpha_X t

The backward pass computes the arg-maximum over `c` again, in the same tiles, and makes both gradients of the products
`alpha_C r` (towards the patches and towards the filters) from one tile of them, a block of channels at a time. The
gradient of the maximum over `n` is a gather and a scatter of single patches, at the stored arg-maximum.

Elements, for `b` images in a chunk of `B`, a block of `c'` of `c` channels, `u` taps, `n` positions, `m = |H| c_out`
filters; `h` stands for the input's group elements:

| quantity | elements | held |
|---|---|---|
| patches and their gradient | `b c u n` | one chunk, one `h` |
| responses, and gradients of `alpha_C r` | `b c' m n` | one block, one chunk, one `h` |
| maps `t`, `s`, `alpha_X` and their gradients | `b m n` | one chunk, one `h` |
| filters scaled by `alpha_C`, and their gradients | `b c u m` | one chunk, one `h` |
| `f`, the output, and their gradients | `B x y h c`, `B m n` | whole |
| statistics over `n`, arg-maximum, `t`, `s`, `alpha_X` | `h B (3 c m + 3 m n)` | whole, between forward and backward pass |

The last line only where it takes at most `STORE_BYTES`; else it is computed again, for a chunk at a time. So beyond its
input and output the layer holds a bounded amount, and its time grows as `B h c u m n`, the count of the products.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from attgconv_jax.kernels.chunks import scan_chunks
from attgconv_jax.kernels.maximum import larger, maximum_and_index
from attgconv_jax.kernels.response_attention.planes import Strips, add_patches, patches
from attgconv_jax.kernels.taps import Window

# What the forward pass may leave behind for the backward pass; the second layer of the rot-MNIST network at batch 128
# leaves 144 MB.
STORE_BYTES = 150_000_000


class Tiling(NamedTuple):
    """How large tiles may be, in bytes of float32."""

    maps: int
    responses: int


# Measured best on a CPU: maps of a chunk and tiles of responses in its second-level cache, or not far from it.
CPU = Tiling(maps=800_000, responses=2_000_000)
OTHER = Tiling(maps=4_000_000, responses=8_000_000)
_POSITIONS = 48
_TERMS = 24
_TERMS_AT = 128


class Settings(NamedTuple):
    """What is static: the windows of the responses, the dilation of the attention filter."""

    windows: tuple[Window, Window]
    dilation: int


class Weights(NamedTuple):
    """Of one input group element, or of all of them with an axis `h` before."""

    bank: Float[Array, "*h c u m"]
    channel: tuple[Float[Array, "*h m j c"], Float[Array, "*h m c j"]] | None
    spatial: Float[Array, "*h 2 m v"] | None


def attended_responses(f, bank, channel, spatial, windows, dilation):
    """See `attgconv_jax.kernels.response_attention`."""
    return _attended(f, bank, channel, spatial, Settings(windows, dilation))


def attention_maps(f, bank, channel, spatial, windows, dilation):
    """See `attgconv_jax.kernels.response_attention_maps`; the maps are whole, the responses are not."""
    settings = Settings(windows, dilation)
    tiles = _Tiles(f.shape, bank.shape, spatial, settings, CPU)

    def element(carry, inputs):
        def chunk(carry, planes):
            return carry, tiles.maps(planes, inputs[1])

        return carry, scan_chunks(chunk, (), inputs[0], tiles.chunk)[1]

    _, (alpha_c, alpha_x) = lax.scan(element, (), (_planes(f), _weights(bank, channel, spatial)))
    if alpha_c is not None:
        alpha_c = alpha_c.transpose(1, 0, 2, 3)[:, None, None]
    if alpha_x is not None:
        h, batch, m, _ = alpha_x.shape
        alpha_x = alpha_x.transpose(1, 3, 0, 2).reshape(batch, tiles.x, tiles.y, h, 1, m)
    return alpha_c, alpha_x


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attended(f, bank, channel, spatial, settings):
    return _on_platform(_forward, settings, keep=False)(f, bank, channel, spatial)[0]


def _attended_forward(f, bank, channel, spatial, settings):
    out, kept = _on_platform(_forward, settings, keep=True)(f, bank, channel, spatial)
    return out, (f, bank, channel, spatial, kept)


def _attended_backward(settings, residuals, d_out):
    return _on_platform(_backward, settings)(*residuals, d_out)


_attended.defvjp(_attended_forward, _attended_backward)


def _on_platform(step, settings, **options):
    cpu, other = (functools.partial(step, settings=settings, tiling=tiling, **options) for tiling in (CPU, OTHER))
    return functools.partial(lax.platform_dependent, cpu=cpu, default=other)


def _forward(f, bank, channel, spatial, settings, tiling, keep):
    tiles = _Tiles(f.shape, bank.shape, spatial, settings, tiling)
    keep = keep and tiles.kept_bytes(channel is not None) <= STORE_BYTES

    def element(out, inputs):
        planes, weights = inputs

        def chunk(carry, planes):
            return carry, tiles.forward(planes, weights)

        _, (statistics, maps) = scan_chunks(chunk, (), planes, tiles.chunk)
        return out + _attended_sum(maps), ((statistics, maps) if keep else None)

    out = jnp.zeros((tiles.batch, tiles.m, tiles.x * tiles.y), f.dtype)
    out, kept = lax.scan(element, out, (_planes(f), _weights(bank, channel, spatial)))
    return out.swapaxes(1, 2).reshape(tiles.batch, tiles.x, tiles.y, tiles.m), kept


def _backward(f, bank, channel, spatial, kept, d_out, settings, tiling):
    tiles = _Tiles(f.shape, bank.shape, spatial, settings, tiling)
    d_maps = d_out.reshape(tiles.batch, tiles.x * tiles.y, tiles.m).swapaxes(1, 2)

    def element(carry, inputs):
        planes, weights, kept = inputs

        def chunk(d_weights, inputs):
            d_planes, d_chunk = tiles.backward(weights, *inputs)
            return jax.tree.map(jnp.add, d_weights, d_chunk), d_planes

        return carry, scan_chunks(chunk, jax.tree.map(jnp.zeros_like, weights), (planes, kept, d_maps), tiles.chunk)

    weights, pull_back = jax.vjp(_weights, bank, channel, spatial)
    _, (d_weights, d_planes) = lax.scan(element, (), (_planes(f), weights, kept))
    return d_planes.transpose(1, 3, 4, 0, 2), *pull_back(d_weights)


def _planes(f):
    """`[b, x, y, h, c] -> [h, b, c, x, y]`."""
    return f.transpose(3, 0, 4, 1, 2)


def _weights(bank, channel, spatial):
    """The weights with `h` first: one input group element after another is worked on."""
    k, l, h, c, m = bank.shape
    bank = bank.transpose(2, 3, 0, 1, 4).reshape(h, c, k * l, m)
    if spatial is not None:
        spatial = spatial.transpose(3, 2, 4, 0, 1).reshape(h, 2, m, -1)
    return Weights(bank, channel, spatial)


class _Statistics(NamedTuple):
    """Of the responses of one input group element, over the positions."""

    mean: Float[Array, "b c m"]
    highest: Float[Array, "b c m"]
    at: Int[Array, "b c m"]


class _Maps(NamedTuple):
    """Of one input group element: sum and maximum over the channels of `alpha_C r`, and `alpha_X` before its sigmoid."""

    total: Float[Array, "b m n"]
    largest: Float[Array, "b m n"] | None
    logits: Float[Array, "b m n"] | None


class _Tiles:
    """The layer for one input group element and a few images: forward and backward."""

    def __init__(self, f_shape, bank_shape, spatial, settings, tiling):
        self.batch, length_x, length_y, self.h, self.c = f_shape
        self.windows = settings.windows
        self.shape = length_x, length_y
        self.x, self.y = (w.outputs(length) for w, length in zip(self.windows, self.shape, strict=True))
        k, l, _, _, self.m = bank_shape
        self.size, self.dilation = None if spatial is None else spatial.shape[0], settings.dilation
        self.taps = k * l
        image_bytes = 4 * self.m * self.x * self.y
        filter_bytes = 4 * self.c * self.taps * self.m
        self.chunk = max(1, min(self.batch, tiling.maps // image_bytes, tiling.responses // filter_bytes))
        self.positions = max(1, min(_POSITIONS, tiling.responses // (4 * self.chunk * self.c * self.m)))
        self.tile_images = max(1, tiling.responses // (self.c * image_bytes))
        self.tile_channels = max(d for d in range(1, self.c + 1) if self.c % d == 0 and (d == 1 or d * image_bytes <= tiling.responses))

    def kept_bytes(self, has_channel):
        """What the forward pass leaves behind, in bytes of float32."""
        maps = 0 if self.size is None else 3 * self.m * self.x * self.y
        return 4 * self.batch * self.h * (maps + 3 * self.c * self.m * has_channel)

    def forward(self, planes, weights):
        """Statistics and maps."""
        p = patches(planes, self.windows)
        statistics = None if weights.channel is None else self._statistics(p, weights.bank)
        scaled = _scale(weights.bank, _channel_attention(statistics, weights.channel), len(p))
        total = jnp.einsum("bcun,bcum->bmn", p, scaled)
        if weights.spatial is None:
            return statistics, _Maps(total, None, None)
        largest = self._largest(p, scaled)
        return statistics, _Maps(total, largest, self._logits(total, largest, weights.spatial))

    def maps(self, planes, weights):
        """`alpha_C` and `alpha_X`, None where it is left out."""
        statistics, maps = self.forward(planes, weights)
        alpha_x = None if maps.logits is None else jax.nn.sigmoid(maps.logits)
        return _channel_attention(statistics, weights.channel), alpha_x

    def backward(self, weights, planes, kept, d_out):
        """Gradients of planes and weights."""
        statistics, maps = self.forward(planes, weights) if kept is None else kept
        p = patches(planes, self.windows)
        alpha_c, pull_back = jax.vjp(_channel_attention, statistics, weights.channel)
        scaled = _scale(weights.bank, alpha_c, len(p))
        if weights.spatial is None:
            d_spatial = None
            d_p = jnp.einsum("bcum,bmn->bcun", scaled, d_out)
            d_scaled = jnp.einsum("bcun,bmn->bcum", p, d_out)
        else:
            d_total, d_largest, d_spatial = self._maps_backward(maps, weights.spatial, d_out)
            d_p, d_scaled = self._products_backward(p, scaled, d_total, d_largest)
        if alpha_c is None:
            return add_patches(d_p, self.windows, self.shape), Weights(jnp.sum(d_scaled, 0), None, d_spatial)
        d_statistics, d_channel = pull_back(jnp.sum(d_scaled * weights.bank, axis=2))
        d_p, d_bank = self._statistics_backward(p, weights.bank, statistics.at, d_statistics, d_p)
        d_bank += jnp.sum(d_scaled * alpha_c[:, :, None], axis=0)
        return add_patches(d_p, self.windows, self.shape), Weights(d_bank, d_channel, d_spatial)

    def _statistics(self, p, bank):
        """Mean, maximum and arg-maximum over the positions of every response."""

        b, c, _, n = p.shape
        length = min(self.positions, n)

        def block(best, i):
            start = jnp.minimum(i * length, n - length)
            r = jnp.einsum("bcun,cum->bcnm", lax.dynamic_slice_in_dim(p, start, length, 3), bank)
            # NaN may get lost here, but not in the mean.
            highest, at = maximum_and_index(r, 2, nan=False)
            return larger(best, (highest, at + start)), ()

        lowest = jnp.full((b, c, self.m), -jnp.inf, p.dtype), jnp.zeros((b, c, self.m), jnp.int32)
        (highest, at), _ = lax.scan(block, lowest, jnp.arange(-(-n // length), dtype=jnp.int32))
        return _Statistics(jnp.einsum("bcu,cum->bcm", jnp.mean(p, axis=-1), bank), highest, at)

    def _statistics_backward(self, p, bank, at, d_statistics, d_p):
        """Adds the gradient of the statistics to `d_p`; the gradient of the bank.

        That of a maximum goes to one patch: it is gathered for the bank, scattered for the patches.
        """
        b, c, u, n = p.shape
        d_mean, d_highest = d_statistics.mean, d_statistics.highest
        d_bank = jnp.einsum("bcu,bcm->cum", jnp.mean(p, axis=-1), d_mean)
        position = jnp.arange(b * c * u, dtype=jnp.int32).reshape(b, c, u, 1) * n + at[:, :, None]
        highest_patches = p.reshape(-1).at[position].get(mode="promise_in_bounds")
        d_bank += jnp.sum(highest_patches * d_highest[:, :, None], axis=0)
        d_p += jnp.einsum("cum,bcm->bcu", bank, d_mean)[..., None] / n
        d_patches = bank * d_highest[:, :, None]
        d_p = d_p.reshape(-1).at[position.reshape(-1)].add(d_patches.reshape(-1), mode="promise_in_bounds")
        return d_p.reshape(p.shape), d_bank

    def _largest(self, p, scaled):
        """`max over c of alpha_C r`."""

        def block(largest, inputs):
            return functools.reduce(jnp.maximum, [largest, *_responses(*inputs)]), ()

        lowest = jnp.full((len(p), self.m, self.x * self.y), -jnp.inf, p.dtype)
        return _over_blocks(block, lowest, (p.swapaxes(0, 1), scaled.swapaxes(0, 1)), self.block(_TERMS, 2))[0]

    def _largest_at(self, p, scaled):
        """The first channel that attains the maximum."""

        def block(best, inputs):
            channels, p, scaled = inputs
            return functools.reduce(larger, zip(_responses(p, scaled), channels, strict=True), best), ()

        channels = jnp.arange(self.c, dtype=jnp.int32)
        lowest = jnp.full((len(p), self.m, self.x * self.y), -jnp.inf, p.dtype)
        start = lowest, jnp.zeros(lowest.shape, jnp.int32)
        inputs = channels, p.swapaxes(0, 1), scaled.swapaxes(0, 1)
        return _over_blocks(block, start, inputs, self.block(_TERMS_AT, 1))[0][1]

    def _products_backward(self, p, scaled, d_total, d_largest):
        """Gradients of patches and scaled filters from that of the products `alpha_C r`, made a tile at a time."""

        def images(carry, inputs):
            p, scaled, d_total, d_largest, at = inputs

            def block(carry, inputs):
                channels, p, scaled = inputs
                d_products = d_total[:, None] + jnp.where(
                    at[:, None] == channels[:, None, None], d_largest[:, None], 0
                )
                d_p = jnp.einsum("bcum,bcmn->bcun", scaled.swapaxes(0,1), d_products)
                return carry, (d_p.swapaxes(0, 1), jnp.einsum("bcun,bcmn->bcum", p.swapaxes(0,1), d_products).swapaxes(0,1))

            channels = jnp.arange(self.c, dtype=jnp.int32)
            inputs = channels, p.swapaxes(0, 1), scaled.swapaxes(0, 1)
            _, (d_p, d_scaled) = _over_blocks(block, (), inputs, self.tile_channels)
            return carry, (d_p.swapaxes(0, 1), d_scaled.swapaxes(0, 1))

        inputs = p, scaled, d_total, d_largest, self._largest_at(p, scaled)
        return scan_chunks(images, (), inputs, self.tile_images)[1]

    def _logits(self, total, largest, filters):
        strips = self._strips(len(total))
        return strips.lift(strips.correlate(self._wide(strips, total, largest), filters))

    def _wide(self, strips, total, largest):
        return jnp.stack([strips.widen(strips.lay(statistic)) for statistic in (total / self.c, largest)])

    def _maps_backward(self, maps, filters, d_out):
        """Gradients of `total`, `largest` and the attention filter."""
        strips = self._strips(len(d_out))
        alpha = jax.nn.sigmoid(maps.logits)
        d_logits = strips.lay(d_out * maps.total * alpha * (1 - alpha))
        d_filters = strips.inner_products(self._wide(strips, maps.total, maps.largest), d_logits)
        wide = strips.widen(d_logits)
        d_mean, d_largest = map(strips.lift, strips.correlate_each(wide, filters[..., ::-1]))
        return d_out * alpha + d_mean / self.c, d_largest, d_filters

    def _strips(self, batch):
        return Strips((batch, self.x, self.y), self.size, self.dilation)

    def block(self, terms, parts):
        """Channels a block: a divisor of their number, with at most so many terms, in at least so many parts."""
        most = max(1, min(terms // self.taps, self.c // parts))
        return max(d for d in range(1, most + 1) if self.c % d == 0)


def _over_blocks(step, carry, inputs, block):
    """`lax.scan` over blocks of the leading axis, which is that of the channels."""
    c = jax.tree.leaves(inputs)[0].shape[0]
    if block == c:
        return step(carry, inputs)
    blocks = jax.tree.map(lambda x: x.reshape(c // block, block, *x.shape[1:]), inputs)
    carry, outputs = lax.scan(step, carry, blocks)
    return carry, jax.tree.map(lambda x: x.reshape(c, *x.shape[2:]), outputs)


def _attended_sum(maps):
    """`sum over c of alpha r`."""
    return maps.total if maps.logits is None else jax.nn.sigmoid(maps.logits) * maps.total


def _channel_attention(statistics, channel):
    """`alpha_C[c, m] = sigmoid(mlp(mean) + mlp(max))`; None without channel attention."""
    if channel is None:
        return None
    w1, w2 = channel
    hidden = sum(
        jax.nn.relu(jnp.einsum("bcm,mjc->bjm", statistic, w1)) for statistic in (statistics.mean, statistics.highest)
    )
    return jax.nn.sigmoid(jnp.einsum("bjm,mcj->bcm", hidden, w2))


def _scale(bank, alpha_c, batch):
    """The filters of every image, `alpha_C bank`."""
    return jnp.broadcast_to(bank, (batch, *bank.shape)) if alpha_c is None else bank * alpha_c[:, :, None]


def _responses(p, scaled):
    """`alpha_C r` of one channel after another, as elementwise expressions that fuse into what they are used in."""
    for p_c, scaled_c in zip(p, scaled, strict=True):
        taps = p_c.shape[1]
        yield sum(p_c[:, u, None, :] * scaled_c[:, u, :, None] for u in range(taps))
