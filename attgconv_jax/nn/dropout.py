"""Dropout as a Flax NNX module, with the fused mask of `attgconv_jax.kernels.dropout`."""

from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.checks import check_boolean, check_rate
from attgconv_jax.kernels import dropout


class ModeModule(nnx.Module):
    """A module with an attribute `deterministic`: whether it is in evaluation mode."""

    def set_view(self, deterministic: bool | None = None):
        """Lets `nnx.view` choose the mode."""
        if deterministic is not None:
            self.deterministic = deterministic


class Dropout(ModeModule):
    """`nnx.Dropout` whose mask costs no memory and next to no time.

    Args:
      rate: probability of zero, in [0, 1).
      deterministic: whether to pass the input through; `model.eval()` and `model.train()` set it.
      rngs: its "dropout" stream draws one key a call.
    """

    def __init__(self, rate: float, *, deterministic: bool = False, rngs: nnx.Rngs):
        check_rate(rate=rate)
        check_boolean(deterministic=deterministic)
        self.rate = rate
        self.deterministic = deterministic
        self.rngs = rngs["dropout"].fork()

    def __call__(self, f: Float[Array, "..."]) -> Float[Array, "..."]:
        """Drops elements, or passes `f` through in evaluation mode."""
        if self.deterministic or self.rate == 0:
            return f
        return dropout(f, self.rngs(), self.rate)
