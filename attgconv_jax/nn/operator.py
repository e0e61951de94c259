"""What the modules of attention operators have in common."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jaxtyping import Array, Float

from attgconv_jax.attention import OPERATORS, MLPWeights
from attgconv_jax.attentive import attend
from attgconv_jax.checks import check_positive
from attgconv_jax.groups import Group, check_group
from attgconv_jax.initializers import channel_uniform
from attgconv_jax.nn.norm import batch_norm


class OperatorAttention(nnx.Module):
    """An operator of `attgconv_jax.attention.OPERATORS` with weights of its own; those of other papers have a subclass.

    Args:
      name: of the operator.
      weights: initial ones, as the operator takes them.
      group: acts on the weights.
      dtype: to compute in; None: the common type of input and parameters.
      norms: modules that the operator calls, by argument.
      **options: further arguments of the operator.
    """

    def __init__(
        self,
        name: str,
        weights: Any,
        group: Group,
        dtype=None,
        norms: dict[str, nnx.Module] | None = None,
        **options,
    ):
        check_group(group)
        self.weights = nnx.data(jax.tree.map(nnx.Param, weights))
        self.norms = nnx.Dict(norms or {})
        self.name = name
        self.group = group
        # Pairs and no dict: a graph definition that holds a dict cannot be hashed, nor be a static argument.
        self._options = tuple(options.items())
        self.dtype = dtype

    def __call__(self, f: Float[Array, "*batch x y h c"]) -> Float[Array, "*batch x y h c"]:
        """Attends; see `attgconv_jax.attend`."""
        f, weights = self._promoted(f)
        return attend(f, self._alpha(f, weights), OPERATORS[self.name].combination)

    def attention_map(self, f: Float[Array, "*batch x y h c"]) -> Float[Array, "*batch #x #y #h c"]:
        """The operator's `alpha`: what `f` is scaled by, or what is added to it."""
        return self._alpha(*self._promoted(f))

    def _alpha(self, f, weights):
        return OPERATORS[self.name].function(f, weights, self.group, **dict(self._options), **dict(self.norms.items()))

    def _promoted(self, f):
        values, structure = jax.tree.flatten(self.weights, is_leaf=lambda leaf: isinstance(leaf, nnx.Param))
        f, *values = promote_dtype((f, *(value[...] for value in values)), dtype=self.dtype)
        return f, jax.tree.unflatten(structure, values)


def reduced(features: int, reduction: int | None) -> int:
    """Hidden channels, `features` over `reduction`.

    Args:
      features: channels.
      reduction: None: 16, or the number of channels where that is smaller.

    Returns:
      The number of hidden channels, rounded down.

    Raises:
      ValueError: a number is not at least 1, or the reduction is larger than the number of channels.
    """
    check_positive(features=features)
    if reduction is None:
        return max(1, features // 16)
    check_positive(reduction=reduction)
    if reduction > features:
        raise ValueError(f"reduction must be at most the {features} channels, got {reduction}: nothing would be left")
    return features // reduction


def group_axis(group: Group, lifting: bool, over_group: bool = False) -> int:
    """The length of the weights' group axis.

    Args:
      group: that acts on them.
      lifting: whether the input is an image.
      over_group: whether the statistics are over the group too.

    Returns:
      1, or the group's order.
    """
    return 1 if lifting or over_group else group.order


def mlp_weights(features: int, hidden: int, h: int, dtype, rngs: nnx.Rngs) -> MLPWeights:
    """Initial weights of a network of statistics: `channel_uniform`, biases zero.

    Args:
      features: channels in and out.
      hidden: channels between.
      h: length of the group axis.
      dtype: of the weights.
      rngs: source of randomness.

    Returns:
      The weights.
    """
    return MLPWeights(
        channel_uniform(rngs.params(), (hidden, features, h), dtype),
        channel_uniform(rngs.params(), (features, hidden, h), dtype),
        jnp.zeros(hidden, dtype),
        jnp.zeros(features, dtype),
    )


def operator_norm(features: int, dtype, param_dtype, rngs: nnx.Rngs) -> nnx.BatchNorm:
    """The batch norm of the papers' operators."""
    return batch_norm(features, dtype, param_dtype, rngs, epsilon=1e-5)
