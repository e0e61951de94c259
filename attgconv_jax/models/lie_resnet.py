"""The residual network of the separable paper, on any Lie group."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.checks import check_positive
from attgconv_jax.lie.groups import LieGroup
from attgconv_jax.lie.kernel_networks import NETWORKS
from attgconv_jax.lie.kernels import Coordinates, Mask, least_size
from attgconv_jax.lie.pooling import max_pool
from attgconv_jax.models.layers import check_image
from attgconv_jax.models.lie_network import AttendedConv, LieNetwork, RandomGrids, global_max_pool
from attgconv_jax.nn import Dropout, LieAttention, LieConv
from attgconv_jax.nn.attentive import ATTENTIVE_PAPER, AttentionName
from attgconv_jax.nn.norm import batch_norm

SIZE = 28


class LieResNet(LieNetwork):
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
      coordinates: "periodic", "angle", or "paper" for the paper's; see `LieConv`.
      mask: how kernels end, but the paper's coordinates have masks of their own.
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
        network: str = "siren",
        network_options: Mapping[str, Any] | None = None,
        coordinates: Coordinates = "periodic",
        mask: Mask = "smooth",
        random_grids: bool = False,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_positive(head_features=head_features)
        if not isinstance(features, Sequence) or not 2 <= len(features) <= 3:
            raise ValueError(f"features must be two or three widths for images of {SIZE} pixels, got {features}")
        for width in features:
            check_positive(features=width)
        of_kernels = dict(network=network, network_options=network_options, coordinates=coordinates, mask=mask)
        shared = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        of_conv = dict(group=group, kind=kind, attention_options=attention_options, of_kernels=of_kernels, **shared)
        settings = dict(
            features=tuple(features),
            kernel_size=kernel_size,
            head_features=head_features,
            in_features=in_features,
            classes=classes,
            dropout_rate=float(dropout_rate),
            random_grids=random_grids,
        )
        super().__init__(features[0], settings, attention=attention, **of_conv)
        self.blocks = nnx.List([])
        for before, width in itertools.pairwise(features):
            self.blocks.append(LieBlock(before, width, kernel_size, attention=attention, **of_conv))
        self.block_norms = nnx.List([batch_norm(width, epsilon=1e-5, **shared) for width in features[1:]])
        least = 3 if coordinates == "paper" else least_size(group)
        left = SIZE // 2 ** (len(features) - 1)
        if least > left:
            raise ValueError(
                f"max_scale must be at most {(left - 1) // 2}: the last filter of {group} has {least} pixels, and the "
                f"feature map only {left}"
            )
        last = features[-1]
        self.last = AttendedConv(last, last, least, attention=_on_input(attention), padding="VALID", **of_conv)
        self.last_norm = batch_norm(last, epsilon=1e-5, **shared)
        self.head = nnx.Linear(last, head_features, use_bias=False, **shared)
        self.head_norm = batch_norm(head_features, epsilon=1e-5, **shared)
        self.dropout = Dropout(dropout_rate, rngs=rngs)
        self.logits = nnx.Linear(head_features, classes, **shared)
        self.grids = RandomGrids(group, random_grids, rngs)

    def feature_maps(self, image: Float[Array, "*batch x y 1 c"]) -> list[Float[Array, "..."]]:
        """What enters the lifting, every block and the last convolution, and the logits.

        Args:
          image: standardised, of 28x28 pixels.

        Returns:
          The image, the feature maps, the logits.

        Raises:
          ValueError: the image has another size, or there are fewer than two in training.
        """
        check_image(image, SIZE)
        if not self.head_norm.use_running_average and math.prod(image.shape[:-4]) < 2:
            raise ValueError(
                f"training takes at least 2 images, or batch norm gives each the same logits, got shape {image.shape}; "
                "where the network is not to train, call its eval() first"
            )
        grid = self.grids()
        f = jax.nn.relu(self.lifting_norm(self.lifting(image, None, grid)))
        maps = [image, f]
        for block, norm in zip(self.blocks, self.block_norms, strict=True):
            f = block(f, grid, self.grids())
            f = jax.nn.relu(max_pool(norm(f), self.group))
            maps.append(f)
        f = jax.nn.relu(self.last_norm(self.last(f, grid, self.grids())))
        hidden = self.dropout(jax.nn.relu(self.head_norm(self.head(global_max_pool(f)))))
        return [*maps, self.logits(hidden)]


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
        *,
        group: LieGroup,
        kind: str,
        attention: AttentionName | None,
        attention_options: Mapping[str, Any] | None,
        of_kernels: Mapping[str, Any],
        **shared,
    ):
        of_conv = dict(group=group, kind=kind, attention=_on_input(attention), attention_options=attention_options)
        of_conv |= dict(of_kernels=of_kernels, **shared)
        self.first = AttendedConv(in_features, in_features, kernel_size, **of_conv)
        self.first_norm = batch_norm(in_features, epsilon=1e-5, **shared)
        self.second = AttendedConv(in_features, out_features, kernel_size, **of_conv)
        self.second_norm = batch_norm(out_features, epsilon=1e-5, **shared)
        self.shortcut = self.attention = nnx.data(None)
        if in_features != out_features:
            options = dict(of_kernels["network_options"] or {})
            if "hidden_features" in NETWORKS[of_kernels["network"]].options:
                half = options.get("hidden_features", 64) // 2
                options["hidden_features"] = max(2, half - half % 2)
            of_shortcut = {**of_kernels, "network_options": options}
            self.shortcut = LieConv(in_features, out_features, 1, group, kind=kind, **of_shortcut, **shared)
        if attention != _on_input(attention):
            options = dict(coordinates=of_kernels["coordinates"], **shared, **(attention_options or {}))
            self.attention = LieAttention(attention, out_features, group, **options)

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


def _on_input(attention):
    """The attention of a convolution's input: the attentive paper's; others are on what a branch adds."""
    return attention if attention in ATTENTIVE_PAPER else None
