"""What the networks on Lie groups have in common: their convolutions, the lifting, random grids, the maximum."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.attention import OPERATORS
from attgconv_jax.checks import check_boolean, check_positive
from attgconv_jax.filters import Sampling
from attgconv_jax.kernels import maximum
from attgconv_jax.lie.groups import LieGroup
from attgconv_jax.models.base import Network
from attgconv_jax.nn import LieAttention, LieConv
from attgconv_jax.nn.norm import batch_norm


@dataclasses.dataclass(frozen=True)
class Layers:
    """What makes the layers of a network: all their arguments but sizes.

    Attributes:
      group: of the convolutions.
      kind: of all convolutions but the lifting.
      attention: None, or its name.
      attention_options: of the attention's module.
      sampling: of the attention's filters.
      of_kernels: arguments of `LieConv` about kernel networks.
      shared: dtypes and random streams.
    """

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
      lifted: channels of the lifting.
      layers: what makes layers.
      in_features: channels of the image.
      kernel_size: of the filters, in pixels.
      classes: number of logits.
      random_grids: whether training draws grids.
      **settings: further arguments of the network, as JSON can hold them.

    Raises:
      ValueError: a size is out of range, or an unknown name.
    """

    def __init__(
        self,
        lifted: int,
        layers: Layers,
        *,
        in_features: int,
        kernel_size: int,
        classes: int,
        random_grids: bool,
        **settings,
    ):
        lifted, in_features, classes = check_positive(features=lifted, in_features=in_features, classes=classes)
        (random_grids,) = check_boolean(random_grids=random_grids)
        if layers.kind == "lifting":
            raise ValueError("kind must be one of feature maps, such as separable; the lifting is a layer of its own")
        for name in {"coordinates", "dtype", "param_dtype", "rngs"} & set(layers.attention_options or {}):
            raise ValueError(f"attention_options cannot hold {name}: an attention has that of the network")
        super().__init__(
            layers.group,
            layers.attention,
            kind=layers.kind,
            attention_options=layers.attention_options,
            sampling=layers.sampling,
            dtype=layers.shared["dtype"],
            in_features=in_features,
            kernel_size=kernel_size,
            classes=classes,
            random_grids=random_grids,
            **settings,
            **layers.of_kernels | {"network_options": layers.of_kernels["network_options"] or {}},
        )
        self.lifting = layers.conv(in_features, lifted, kernel_size, kind="lifting")
        self.lifting_norm = layers.norm(lifted)


class RandomGrids(nnx.Module):
    """A new random grid a call; None, the group's own, in evaluation and where none is wanted.

    Args:
      group: of the grids.
      wanted: whether there are any.
      rngs: its "grid" stream is used, if they are wanted.
    """

    def __init__(self, group: LieGroup, wanted: bool, rngs: nnx.Rngs):
        self.group = group
        self.deterministic = False
        self.rngs = rngs["grid"].fork() if wanted else nnx.data(None)

    def __call__(self) -> Float[Array, "h d"] | None:
        """Draws a grid."""
        return None if self.deterministic or self.rngs is None else self.group.grid(self.rngs())

    def set_view(self, deterministic: bool | None = None):
        """Lets `nnx.view` choose the mode."""
        if deterministic is not None:
            self.deterministic = deterministic


class AttendedConv(nnx.Module):
    """`LieConv` with the network's attention, if it has one, on its input.

    Args:
      in_features: input channels.
      out_features: output channels.
      kernel_size: in pixels.
      layers: what makes convolution and attention.
      **options: further arguments of the convolution.

    Raises:
      ValueError: a size is out of range, or an unknown name.
    """

    def __init__(self, in_features: int, out_features: int, kernel_size: int, layers: Layers, **options):
        self.conv = layers.conv(in_features, out_features, kernel_size, **options)
        self.attention = nnx.data(None if layers.attention is None else layers.attend(in_features))

    def __call__(
        self,
        f: Float[Array, "*batch x y h_in c_in"],
        in_grid: Float[Array, "h_in d"] | None = None,
        out_grid: Float[Array, "h d"] | None = None,
    ) -> Float[Array, "*batch x_out y_out h c_out"]:
        """Attends, then convolves."""
        return self.conv(f if self.attention is None else self.attention(f), in_grid, out_grid)


def attention_of(module: nnx.Module):
    """The attention maps of a module's attention as a function of the module's input, None where it has none."""
    return None if module.attention is None else module.attention.attention_maps


def global_max_pool(f: Float[Array, "*batch x y h c"]) -> Float[Array, "*batch c"]:
    """The maximum over pixels and group."""
    return maximum(f.reshape(*f.shape[:-4], math.prod(f.shape[-4:-1]), f.shape[-1]), axis=-2)
