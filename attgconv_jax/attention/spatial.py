"""Spatial attention on the input, `alpha_X` of the attentive paper."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax import kernels
from attgconv_jax.attention.layers import check_weights
from attgconv_jax.bases import FilterBasis
from attgconv_jax.checks import check_boolean, check_integer
from attgconv_jax.convolution import add_bias, convolve_centred, project_max
from attgconv_jax.filters import Sampling, check_sampling, former_sampling
from attgconv_jax.groups import Group


@former_sampling
def spatial_attention(
    f: Float[Array, "*batch x y h c"],
    w: Float[Array, "k k h 2 1"],
    group: Group,
    *,
    dilation: int = 1,
    haar: bool = False,
    sampling: Sampling | FilterBasis = Sampling(),
) -> Float[Array, "*batch x y h 1"]:
    """How much each position on the group matters.

        alpha_X[x, h] = sigmoid(group_conv([mean over c of f, max over c of f], w))

    On an image the filter is lifted and the maximum over the group taken before the sigmoid. `w` is of odd size.

    Arguments: see `attgconv_jax.attention`.
    Source: Romero et al. 2020, sections 3.2 and 3.3.
    """
    check_weights("spatial attention", f, w, Float[Array, "k k h 2 1"], group)
    dilation = check_spatial_options(dilation, haar, sampling)
    return alpha_x(f, w, group, dilation, haar=haar, sampling=sampling)


def check_spatial_options(dilation: int, haar: bool, sampling: Sampling | FilterBasis) -> int:
    """Raises a `ValueError` unless these are options of `spatial_attention`; the dilation."""
    check_boolean(haar=haar)
    check_sampling(sampling)
    return check_integer("dilation", dilation)


def alpha_x(f, w, group, dilation=1, *, bias=None, norm=None, **options):
    """`spatial_attention` of checked arguments; `f` may be wider than `w`, which decides the type.

    `bias` and `norm` act on the logits, of one channel; on an image after the maximum over the group.
    """
    mean, highest = kernels.mean_and_maximum(f)
    statistics = jnp.stack([mean.astype(w.dtype), highest.astype(w.dtype)], axis=-1)
    logits = convolve_centred(statistics, w, group, dilation, **options)
    logits = project_max(logits) if f.shape[-2] == 1 else logits
    logits = logits if bias is None else add_bias(logits, bias)
    return jax.nn.sigmoid(logits if norm is None else norm(logits))
