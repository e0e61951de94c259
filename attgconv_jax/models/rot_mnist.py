"""The rot-MNIST network: one description for every group and every attention."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx

from attgconv_jax.checks import check_boolean, check_integer, check_odd, check_positive, check_rate
from attgconv_jax.convolution import project_max
from attgconv_jax.filters import Sampling
from attgconv_jax.groups import Group, check_group
from attgconv_jax.initializers import FilterInitializer
from attgconv_jax.kernels.settings import Convolution, Precision
from attgconv_jax.models.base import check_image, register
from attgconv_jax.models.layers import ConvolutionalNetwork, check_kind, pool_activations
from attgconv_jax.nn import Dropout
from attgconv_jax.nn.nonlinearity import relu
from attgconv_jax.nn.norm import batch_norm
from attgconv_jax.separable import Kind, former_kind


class Layer(NamedTuple):
    """One convolution and what follows it; `input_dilation` is of attention on its input, that on responses has 1."""

    input_dilation: int = 1
    pool: bool = False
    dropout: bool = True


# Spatial sizes after each layer: 28 -> 26, 24 pooled to 12, 10, 8, 6, 4, 1. All are symmetric grids.
LAYERS = (Layer(input_dilation=4), Layer(pool=True, dropout=False), Layer(), Layer(), Layer(), Layer())
# What is left after them, which the last convolution takes whole.
CLASSIFIER_SIZE = 4
# So many layers have maps of more than 12x12 pixels.
LARGE = 2

SIZE = 28


@register("rot_mnist", size=SIZE)
class RotMNISTNet(ConvolutionalNetwork):
    """The seven-layer network of the attentive paper's rot-MNIST experiments.

    Six times convolution, batch norm and relu, with dropout (in the second layer a maximum over 2x2 pixels instead);
    then a convolution over the 4x4 pixels left, and the maximum over the group.

    | `group` | `attention` | parameters | the paper's name |
    |---|---|---|---|
    | `trivial()` | None | 21,620 | Z2CNN |
    | `cyclic(4)` | None | 24,610 | p4-CNN |
    | `cyclic(4)` | "input" | 29,462 | alpha_F-p4-CNN |
    | `cyclic(4)` | "co" | 24,851 | co-attentive (RomHog) p4-CNN |
    | `cyclic(4)` | "response" | 73,130 | alpha-p4-CNN |
    | `cyclic(4)` | "response_channel" | 48,630 | alpha_CH-p4-CNN |
    | `cyclic(4)` | "response_spatial" | 49,110 | alpha_SP-p4-CNN |

    Of kind "gseparable" `cyclic(4)` without attention has 8,710 parameters, of kind "separable" 3,220.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax import cyclic
    >>> from attgconv_jax.models import RotMNISTNet
    >>> network = RotMNISTNet(cyclic(4), attention="input", rngs=nnx.Rngs(0))
    >>> nnx.jit(lambda network, image: network(image))(network, jnp.ones([8, 28, 28, 1, 1], jnp.float32)).shape
    (8, 10)

    Other arguments are those of `Network`.

    Options:
      attention: in every convolution: None; on its input, "input" (channel and spatial), "input_channel",
        "input_spatial" or "co"; on its responses, "response" (channel and spatial), "response_channel" or
        "response_spatial"; or an operator of another paper, a name of `attgconv_jax.attention.OPERATORS`. Those act on
        the input of every convolution but the first, which is an image; "non_local" and "self" from the third on; "sk"
        takes the place of every convolution but the last.
      kind: of the filters: "nonseparable", "gseparable" or "separable"; see `attgconv_jax.nn.SeparableGroupConv`. That
        of the first convolution is nonseparable. The others go with attention on the input.
      kernel_size: of all filters but those of the last convolution; odd and at least 3. Larger ones have as much
        padding as keeps the sizes of feature maps. On groups with other angles than right ones 5 or more is better.
      features: channels per group element, of all layers or of each of the six; None: 20 on the trivial group, else 10.
      dropout_rate: after every layer but the second and the last.
      haar: whether group convolutions carry the Haar weight, as in the published networks.
      kernel_init: of the convolutions' filters; None: as published, "paper_normal" on the trivial group, else
        "paper_uniform", as the filters of attention are.

    Source: Romero et al. 2020, section 5.1; Cohen and Welling 2016, section 8.1; Lengyel and van Gemert 2021
    (`kind`).
    """

    @former_kind
    def __init__(
        self,
        group: Group,
        attention: str | None = None,
        *,
        attention_options: Mapping[str, Any] | None = None,
        kind: Kind = "nonseparable",
        kernel_size: int = 3,
        features: int | Sequence[int] | None = None,
        in_features: int = 1,
        classes: int = 10,
        dropout_rate: float = 0.3,
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
        check_kind(kind, attention)
        if features is None:
            features = 20 if group.order == 1 else 10
        if kernel_init is None:
            kernel_init = "paper_normal" if group.order == 1 else "paper_uniform"
        widths = tuple(features) if isinstance(features, Sequence) else (features,) * len(LAYERS)
        if len(widths) != len(LAYERS):
            raise ValueError(f"features must be one number or {len(LAYERS)}, a layer each, got {features}")
        widths = tuple(check_integer("features", width) for width in widths)
        in_features, classes = check_positive(in_features=in_features, classes=classes)
        check_boolean(antialiased=antialiased, oversampled=oversampled, masked=masked)
        (dropout_rate,) = check_rate(dropout_rate=dropout_rate)
        (kernel_size,) = check_odd("or feature maps change their sizes", kernel_size=kernel_size)
        check_integer("kernel_size", kernel_size, 3)
        layers = [
            dict(
                kernel_size=kernel_size,
                padding=kernel_size // 2 - 1,
                input_dilation=layer.input_dilation,
                large=i < LARGE,
            )
            for i, layer in enumerate(LAYERS)
        ]
        layers.append(dict(kernel_size=CLASSIFIER_SIZE, input_dilation=1, large=False))
        features = widths if len(set(widths)) > 1 else widths[0]
        settings = dict(kind=kind, kernel_size=kernel_size, features=features, dropout_rate=dropout_rate)
        arrays = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        shared = dict(attention_options=attention_options, kind=kind, haar=haar, kernel_init=kernel_init, **arrays)
        channels = [in_features, *widths, classes]
        shared |= dict(sampling=sampling, antialiased=antialiased, oversampled=oversampled, masked=masked)
        shared |= dict(implementation=implementation, precision=precision)
        super().__init__(group, attention, channels, layers, settings, **shared)
        self.norms = nnx.List([batch_norm(width, **arrays) for width in widths])
        self.dropouts = nnx.List([Dropout(dropout_rate if layer.dropout else 0.0, rngs=rngs) for layer in LAYERS])

    def _start(self, image):
        check_image(image, SIZE, self.in_features)
        return self._masked(image)

    def _features(self, image):
        # Every draw is several kernels on an accelerator: one a call, of which the layers take consecutive numbers.
        dropping = [dropout for dropout in self.dropouts if dropout.drops]
        key = dropping[0].rngs() if dropping else None
        f, start = self._start(image), 0
        yield f
        for i in range(len(self.convolutions)):
            f = self._block(RotMNISTNet._layer, self, f, key, i=i, start=start)
            start += 0 if key is None else f.size
            yield f

    def _layer(self, f, key, *, i, start):
        f = self._follow(i, self.convolutions[i](f))
        return f if key is None or i == len(LAYERS) else self.dropouts[i](f, key, start)

    def _follow(self, i, f):
        if i == len(LAYERS):
            return project_max(f)[..., 0, 0, 0, :]
        f = relu(self.norms[i](f), self.oversampled, self.masked)
        if LAYERS[i].pool:
            f = pool_activations(f, self.group, antialiased=self.antialiased)
        return f
