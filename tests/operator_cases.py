"""Every attention operator with random weights for any group, and its variants, for tests of all of them alike."""

import functools

from helpers import channel_weights, random

from attgconv_jax import (
    BottleneckWeights,
    ConvolutionalBlockWeights,
    CoordinateWeights,
    GatherExciteWeights,
    GlobalContextWeights,
    GroupEnhanceWeights,
    InputWeights,
    MLPWeights,
    NonLocalWeights,
    SelectiveKernelWeights,
    SelfAttentionWeights,
)

HIDDEN = 4

# By variant: the operator, and the options of its function.
VARIANTS = {
    "input": ("input", {}),
    "co": ("co", {}),
    "se": ("se", {}),
    "se over group": ("se", {"over_group": True}),
    "ge": ("ge", {}),
    "ge in windows": ("ge", {"extent": 2}),
    "ge learnt": ("ge", {"extent": 2}),
    "ge over group": ("ge", {"over_group": True}),
    "bam": ("bam", {"dilation": 2}),
    "bam over group": ("bam", {"over_group": True}),
    "cbam": ("cbam", {}),
    "cbam over group": ("cbam", {"over_group": True}),
    "sge": ("sge", {}),
    "sge joint": ("sge", {"grouping": "joint"}),
    "sge over group": ("sge", {"over_group": True}),
    "sk": ("sk", {}),
    "sk over group": ("sk", {"over_group": True}),
    "gc": ("gc", {}),
    "gc over group": ("gc", {"over_group": True}),
    "srm": ("srm", {}),
    "srm over group": ("srm", {"over_group": True}),
    "eca": ("eca", {}),
    "eca over group": ("eca", {"over_group": True}),
    "coordinate": ("coordinate", {}),
    "non_local": ("non_local", {}),
    "non_local per element": ("non_local", {"over_group": False}),
    "self": ("self", {"heads": 2}),
}


def weights_of(variant, c, h, order):
    """Random weights of a variant, for feature maps of `h` group elements on a group of this order."""
    name, options = VARIANTS[variant]
    number = iter(range(1000))

    def array(*shape):
        # Through BAM's four layers ordinary numbers would grow until the sigmoid is flat.
        return (0.4 if name == "bam" else 1.0) * random(*shape, seed=next(number))

    pooled = 1 if options.get("over_group") else h
    mlp = functools.partial(MLPWeights, b1=array(HIDDEN), b2=array(c))
    network = mlp(array(HIDDEN, c, pooled), array(c, HIDDEN, pooled))
    norm = array(HIDDEN), array(HIDDEN)
    narrow, wide = array(HIDDEN, c, h), array(c, HIDDEN, h)
    return {
        "input": lambda: InputWeights(channel_weights(c, h), array(3, 3, h, 2, 1)),
        "co": lambda: array(1, 1, h, c, 1),
        "se": lambda: network,
        "ge": lambda: GatherExciteWeights(array(2, 2, h, c) if variant == "ge learnt" else None, network),
        "bam": lambda: BottleneckWeights(
            network,
            array(1, 1, h, c, HIDDEN),
            tuple(array(3, 3, order, HIDDEN, HIDDEN) for _ in range(2)),
            array(1, 1, order, HIDDEN, 1),
            (array(HIDDEN), array(HIDDEN), array(HIDDEN), array(1)),
        ),
        "cbam": lambda: ConvolutionalBlockWeights(network, array(3, 3, h, 2, 1)),
        "sge": lambda: GroupEnhanceWeights(array(c // 2), array(c // 2)),
        "sk": lambda: SelectiveKernelWeights(array(HIDDEN, c, pooled), array(2, c, HIDDEN, pooled)),
        "gc": lambda: GlobalContextWeights(array(1, c, h), network.w1, *norm, network.w2, network.b1, network.b2),
        "srm": lambda: array(c, 2, pooled),
        "eca": lambda: array(3, pooled),
        "coordinate": lambda: CoordinateWeights(narrow, wide, array(c, HIDDEN, h), *norm[:1], array(c), array(c)),
        "non_local": lambda: NonLocalWeights(narrow, array(HIDDEN, c, h), array(HIDDEN, c, h), wide),
        "self": lambda: SelfAttentionWeights(
            *(array(HIDDEN, c) for _ in range(3)), array(c, HIDDEN), array(3, 3, h, HIDDEN)
        ),
    }[name]()
