"""The DenseNet for PatchCamelyon: one description for every group and every attention."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.checks import check_boolean, check_positive
from attgconv_jax.convolution import mean_pool, project_mean
from attgconv_jax.filters import Sampling
from attgconv_jax.groups import Group, check_group
from attgconv_jax.initializers import FilterInitializer
from attgconv_jax.kernels.settings import Convolution, Precision
from attgconv_jax.models.base import Network, check_image, register
from attgconv_jax.models.layers import (
    HIDDEN_FEATURES,
    check_attention,
    check_implementation,
    convolution,
    reference_initializer,
)
from attgconv_jax.nn.nonlinearity import relu
from attgconv_jax.nn.norm import batch_norm


class Layer(NamedTuple):
    """One convolution behind norm and relu; `dilation` and `attention_size` are of spatial attention on its input."""

    kernel_size: int
    dilation: int = 1
    attention_size: int = 7
    large: bool = False


# A dense one, of 3x3 pixels, whose output joins what it was made of; then a transition, of 1x1 pixels, and a pooling.
# Spatial sizes, from 96: 94, 92 pooled to 46, 44 to 22, 20 to 10, 8 to 4, 2. All are symmetric grids. Those of more
# than 16x16 pixels are large.
LAYERS = (
    Layer(3, dilation=4, large=True),
    Layer(1, dilation=4, large=True),
    Layer(3, dilation=4, large=True),
    Layer(1, dilation=4, large=True),
    Layer(3, dilation=3, large=True),
    Layer(1, dilation=3, large=True),
    Layer(3, dilation=2),
    Layer(1),
    Layer(3, attention_size=5),
)
FIRST = Layer(3, dilation=4, large=True)
CLASSIFIER = Layer(1, attention_size=3)

SIZE = 96


class NormConv(nnx.Module):
    """A norm, a relu, and a convolution."""

    def __init__(self, features: int, conv: nnx.Module, oversampled: bool, masked: bool, **arrays):
        self.norm, self.conv = batch_norm(features, **arrays), conv
        self.oversampled, self.masked = oversampled, masked

    def activated(self, f: Float[Array, "*batch x y h c"]) -> Float[Array, "*batch x y h c"]:
        """What enters the convolution."""
        return relu(self.norm(f), self.oversampled, self.masked)


@register("densenet", size=SIZE)
class DenseNet(Network):
    """The densely connected network of the attentive paper's PatchCamelyon experiments.

    3x3 convolution; four times a dense layer, whose output joins its input, cropped by a pixel, and a transition: a 1x1
    convolution and the mean over 2x2 pixels; one more dense layer; a 1x1 convolution to the classes; the mean over
    pixels and group. A norm and a relu stand before every convolution but the first. No convolution is padded.

    | `group` | `attention` | parameters |
    |---|---|---|
    | `trivial()` | None | 130,598 |
    | `cyclic(4)` | None | 129,649 |
    | `cyclic(4)` | "input" | 140,453 |
    | `dihedral(4)` | None | 124,209 |
    | `dihedral(4)` | "input" | 141,221 |

    >>> import jax, jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax import cyclic
    >>> from attgconv_jax.models import DenseNet
    >>> def logits(image):
    ...     network = DenseNet(cyclic(4), "input", features=4, rngs=nnx.Rngs(0))
    ...     return network(image)
    >>> jax.eval_shape(logits, jnp.ones([2, 96, 96, 1, 3], jnp.float32)).shape
    (2, 2)

    Other arguments are those of `Network`.

    Options:
      attention: in every convolution; see `RotMNISTNet` ("non_local" and "self" where maps have at most 16x16 pixels,
        "sk" in those of 3x3 pixels).
      features: channels per group element of the first convolution, and that every dense layer adds; None: 26 over
        `sqrt(|H|)`, rounded: 13 for p4, 9 for p4m, as published.
      haar: whether group convolutions carry the Haar weight, as in the published networks.
      kernel_init: of all filters; None: as published, "he_normal" on the trivial group, else "paper_uniform" times
        `sqrt(2)`.

    Source: Veeling et al. 2018 (arXiv 1806.03962), but for two logits; Romero et al. 2020, section 5.3. The
    paper's channel attention has two hidden channels (as many as channels in the first layer), its spatial attention
    7x7 filters, dilated by 4, 3 and 2 pixels on large maps; 5x5 in the last dense layer, 3x3 in the classifier.
    """

    def __init__(
        self,
        group: Group,
        attention: str | None = None,
        *,
        attention_options: Mapping[str, Any] | None = None,
        features: int | None = None,
        in_features: int = 3,
        classes: int = 2,
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
        check_attention(attention, attention_options)
        check_implementation(implementation, attention)
        if features is None:
            features = round(26 / math.sqrt(group.order))
        sizes = dict(features=features, in_features=in_features, classes=classes)
        features, in_features, classes = check_positive(**sizes)
        check_boolean(antialiased=antialiased, oversampled=oversampled, masked=masked)
        (haar,) = check_boolean(haar=haar)
        settings = dict(features=features, in_features=in_features, classes=classes, haar=haar, dtype=dtype)
        settings |= dict(antialiased=antialiased, oversampled=oversampled, masked=masked, sampling=sampling)
        settings |= dict(implementation=implementation, precision=precision)
        super().__init__(group, attention, attention_options=attention_options, **settings)
        kernel_init = reference_initializer(group) if kernel_init is None else kernel_init
        arrays = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        shared = dict(haar=haar, sampling=sampling, antialiased=self.antialiased, **arrays)
        shared |= dict(kernel_init=kernel_init, attention_init=kernel_init, attention_options=attention_options)

        def conv(layer, c_in, c_out, hidden=HIDDEN_FEATURES, **options):
            of_attention = dict(input_dilation=layer.dilation, input_kernel_size=layer.attention_size)
            of_attention |= dict(hidden_features=hidden, own_reduction=True, large=layer.large)
            attends = None if attention == "sk" and layer.kernel_size == 1 else attention
            return convolution(attends, c_in, c_out, layer.kernel_size, group, **of_attention, **options, **shared)

        def norm_conv(layer, c_in, c_out):
            return NormConv(c_in, conv(layer, c_in, c_out), self.oversampled, self.masked, **arrays)

        self.lifting = conv(FIRST, in_features, features, hidden=in_features, lifting=True)
        self.layers = nnx.List([])
        channels = features
        for layer in LAYERS:
            dense = layer.kernel_size > 1
            self.layers.append(norm_conv(layer, channels, features if dense else channels))
            channels += features if dense else 0
        self.classifier = norm_conv(CLASSIFIER, channels, classes)
        self.in_features = in_features

    def _features(self, image):
        check_image(image, SIZE, self.in_features)
        image = self._masked(image)
        yield image
        f = self.lifting(image)
        for layer, of_layer in zip(self.layers, LAYERS, strict=True):
            activated, f = self._block(self._dense if of_layer.kernel_size > 1 else self._transition, layer, f)
            yield activated
        activated = self.classifier.activated(f)
        yield activated
        yield jnp.mean(project_mean(self.classifier.conv(activated)), axis=(-4, -3, -2))

    def _dense(self, layer, f):
        """What enters a dense layer's convolution, and what leaves the layer."""
        activated = layer.activated(f)
        return activated, jnp.concatenate([layer.conv(activated), f[..., 1:-1, 1:-1, :, :]], axis=-1)

    def _transition(self, layer, f):
        """Likewise of a transition."""
        activated = layer.activated(f)
        return activated, mean_pool(layer.conv(activated), self.group, antialiased=self.antialiased)

    def _attentions(self):
        convolutions = [self.lifting, *(layer.conv for layer in [*self.layers, self.classifier])]
        return [getattr(layer, "attention_maps", None) for layer in convolutions]
