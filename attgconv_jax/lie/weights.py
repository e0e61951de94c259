"""Initial weights of convolutions on Lie groups."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.checks import check_positive
from attgconv_jax.initializers import draw_uniform, key_source
from attgconv_jax.lie.groups import LieGroup
from attgconv_jax.lie.kernel_networks import NETWORKS, check_network
from attgconv_jax.lie.kernels import Coordinates, check_coordinates, check_size
from attgconv_jax.lie.kinds import check_kind


class LieWeights(NamedTuple):
    """Of `lie_conv`: a kernel network's weights for every factor, and the matrix over the channels or None."""

    factors: tuple[Any, ...]
    projection: Float[Array, "c_in c_out"] | None = None


def lie_weights(
    key: Array | Callable[[], Array],
    in_features: int,
    out_features: int,
    kernel_size: int,
    group: LieGroup,
    kind: str | None = None,
    *,
    lifting: bool = False,
    network: str = "siren",
    network_options: Mapping[str, Any] | None = None,
    coordinates: Coordinates = "periodic",
    dtype=jnp.float32,
) -> LieWeights:
    """Initial weights of `lie_conv`: those of a kernel network a factor; the matrix `w` uniform in `+-1 / sqrt(c_in)`.

    Options:
      key: of the draws, or a source of keys such as `nnx.Rngs(0).params`.
      kind, coordinates: see `lie_conv`; no kind with `lifting`.
      lifting: whether the input is an image (one group element) instead of a feature map.
      network: a name of `attgconv_jax.lie.kernel_networks.NETWORKS`.
      network_options: keyword arguments of its `init`; a `ValueError` says which have no effect.

    Source: Knigge et al. 2022, appendix B.
    """
    check_coordinates(group, coordinates)
    in_features, out_features = check_positive(in_features=in_features, out_features=out_features)
    kernel_size = check_size("kernel_size", kernel_size, group, coordinates)
    kind = check_kind(kind, group, lifting)
    options = check_network(network, network_options, group)
    next_key, factors, projection = key_source(key), [], None
    for factor in kind.factors:
        axes = factor.axes(group, NETWORKS[network].coordinates(coordinates))
        inputs = in_features if factor.pairs else 1
        fan = inputs * (kernel_size**2 if axes.plane else 1)
        factors.append(NETWORKS[network].init(next_key(), axes, inputs * out_features, fan, dtype, **options))
    if kind.projection:
        projection = draw_uniform(next_key(), (in_features, out_features), in_features**-0.5, dtype)
    return LieWeights(tuple(factors), projection)
