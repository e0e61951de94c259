"""What the networks on Lie groups have in common: the lifting, their settings, random grids, attended convolutions."""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.checks import check_boolean, check_choice, check_positive
from attgconv_jax.kernels import maximum
from attgconv_jax.lie.groups import LieGroup
from attgconv_jax.lie.kinds import KINDS
from attgconv_jax.nn import LieAttention, LieConv
from attgconv_jax.nn.attentive import AttentionName
from attgconv_jax.nn.norm import batch_norm


class LieNetwork(nnx.Module):
    """A lifting with its batch norm, and what the network was made with.

    Subclasses say what follows the lifting (`feature_maps`).

    Args:
      features: channels of the lifting.
      settings: further arguments of the network, as JSON can hold them, `in_features`, `kernel_size` and `classes`
        among them.
      group: of the convolutions.
      kind: of all convolutions but the lifting.
      attention: None, or its name.
      attention_options: of the attention's module.
      of_kernels: arguments of `LieConv` about kernel networks.
      **shared: dtypes and random streams.

    Raises:
      ValueError: a size is out of range, or an unknown name.
    """

    def __init__(
        self,
        features: int,
        settings: Mapping[str, Any],
        *,
        group: LieGroup,
        kind: str,
        attention: AttentionName | None,
        attention_options: Mapping[str, Any] | None,
        of_kernels: Mapping[str, Any],
        **shared,
    ):
        in_features = settings["in_features"]
        check_positive(features=features, in_features=in_features, classes=settings["classes"])
        check_boolean(random_grids=settings["random_grids"])
        check_choice("kind", kind, KINDS)
        if attention is None and attention_options:
            raise ValueError(f"attention_options need an attention, got {dict(attention_options)} with attention=None")
        for name in {"coordinates", "dtype", "param_dtype", "rngs"} & set(attention_options or {}):
            raise ValueError(f"attention_options cannot hold {name}: an attention has that of the network")
        sizes = in_features, features, settings["kernel_size"], group
        self.lifting = LieConv(*sizes, lifting=True, **of_kernels, **shared)
        self.lifting_norm = batch_norm(features, epsilon=1e-5, **shared)
        self.group = group
        dtype = None if shared["dtype"] is None else jnp.dtype(shared["dtype"]).name
        settings = {"kind": kind, "attention": attention, **settings, **of_kernels, "dtype": dtype}
        options = {"attention_options": attention_options, "network_options": of_kernels["network_options"]}
        # Pairs and no dict: a graph definition that holds a dict cannot be hashed, nor be a static argument.
        settings |= {name: tuple(sorted((option or {}).items())) for name, option in options.items()}
        self._settings = tuple(settings.items())

    @property
    def settings(self) -> dict[str, Any]:
        """What this network was made with, as JSON can hold it; the rest shows in its parameters."""
        group = {"angles": self.group.angles, "scales": self.group.scales, "max_scale": self.group.max_scale}
        settings = dict(self._settings)
        options = {name: dict(settings[name]) for name in ("attention_options", "network_options")}
        return {"group": group, **settings, **options}

    def __call__(self, image: Float[Array, "*batch x y 1 c"]) -> Float[Array, "*batch classes"]:
        """Logits of images.

        Args:
          image: standardised, of the size the network is made for.

        Returns:
          Logits.

        Raises:
          ValueError: the image has another size, or batch norm needs more of them to train.
        """
        return self.feature_maps(image)[-1]


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
    """`LieConv` with attention on its input.

    Args:
      in_features: input channels.
      out_features: output channels.
      kernel_size: in pixels.
      group: of the convolution.
      kind: of the convolution.
      attention: None, or a name.
      attention_options: of the attention's module.
      of_kernels: arguments of `LieConv` about kernel networks.
      padding: of the convolution.
      **shared: dtypes and random streams.

    Raises:
      ValueError: a size is out of range, or an unknown name.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        *,
        group: LieGroup,
        kind: str,
        attention: AttentionName | None,
        attention_options: Mapping[str, Any] | None,
        of_kernels: Mapping[str, Any],
        padding: str = "SAME",
        **shared,
    ):
        sizes = in_features, out_features, kernel_size, group
        self.conv = LieConv(*sizes, kind=kind, padding=padding, **of_kernels, **shared)
        self.attention = nnx.data(None)
        if attention is not None:
            options = dict(coordinates=of_kernels["coordinates"], **shared, **(attention_options or {}))
            self.attention = LieAttention(attention, in_features, group, **options)

    def __call__(
        self,
        f: Float[Array, "*batch x y h_in c_in"],
        in_grid: Float[Array, "h_in d"] | None = None,
        out_grid: Float[Array, "h d"] | None = None,
    ) -> Float[Array, "*batch x_out y_out h c_out"]:
        """Attends, then convolves."""
        return self.conv(f if self.attention is None else self.attention(f), in_grid, out_grid)


def global_max_pool(f: Float[Array, "*batch x y h c"]) -> Float[Array, "*batch c"]:
    """The maximum over pixels and group."""
    return maximum(f.reshape(*f.shape[:-4], math.prod(f.shape[-4:-1]), f.shape[-1]), axis=-2)
