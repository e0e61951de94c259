"""ResNets for ImageNet: one description for every depth, every group and every attention."""

import math
import numbers
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx

from attgconv_jax.attention import OPERATORS
from attgconv_jax.checks import check_boolean, check_positive
from attgconv_jax.convolution import project_mean
from attgconv_jax.filters import Sampling
from attgconv_jax.groups import Group, check_group
from attgconv_jax.kernels.settings import Convolution, Precision
from attgconv_jax.models.base import Network, check_image, register
from attgconv_jax.models.layers import check_attention, pool_activations
from attgconv_jax.models.residual import ConvNorm, Layer, ResidualBlock, place
from attgconv_jax.nn.nonlinearity import relu


class Architecture(NamedTuple):
    """How many blocks each stage has, and the residual branch of every block."""

    blocks: tuple[int, ...]
    branch: tuple[Layer, ...]


BASIC = (Layer(1, 3), Layer(1, 3))
BOTTLENECK = (Layer(1, 1), Layer(1, 3), Layer(4, 1))

ARCHITECTURES = {
    18: Architecture((2, 2, 2, 2), BASIC),
    34: Architecture((3, 4, 6, 3), BASIC),
    50: Architecture((3, 4, 6, 3), BOTTLENECK),
    101: Architecture((3, 4, 23, 3), BOTTLENECK),
}

# Options that count groups of channels; a network of other widths has as many as divide `features`, at most these.
PUBLISHED_GROUPS = {"sge": ("groups", 64), "sk": ("channel_groups", 32)}

STAGES = 4

# Strides of two: of the lifting convolution, of the pooling, and of three of the four stages.
SCALE = 2**5


def _check_attention(attention, options):
    """Raises a `ValueError` unless the attention of every stage takes its options."""
    for stage in range(STAGES):
        check_attention(attention, _of_stage(options, stage))


@register("resnet", stride=SCALE, defaults={"depth": 18}, check_attention=_check_attention)
class ResNet(Network):
    """The residual networks for ImageNet, with attention where its paper puts it.

    Lifting 7x7 convolution with stride 2 and maximum over 3x3 pixels with stride 2; four stages of residual blocks,
    each of twice the channels and, after the first, half the size; the mean over pixels and group; a linear layer.
    Every convolution has a batch norm, of epsilon 1e-5. Attention is

    - "se", "ge", "cbam", "sge", "gc", "srm", "eca", "coordinate": on what the residual branch of every block adds;
    - "sk": in the place of the first 3x3 convolution of every block, between 3x3 filters and dilated ones of 32 groups
      of channels; the paper's networks are those of depth 50 and 101;
    - "bam": on the output of each of the first three stages;
    - "non_local": on outputs of blocks of the second and third stage, every second one, in the long third stage of
      depth 101 every seventh (the paper's five blocks; two at depth 18).

    On a group that reverses an axis the image needs `32 n + 1` pixels along it: 225 where others take 224. On the
    trivial group every size will do (above 32 pixels with SGE, which has no deviation over one position).

    | `depth` | `attention` | parameters, `trivial()` | `cyclic(4)` | `dihedral(4)` |
    |---|---|---|---|---|
    | 18 | None | 11,689,512 | 11,424,008 | 12,752,320 |
    | 18 | "sge" | 11,690,536 | 11,424,520 | 12,752,704 |
    | 34 | "sge" | 21,799,720 | 21,529,480 | 24,119,200 |
    | 50 | None | 25,557,032 | 24,501,768 | 27,168,640 |
    | 50 | "se", "ge" | 28,088,024 | 27,024,736 | 30,003,970 |
    | 50 | "bam" | 25,917,793 | 24,859,729 | 27,570,337 |
    | 50 | "cbam" | 28,089,592 | 27,031,008 | 30,016,514 |
    | 50 | "sge" | 25,559,080 | 24,502,792 | 27,169,408 |
    | 50 | "sk" | 26,154,496 | 25,095,220 | 27,966,526 |
    | 50 | "gc" | 28,105,016 | 27,055,888 | 30,049,990 |
    | 50 | "srm" | 25,617,448 | 24,577,288 | 27,270,592 |
    | 50 | "eca" | 25,557,118 | 24,502,088 | 27,169,232 |
    | 50 | "coordinate" | 29,362,488 | 28,290,704 | 31,424,998 |
    | 50 | "non_local" | 32,897,064 | 31,841,800 | 35,426,176 |
    | 101 | None | 44,549,160 | 43,467,784 | 48,495,616 |
    | 101 | "sge" | 44,553,384 | 43,469,896 | 48,497,200 |
    | 101 | "se" | 49,326,872 | 48,228,224 | 53,844,634 |

    >>> import jax, jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax import cyclic
    >>> from attgconv_jax.models import ResNet
    >>> def logits(image):
    ...     network = ResNet(18, cyclic(4), "sge", features=4, classes=10, rngs=nnx.Rngs(0))
    ...     return network(image)
    >>> jax.eval_shape(logits, jnp.ones([2, 33, 33, 1, 3], jnp.float32)).shape
    (2, 10)

    Other arguments are those of `Network`.

    Options:
      depth: layers: 18, 34, 50 or 101.
      attention: None, or one of those above.
      features: channels per group element of the first stage; None: `64 / sqrt(|H|)` rounded to eights, so that the
        filters of all groups have about equally many pixels: 64 on the trivial group, 32 for p4, 24 for p4m.
      exact: whether an image whose grids the group does not map to themselves raises.
      attention_options: arguments of the attention's module (see `attgconv_jax.nn.ATTENTIONS`) that are to differ from
        the published ones: reduction 16 (of non-local 2), 7x7 filters in CBAM, dilation 4 in BAM, 64 groups of channels
        in SGE and 32 in SK (on other widths as many as divide `features`). Plain values, as JSON can hold them, or
        lists of four, one per stage.

    Source: He et al. 2015 (arXiv 1512.03385), strides as in torchvision; the operators' papers. Published parameters of
    depth 50: SGE 25.56 M, SE 28.09 M, CBAM 28.09 M, BAM 25.92 M, SK 26.15 M.
    """

    def __init__(
        self,
        depth: int,
        group: Group,
        attention: str | None = None,
        *,
        features: int | None = None,
        in_features: int = 3,
        classes: int = 1000,
        exact: bool = True,
        attention_options: Mapping[str, Any] | None = None,
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
        _check_names(depth, attention)
        _check_attention(attention, attention_options)
        features = _equal_features(group) if features is None else features
        features, in_features, classes = check_positive(features=features, in_features=in_features, classes=classes)
        (exact,) = check_boolean(exact=exact)
        check_boolean(antialiased=antialiased, oversampled=oversampled, masked=masked)
        settings = dict(depth=depth, features=features, in_features=in_features, classes=classes, exact=exact)
        settings |= dict(attention_options=attention_options, sampling=sampling, dtype=dtype)
        settings |= dict(antialiased=antialiased, oversampled=oversampled, masked=masked)
        super().__init__(group, attention, implementation=implementation, precision=precision, **settings)
        blocks, branch = ARCHITECTURES[depth]
        options = _published_options(attention, features)
        arrays = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        shared = dict(exact=exact, antialiased=self.antialiased, sampling=sampling, **arrays)
        self.lifting = ConvNorm(in_features, features, 7, group, lifting=True, stride=2, padding=3, **shared)
        self.stages = nnx.List([])
        channels = features
        for stage, count in enumerate(blocks):
            self.stages.append(nnx.List([]))
            of_stage = options | _of_stage(attention_options, stage)
            for block in range(count):
                sizes = channels, features * 2**stage, branch, group
                attends = attention if _attends(attention, stage, block, count) else None
                stride = 2 if stage > 0 and block == 0 else 1
                of_block = dict(stride=stride, oversampled=self.oversampled, masked=self.masked, **shared)
                self.stages[stage].append(ResidualBlock(*sizes, attends, of_stage, **of_block))
                channels = features * 2**stage * branch[-1].width
        self.classifier = nnx.Linear(channels, classes, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        self.in_features = in_features
        self.exact = exact

    def _features(self, image):
        self._check_image(image)
        image = self._masked(image)
        yield image
        f = relu(self.lifting(image), self.oversampled, self.masked)
        of_pool = dict(window=3, stride=2, padding=1, exact=self.exact, antialiased=self.antialiased)
        f = pool_activations(f, self.group, **of_pool)
        yield f
        for block in self._blocks():
            f = self._block(ResidualBlock.__call__, block, f)
            yield f
        yield self.classifier(jnp.mean(project_mean(f), axis=(-4, -3, -2)))

    def _attentions(self):
        return [None, *(None if block.place is None else block.attention_maps for block in self._blocks()), None]

    def _blocks(self):
        return [block for stage in self.stages for block in stage]

    def _check_image(self, image):
        check_image(image, in_features=self.in_features)
        for axis, is_reversed, length in zip("xy", self.group.reversed_axes, image.shape[-4:-2], strict=True):
            if self.exact and is_reversed and (length - 1) % SCALE:
                below = (length - 1) // SCALE * SCALE + 1
                sizes = [n for n in sorted([below, below + SCALE], key=lambda n: abs(n - length)) if n > 1]
                raise ValueError(
                    f"image has {length} pixels along {axis}, and strides of 2 sample it off centre: {self.group} "
                    f"needs (size - 1) divisible by {SCALE}; take {' or '.join(map(str, sizes))}, or pass exact=False "
                    "and give up exact equivariance"
                )


def _attends(attention, stage, block, count):
    """Whether a block has the attention; non-local: as often as the code of Wang et al. 2018 (NONLOCAL.LAYER_MOD)."""
    if attention == "bam":
        return stage < 3 and block == count - 1
    if attention == "non_local":
        return stage in (1, 2) and (block + 1) % max(2, count // 3) == 0
    return attention is not None


def _published_options(attention, features):
    """Where the published networks do not have the default of the attention's module."""
    if attention not in PUBLISHED_GROUPS:
        return {}
    name, published = PUBLISHED_GROUPS[attention]
    return {name: max(n for n in range(1, published + 1) if features % n == 0)}


def _of_stage(options, stage):
    """The options of the attention in a stage, where lists hold one value per stage."""
    values = {}
    for name, value in (options or {}).items():
        several = isinstance(value, list | tuple)
        if several and len(value) != STAGES:
            raise ValueError(f"attention_options must hold one {name}, or {STAGES}, one per stage, got {value}")
        values[name] = value[stage] if several else value
    return values


def _equal_features(group):
    """`64 / sqrt(|H|)` in eights: filters then have about the parameters of the trivial group's."""
    return 8 * max(1, round(8 / math.sqrt(group.order)))


def _check_names(depth, attention):
    if not isinstance(depth, numbers.Integral) or depth not in ARCHITECTURES:
        raise ValueError(f"depth must be one of {', '.join(map(str, ARCHITECTURES))}, got {depth!r}")
    if attention is not None and place(attention) is None:
        names = ", ".join(name for name in OPERATORS if place(name) is not None)
        raise ValueError(f"attention must be None or one of {names}, got {attention!r}")
