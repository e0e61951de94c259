"""The All-CNN-C for CIFAR-10: one description for every group and every attention."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx

from attgconv_jax.checks import check_boolean, check_positive, check_rate
from attgconv_jax.convolution import max_pool, project_mean, smooth_max_pool
from attgconv_jax.filters import Sampling
from attgconv_jax.groups import Group, check_group
from attgconv_jax.initializers import FilterInitializer, draw_normal, paper_uniform, scaled
from attgconv_jax.kernels.settings import Convolution, Precision
from attgconv_jax.models.base import check_image, register
from attgconv_jax.models.layers import ConvolutionalNetwork
from attgconv_jax.nn import Dropout
from attgconv_jax.nn.nonlinearity import relu
from attgconv_jax.nn.norm import batch_norm


class Layer(NamedTuple):
    """One convolution and what follows it; its channels are `width` times those of the network."""

    width: int
    kernel_size: int = 3
    pool: bool = False


# Spatial sizes: 32 three times, pooled to 16 three times, pooled to 8 three times. All are symmetric grids. The ninth
# layer goes to the classes.
LAYERS = (Layer(1), Layer(1), Layer(1, pool=True), Layer(2), Layer(2), Layer(2, pool=True), Layer(2), Layer(2, 1))
CLASSIFIER_SIZE = 1
# So many layers have maps of more than 16x16 pixels.
LARGE = 3

SIZE = 32


@register("all_cnn", size=SIZE)
class AllCNN(ConvolutionalNetwork):
    """The nine-layer network of the attentive paper's CIFAR-10 experiments, with strides replaced by pooling.

    Nine times convolution, batch norm and relu, the third and sixth with a maximum over 2x2 pixels after the
    convolution and dropout at the end; then the mean over pixels and group.

    | `group` | `attention` | parameters |
    |---|---|---|
    | `trivial()` | None | 1,370,996 |
    | `cyclic(4)` | None | 1,370,372 |
    | `cyclic(4)` | "input" | 1,400,120 |
    | `cyclic(4)` | "response" | 3,642,388 |
    | `dihedral(4)` | None | 1,219,252 |
    | `dihedral(4)` | "input" | 1,249,192 |
    | `dihedral(4)` | "response" | 2,752,468 |

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax import dihedral
    >>> from attgconv_jax.models import AllCNN
    >>> network = AllCNN(dihedral(4), features=4, rngs=nnx.Rngs(0))
    >>> nnx.jit(lambda network, image: network(image))(network, jnp.ones([2, 32, 32, 1, 3], jnp.float32)).shape
    (2, 10)

    Other arguments are those of `Network`.

    Options:
      attention: in every convolution; see `RotMNISTNet` ("non_local" and "self" from the fourth on).
      features: channels per group element of the first three layers; None: 96 on the trivial group, 48 without
        reflections, else 32.
      input_dropout_rate: of the image.
      dropout_rate: after the third and the sixth layer.
      haar: whether group convolutions carry the Haar weight, as in the published networks.
      kernel_init: of all filters; None: as published, normal with deviation 0.05 on the trivial group, else
        "paper_uniform" times 0.035.

    Source: Springenberg et al. 2015; Romero et al. 2020, section 5.2. Channel attention has `c / 16` hidden channels
    (`c` in the first layer), spatial attention 7x7 filters. The reference's response-attentive network keeps strides
    of 2, which are not equivariant on its even sizes; ours pools instead.
    """

    def __init__(
        self,
        group: Group,
        attention: str | None = None,
        *,
        attention_options: Mapping[str, Any] | None = None,
        features: int | None = None,
        in_features: int = 3,
        classes: int = 10,
        input_dropout_rate: float = 0.2,
        dropout_rate: float = 0.5,
        haar: bool = True,
        kernel_init: FilterInitializer | None = None,
        sampling: Sampling = Sampling(),
        antialiased: bool = False,
        oversampled: bool = False,
        masked: bool = False,
        implementation: Convolution | None = None,
        precision: Precision | None = None,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_group(group)
        if features is None:
            features = 96 if group.order == 1 else 32 if group.reflections else 48
        features, in_features, classes = check_positive(features=features, in_features=in_features, classes=classes)
        check_boolean(antialiased=antialiased, oversampled=oversampled, masked=masked)
        rates = check_rate(input_dropout_rate=input_dropout_rate, dropout_rate=dropout_rate)
        if kernel_init is None:
            kernel_init = scaled(0.05, draw_normal) if group.order == 1 else scaled(0.035, paper_uniform)
        widths = [in_features, *[layer.width * features for layer in LAYERS], classes]
        hidden = [in_features, *(max(1, width // 16) for width in widths[1:])]
        layers = [
            dict(kernel_size=size, padding=size // 2, hidden_features=hidden[i], large=i < LARGE)
            for i, size in enumerate([*(layer.kernel_size for layer in LAYERS), CLASSIFIER_SIZE])
        ]
        settings = dict(features=features, input_dropout_rate=rates[0], dropout_rate=rates[1])
        arrays = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        filters = dict(kernel_init=kernel_init, attention_init=kernel_init, sampling=sampling)
        shared = dict(haar=haar, antialiased=antialiased, oversampled=oversampled, masked=masked, **filters, **arrays)
        shared |= dict(attention_options=attention_options, implementation=implementation, precision=precision)
        super().__init__(group, attention, widths, layers, settings, **shared)
        self.norms = nnx.List([batch_norm(width, **arrays) for width in widths[1:]])
        self.input_dropout = Dropout(input_dropout_rate, rngs=rngs)
        self.dropouts = nnx.List([Dropout(dropout_rate if layer.pool else 0.0, rngs=rngs) for layer in LAYERS])

    def _start(self, image):
        check_image(image, SIZE, self.in_features)
        return self.input_dropout(self._masked(image))

    def _follow(self, i, f):
        pools = i < len(LAYERS) and LAYERS[i].pool
        # Before norm and relu, which see fewer pixels so; a smooth maximum is one of activations.
        if pools and not self.antialiased:
            f = max_pool(f, self.group)
        f = relu(self.norms[i](f), self.oversampled, self.masked)
        if pools and self.antialiased:
            f = smooth_max_pool(f, self.group)
        if i < len(LAYERS):
            return self.dropouts[i](f)
        return jnp.mean(project_mean(f), axis=(-4, -3, -2))
