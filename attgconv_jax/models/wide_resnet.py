"""Wide residual networks: one description for every depth, every width, every group and every attention."""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx

from attgconv_jax.checks import check_positive, check_rate
from attgconv_jax.convolution import project_mean
from attgconv_jax.filters import Sampling
from attgconv_jax.groups import Group, check_group
from attgconv_jax.kernels.settings import Convolution, Precision
from attgconv_jax.models.base import register
from attgconv_jax.models.preactivation import SIZE, STAGES, Downsampling, PreActivationNetwork, blocks_of


@register("wide_resnet", size=SIZE, defaults={"depth": 16, "widen_factor": 8})
class WideResNet(PreActivationNetwork):
    """The wide residual networks for CIFAR, WRN-16-8 and WRN-28-10 among them.

    3x3 convolution; three stages of blocks of two 3x3 convolutions, each behind a norm (of epsilon 1e-5) and a relu;
    norm, relu, the mean over pixels and group, a linear layer. Where channels change, the shortcut is a 1x1 convolution
    of what enters the block's first convolution. The second and the third stage halve the map, by a maximum over 2x2
    pixels, which is exact on every group, or, as published, by strides of two.

    | `depth`, `widen_factor` | `attention` | parameters, `trivial()` | `cyclic(4)` | `dihedral(4)` |
    |---|---|---|---|---|
    | 16, 8 | None | 10,961,370 | 10,954,994 | 12,321,976 |
    | 16, 8 | "se" | 11,049,290 | 11,041,962 | 12,419,458 |
    | 28, 10 | None | 36,479,194 | 36,466,802 | 41,020,504 |
    | 28, 10 | "se" | 36,752,754 | 36,737,982 | 41,317,964 |

    >>> import jax, jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax import cyclic
    >>> from attgconv_jax.models import WideResNet
    >>> def logits(image):
    ...     network = WideResNet(10, 2, cyclic(4), "se", features=4, rngs=nnx.Rngs(0))
    ...     return network(image)
    >>> jax.eval_shape(logits, jnp.ones([2, 32, 32, 1, 3], jnp.float32)).shape
    (2, 10)

    Other arguments are those of `Network`.

    Options:
      depth: layers, six times the blocks of a stage and four: 10, 16, 22, 28, 34, 40 and so on.
      widen_factor: channels of the first stage over those of the first convolution.
      attention: None; on what every block adds "se", "ge", "cbam", "sge", "gc", "srm", "eca", "coordinate"; on the
        output of the first two stages "bam", of the second "non_local"; in every convolution, shortcuts included, an
        operator on its input or on its responses ("input", "co", "response" and their parts), "sk" in those of 3x3
        pixels.
      features: channels per group element of the first convolution; None: `16 / sqrt(|H|)`, rounded: 16 on the trivial
        group, 8 for p4, 6 for p4m.
      dropout_rate: between the two convolutions of every block.
      downsampling: "pool", or "stride": both convolutions have strides of two instead, as in the published networks,
        which samples 32 pixels off centre.
      exact: whether strides on a group that reverses an axis raise.

    Source: Zagoruyko and Komodakis 2016 (arXiv 1605.07146). Published weights are of `downsampling="stride"` on the
    trivial group and have the same number of parameters.
    """

    def __init__(
        self,
        depth: int,
        widen_factor: int,
        group: Group,
        attention: str | None = None,
        *,
        attention_options: Mapping[str, Any] | None = None,
        features: int | None = None,
        in_features: int = 3,
        classes: int = 10,
        dropout_rate: float = 0.0,
        downsampling: Downsampling = "pool",
        exact: bool = True,
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
        features = round(16 / math.sqrt(group.order)) if features is None else features
        sizes = dict(features=features, in_features=in_features, classes=classes, widen_factor=widen_factor)
        features, in_features, classes, widen_factor = check_positive(**sizes)
        (dropout_rate,) = check_rate(dropout_rate=dropout_rate)
        blocks = blocks_of(depth, 4)
        settings = dict(depth=6 * blocks + 4, widen_factor=widen_factor, features=features, classes=classes)
        super().__init__(
            group,
            attention,
            [features, *(widen_factor * features * 2**stage for stage in range(STAGES))],
            blocks,
            settings | dict(dropout_rate=dropout_rate),
            in_features=in_features,
            activated=True,
            hidden_features=lambda channels: max(1, channels // 16),
            epsilon=1e-5,
            dropout_rate=dropout_rate,
            downsampling=downsampling,
            exact=exact,
            attention_options=attention_options,
            sampling=sampling,
            antialiased=antialiased,
            oversampled=oversampled,
            masked=masked,
            implementation=implementation,
            precision=precision,
            dtype=dtype,
            param_dtype=param_dtype,
            rngs=rngs,
        )

    def _classifier(self, features, classes, conv, arrays):
        return nnx.Linear(features, classes, **arrays)

    def _classify(self, f):
        yield f
        yield self.classifier(jnp.mean(project_mean(f), axis=(-4, -3, -2)))
