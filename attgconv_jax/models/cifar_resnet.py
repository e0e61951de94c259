"""The residual networks for CIFAR-10, ResNet-44 among them: one description for every group and every attention."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx

from attgconv_jax.checks import check_boolean, check_integer, check_positive
from attgconv_jax.convolution import project_mean
from attgconv_jax.filters import Sampling
from attgconv_jax.groups import Group, check_group
from attgconv_jax.initializers import FilterInitializer
from attgconv_jax.kernels.settings import Convolution, Precision
from attgconv_jax.models.base import register
from attgconv_jax.models.layers import HIDDEN_FEATURES, reference_initializer
from attgconv_jax.models.preactivation import SIZE, STAGES, Downsampling, PreActivationNetwork, blocks_of


@register("cifar_resnet", size=SIZE)
class CIFARResNet(PreActivationNetwork):
    """The ResNet-44 of the group papers' CIFAR-10 experiments, with strides replaced by pooling.

    3x3 convolution; three stages of seven blocks `conv(relu(norm(conv(relu(norm(f)))))) + shortcut(f)`; norm, relu, the
    mean over pixels, a 1x1 convolution to the classes, the mean over the group. The second and the third stage begin
    with a maximum over 2x2 pixels after the block's first convolution, and after the 1x1 convolution of its shortcut.

    | `group` | `attention` | parameters |
    |---|---|---|
    | `trivial()` | None | 2,636,064 |
    | `cyclic(4)` | None | 2,633,744 |
    | `cyclic(4)` | "input" | 2,677,612 |
    | `dihedral(4)` | None | 2,621,683 |
    | `dihedral(4)` | "input" | 2,693,911 |

    >>> import jax, jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax import dihedral
    >>> from attgconv_jax.models import CIFARResNet
    >>> def logits(image):
    ...     network = CIFARResNet(dihedral(4), depth=8, features=4, rngs=nnx.Rngs(0))
    ...     return network(image)
    >>> jax.eval_shape(logits, jnp.ones([2, 32, 32, 1, 3], jnp.float32)).shape
    (2, 10)

    Other arguments are those of `Network`.

    Options:
      attention: None; in every convolution, shortcuts and classifier included, an operator on its input or on its
        responses ("input", "co", "response" and their parts), "sk" in those of 3x3 pixels; on what every block adds
        "se", "ge", "cbam", "sge", "gc", "srm", "eca", "coordinate"; on the output of the first two stages "bam", of the
        second "non_local".
      depth: layers, six times the blocks of a stage and two: 8, 14, 20, 26, 32, 38, 44 and so on.
      features: channels per group element of the three stages, or of the first of them, which is doubled; None: 32, 64
        and 128 over `sqrt(|H|)`, rounded: 11, 23 and 45 for p4m, as published.
      downsampling: "pool", exact on every group; "stride": both convolutions have strides of two instead, which samples
        32 pixels off centre.
      exact: whether strides on a group that reverses an axis raise.
      haar: whether group convolutions carry the Haar weight, as in the published networks.
      kernel_init: of all filters; None: as published, "he_normal" on the trivial group, else "paper_uniform" times
        `sqrt(2)`.

    Source: He et al. 2016 (arXiv 1603.05027); Cohen and Welling 2016, section 8.2; Romero et al. 2020, section 5.2.
    The paper's channel attention has two hidden channels (in the first layer as many as channels), its spatial
    attention 7x7 filters. The reference's `f_att_p4m_resnet44` reflects its input on entry, which no logit of an
    invariant network shows; ours does not.
    """

    def __init__(
        self,
        group: Group,
        attention: str | None = None,
        *,
        depth: int = 44,
        attention_options: Mapping[str, Any] | None = None,
        features: int | Sequence[int] | None = None,
        in_features: int = 3,
        classes: int = 10,
        downsampling: Downsampling = "pool",
        exact: bool = True,
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
            features = [round(32 * 2**stage / math.sqrt(group.order)) for stage in range(STAGES)]
        widths = (
            tuple(features)
            if isinstance(features, Sequence)
            else tuple(check_positive(features=features)[0] * 2**stage for stage in range(STAGES))
        )
        if len(widths) != STAGES:
            raise ValueError(f"features must be one number or {STAGES}, one per stage, got {features}")
        widths = tuple(check_integer("features", width) for width in widths)
        in_features, classes = check_positive(in_features=in_features, classes=classes)
        (haar,) = check_boolean(haar=haar)
        kernel_init = reference_initializer(group) if kernel_init is None else kernel_init
        blocks = blocks_of(depth, 2)
        super().__init__(
            group,
            attention,
            [widths[0], *widths],
            blocks,
            dict(depth=6 * blocks + 2, features=widths, classes=classes, haar=haar),
            in_features=in_features,
            activated=False,
            hidden_features=lambda channels: HIDDEN_FEATURES,
            epsilon=2e-5,
            dropout_rate=0.0,
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
            haar=haar,
            kernel_init=kernel_init,
            attention_init=kernel_init,
        )

    def _classifier(self, features, classes, conv, arrays):
        return conv(features, classes, 1)

    def _classify(self, f):
        f = jnp.mean(f, axis=(-4, -3), keepdims=True)
        yield f
        yield project_mean(self.classifier(f))[..., 0, 0, 0, :]
