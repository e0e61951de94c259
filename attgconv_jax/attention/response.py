"""Attention on the responses of a group convolution, `alpha` of the attentive paper."""

import math
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from attgconv_jax import kernels
from attgconv_jax.antialiasing import smoothed_before
from attgconv_jax.attention.layers import check_weights
from attgconv_jax.attention.operator import Operator, register_factors
from attgconv_jax.attention.response_weights import (
    ResponseChannelWeights,
    ResponseWeights,
    response_attention_weights,
    response_channel_bank,
    response_spatial_bank,
)
from attgconv_jax.bases import FilterBasis
from attgconv_jax.checks import check_boolean, check_bytes, check_positive
from attgconv_jax.convolution import check_convolution, convolve, convolve_bank
from attgconv_jax.filters import Sampling, check_sampling, former_sampling, transformed
from attgconv_jax.geometry import Padding
from attgconv_jax.groups import Group
from attgconv_jax.kernels.chunks import wide
from attgconv_jax.kernels.elements import on_elements
from attgconv_jax.kernels.response import MEMORY_BUDGET, Implementation
from attgconv_jax.kernels.settings import Dense


class ResponseMaps(NamedTuple):
    """The attention maps of a response attention, None where a factor is left out."""

    channel: Float[Array, "*batch 1 1 h_in c_in h c_out"] | None
    spatial: Float[Array, "*batch x y h_in 1 h c_out"] | None


@former_sampling
def response_attentive_group_conv(
    f: Float[Array, "*batch x y h_in c_in"],
    w: Float[Array, "*pixels h_in c_in c_out"],
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
    antialiased: bool = False,
    sampling: Sampling | FilterBasis = Sampling(),
    attention_sampling: Sampling | FilterBasis | None = None,
    return_attention: bool = False,
    memory_budget: int = MEMORY_BUDGET,
    implementation: str | None = None,
    precision: str | None = None,
) -> Float[Array, "*batch x_out y_out h c_out"] | tuple[Float[Array, "*batch x_out y_out h c_out"], ResponseMaps]:
    """Group convolution that attends to its own responses, the paper's `alpha`; on an image the lifting convolution.

        r[x, h', c; g, o] = sum over u of  f[x + u, h', c] (L_g w)[u, h', c, o]
        alpha_C[h', c; g, o] = sigmoid(mlp(mean over x of r) + mlp(max over x of r)),   mlp(s) = W2 relu(W1 s)
        alpha_X[x, h'; g, o] = sigmoid(sum over u, s of  s[x + u, h'; g, o] (L_g v)[u, h', s, o]),
                               s = (mean over c, max over c) of alpha_C r
        y[x, g, o] = weight * sum over h', c of  (1 - alpha_X alpha_C) r

    `mlp` mixes the input channels of every output channel for itself, with weights `W(g^-1 h')`. What attention marks
    is suppressed. On a CPU no response is stored: beyond its input and output the layer holds little more than the
    patches and maps of a few images. Elsewhere it holds the responses of as many images as `memory_budget` allows.
    Until its gradient is taken at most 16 % of the budget is kept. Differentiable forwards and in reverse.

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

    Arguments as `group_conv`; further:

    Options:
      channel: weights of `alpha_C`; None leaves that factor out.
      spatial: filter `v` of `alpha_X`, of odd size, the mean before the maximum; None leaves that factor out. Both
        None: the group convolution, with the weight below.
      attention_dilation: of the spatial attention filter, in pixels.
      haar: whether the sum over a feature map carries the weight `2 pi / |H|`, as in the published networks. (With
        reflections that is a quarter of the weight of their plain group convolutions.) The attention carries none.
      attention_sampling: of the spatial attention filter; None: `sampling`.
      return_attention: whether to return the maps too, for pictures: no gradient flows through them, and the map
        `alpha_X` is `h_in` times as large as the output.
      memory_budget: about how many bytes its temporary arrays may take on a GPU or TPU, where more is faster. On
        every platform at most 16 % of it is kept for the backward pass, which otherwise computes it again.
      implementation: of the attention, see `attgconv_jax.kernels.response_attention`; or of the plain convolution from
        which it takes, see `attgconv_jax.kernels.conv`; "xla" of both. What has none of this name chooses by platform.

    Source: Romero et al. 2020 (arXiv 2002.03830), sections 3.2 and 4.
    """
    windows = check_convolution(f, w, group, stride, padding, dilation, haar, exact, sampling)
    weights = ResponseWeights(channel, spatial)
    check_weights("response attention", f, weights, ResponseWeights, group, o=w.shape[-1])
    check_positive(attention_dilation=attention_dilation)
    (memory_budget,) = check_bytes(memory_budget=memory_budget)
    attention_sampling = sampling if attention_sampling is None else attention_sampling
    check_sampling(attention_sampling)
    check_boolean(antialiased=antialiased, return_attention=return_attention)
    kernels.check_implementation(implementation)
    f, w, channel, spatial = jax.tree.map(jnp.asarray, (f, w, channel, spatial))
    with kernels.computing(precision=precision):
        if antialiased:
            f = smoothed_before(f, windows[0].stride)
        dtype = f.dtype
        if channel is not None or spatial is not None:
            # What is left of a response can be a small difference of two large parts: bfloat16 would round both.
            f, w, channel, spatial = jax.tree.map(wide, (f, w, channel, spatial))
        weight = 2 * math.pi / group.order if haar and f.shape[-2] > 1 else 1
        dense = _known(implementation, Dense)
        if channel is None and spatial is None:
            y = weight * convolve(f, w, group, windows, sampling=sampling, implementation=dense)
            return (y, ResponseMaps(None, None)) if return_attention else y
        options = dict(dilation=attention_dilation, implementation=_known(implementation, Implementation))

        def banks(w, channel, spatial):
            bank = transformed(w, group, sampling)
            return (
                bank.reshape(*bank.shape[:4], -1),
                None if channel is None else response_channel_bank(channel, group),
                None if spatial is None else response_spatial_bank(spatial, group, sampling=attention_sampling),
            )

        def rest(f, w, channel, spatial, own):
            bank, of_channel, of_spatial = banks(w, channel, spatial)
            bank, of_spatial = own(bank, -1), None if of_spatial is None else own(of_spatial, -1)
            of_channel = None if of_channel is None else jax.tree.map(lambda x: own(x, 1), of_channel)
            y = convolve_bank(f, bank.reshape(*bank.shape[:4], -1, w.shape[-1]), windows, dense)
            arrays = f, bank, of_channel, of_spatial
            attended = kernels.response_attention(*arrays, windows, memory_budget=memory_budget, **options)
            return (weight * (y - attended.reshape(y.shape))).astype(dtype)

        y = on_elements(rest, f, w, channel, spatial, order=group.order)
        if not return_attention:
            return y
        images = f.reshape(math.prod(f.shape[:-4]), *f.shape[-4:])
        arrays = lax.stop_gradient((images, *banks(w, channel, spatial)))
        maps = kernels.response_attention_maps(*arrays, windows, **options)
    batch, filters = f.shape[:-4], y.shape[-2:]
    return y, ResponseMaps(*(None if a is None else a.reshape(*batch, *a.shape[1:-1], *filters) for a in maps))


def _known(implementation, names):
    """The name if it is one of these, else None."""
    return implementation if implementation in get_args(names) else None


register_factors(
    Operator(
        "response",
        "ResponseAttentiveGroupConv",
        "alpha",
        response_attention_weights,
        response_attentive_group_conv,
        combination="suppress",
        site="response",
    ),
    channel="alpha_CH",
    spatial="alpha_SP",
)
