"""The All-CNN-C of the separable paper, on any Lie group."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from attgconv_jax.checks import check_positive, check_rate
from attgconv_jax.filters import Sampling
from attgconv_jax.kernels.settings import Convolution, Precision
from attgconv_jax.lie.groups import LieGroup
from attgconv_jax.lie.kernels import Coordinates, Mask
from attgconv_jax.lie.pooling import max_pool
from attgconv_jax.models.base import check_image, register
from attgconv_jax.models.lie_network import AttendedConv, Layers, LieNetwork, RandomGrids, attention_of, global_max_pool
from attgconv_jax.nn import Dropout


class Layer(NamedTuple):
    """One convolution and what follows it; its channels are `width` times those of the network.

    The filter has the network's `kernel_size` where its own is None.
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


@register("lie_all_cnn", size=SIZE)
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

    Other arguments are those of `Network` and `attgconv_jax.models.lie_network.LieNetwork`.

    Options:
      attention: None, or a name of `attgconv_jax.nn.ATTENTIONS`: on the input of every convolution but the lifting.
      features: channels per group element of the first three layers; the others have twice as many.
      kernel_size: of the filters of the first seven layers, in pixels.
      lifting_dropout_rate: of the lifted image.
      dropout_rate: after the third and the sixth layer.
      random_grids: whether in training every convolution goes to a new grid.

    Source: Knigge et al. 2022, and its code; Springenberg et al. 2015. As in that code, the strides of Springenberg et
    al. are maxima over 2x2 pixels, exact on 32 and 16 pixels, and dropout is of the lifted image instead of the image.
    Otherwise than there, convolutions take no stride, which would sample these even sizes off centre; grids are random
    in training alone; and filters have 5x5 pixels, as a remark in it says, where it leaves their size to the caller.
    """

    def __init__(
        self,
        group: LieGroup,
        kind: str = "separable",
        attention: str | None = None,
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
        sampling: Sampling = Sampling(),
        implementation: Convolution | None = None,
        precision: Precision | None = None,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        (features,) = check_positive(features=features)
        rates = check_rate(lifting_dropout_rate=lifting_dropout_rate, dropout_rate=dropout_rate)
        of_kernels = dict(network=network, network_options=network_options, coordinates=coordinates, mask=mask)
        shared = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        layers = Layers(group, kind, attention, attention_options, sampling, of_kernels, shared)
        sizes = dict(features=features, in_features=in_features, kernel_size=kernel_size, classes=classes)
        settings = dict(random_grids=random_grids, lifting_dropout_rate=rates[0], dropout_rate=rates[1])
        settings |= dict(implementation=implementation, precision=precision)
        super().__init__(layers, **sizes, **settings)
        self.lifting_dropout = Dropout(lifting_dropout_rate, rngs=rngs)
        self.convolutions, self.norms, self.dropouts = nnx.List([]), nnx.List([]), nnx.List([])
        width = features
        for layer in LAYERS:
            before, width = width, layer.width * features
            self.convolutions.append(AttendedConv(before, width, layer.kernel_size or kernel_size, layers))
            self.norms.append(layers.norm(width))
            self.dropouts.append(Dropout(dropout_rate if layer.dropout else 0.0, rngs=rngs))
        self.classifier = AttendedConv(width, classes, 1, layers)
        self.grids = RandomGrids(group, random_grids, rngs)

    def _features(self, image):
        check_image(image, SIZE, self.lifting.in_features)
        yield image
        grid = self.grids()
        f = jax.nn.relu(self.lifting_norm(self.lifting_dropout(self.lifting(image, None, grid))))
        yield f
        for i in range(len(LAYERS)):
            before, grid = grid, self.grids()
            f = self._block(LieAllCNN._layer, self, f, before, grid, i=i)
            yield f
        yield global_max_pool(self.classifier(f, grid, self.grids()))

    def _layer(self, f, *grids, i):
        f = self.convolutions[i](f, *grids)
        f = max_pool(f, self.group) if LAYERS[i].pool else f
        return self.dropouts[i](jax.nn.relu(self.norms[i](f)))

    def _attentions(self):
        return [None, *map(attention_of, [*self.convolutions, self.classifier])]
