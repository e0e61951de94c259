"""Dropout as a Flax NNX module, with the fused mask of `attgconv_jax.kernels.dropout`."""

from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from attgconv_jax.checks import check_boolean, check_rate
from attgconv_jax.kernels import dropout
from attgconv_jax.kernels.devices import AxisName
from attgconv_jax.nn.module import Module


class ModeModule(Module):
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
      rngs: its "dropout" stream draws one key a call, unless it is given one.

    Inside of `jax.shard_map` devices draw the same mask, unless `attgconv_jax.nn.set_axis_name` says that they hold
    parts of one batch.
    """

    # Of an instance where it is not this, so that graph definitions from before are those of now.
    axis_name: AxisName | None = None

    def __init__(self, rate: float, *, deterministic: bool = False, rngs: nnx.Rngs):
        check_rate(rate=rate)
        check_boolean(deterministic=deterministic)
        self.rate = rate
        self.deterministic = deterministic
        self.rngs = rngs["dropout"].fork()

    def __call__(self, f: Float[Array, "..."], key: PRNGKeyArray | None = None, start: int = 0) -> Float[Array, "..."]:
        """Drops elements, or passes `f` through in evaluation mode.

        Args:
          f: any array.
          key: of the mask; None: one of the stream. Modules may share a key where each has positions of its own.
          start: the position of the first element.
        """
        if not self.drops:
            return f
        return dropout(f, self.rngs() if key is None else key, self.rate, start, self.axis_name)

    @property
    def drops(self) -> bool:
        """Whether a call draws and drops: in training mode, at a rate that is not 0."""
        return not self.deterministic and self.rate > 0
