"""Attention and convolution put together: attention suppresses the input of a group convolution, or its responses."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from attgconv_jax import kernels
from attgconv_jax.attention import (
    ChannelWeights,
    InputWeights,
    ResponseChannelWeights,
    alpha_f,
    co_attention,
    response_channel_bank,
    response_spatial_bank,
)
from attgconv_jax.attention.operators import Combination
from attgconv_jax.attention.response import check_response_weights
from attgconv_jax.checks import check_feature_map, check_filter
from attgconv_jax.convolution import group_conv
from attgconv_jax.filters import Sampling, filter_bank, former_sampling
from attgconv_jax.geometry import Padding, windows_of
from attgconv_jax.groups import Group
from attgconv_jax.kernels.chunks import sum_dtype
from attgconv_jax.kernels.response import Implementation

_COMBINATIONS = {
    "scale": lambda f, alpha: alpha * f,
    "suppress": lambda f, alpha: f - alpha * f,
    "emphasise": lambda f, alpha: f + alpha * f,
    "add": lambda f, alpha: f + alpha,
    "choose": lambda f, alpha: jnp.sum(alpha * f, axis=0),
}


def attend(
    f: Float[Array, "..."], alpha: Float[Array, "..."], combination: Combination = "scale"
) -> Float[Array, "..."]:
    """Puts an attention map and what it attends to together.

    | `combination` | result | operators |
    |---|---|---|
    | "scale" | `alpha f` | most |
    | "suppress" | `(1 - alpha) f` | alpha_F, co-attention |
    | "emphasise" | `(1 + alpha) f` | BAM |
    | "add" | `f + alpha` | Global Context, non-local and self-attention |
    | "choose" | `sum over b of alpha_b f_b` | Selective Kernel; `f` is `[branches, ..., x, y, h, c]` |

    Args:
      f: feature map; with "choose" several of them.
      alpha: broadcastable to `f`.
      combination: as above; `attgconv_jax.attention.OPERATORS` has that of every operator.

    Returns:
      The attended feature map.

    Raises:
      ValueError: unknown combination, or a map that does not broadcast to `f`.

    Source: the operators' papers.
    """
    if combination not in _COMBINATIONS:
        raise ValueError(f"combination must be one of {', '.join(_COMBINATIONS)}, got {combination!r}")
    fits = alpha.ndim == f.ndim and all(a in (1, b) for a, b in zip(alpha.shape, f.shape, strict=False))
    if combination == "choose":
        fits = fits and f.ndim > 4 and alpha.shape[0] == f.shape[0]
    if not fits:
        raise ValueError(f"alpha must be broadcastable to f, of shape {f.shape}; got {alpha.shape}")
    return _COMBINATIONS[combination](f, alpha)


@former_sampling
def input_attention(
    f: Float[Array, "*batch x y h c"],
    channel: ChannelWeights | None,
    spatial: Float[Array, "k k h 2 1"] | None,
    group: Group,
    *,
    dilation: int = 1,
    haar: bool = False,
    sampling: Sampling = Sampling(),
) -> Float[Array, "*batch x y h c"]:
    """Suppresses what attention marks: `(1 - alpha_X alpha_C) f`.

    `alpha_C` is computed from `f`, `alpha_X` from `alpha_C f`. With the group convolution after it this is the
    paper's `alpha_F`.

    >>> import jax.numpy as jnp
    >>> from attgconv_jax import ChannelWeights, cyclic, input_attention
    >>> f = jnp.ones([8, 12, 12, 4, 10])
    >>> channel = ChannelWeights(w1=jnp.zeros([5, 10, 4]), w2=jnp.zeros([10, 5, 4]))
    >>> float(input_attention(f, channel, None, cyclic(4))[0, 0, 0, 0, 0])
    0.5

    Args:
      f: feature map; an image has `h == 1`.
      channel: weights of `alpha_C`; None leaves that factor out.
      spatial: filter of `alpha_X`; None leaves that factor out. Both None: `f` itself.
      group: acts on the weights; its order is `h` unless `f` is an image.
      dilation: of the spatial attention filter, in pixels.
      haar: whether the spatial attention's group convolution carries the Haar weight.
      sampling: of the spatial filter, at other than right angles.

    Returns:
      The attended feature map, same shape as `f`.

    Raises:
      ValueError: the weights' group axis does not fit `f` or `group`.

    Source: Romero et al. 2020, sections 3.2 and 3.3 (alpha_F).
    """
    if channel is None and spatial is None:
        return f
    alpha = input_attention_map(f, channel, spatial, group, dilation=dilation, haar=haar, sampling=sampling)
    return f - alpha * f


@former_sampling
def input_attention_map(
    f: Float[Array, "*batch x y h c"],
    channel: ChannelWeights | None,
    spatial: Float[Array, "k k h 2 1"] | None,
    group: Group,
    *,
    dilation: int = 1,
    haar: bool = False,
    sampling: Sampling = Sampling(),
) -> Float[Array, "*batch #x #y h #c"]:
    """What `input_attention` suppresses: `alpha_X alpha_C`, with `alpha_X` computed from `alpha_C f`.

    Args:
      f: feature map; an image has `h == 1`.
      channel: weights of `alpha_C`; None leaves that factor out.
      spatial: filter of `alpha_X`; None leaves that factor out.
      group: acts on the weights; its order is `h` unless `f` is an image.
      dilation: of the spatial attention filter, in pixels.
      haar: whether the spatial attention's group convolution carries the Haar weight.
      sampling: of the spatial filter, at other than right angles.

    Returns:
      The attention map, in (0, 1), broadcastable to `f`.

    Raises:
      ValueError: both factors are left out, or the weights' group axis does not fit `f` or `group`.

    Source: Romero et al. 2020, sections 3.2 and 3.3.
    """
    return alpha_f(
        f,
        InputWeights(channel, spatial),
        group,
        dilation=dilation,
        haar=haar,
        sampling=sampling,
    )


def input_co_attention(
    f: Float[Array, "*batch x y h c"], w: Float[Array, "1 1 h c 1"], group: Group, *, haar: bool = False
) -> Float[Array, "*batch x y h c"]:
    """Suppresses what co-attention marks: `(1 - alpha_X) f`.

    Args:
      f: feature map; an image has `h == 1`.
      w: filter of `alpha_X`, one pixel.
      group: acts on the filter; its order is `h` unless `f` is an image.
      haar: whether the attention's group convolution carries the Haar weight.

    Returns:
      The attended feature map, same shape as `f`.

    Raises:
      ValueError: the filter does not fit `f` or `group`.

    Source: Romero and Hoogendoorn 2020 (arXiv 1911.07849), as an input attention in Romero et al. 2020.
    """
    return f - co_attention(f, w, group, haar=haar) * f


class ResponseMaps(NamedTuple):
    """The attention maps of a response attention, None where a factor is left out."""

    channel: Float[Array, "*batch 1 1 h_in c_in h c_out"] | None
    spatial: Float[Array, "*batch x y h_in 1 h c_out"] | None


@former_sampling
def response_attentive_group_conv(
    f: Float[Array, "*batch x y h_in c_in"],
    w: Float[Array, "k k h_in c_in c_out"],
    channel: ResponseChannelWeights | None,
    spatial: Float[Array, "k_a k_a h_in 2 c_out"] | None,
    group: Group,
    *,
    stride: int = 1,
    padding: Padding = "VALID",
    dilation: int = 1,
    attention_dilation: int = 1,
    haar: bool = False,
    exact: bool = True,
    sampling: Sampling = Sampling(),
    return_attention: bool = False,
    implementation: Implementation | None = None,
) -> Float[Array, "*batch x_out y_out h c_out"] | tuple[Float[Array, "*batch x_out y_out h c_out"], ResponseMaps]:
    """Group convolution that attends to its own responses, the paper's `alpha`; on an image the lifting convolution.

        r[x, h', c; g, o] = sum over u of  f[x + u, h', c] (L_g w)[u, h', c, o]
        alpha_C[h', c; g, o] = sigmoid(mlp(mean over x of r) + mlp(max over x of r)),   mlp(s) = W2 relu(W1 s)
        alpha_X[x, h'; g, o] = sigmoid(sum over u, s of  s[x + u, h'; g, o] (L_g v)[u, h', s, o]),
                               s = (mean over c, max over c) of alpha_C r
        y[x, g, o] = weight * sum over h', c of  (1 - alpha_X alpha_C) r

    `mlp` mixes the input channels of every output channel for itself, with weights `W(g^-1 h')`. What attention marks
    is suppressed. No response is stored: beyond its input and output the layer holds little more than the patches and
    maps of a few images, and until its gradient is taken at most 150 MB (in float32). Differentiable in reverse mode;
    in a `jax.shard_map` it needs `check_vma=False`.

    >>> import jax.numpy as jnp
    >>> from attgconv_jax import ResponseChannelWeights, cyclic, response_attentive_group_conv
    >>> f, p4 = jnp.ones([8, 12, 12, 4, 10]), cyclic(4)
    >>> channel = ResponseChannelWeights(w1=jnp.zeros([16, 5, 10, 4]), w2=jnp.zeros([16, 10, 5, 4]))
    >>> spatial = jnp.zeros([7, 7, 4, 2, 16])
    >>> y, maps = response_attentive_group_conv(
    ...     f, jnp.ones([3, 3, 4, 10, 16]), channel, spatial, p4, return_attention=True
    ... )
    >>> y.shape, maps.channel.shape, maps.spatial.shape
    ((8, 10, 10, 4, 16), (8, 1, 1, 4, 10, 4, 16), (8, 10, 10, 4, 1, 4, 16))

    Args:
      f: feature map, or image.
      w: filter, of the dtype of `f`.
      channel: weights of `alpha_C`; None leaves that factor out.
      spatial: filter `v` of `alpha_X`, of odd size, the mean before the maximum; None leaves that factor out. Both
        None: the group convolution, with the weight below.
      group: acts on all weights.
      stride: of the convolution, in pixels.
      padding: of the convolution, with zeros: pixels on every side, "SAME" or "VALID".
      dilation: of the convolution's filter, in pixels.
      attention_dilation: of the spatial attention filter, in pixels.
      haar: whether the sum over a feature map carries the weight `2 pi / |H|`, as in the published networks. (With
        reflections that is a quarter of the weight of their plain group convolutions.) The attention carries none.
      exact: whether to refuse a sampling grid that the group does not map to itself.
      sampling: of filters, at other than right angles.
      return_attention: whether to return the maps too, for pictures: no gradient flows through them, and the map
        `alpha_X` is `h_in` times as large as the output.
      implementation: see `attgconv_jax.kernels.response_attention`.

    Returns:
      Feature map on `group`; with `return_attention` also the maps, in (0, 1) and in float32 at least.

    Raises:
      ValueError: shapes or dtypes do not fit, or the grid is not symmetric and `exact` is set.

    Source: Romero et al. 2020, sections 3.2 and 4.
    """
    check_feature_map(f, group)
    check_filter(w, group)
    check_response_weights(f, w, channel, spatial, attention_dilation)
    kernels.check_implementation(implementation)
    f, w, channel, spatial = jax.tree.map(jnp.asarray, (f, w, channel, spatial))
    attends = channel is not None or spatial is not None
    out_dtype = f.dtype
    if attends:
        # What is left of a response can be a small difference of two large parts: bfloat16 would round both.
        dtype = sum_dtype(f)
        f, w, channel, spatial = jax.tree.map(lambda x: x.astype(dtype), (f, w, channel, spatial))
    y = group_conv(f, w, group, stride=stride, padding=padding, dilation=dilation, exact=exact, sampling=sampling)
    weight = 2 * math.pi / group.order if haar and f.shape[-2] > 1 else 1
    if not attends:
        return (weight * y, ResponseMaps(None, None)) if return_attention else weight * y
    bank = filter_bank(w, group, sampling=sampling)
    arrays = (
        f.reshape(-1, *f.shape[-4:]),
        bank.reshape(*bank.shape[:4], -1),
        None if channel is None else response_channel_bank(channel, group),
        None if spatial is None else response_spatial_bank(spatial, group, sampling=sampling),
    )
    windows = windows_of(w.shape[0], stride, padding, dilation, f.shape[-4:-2])
    options = dict(dilation=attention_dilation, implementation=implementation)
    attended = kernels.response_attention(*arrays, windows, **options)
    y = (weight * (y - attended.reshape(y.shape))).astype(out_dtype)
    if not return_attention:
        return y
    maps = kernels.response_attention_maps(*lax.stop_gradient(arrays), windows, **options)
    batch, filters = f.shape[:-4], y.shape[-2:]
    return y, ResponseMaps(*(None if a is None else a.reshape(*batch, *a.shape[1:-1], *filters) for a in maps))
