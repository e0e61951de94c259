"""What the networks on Lie groups have in common: their convolutions, the lifting, random grids, the maximum."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.attention import OPERATORS
from attgconv_jax.checks import check_boolean, check_choice, check_positive
from attgconv_jax.filters import Sampling
from attgconv_jax.kernels import maximum
from attgconv_jax.lie.groups import LieGroup
from attgconv_jax.lie.kernels import PAPER_FREQUENCY
from attgconv_jax.lie.kinds import KINDS
from attgconv_jax.models.base import Network
from attgconv_jax.nn import LieAttention, LieConv
from attgconv_jax.nn.dropout import ModeModule
from attgconv_jax.nn.module import Module
from attgconv_jax.nn.norm import batch_norm


@dataclasses.dataclass(frozen=True)
class Layers:
    """What makes the layers of a network: all their arguments but sizes, those of kernel networks in `of_kernels`."""

    group: LieGroup
    kind: str
    attention: str | None
    attention_options: Mapping[str, Any] | None
    sampling: Sampling
    of_kernels: Mapping[str, Any]
    shared: Mapping[str, Any]

    def conv(self, in_features: int, out_features: int, kernel_size: int, **options) -> LieConv:
        """A convolution."""
        options = dict(kind=self.kind) | self.of_kernels | options
        # As published, and as in all networks that were saved: `LieConv` itself goes by the size of the filter.
        given = options["network_options"] or {}
        if options["network"] == "siren" and isinstance(given, Mapping):
            options["network_options"] = {"first_frequency": PAPER_FREQUENCY, **given}
        return LieConv(in_features, out_features, kernel_size, self.group, **options, **self.shared)

    def attend(self, features: int) -> LieAttention:
        """The network's attention."""
        options = dict(coordinates=self.of_kernels["coordinates"], **self.shared)
        if self.attention in OPERATORS and "sampling" in OPERATORS[self.attention].options:
            options |= {"sampling": self.sampling}
        options |= self.attention_options or {}
        return LieAttention(self.attention, features, self.group, **options)

    def norm(self, features: int) -> nnx.BatchNorm:
        """Batch norm, with the epsilon of PyTorch."""
        return batch_norm(features, epsilon=1e-5, **self.shared)


class LieNetwork(Network):
    """A lifting with its batch norm, and what the network was made with.

    Args:
      layers: what makes layers.
      features: channels of the lifting, or of the lifting and of further layers.
      kernel_size: of the filters, in pixels.
      kind: of all convolutions but the lifting; see `LieConv`.
      network: of the kernels; see `LieConv`.
      network_options: of the kernel networks; the first frequency of "siren" is 10, the paper's, unless it says.
      coordinates: "periodic", "angle", or "paper" for the paper's; see `LieConv`.
      mask: how kernels end, but the paper's coordinates have masks of their own.
      random_grids: whether training draws grids.
      sampling: of the attention's filters, at other than right angles.
      rngs: its "params", "dropout" and, for random grids, "grid" streams are used.
    """

    def __init__(self, layers: Layers, *, in_features: int, kernel_size: int, random_grids: bool, **settings):
        features = settings["features"]
        width = features[0] if isinstance(features, Sequence) else features
        width, in_features, _ = check_positive(features=width, in_features=in_features, classes=settings["classes"])
        (random_grids,) = check_boolean(random_grids=random_grids)
        check_choice("kind", layers.kind, KINDS)
        for name in {"coordinates", "dtype", "param_dtype", "rngs"} & set(layers.attention_options or {}):
            raise ValueError(f"attention_options cannot hold {name}: an attention has that of the network")
        settings |= layers.of_kernels | {"network_options": layers.of_kernels["network_options"] or {}}
        settings |= dict(in_features=in_features, kernel_size=kernel_size, random_grids=random_grids, kind=layers.kind)
        of_attention = dict(attention_options=layers.attention_options, sampling=layers.sampling)
        super().__init__(layers.group, layers.attention, dtype=layers.shared["dtype"], **of_attention, **settings)
        self.lifting = layers.conv(in_features, width, kernel_size, kind=None, lifting=True)
        self.lifting_norm = layers.norm(width)


class RandomGrids(ModeModule):
    """A new random grid a call; None, the group's own, in evaluation and where none is wanted."""

    def __init__(self, group: LieGroup, wanted: bool, rngs: nnx.Rngs):
        self.group = group
        self.deterministic = False
        self.rngs = rngs["grid"].fork() if wanted else nnx.data(None)

    def __call__(self) -> Float[Array, "h d"] | None:
        """Draws a grid."""
        return None if self.deterministic or self.rngs is None else self.group.grid(self.rngs())


class AttendedConv(Module):
    """`LieConv` with the network's attention, if it has one, on its input; `options` are the convolution's."""

    def __init__(self, in_features: int, out_features: int, kernel_size: int, layers: Layers, **options):
        self.conv = layers.conv(in_features, out_features, kernel_size, **options)
        self.attention = nnx.data(None if layers.attention is None else layers.attend(in_features))

    def __call__(self, f: Float[Array, "*batch x y h_in c_in"], *grids) -> Float[Array, "*batch x_out y_out h c_out"]:
        """Attends, then convolves from one grid to another."""
        return self.conv(f if self.attention is None else self.attention(f), *grids)


def attention_of(module: nnx.Module):
    """The attention maps of a module's attention as a function of the module's input, None where it has none."""
    return None if module.attention is None else module.attention.attention_maps


def global_max_pool(f: Float[Array, "*batch x y h c"]) -> Float[Array, "*batch c"]:
    """The maximum over pixels and group."""
    return maximum(f.reshape(*f.shape[:-4], math.prod(f.shape[-4:-1]), f.shape[-1]), axis=-2)
