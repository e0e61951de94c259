"""The residual network of the separable paper, on any Lie group."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.attention import OPERATORS
from attgconv_jax.checks import check_integer, check_odd, check_positive, check_rate
from attgconv_jax.filters import Sampling
from attgconv_jax.kernels.settings import Convolution, Precision
from attgconv_jax.lie.groups import LieGroup
from attgconv_jax.lie.kernel_networks import NETWORKS
from attgconv_jax.lie.kernels import Coordinates, Mask, least_size
from attgconv_jax.lie.pooling import max_pool
from attgconv_jax.models.base import check_image, register
from attgconv_jax.models.lie_network import AttendedConv, Layers, LieNetwork, RandomGrids, attention_of, global_max_pool
from attgconv_jax.nn import Dropout
from attgconv_jax.nn.module import Module

SIZE = 28


@register("lie_resnet", size=SIZE)
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
    >>> nnx.jit(lambda network, image: network(image))(network, jnp.ones([2, 28, 28, 1, 1], jnp.float32)).shape
    (2, 10)

    Other arguments are those of `Network` and `attgconv_jax.models.lie_network.LieNetwork`.

    Options:
      attention: None, or a name of `attgconv_jax.nn.ATTENTIONS`: "input", "input_channel", "input_spatial" and "co" on
        the input of every convolution but the lifting and the shortcuts, the others on what a residual branch adds.
      features: channels per group element, of the lifting and of every block.
      kernel_size: of all filters but those of shortcuts and of the last convolution, in pixels.
      last_kernel_size: of the last convolution's filter, in pixels, odd and at most the size of the feature map there;
        None: 3, or the least that holds the scales. The paper's code has what `kernel_size` leaves of the feature map,
        from 3 to 11: the same 3 at the sizes of the paper.
      head_features: of the linear layer.
      dropout_rate: before the logits.
      network_options: of the kernel networks; shortcuts have half as many hidden features, rounded to an even number.
      random_grids: whether in training every call draws new grids: one for the ends of all blocks, one for the inside
        of each, and one for the last convolution.

    Source: Knigge et al. 2022, appendix B, and its code. Scales that a 3x3 filter cannot hold in the coordinates of
    this library have the next larger filter in the last convolution.
    """

    def __init__(
        self,
        group: LieGroup,
        kind: str = "separable",
        attention: str | None = None,
        *,
        attention_options: Mapping[str, Any] | None = None,
        features: Sequence[int] = (32, 32, 64),
        kernel_size: int = 7,
        last_kernel_size: int | None = None,
        head_features: int = 256,
        in_features: int = 1,
        classes: int = 10,
        dropout_rate: float = 0.3,
        network: str = "siren",
        network_options: Mapping[str, Any] | None = None,
        coordinates: Coordinates = "periodic",
        mask: Mask = "smooth",
        random_grids: bool = False,
        sampling: Sampling = Sampling(),
        implementation: Convolution | None = None,
        precision: Precision | None = None,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        (head_features,) = check_positive(head_features=head_features)
        (dropout_rate,) = check_rate(dropout_rate=dropout_rate)
        if not isinstance(features, Sequence) or not 2 <= len(features) <= 3:
            raise ValueError(f"features must be two or three widths for images of {SIZE} pixels, got {features}")
        features = tuple(check_integer("features", width) for width in features)
        last_kernel_size = _last_kernel_size(last_kernel_size, group, coordinates, len(features))
        of_kernels = dict(network=network, network_options=network_options, coordinates=coordinates, mask=mask)
        shared = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        layers = Layers(group, kind, attention, attention_options, sampling, of_kernels, shared)
        sizes = dict(features=features, in_features=in_features, kernel_size=kernel_size, classes=classes)
        settings = dict(random_grids=random_grids, head_features=head_features, dropout_rate=dropout_rate)
        settings |= dict(last_kernel_size=last_kernel_size)
        settings |= dict(implementation=implementation, precision=precision)
        super().__init__(layers, **sizes, **settings)
        pairs = itertools.pairwise(features)
        self.blocks = nnx.List([LieBlock(before, width, kernel_size, layers) for before, width in pairs])
        self.block_norms = nnx.List([layers.norm(width) for width in features[1:]])
        last = features[-1]
        self.last = AttendedConv(last, last, last_kernel_size, _of_convolutions(layers), padding="VALID")
        self.last_norm = layers.norm(last)
        self.head = nnx.Linear(last, head_features, use_bias=False, **shared)
        self.head_norm = layers.norm(head_features)
        self.dropout = Dropout(dropout_rate, rngs=rngs)
        self.logits = nnx.Linear(head_features, classes, **shared)
        self.grids = RandomGrids(group, random_grids, rngs)

    def _features(self, image):
        check_image(image, SIZE, self.lifting.in_features)
        images = math.prod(image.shape[:-4])
        if not self.head_norm.use_running_average and self.head_norm.devices * images < 2:
            raise ValueError(
                f"training takes at least 2 images, or batch norm gives each the same logits, got shape {image.shape}; "
                "where the network is not to train, call its eval() first"
            )
        yield image
        grid = self.grids()
        f = jax.nn.relu(self.lifting_norm(self.lifting(image, None, grid)))
        yield f
        for block, norm in zip(self.blocks, self.block_norms, strict=True):
            f = self._block(LieBlock.__call__, block, f, grid, self.grids())
            f = jax.nn.relu(max_pool(norm(f), self.group))
            yield f
        f = jax.nn.relu(self.last_norm(self.last(f, grid, self.grids())))
        yield self.logits(self.dropout(jax.nn.relu(self.head_norm(self.head(global_max_pool(f))))))

    def _attentions(self):
        blocks = [block.attention_maps if block.attends else None for block in self.blocks]
        return [None, *blocks, attention_of(self.last)]


class LieBlock(Module):
    """`relu(shortcut(f) + branch(f))` with two convolutions in the branch, and attention; appendix B of the paper."""

    def __init__(self, in_features: int, out_features: int, kernel_size: int, layers: Layers):
        of_convolutions = _of_convolutions(layers)
        self.attends = layers.attention is not None
        self.first = AttendedConv(in_features, in_features, kernel_size, of_convolutions)
        self.first_norm = layers.norm(in_features)
        self.second = AttendedConv(in_features, out_features, kernel_size, of_convolutions)
        self.second_norm = layers.norm(out_features)
        self.shortcut = self.attention = nnx.data(None)
        if in_features != out_features:
            options = dict(layers.of_kernels["network_options"] or {})
            if "hidden_features" in NETWORKS[layers.of_kernels["network"]].options:
                half = options.get("hidden_features", 64) // 2
                options["hidden_features"] = max(2, half - half % 2)
            self.shortcut = layers.conv(in_features, out_features, 1, network_options=options)
        if layers.attention != of_convolutions.attention:
            self.attention = layers.attend(out_features)

    def __call__(self, f: Float[Array, "*batch x y h c_in"], grid=None, inside=None) -> Float[Array, "*batch x y h c"]:
        """Adds what the branch makes of `f`; `inside` is the grid between the convolutions, `grid` that of the ends."""
        branch = self._branch(f, grid, inside)
        branch = branch if self.attention is None else self.attention(branch)
        return jax.nn.relu(branch + (f if self.shortcut is None else self.shortcut(f, grid, grid)))

    def attention_maps(self, f: Float[Array, "*batch x y h c_in"]) -> Float[Array, "*batch #x #y #h #c"]:
        """The map of what the branch adds, or, of attention on inputs of convolutions, of the block's input."""
        if self.attention is None:
            return self.first.attention.attention_maps(f)
        # On the group's own grids, which a map has in evaluation.
        return self.attention.attention_maps(self._branch(f))

    def _branch(self, f, grid=None, inside=None):
        f = jax.nn.relu(self.first_norm(self.first(f, grid, inside)))
        return jax.nn.relu(self.second_norm(self.second(f, inside, grid)))


def _last_kernel_size(given, group, coordinates, widths):
    """The size of the last filter, which the feature map must hold."""
    least = 3 if coordinates == "paper" else least_size(group)
    left = SIZE // 2 ** (widths - 1)
    if least > left:
        raise ValueError(
            f"max_scale must be at most {(left - 1) // 2}: the last filter of {group} has {least} pixels, and the "
            f"feature map only {left}"
        )
    if given is None:
        return least
    (size,) = check_odd("or filters are off centre", last_kernel_size=given)
    if size > left:
        raise ValueError(f"last_kernel_size must be at most {left}, the pixels of the feature map there, got {size}")
    return size


def _of_convolutions(layers):
    """The attention of convolutions' inputs is the attentive paper's; others are on what a branch adds."""
    operator = OPERATORS.get(layers.attention)
    on_input = operator is not None and operator.site == "input"
    return layers if on_input else dataclasses.replace(layers, attention=None)
