"""The attention operators on the trivial group, where they are their papers', and SGE against its authors' code."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import attention_oracles as oracles
import jax
import numpy as np
import pytest
from helpers import assert_close, channel_weights, check_reference_layer, eager, maps_to_ours, maps_to_reference, random

from attgconv_jax import trivial
from attgconv_jax.attention import (
    OPERATORS,
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
    attend,
    spatial_group_enhance,
)

C, HIDDEN = 4, 3


class Case(NamedTuple):
    """An operator's weights and options, the oracle that has them too, and the shape of a feature map without `h`."""

    weights: Any
    oracle: Callable
    options: dict
    shape: tuple = (3, 6, 4, C)


def batch_norm(v, gain=1.5):
    """Of JAX and NumPy arrays: over all axes but the last, with another scale and shift for every channel."""
    axes, channel = tuple(range(v.ndim - 1)), np.arange(v.shape[-1])
    return (gain + channel) * (v - v.mean(axes)) / (v.var(axes) + 0.1) ** 0.5 + 0.3 * channel - 0.2


def mlp_weights(biases=False):
    w1, w2 = random(HIDDEN, C, 1, seed=1), random(C, HIDDEN, 1, seed=2)
    return MLPWeights(w1, w2, random(HIDDEN, seed=3), random(C, seed=4)) if biases else MLPWeights(w1, w2)


def plain(weights):
    """The arrays that are there, in the papers' axes."""
    return [in_paper_axes(w) for w in weights if w is not None]


def in_paper_axes(w):
    """`[k, k, 1, c, o] -> [o, c, k, k]`, `[c_out, c_in, 1] -> [c_out, c_in]`, a vector as it is."""
    w = np.asarray(w)
    return {5: lambda: w[:, :, 0].transpose(3, 2, 0, 1), 3: lambda: w[..., 0], 2: lambda: w, 1: lambda: w}[w.ndim]()


def squeeze_excitation(biases=False, **options):
    weights = mlp_weights(biases)
    return Case(weights, lambda f: oracles.squeeze_excitation(f, *plain(weights)), options)


def gather_excite(gather=None, excite=False, shape=(3, 6, 4, C), **options):
    gather = None if gather is None else random(gather, gather, 1, C)
    excite = mlp_weights(biases=True) if excite else None

    def oracle(f):
        filters = None if gather is None else np.asarray(gather)[:, :, 0].transpose(2, 0, 1)
        return oracles.gather_excite(f, options.get("extent"), filters, None if excite is None else plain(excite))

    return Case(GatherExciteWeights(gather, excite), oracle, options, shape)


def bottleneck_attention(layers=2, biases=True, dilation=None, channel_norm=None, spatial_norm=None, over_group=False):
    reduce, expand = random(1, 1, 1, C, HIDDEN), random(1, 1, 1, HIDDEN, 1)
    dilated = tuple(random(3, 3, 1, HIDDEN, HIDDEN, seed=i) for i in range(layers))
    convolutions = tuple(random(c, seed=i) for i, c in enumerate([HIDDEN] * (1 + layers) + [1]))
    channel = mlp_weights(biases)

    def oracle(f):
        matrices = in_paper_axes(reduce)[:, :, 0, 0], plain(dilated), in_paper_axes(expand)[:, :, 0, 0]
        norms = channel_norm or oracles.no_norm, spatial_norm or oracles.no_norm
        return oracles.bottleneck_attention(
            f, plain(channel), *matrices, plain(convolutions), 4 if dilation is None else dilation, *norms
        )

    options = dict(channel_norm=channel_norm, spatial_norm=spatial_norm, over_group=over_group)
    options |= {} if dilation is None else {"dilation": dilation}
    return Case(BottleneckWeights(channel, reduce, dilated, expand, convolutions), oracle, options)


def convolutional_block_attention(k=3, biases=False, **options):
    channel, spatial = mlp_weights(biases), random(k, k, 1, 2, 1)

    def oracle(f):
        return oracles.convolutional_block_attention(f, plain(channel), in_paper_axes(spatial))

    return Case(ConvolutionalBlockWeights(channel, spatial), oracle, options)


def alpha_f(dilation=1):
    channel, spatial = channel_weights(C, 1), random(3, 3, 1, 2, 1)

    def oracle(f):
        return oracles.convolutional_block_attention(f, plain(channel), in_paper_axes(spatial), dilation)

    return Case(InputWeights(channel, spatial), oracle, dict(dilation=dilation))


def group_enhance(groups=2, epsilon=1e-5, **options):
    weights = GroupEnhanceWeights(random(groups, seed=1), random(groups, seed=2))
    oracle = functools.partial(oracles.spatial_group_enhance, epsilon=epsilon)
    return Case(weights, lambda f: oracle(f, *plain(weights)), dict(epsilon=epsilon, **options))


def selective_kernel(branches=2, norm=None, **options):
    w1, w2 = random(HIDDEN, C, 1), random(branches, C, HIDDEN, 1)

    def oracle(responses):
        heads = [in_paper_axes(head) for head in w2]
        return oracles.selective_kernel(responses, in_paper_axes(w1), heads, norm or oracles.no_norm)

    return Case(SelectiveKernelWeights(w1, w2), oracle, dict(norm=norm, **options), (branches, 3, 6, 4, C))


def global_context(biases=True, offset=0.0, epsilon=1e-5, **options):
    layers = random(HIDDEN, C, 1, seed=1), random(HIDDEN, seed=2), random(HIDDEN, seed=3), random(C, HIDDEN, 1, seed=4)
    weights = GlobalContextWeights(random(1, C, 1), *layers)
    weights = weights._replace(b1=random(HIDDEN, seed=5) + offset, b2=random(C, seed=6)) if biases else weights

    def oracle(f):
        (key,), *others = plain(weights)
        return oracles.global_context(f, key, *others, epsilon=epsilon)

    return Case(weights, oracle, dict(epsilon=epsilon, **options))


def style_recalibration(epsilon=1e-5, norm=None, **options):
    w = random(C, 2, 1)

    def oracle(f):
        return oracles.style_recalibration(f, in_paper_axes(w), norm or oracles.no_norm, epsilon)

    return Case(w, oracle, dict(epsilon=epsilon, norm=norm, **options))


def efficient_channel_attention(k=3, **options):
    w = random(k, 1)
    return Case(w, lambda f: oracles.efficient_channel_attention(f, np.asarray(w)[:, 0]), options)


def coordinate_attention(norm=None, shape=(3, 6, 4, C)):
    layers = random(HIDDEN, C, 1), random(C, HIDDEN, 1, seed=1), random(C, HIDDEN, 1, seed=2)
    weights = CoordinateWeights(*layers, random(HIDDEN), random(C, seed=1), random(C, seed=2))

    def oracle(f):
        return oracles.coordinate_attention(f, *plain(weights), norm or oracles.no_norm)

    return Case(weights, oracle, dict(norm=norm), shape)


def co_attention():
    w = random(1, 1, 1, C, 1)
    return Case(w, lambda f: oracles.co_attention(f, np.asarray(w)[0, 0, 0, :, 0]), {})


def non_local(**options):
    weights = NonLocalWeights(*(random(HIDDEN, C, 1, seed=i) for i in range(3)), random(C, HIDDEN, 1))
    return Case(weights, lambda f: oracles.non_local(f, *plain(weights)), options)


def self_attention(k=3, shape=(3, 6, 4, C), hidden=6, **options):
    weights = SelfAttentionWeights(
        *(random(hidden, C, seed=i) for i in range(3)), random(C, hidden), random(k, k, 1, hidden)
    )

    def oracle(f):
        return oracles.self_attention(f, *plain(weights[:4]), np.asarray(weights.position)[:, :, 0], **options)

    return Case(weights, oracle, options, shape)


over_group = dict(over_group=True)

# The first case of an operator is also the one that is put together with what it attends to.
CASES = {
    "input": {"as published": (alpha_f, {}), "dilation 2": (alpha_f, dict(dilation=2))},
    "co": {"as published": (co_attention, {})},
    "se": {
        "as published": (squeeze_excitation, {}),
        "biases": (squeeze_excitation, dict(biases=True)),
        "over group": (squeeze_excitation, over_group),
    },
    "ge": {
        "no weights": (gather_excite, {}),
        "no weights, over group": (gather_excite, over_group),
        "no weights, extent 2": (gather_excite, dict(extent=2)),
        "excite": (gather_excite, dict(excite=True)),
        "excite, over group": (gather_excite, dict(excite=True, extent=2, **over_group)),
        "gather": (gather_excite, dict(gather=4, shape=(3, 4, 4, C))),
        "gather, extent 2": (gather_excite, dict(gather=2, extent=2)),
        "gather and excite": (gather_excite, dict(gather=5, shape=(3, 5, 5, C), excite=True)),
        "gather and excite, extent 2": (gather_excite, dict(gather=2, extent=2, excite=True)),
        "gather and excite, extent 3": (gather_excite, dict(gather=3, extent=3, excite=True, shape=(2, 6, 3, C))),
    },
    "bam": {
        "as published": (bottleneck_attention, {}),
        "dilation 2": (bottleneck_attention, dict(dilation=2)),
        "one layer without channel biases": (bottleneck_attention, dict(layers=1, dilation=1, biases=False)),
        "no dilated layer": (bottleneck_attention, dict(layers=0)),
        "channel norm": (bottleneck_attention, dict(dilation=2, channel_norm=batch_norm)),
        "spatial norm": (bottleneck_attention, dict(dilation=2, spatial_norm=batch_norm)),
        "over group": (bottleneck_attention, over_group),
    },
    "cbam": {
        "as published": (convolutional_block_attention, dict(k=7)),
        "biases": (convolutional_block_attention, dict(biases=True)),
        "over group": (convolutional_block_attention, over_group),
    },
    "sge": {
        "2 groups": (group_enhance, {}),
        "1 group": (group_enhance, dict(groups=1)),
        "a group a channel": (group_enhance, dict(groups=C)),
        "large epsilon": (group_enhance, dict(epsilon=0.1)),
        "joint": (group_enhance, dict(grouping="joint")),
        "over group": (group_enhance, over_group),
    },
    "sk": {
        "2 branches": (selective_kernel, {}),
        "3 branches": (selective_kernel, dict(branches=3)),
        "norm": (selective_kernel, dict(norm=batch_norm)),
        "over group": (selective_kernel, over_group),
    },
    "gc": {
        "as published": (global_context, {}),
        "no biases": (global_context, dict(biases=False)),
        "large epsilon": (global_context, dict(epsilon=0.1)),
        "hidden channels far from zero": (global_context, dict(offset=1e4)),
        "over group": (global_context, over_group),
    },
    "srm": {
        "as published": (style_recalibration, dict(norm=batch_norm)),
        "no norm": (style_recalibration, {}),
        "large epsilon": (style_recalibration, dict(epsilon=0.1)),
        "over group": (style_recalibration, over_group),
    },
    "eca": {
        "filter of 3": (efficient_channel_attention, {}),
        "filter of 1": (efficient_channel_attention, dict(k=1)),
        "filter beyond the channels": (efficient_channel_attention, dict(k=C + 1)),
        "over group": (efficient_channel_attention, over_group),
    },
    "coordinate": {
        "as published": (coordinate_attention, dict(norm=batch_norm)),
        "no norm": (coordinate_attention, {}),
        "wide map": (coordinate_attention, dict(shape=(3, 2, 5, C))),
    },
    "non_local": {"as published": (non_local, {}), "within elements": (non_local, dict(over_group=False))},
    "self": {
        "1 head": (self_attention, {}),
        "2 heads": (self_attention, dict(heads=2)),
        "a head a channel": (self_attention, dict(heads=6)),
        "window beyond the map": (self_attention, dict(k=5, shape=(2, 3, 4, C), heads=2)),
        "window of one pixel": (self_attention, dict(k=1)),
    },
}
FIRST = {name: next(iter(cases.values())) for name, cases in CASES.items()}
ATTENDED = {
    **dict.fromkeys(["se", "ge", "cbam", "sge", "srm", "eca", "coordinate"], lambda f, alpha: f * alpha),
    **dict.fromkeys(["gc", "non_local", "self"], lambda f, alpha: f + alpha),
    **dict.fromkeys(["co", "input"], lambda f, alpha: (1 - alpha) * f),
    "bam": lambda f, alpha: f * (1 + alpha),
    "sk": lambda responses, alpha: sum(share * r for share, r in zip(alpha, responses, strict=True)),
}
SGE_FILES = [
    "sge_default_g1_c3_9",
    "sge_default_g4_c8_7",
    "sge_default_g8_c16_8",
    "sge_default_g64_c64_5",
    "sge_default_g64_c128_6",
    "sge_rand_g4_c8_7",
    "sge_rand_g64_c128_6",
]


def feature_maps(case):
    """What the operator attends to, in the library's axes and in the oracles'; of selective kernel the responses."""
    f = random(*case.shape)
    return f[..., None, :], np.asarray(f)


def attention_map_of(name, case, f):
    seen = f.sum(axis=0) if name == "sk" else f
    return OPERATORS[name].apply(seen, case.weights, trivial(), **case.options)


def test_every_operator_has_an_oracle_and_an_expected_result():
    # The others are one factor of alpha_F, and attention on responses, which is no map of a feature map.
    named = {name for name, operator in OPERATORS.items() if not operator.settings} - {"response"}
    assert CASES.keys() == named == ATTENDED.keys()


@pytest.mark.parametrize(
    ("name", "variant"),
    [pytest.param(name, variant, id=f"{name}: {variant}") for name, cases in CASES.items() for variant in cases],
)
def test_attention_map_on_the_trivial_group_is_the_papers(name, variant):
    build, arguments = CASES[name][variant]
    case = build(**arguments)
    ours, theirs = feature_maps(case)
    alpha = jax.jit(lambda f, weights: attention_map_of(name, case._replace(weights=weights), f))(ours, case.weights)
    assert_close(alpha, case.oracle(theirs)[..., None, :], 1e-10)


@pytest.mark.parametrize("name", CASES)
def test_attended_feature_map_on_the_trivial_group_is_the_papers(name):
    build, arguments = FIRST[name]
    case = build(**arguments)
    ours, theirs = feature_maps(case)
    attended = jax.jit(lambda f: attend(f, attention_map_of(name, case, f), OPERATORS[name].combination))(ours)
    assert_close(attended, ATTENDED[name](theirs, case.oracle(theirs))[..., None, :], 1e-10)


class TestSpatialGroupEnhanceOfTheReference:
    """Outputs and all gradients of the authors' implementation."""

    @staticmethod
    def layer(image, weights):
        f = maps_to_ours(image)
        weights = GroupEnhanceWeights(weights["weight"].reshape(-1), weights["bias"].reshape(-1))
        return maps_to_reference(attend(f, spatial_group_enhance(f, weights, trivial())), image=True)

    @pytest.mark.parametrize("file", SGE_FILES)
    def test_is_reproduced_with_its_gradients(self, reference, file):
        check_reference_layer(reference(f"layers/{file}"), self.layer)

    @pytest.mark.parametrize("file", ["sge_default_g8_c16_8", "sge_rand_g4_c8_7"])
    def test_is_reproduced_eagerly(self, reference, file):
        check_reference_layer(reference(f"layers/{file}"), self.layer, eager)

    @pytest.mark.parametrize("file", SGE_FILES)
    def test_is_what_the_oracle_gives(self, reference, file):
        data = reference(f"layers/{file}")
        f = data["input"].transpose(0, 2, 3, 1)
        weights = (data[f"state/{name}"].reshape(-1) for name in ("weight", "bias"))
        assert_close((f * oracles.spatial_group_enhance(f, *weights)).transpose(0, 3, 1, 2), data["output64"], 1e-10)
