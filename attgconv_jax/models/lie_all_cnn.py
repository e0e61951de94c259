"""The All-CNN-C of the separable paper, on any Lie group."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.lie.groups import LieGroup
from attgconv_jax.lie.kernels import Coordinates, Mask
from attgconv_jax.lie.pooling import max_pool
from attgconv_jax.models.layers import check_image
from attgconv_jax.models.lie_network import AttendedConv, LieNetwork, RandomGrids, global_max_pool
from attgconv_jax.nn import Dropout
from attgconv_jax.nn.attentive import AttentionName
from attgconv_jax.nn.norm import batch_norm


class Layer(NamedTuple):
    """One convolution and what follows it; its channels are `width` times those of the network.

    Attributes:
      width: in units of the network's channels.
      kernel_size: in pixels; None: the network's.
      pool: whether a maximum over 2x2 pixels follows.
      dropout: whether dropout follows.
    """

    width: int
    kernel_size: int | None = None
    pool: bool = False
    dropout: bool = False


# After the lifting. Spatial sizes: 32 with the lifting twice, pooled to 16 three times, pooled to 8. All are symmetric
# grids. A ninth layer goes to the classes.
LAYERS = (
    Layer(1, pool=True),
    Layer(1, dropout=True),
    Layer(2),
    Layer(2, pool=True),
    Layer(2, dropout=True),
    Layer(2),
    Layer(2, kernel_size=1),
)

SIZE = 32


class LieAllCNN(LieNetwork):
    """The nine-layer network of the separable paper's CIFAR-10 experiments (its `ckgallcnnc`).

    Lifting, dropout, batch norm, relu; seven times convolution, batch norm and relu, the first and fourth with a
    maximum over 2x2 pixels after the convolution, the second and fifth with dropout at the end; a convolution to the
    classes, and the maximum over pixels and group.

    | `group` | `kind` | parameters, paper's coordinates |
    |---|---|---|
    | SE(2), `rotations(n)` | "nonseparable" | 12,166,496 |
    | | "gseparable" | 24,305,888 |
    | | "separable" | 12,275,818 |
    | | "dseparable" | 322,666 |
    | | "dgseparable" | 431,988 |
    | Sim(2), `similarities(n, m, s)` | "separable+2d" | 12,385,652 |

    >>> import jax, jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax.lie import rotations
    >>> from attgconv_jax.models import LieAllCNN
    >>> def logits(image):
    ...     network = LieAllCNN(rotations(4), features=4, rngs=nnx.Rngs(0))
    ...     return network(image)
    >>> jax.eval_shape(logits, jnp.ones([2, 32, 32, 1, 3], jnp.float32)).shape
    (2, 10)

    Args:
      group: of the convolutions.
      kind: of all convolutions but the lifting; see `LieConv`.
      attention: None, or a name of `attgconv_jax.nn.ATTENTIONS`: on the input of every convolution but the lifting.
      attention_options: further arguments of every attention's module.
      features: channels per group element of the first three layers; the others have twice as many.
      kernel_size: of the filters of the first seven layers, in pixels.
      in_features: channels of the image.
      classes: number of logits.
      lifting_dropout_rate: of the lifted image.
      dropout_rate: after the third and the sixth layer.
      network: of the kernels; see `LieConv`.
      network_options: of the kernel networks.
      coordinates: "periodic", "angle", or "paper" for the paper's; see `LieConv`.
      mask: how kernels end, but the paper's coordinates have masks of their own.
      random_grids: whether in training every convolution goes to a new grid.
      dtype: to compute in; None: the common type of input and parameters.
      param_dtype: of the parameters.
      rngs: its "params", "dropout" and, for random grids, "grid" streams are used.

    Raises:
      ValueError: a size is out of range, or an unknown name.

    Source: Knigge et al. 2022, and its code; Springenberg et al. 2015. As in that code, the strides of Springenberg et
    al. are maxima over 2x2 pixels, exact on 32 and 16 pixels, and dropout is of the lifted image instead of the image.
    Otherwise than there, convolutions take no stride, which would sample these even sizes off centre; grids are random
    in training alone; and filters have 5x5 pixels, as a remark in it says, where it leaves their size to the caller.
    """

    def __init__(
        self,
        group: LieGroup,
        kind: str = "separable",
        attention: AttentionName | None = None,
        *,
        attention_options: Mapping[str, Any] | None = None,
        features: int = 96,
        kernel_size: int = 5,
        in_features: int = 3,
        classes: int = 10,
        lifting_dropout_rate: float = 0.2,
        dropout_rate: float = 0.5,
        network: str = "siren",
        network_options: Mapping[str, Any] | None = None,
        coordinates: Coordinates = "periodic",
        mask: Mask = "smooth",
        random_grids: bool = False,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        of_kernels = dict(network=network, network_options=network_options, coordinates=coordinates, mask=mask)
        shared = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        of_conv = dict(group=group, kind=kind, attention=attention, attention_options=attention_options)
        of_conv |= dict(of_kernels=of_kernels, **shared)
        settings = dict(
            features=features,
            kernel_size=kernel_size,
            in_features=in_features,
            classes=classes,
            lifting_dropout_rate=float(lifting_dropout_rate),
            dropout_rate=float(dropout_rate),
            random_grids=random_grids,
        )
        super().__init__(features, settings, **of_conv)
        self.lifting_dropout = Dropout(lifting_dropout_rate, rngs=rngs)
        self.convolutions, self.norms, self.dropouts = nnx.List([]), nnx.List([]), nnx.List([])
        width = features
        for layer in LAYERS:
            before, width = width, layer.width * features
            self.convolutions.append(AttendedConv(before, width, layer.kernel_size or kernel_size, **of_conv))
            self.norms.append(batch_norm(width, epsilon=1e-5, **shared))
            self.dropouts.append(Dropout(dropout_rate if layer.dropout else 0.0, rngs=rngs))
        self.classifier = AttendedConv(width, classes, 1, **of_conv)
        self.grids = RandomGrids(group, random_grids, rngs)

    def feature_maps(self, image: Float[Array, "*batch x y 1 c"]) -> list[Float[Array, "..."]]:
        """What enters every convolution, and the logits.

        Args:
          image: standardised, of 32x32 pixels.

        Returns:
          The image, the feature maps, the logits.

        Raises:
          ValueError: the image has another size.
        """
        check_image(image, SIZE)
        grid = self.grids()
        lifted = self.lifting_norm(self.lifting_dropout(self.lifting(image, None, grid)))
        maps = [image, jax.nn.relu(lifted)]
        for layer, conv, norm, dropout in zip(LAYERS, self.convolutions, self.norms, self.dropouts, strict=True):
            before, grid = grid, self.grids()
            f = conv(maps[-1], before, grid)
            f = max_pool(f, self.group) if layer.pool else f
            maps.append(dropout(jax.nn.relu(norm(f))))
        logits = global_max_pool(self.classifier(maps[-1], grid, self.grids()))
        return [*maps, logits]
