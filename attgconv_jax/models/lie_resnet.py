"""The residual network of the separable paper, on any Lie group."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.kernels import maximum
from attgconv_jax.lie.groups import LieGroup
from attgconv_jax.lie.kernels import Coordinates, Mask, least_size
from attgconv_jax.lie.pooling import max_pool
from attgconv_jax.models.layers import check_image
from attgconv_jax.nn import Dropout, LieAttention, LieConv
from attgconv_jax.nn.attentive import ATTENTIVE_PAPER, AttentionName
from attgconv_jax.nn.checks import positive
from attgconv_jax.nn.kernel_networks import KernelNetworkName
from attgconv_jax.nn.norm import batch_norm

SIZE = 28


class LieResNet(nnx.Module):
    """The residual network of the separable paper (its `ckgresnet`).

    Lifting, batch norm, relu; for every further width a residual block, batch norm, maximum over 2x2 pixels, relu; a
    convolution without padding, batch norm, relu; the maximum over pixels and group; a linear layer, batch norm, relu,
    dropout, and the logits.

    | `group` | `kind` | parameters, paper's coordinates |
    |---|---|---|
    | SE(2), `rotations(n)` | "nonseparable" | 716,490 |
    | | "gseparable" | 1,405,322 |
    | | "separable" | 755,370 |
    | | "dseparable" | 77,802 |
    | | "dgseparable" | 116,682 |
    | Sim(2), `similarities(n, m, s)` | "separable+2d" | 794,602 |

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax.lie import rotations
    >>> from attgconv_jax.models import LieResNet
    >>> network = LieResNet(rotations(4), features=(4, 4, 8), rngs=nnx.Rngs(0))
    >>> network(jnp.ones([2, 28, 28, 1, 1], jnp.float32)).shape
    (2, 10)

    Args:
      group: of the convolutions.
      kind: of all convolutions but the lifting; see `LieConv`.
      attention: None, or a name of `attgconv_jax.nn.ATTENTIONS`: "input", "input_channel", "input_spatial" and "co" on
        the input of every convolution but the lifting and the shortcuts, the others on what a residual branch adds.
      attention_options: further arguments of every attention's module.
      features: channels per group element, of the lifting and of every block.
      kernel_size: of all filters but those of shortcuts and of the last convolution, in pixels.
      head_features: of the linear layer.
      in_features: channels of the image.
      classes: number of logits.
      dropout_rate: before the logits.
      network: of the kernels; see `LieConv`.
      network_options: of the kernel networks; shortcuts have half as many hidden features, rounded to an even number.
      coordinates: "periodic", or "paper" for the paper's; see `attgconv_jax.lie.kernels`.
      mask: how kernels end.
      random_grids: whether in training every call draws new grids: one for the ends of all blocks, one for the inside
        of each, and one for the last convolution.
      dtype: to compute in; None: the common type of input and parameters.
      param_dtype: of the parameters.
      rngs: its "params", "dropout" and, for random grids, "grid" streams are used.

    Raises:
      ValueError: a size is out of range, or an unknown name.

    Source: Knigge et al. 2022, appendix B, and its code. Scales that a 3x3 filter cannot hold in the coordinates of
    this library have the next larger filter in the last convolution.
    """

    def __init__(
        self,
        group: LieGroup,
        kind: str = "separable",
        attention: AttentionName | None = None,
        *,
        attention_options: Mapping[str, Any] | None = None,
        features: Sequence[int] = (32, 32, 64),
        kernel_size: int = 7,
        head_features: int = 256,
        in_features: int = 1,
        classes: int = 10,
        dropout_rate: float = 0.3,
        network: KernelNetworkName = "siren",
        network_options: Mapping[str, Any] | None = None,
        coordinates: Coordinates = "periodic",
        mask: Mask = "smooth",
        random_grids: bool = False,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        positive(head_features=head_features, in_features=in_features, classes=classes)
        if not 2 <= len(features) <= 3:
            raise ValueError(f"features must be two or three widths for images of {SIZE} pixels, got {features}")
        for width in features:
            positive(features=width)
        if kind == "lifting":
            raise ValueError("kind must be one of feature maps, such as separable; the lifting is a layer of its own")
        if attention is None and attention_options:
            raise ValueError(f"attention_options need an attention, got {dict(attention_options)} with attention=None")
        shared = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        of_kernels = dict(network=network, network_options=network_options, coordinates=coordinates, mask=mask)
        of_attention = attention, attention_options

        def norm(width):
            return batch_norm(width, dtype, param_dtype, rngs, epsilon=1e-5)

        first, last = features[0], features[-1]
        self.lifting = LieConv(in_features, first, kernel_size, group, kind="lifting", **of_kernels, **shared)
        self.lifting_norm = norm(first)
        self.blocks = nnx.List([])
        for before, width in itertools.pairwise(features):
            self.blocks.append(LieBlock(before, width, kernel_size, group, kind, *of_attention, of_kernels, **shared))
        self.block_norms = nnx.List([norm(width) for width in features[1:]])
        least = 3 if coordinates == "paper" else least_size(group)
        left = SIZE // 2 ** (len(features) - 1)
        if least > left:
            raise ValueError(
                f"max_scale must be at most {(left - 1) // 2}: the last filter of {group} has {least} pixels, and the "
                f"feature map only {left}"
            )
        self.last = AttendedConv(last, last, least, group, kind, *of_attention, of_kernels, padding="VALID", **shared)
        self.last_norm = norm(last)
        self.head = nnx.Linear(last, head_features, use_bias=False, **shared)
        self.head_norm = norm(head_features)
        self.dropout = Dropout(dropout_rate, rngs=rngs)
        self.logits = nnx.Linear(head_features, classes, **shared)
        self.group = group
        self.random_grids = random_grids
        self.deterministic = False
        self.rngs = rngs["grid"].fork() if random_grids else nnx.data(None)
        settings = dict(
            kind=kind,
            attention=attention,
            # Pairs and no dict: a graph definition that holds a dict cannot be hashed, nor be a static argument.
            attention_options=tuple(sorted((attention_options or {}).items())),
            features=tuple(features),
            kernel_size=kernel_size,
            head_features=head_features,
            in_features=in_features,
            classes=classes,
            dropout_rate=float(dropout_rate),
            network=network,
            network_options=tuple(sorted((network_options or {}).items())),
            coordinates=coordinates,
            mask=mask,
            random_grids=random_grids,
            dtype=None if dtype is None else jnp.dtype(dtype).name,
        )
        self._settings = tuple(settings.items())

    @property
    def settings(self) -> dict[str, Any]:
        """What this network was made with, as JSON can hold it; the rest shows in its parameters."""
        group = {"angles": self.group.angles, "scales": self.group.scales, "max_scale": self.group.max_scale}
        settings = dict(self._settings)
        options = {name: dict(settings[name]) for name in ("attention_options", "network_options")}
        return {"group": group, **settings, **options}

    def set_view(self, deterministic: bool | None = None):
        """Lets `nnx.view` choose the mode."""
        if deterministic is not None:
            self.deterministic = deterministic

    def __call__(self, image: Float[Array, "*batch x y 1 c"]) -> Float[Array, "*batch classes"]:
        """Logits of images.

        Args:
          image: standardised, of 28x28 pixels.

        Returns:
          Logits.

        Raises:
          ValueError: the image has another size.
        """
        return self.feature_maps(image)[-1]

    def feature_maps(self, image: Float[Array, "*batch x y 1 c"]) -> list[Float[Array, "..."]]:
        """What enters the lifting, every block and the last convolution, and the logits.

        Args:
          image: standardised, of 28x28 pixels.

        Returns:
          The image, the feature maps, the logits.

        Raises:
          ValueError: the image has another size.
        """
        check_image(image, SIZE)
        grid = self._grid()
        f = jax.nn.relu(self.lifting_norm(self.lifting(image, None, grid)))
        maps = [image, f]
        for block, norm in zip(self.blocks, self.block_norms, strict=True):
            f = block(f, grid, self._grid())
            f = jax.nn.relu(max_pool(norm(f), self.group))
            maps.append(f)
        f = jax.nn.relu(self.last_norm(self.last(f, grid, self._grid())))
        pooled = maximum(f.reshape(*f.shape[:-4], -1, f.shape[-1]), axis=-2)
        hidden = self.dropout(jax.nn.relu(self.head_norm(self.head(pooled))))
        return [*maps, self.logits(hidden)]

    def _grid(self):
        """A new random grid; None, the group's own, in evaluation and where none is wanted."""
        return None if self.deterministic or not self.random_grids else self.group.grid(self.rngs())


class LieBlock(nnx.Module):
    """`relu(shortcut(f) + branch(f))` with two convolutions in the branch, and attention.

    Args:
      in_features: channels of the input.
      out_features: channels of the output.
      kernel_size: of the filters, in pixels.
      group: of the convolutions.
      kind: of the convolutions.
      attention: None, or its name.
      attention_options: of the attention's module.
      of_kernels: arguments of `LieConv` about kernel networks.
      **shared: dtypes and random streams.

    Source: Knigge et al. 2022, appendix B.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        group: LieGroup,
        kind: str,
        attention: AttentionName | None,
        attention_options: Mapping[str, Any] | None,
        of_kernels: Mapping[str, Any],
        **shared,
    ):
        of_norm = [shared[name] for name in ("dtype", "param_dtype", "rngs")]
        of_conv = kind, attention, attention_options, of_kernels
        self.first = AttendedConv(in_features, in_features, kernel_size, group, *of_conv, **shared)
        self.first_norm = batch_norm(in_features, *of_norm, epsilon=1e-5)
        self.second = AttendedConv(in_features, out_features, kernel_size, group, *of_conv, **shared)
        self.second_norm = batch_norm(out_features, *of_norm, epsilon=1e-5)
        self.shortcut = self.attention = nnx.data(None)
        if in_features != out_features:
            options = dict(of_kernels["network_options"] or {})
            if of_kernels["network"] != "b_spline":
                half = options.get("hidden_features", 64) // 2
                options["hidden_features"] = max(2, half - half % 2)
            of_shortcut = {**of_kernels, "network_options": options}
            self.shortcut = LieConv(in_features, out_features, 1, group, kind=kind, **of_shortcut, **shared)
        if attention is not None and attention not in ATTENTIVE_PAPER:
            self.attention = LieAttention(attention, out_features, group, **shared, **(attention_options or {}))

    def __call__(
        self,
        f: Float[Array, "*batch x y h c_in"],
        grid: Float[Array, "h d"] | None = None,
        inside: Float[Array, "h d"] | None = None,
    ) -> Float[Array, "*batch x y h c_out"]:
        """Adds what the branch makes of `f`.

        Args:
          f: feature map.
          grid: the elements that it lives on, and the output; None: the group's own.
          inside: those of the feature map between the convolutions; None: the group's own.

        Returns:
          Feature map.
        """
        branch = jax.nn.relu(self.first_norm(self.first(f, grid, inside)))
        branch = jax.nn.relu(self.second_norm(self.second(branch, inside, grid)))
        if self.attention is not None:
            branch = self.attention(branch)
        return jax.nn.relu(branch + (f if self.shortcut is None else self.shortcut(f, grid, grid)))


class AttendedConv(nnx.Module):
    """`LieConv` with the attentive paper's attention on its input, if that is the attention.

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
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        group: LieGroup,
        kind: str,
        attention: AttentionName | None,
        attention_options: Mapping[str, Any] | None,
        of_kernels: Mapping[str, Any],
        *,
        padding: str = "SAME",
        **shared,
    ):
        sizes = in_features, out_features, kernel_size, group
        self.conv = LieConv(*sizes, kind=kind, padding=padding, **of_kernels, **shared)
        self.attention = nnx.data(None)
        if attention in ATTENTIVE_PAPER:
            self.attention = LieAttention(attention, in_features, group, **shared, **(attention_options or {}))

    def __call__(
        self,
        f: Float[Array, "*batch x y h_in c_in"],
        in_grid: Float[Array, "h_in d"] | None = None,
        out_grid: Float[Array, "h d"] | None = None,
    ) -> Float[Array, "*batch x_out y_out h c_out"]:
        """Attends, then convolves."""
        return self.conv(f if self.attention is None else self.attention(f), in_grid, out_grid)
