"""Response attention: in tiles on a CPU, in blocks elsewhere (`attgconv_jax.kernels.response.blocks`).

On a CPU no array ever holds the responses of an image to all filters. For one input group element `h` and a few images
(a chunk) at a time:

    p[c, u, n]   patches                                  r[c, m, n] = sum over u of  p[c, u, n] bank[c, u, m]
    mean over n of r                                      from the mean patch
    max over n of r                                       a block of positions after another
    t[m, n] = sum over c of alpha_C r                     one matrix product, p * (alpha_C bank)
    s[m, n] = max over c of alpha_C r                     a tile of responses after another
    alpha_X[m, n] = sigmoid(l[m, n])                      l correlates (t / c, s) with the attention filter
    out[m, n] += alpha_X t

The backward pass makes both gradients of the products `alpha_C r`, towards the patches and towards the filters, from
one tile of them. The gradient of the maximum over `n` is a gather and a scatter of single patches at the stored
arg-maximum.

Elements, for a batch of `B` images and a chunk of `b`; `h` counts the input's group elements, `c` its channels, `u` the
taps, `n` the positions of the output, `m = |H| c_out` the filters:

| quantity | elements | held |
|---|---|---|
| patches and their gradient | `b c u n` | one chunk, one `h` |
| responses, for their maximum over `n` | `b c n' m`, `n'` positions | one block |
| `alpha_C r`, for their maximum over `c`; their gradients | `b' c' n m`, `b'` images, `c'` channels | one tile |
| `t`, `s`, `l` and their gradients | `b m n` | one chunk, one `h` |
| filters scaled by `alpha_C`, and their gradients | `b c u m` | one chunk, one `h` |
| `f`, the output, and their gradients | `B h c x y`, `B m n` | whole |
| statistics and arg-maxima over `n`; `t`, `s`, `l`, `C` | `3 B h c m`; `4 B h m n` | whole, for the backward pass |

`C` is the channel of `s`, one byte where there are fewer than 256. The last line is held only where it takes at most
`KEPT` of the budget of memory, and of more than `LITTLE` only if the responses take as much and fit the budget; else
all of it is computed again, for a chunk at a time. So beyond input and output the layer holds a bounded amount, or what
one image takes where that is more (its patches, its maps); the attention filter's reach pads every map. Time grows as
`B h c u m n`, the number of products, and for the attention filter with `v` taps as `B h m n v`.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from attgconv_jax.kernels.chunks import Bound, compiled, is_symbolic, map_chunks, scan_chunks
from attgconv_jax.kernels.devices import may_be_spread, varying_alike
from attgconv_jax.kernels.linear import at_once, linear
from attgconv_jax.kernels.response import blocks
from attgconv_jax.kernels.response.statistics import channel_attention
from attgconv_jax.kernels.response.tiles import Tiles, Tiling, Weights, attend
from attgconv_jax.kernels.settings import Settings
from attgconv_jax.kernels.taps import count_outputs

# The part of the budget of memory that the forward pass may leave behind for the backward pass. The second layer of the
# rot-MNIST network leaves 156 MB at batch 128.
KEPT = 0.16
# In bytes. More is kept only of a layer whose responses are one block on an accelerator and take more than that: deep
# networks would keep it of all layers at once.
LITTLE = 160_000_000

# On a CPU the maps of a chunk, and a tile, stay in the second-level cache or not far from it; twice the maps were
# measured equally fast, to the noise.
TILING = Tiling(maps=800_000, responses=2_000_000)


def attended_responses(f, bank, channel, spatial, windows, dilation, memory_budget, implementation=None):
    """See `attgconv_jax.kernels.response_attention`; None: tiles where it is lowered for one CPU, else blocks."""
    spatial = _reaching(spatial, f, windows, dilation)
    arrays = varying_alike((f, bank, channel, spatial))
    settings = Settings(implementation, Settings.current().precision)
    return _attended(*arrays, windows, dilation, memory_budget, settings)


@compiled("windows", "dilation")
def attention_maps(f, bank, channel, spatial, windows, dilation):
    """See `attgconv_jax.kernels.response_attention_maps`; in tiles implementation, for pictures are of a few images."""
    spatial = _reaching(spatial, f, windows, dilation)
    tiles = Tiles(f.shape, bank.shape, spatial, windows, dilation, TILING)

    def element(inputs):
        planes, weights = inputs

        def chunk(planes):
            statistics, maps = tiles.forward(planes, weights, keep=False)
            alpha_x = None if maps.logits is None else jax.nn.sigmoid(maps.logits)
            return channel_attention(statistics, weights.channel), alpha_x

        return map_chunks(chunk, planes, tiles.chunk)

    alpha_c, alpha_x = lax.map(element, (_planes(f), _weights(bank, channel, spatial)))
    if alpha_c is not None:
        alpha_c = alpha_c.transpose(1, 0, 2, 3)[:, None, None]
    if alpha_x is not None:
        h, batch, m, _ = alpha_x.shape
        alpha_x = alpha_x.transpose(1, 3, 0, 2).reshape(batch, tiles.x, tiles.y, h, 1, m)
    return alpha_c, alpha_x


def _reaching(spatial, f, windows, dilation):
    """The attention filter without taps that lie outside the responses wherever its centre is: they meet zeros only."""
    if spatial is None:
        return None
    longest = max(count_outputs(windows, f.shape[1:3]))
    size = spatial.shape[0]
    rest = max(0, size // 2 - (longest - 1) // dilation)
    return spatial[rest : size - rest, rest : size - rest]


_OPTIONS = "windows", "dilation", "memory_budget", "settings"


@functools.partial(jax.custom_jvp, nondiff_argnums=(4, 5, 6, 7))
def _attended(f, bank, channel, spatial, *options):
    return _run_forward(f, bank, channel, spatial, *options, keep=False)[0]


@functools.partial(_attended.defjvp, symbolic_zeros=True)
def _attended_jvp(*arguments):
    *options, primals, tangents = arguments
    named = tuple(zip(_OPTIONS, options, strict=True))
    out, kept = at_once(Bound(_run_forward, (*named, ("keep", True))), *primals)
    return out, linear(Bound(_run_tangent, named), Bound(_run_backward, named), (primals, kept), tangents)


@compiled(*_OPTIONS, "keep")
def _run_forward(f, bank, channel, spatial, windows, dilation, memory_budget, settings, keep):
    tiles = Tiles(f.shape, bank.shape, spatial, windows, dilation, TILING)
    keep = keep and not is_symbolic(tiles.batch) and _is_kept(tiles, channel is not None, memory_budget)

    def in_tiles(f, weights):
        out, kept = _tiles_forward(tiles, f, weights, keep)
        return out.swapaxes(1, 2), kept

    def in_blocks(f, weights):
        out, kept = blocks.forward(f, weights, windows, dilation, memory_budget)
        return out, kept if keep else None

    with settings.restored():
        out, kept = _on_platform(f, settings, in_tiles, in_blocks)(f, _weights(bank, channel, spatial))
    return out.reshape(tiles.batch, tiles.x, tiles.y, tiles.m), kept


def _is_kept(tiles, has_channel, memory_budget):
    kept, responses = tiles.kept_bytes(has_channel), tiles.response_bytes()
    return kept <= KEPT * memory_budget and (kept <= LITTLE or kept <= responses <= memory_budget)


@compiled(*_OPTIONS)
def _run_tangent(residuals, tangents, **options):
    """Computes everything again: of the maxima, the forward pass keeps what the gradient needs."""
    arrays, structure = jax.tree.flatten(residuals[0], is_leaf=lambda x: x is None)
    dots = structure.flatten_up_to(tangents)
    moving = [None if dot is None else array for array, dot in zip(arrays, dots, strict=True)]

    def of_moving(moving):
        merged = [array if moved is None else moved for array, moved in zip(arrays, moving, strict=True)]
        return _run_forward(*structure.unflatten(merged), **options, keep=False)[0]

    return jax.jvp(of_moving, (moving,), (dots,))[1]


@compiled("wanted", *_OPTIONS)
def _run_backward(residuals, d_out, wanted, windows, dilation, memory_budget, settings):
    del wanted
    (f, bank, channel, spatial), kept = residuals
    tiles = Tiles(f.shape, bank.shape, spatial, windows, dilation, TILING)
    d_out = d_out.reshape(tiles.batch, tiles.x * tiles.y, tiles.m)
    weights, pull_back = jax.vjp(_weights, bank, channel, spatial)
    in_tiles = functools.partial(_tiles_backward, tiles)
    in_blocks = functools.partial(blocks.backward, windows=windows, dilation=dilation, memory_budget=memory_budget)
    with settings.restored():
        d_f, d_weights = _on_platform(f, settings, in_tiles, in_blocks)(f, weights, kept, d_out)
    return d_f, *pull_back(d_weights)


def _on_platform(f, settings, in_tiles, in_blocks):
    if settings.implementation is not None:
        return {"tiles": in_tiles, "blocks": in_blocks}[settings.implementation]
    if may_be_spread(f):
        return in_blocks
    return functools.partial(lax.platform_dependent, cpu=in_tiles, default=in_blocks)


def _tiles_forward(tiles, f, weights, keep):
    def element(out, inputs):
        planes, weights = inputs
        statistics, maps = map_chunks(lambda planes: tiles.forward(planes, weights, keep), planes, tiles.chunk)
        kept = (statistics, None if weights.spatial is None else maps) if keep else None
        return out + attend(maps), kept

    out = jnp.zeros((tiles.batch, tiles.m, tiles.x * tiles.y), f.dtype)
    return lax.scan(element, varying_alike(out, f), (_planes(f), weights))


def _tiles_backward(tiles, f, weights, kept, d_out):
    d_out = d_out.swapaxes(1, 2)

    def element(inputs):
        planes, weights, kept = inputs

        def chunk(d_weights, inputs):
            d_planes, d_chunk = tiles.backward(weights, *inputs)
            return jax.tree.map(jnp.add, d_weights, d_chunk), d_planes

        nothing = jax.tree.map(jnp.zeros_like, weights)
        return scan_chunks(chunk, nothing, (planes, kept, d_out), tiles.chunk)

    d_weights, d_planes = lax.map(element, (_planes(f), weights, kept))
    return d_planes.transpose(1, 3, 4, 0, 2), d_weights


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
