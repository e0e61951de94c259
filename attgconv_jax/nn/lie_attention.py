"""The attention operators on sampled grids of Lie groups, as a Flax NNX module."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.checks import check_choice, check_feature_map
from attgconv_jax.groups import cyclic
from attgconv_jax.lie.groups import LieGroup
from attgconv_jax.lie.kernels import Coordinates, check_coordinates
from attgconv_jax.nn.module import Module
from attgconv_jax.nn.operator import ATTENTIONS, OperatorAttention


class LieAttention(Module):
    """An attention of `attgconv_jax.nn.ATTENTIONS` on a grid of a Lie group, at every scale by itself.

    The rotations of a grid are a group, `cyclic(angles)`, wherever the grid begins: there the operator acts as on any
    finite group. The scales of a grid are not a group: no weight and no statistic but those of batch norms joins them,
    and all have the same weights:

        alpha[x, (a, s), c] = A[f[., (., s), .]][x, a, c]

    Beside convolutions with `coordinates="paper"`, whose filters turn clockwise as the angle grows, `-a` stands for `a`
    on both sides.

    What this commutes with: the rotations of the grid exactly as the operator does on `cyclic(angles)`; a shift of the
    feature map along the scales exactly, if the operator has no filter on the plane. A change of scale moves the pixels
    as well: statistics over space change by what enters and leaves the image, and a spatial filter of the operator has
    as many pixels at every scale, so there it commutes approximately.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax.lie import similarities
    >>> from attgconv_jax.nn import LieAttention
    >>> attend = LieAttention("sge", 8, similarities(4, 3, 1.74), groups=4, rngs=nnx.Rngs(0))
    >>> attend(jnp.ones([2, 9, 9, 12, 8])).shape
    (2, 9, 9, 12, 8)

    `options` are those of the attention's module, such as `groups` above; `help(ATTENTIONS["sge"])` lists them. Other
    arguments: see `attgconv_jax.nn`.

    Options:
      attention: a name of `attgconv_jax.nn.ATTENTIONS`.
      coordinates: of the convolutions beside it; see `LieConv`.
      precision: of products; see `attgconv_jax.computing`.

    Source: our own.
    """

    def __init__(
        self,
        attention: str,
        features: int,
        group: LieGroup,
        *,
        coordinates: Coordinates = "periodic",
        precision: str | None = None,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        check_coordinates(group, coordinates)
        check_choice("attention", attention, ATTENTIONS)
        shared = dict(precision=precision, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.attention = ATTENTIONS[attention](features, cyclic(group.angles or 1), **shared, **options)
        self.group = group
        self.clockwise = coordinates == "paper"

    def __call__(self, f: Float[Array, "*batch x y h c"]) -> Float[Array, "*batch x y h c"]:
        """Attends; see `attgconv_jax.attend`."""
        return self._at_every_scale(self.attention, f)

    def attention_maps(self, f: Float[Array, "*batch x y h c"]) -> Float[Array, "*batch #x #y #h #c"]:
        """The operator's `alpha`."""
        return self._at_every_scale(self.attention.attention_maps, f)

    attention_map = OperatorAttention.attention_map

    def _at_every_scale(self, function, f):
        check_feature_map(f)
        if f.shape[-2:-1] != (self.group.order,):
            raise ValueError(f"f must have the {self.group.order} elements of {self.group}, got shape {f.shape}")
        angles, scales = self.group.angles or 1, self.group.scales or 1
        by_angle = jnp.moveaxis(f.reshape(*f.shape[:-2], angles, scales, f.shape[-1]), -2, 0)
        out = jnp.moveaxis(self._turned(function(self._turned(by_angle))), 0, -2)
        if scales > 1:
            out = jnp.broadcast_to(out, (*out.shape[:-3], angles, scales, out.shape[-1]))
        return out.reshape(*out.shape[:-3], math.prod(out.shape[-3:-1]), out.shape[-1])

    def _turned(self, f):
        """The angles in the direction in which the filters turn, the identity where it was."""
        return f[..., -np.arange(f.shape[-2]) % f.shape[-2], :] if self.clockwise else f
