"""Attention operators on groups: they commute with the group, their originals on flattened channels do not."""

import functools
import re
from typing import NamedTuple, Optional

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import optimised
from helpers import EXACT_GROUPS, assert_close, assert_refused, random
from jaxtyping import Array, Float
from operator_oracles import ORACLES, VARIANTS, weights_of

from attgconv_jax import (
    OPERATORS,
    GatherExciteWeights,
    GroupEnhanceWeights,
    MLPWeights,
    act,
    attend,
    cyclic,
    dihedral,
    equivariance_error,
    group_conv,
    grouped_group_conv,
    squeeze_excitation,
    trivial,
)
from attgconv_jax.attention import group_self_attention, layers, non_local, non_local_block, sge
from attgconv_jax.attention.layers import check_weights, group_linear, statistic_linear

every_variant = pytest.mark.parametrize("variant", VARIANTS)
C = 4


def attended(f, weights, variant, group):
    """What an operator makes of a feature map; of Selective Kernel the choice between a map and its square."""
    name, options = VARIANTS[variant]
    operator = OPERATORS[name]
    alpha = operator.apply(f, weights, group, **options)
    return attend(jnp.stack([f, f * f]) if name == "sk" else f, alpha, operator.combination_of(options))


def kind_of(f):
    return "image" if f.shape[-2] == 1 else "feature_map"


@every_variant
@hypothesis.settings(max_examples=2)
@hypothesis.given(
    group=st.sampled_from([group for group in EXACT_GROUPS if group.order > 1]),
    lifting=st.booleans(),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
@hypothesis.example(group=cyclic(4), lifting=False, shape=(3, 2))
@hypothesis.example(group=dihedral(4), lifting=False, shape=(2, 3))
def test_operator_commutes_with_the_group(variant, group, lifting, shape):
    h = 1 if lifting else group.order
    f = random(2, 2 * shape[0], 2 * shape[1], h, C)
    layer = jax.jit(functools.partial(attended, variant=variant, group=group))
    weights = weights_of(variant, C, h, group.order)
    assert equivariance_error(lambda f: layer(f, weights), f, group, kind_of(f)) < 1e-10


@every_variant
@pytest.mark.parametrize("lifting", [False, True], ids=["feature_map", "image"])
def test_operator_on_a_group_is_the_formula(lifting, variant):
    group = dihedral(4)
    name, options = VARIANTS[variant]
    h = 1 if lifting else group.order
    f, weights = random(2, 4, 2, h, C), weights_of(variant, C, h, group.order)
    alpha = jax.jit(functools.partial(OPERATORS[name].apply, group=group, **options))(f, weights)
    expected = ORACLES[name](*jax.tree.map(np.asarray, (f, weights)), group, **options)
    assert_close(alpha, expected, 1e-10)


@every_variant
def test_original_operator_on_channels_that_hold_the_group_does_not_commute(variant):
    """An ordinary network over `(h, c)`, an ordinary convolution: what one gets who applies the original to `h c`."""
    group = cyclic(4)
    f = random(2, 4, 4, group.order, C)
    weights = weights_of(variant, group.order * C, 1, 1)

    @jax.jit
    def original(f):
        flat = f.reshape(*f.shape[:-2], 1, group.order * C)
        return attended(flat, weights, variant, trivial()).reshape(f.shape)

    assert equivariance_error(original, f, group) > 1e-3


@pytest.mark.parametrize("variant", ["se", "ge learnt", "bam", "cbam", "sge", "gc", "srm", "eca", "non_local", "self"])
def test_right_angles_of_an_interpolated_group_are_exact(variant):
    group = cyclic(8)
    f, weights = random(1, 4, 4, 8, C), weights_of(variant, C, 8, 8)
    layer = jax.jit(functools.partial(attended, variant=variant, group=group))
    assert_close(layer(act(f, group, 2, "feature_map"), weights), act(layer(f, weights), group, 2, "feature_map"))


def gradients(variant, group):
    """Of what a variant makes of a feature map, its value and its gradients by all arrays."""
    cotangent = random(1, 4, 4, group.order, C, seed=1)
    return jax.value_and_grad(lambda f, w: jnp.sum(attended(f, w, variant, group) * cotangent), argnums=(0, 1))


@every_variant
def test_gradients_are_those_of_finite_differences(variant):
    group = cyclic(4)
    arrays = random(1, 4, 4, 4, C), weights_of(variant, C, 4, 4)
    run = jax.jit(gradients(variant, group))
    direction = jax.tree.map(lambda leaf: random(*leaf.shape, seed=2), arrays)
    step = 1e-6
    ahead, behind = (
        run(*jax.tree.map(lambda leaf, d, s=sign: leaf + s * step * d, arrays, direction))[0] for sign in (1, -1)
    )
    slopes = jax.tree.map(lambda g, d: jnp.sum(g * d), run(*arrays)[1], direction)
    assert_close(sum(jax.tree.leaves(slopes)), (ahead - behind) / (2 * step), 1e-6)


@pytest.mark.parametrize("variant", ["input", "cbam", "cbam over group", "sge"])
@pytest.mark.default("sge")
def test_gradients_are_the_same_jitted_and_eager(variant):
    """Maxima are where compiled gradients have been wrong."""
    function = gradients(variant, cyclic(4))
    arrays = random(1, 4, 4, 4, C), weights_of(variant, C, 4, 4)
    jax.tree.map(lambda a, b: assert_close(a, b, 1e-10), function(*arrays), optimised(function)(*arrays))


@pytest.mark.parametrize("variant", ["non_local", "non_local per element", "self"])
def test_attention_of_positions_is_the_same_however_many_images_are_scored_at_once(variant, monkeypatch):
    group = cyclic(4)
    f, weights = random(5, 4, 3, 4, C), weights_of(variant, C, 4, 4)

    def run():
        # A function of its own for each, or the second would be the first's compiled program.
        return jax.jit(jax.value_and_grad(lambda f, w: jnp.sum(attended(f, w, variant, group) ** 2), argnums=(0, 1)))

    whole = run()(f, weights)
    for module in (non_local_block, group_self_attention):
        monkeypatch.setattr(module, "SCORES", 1)
    chunked = run()(f, weights)
    jax.tree.map(lambda a, b: assert_close(a, b, 1e-12), whole, chunked)


@every_variant
def test_operator_in_bfloat16_is_near_that_in_float32(variant):
    group = cyclic(4)
    f, weights = random(2, 4, 4, 4, C), weights_of(variant, C, 4, 4)
    run = jax.jit(functools.partial(attended, variant=variant, group=group))

    def cast(dtype):
        return jax.tree.map(lambda leaf: leaf.astype(dtype), (f, weights))

    half, single = run(*cast(jnp.bfloat16)), run(*cast(jnp.float32))
    assert half.dtype == jnp.bfloat16
    assert single.dtype == jnp.float32
    assert_close(half, single, 0.1)


def test_spatial_group_enhance_of_a_constant_map_has_finite_gradients():
    f, weights = jnp.ones((2, 4, 4, 4, C)), GroupEnhanceWeights(random(2), random(2))
    gradients = jax.grad(lambda f, w: jnp.sum(attended(f, w, "sge", cyclic(4))), argnums=(0, 1))(f, weights)
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))


def test_published_initial_values_of_spatial_group_enhance_scale_all_alike():
    f = random(2, 4, 4, 4, C)
    alpha = OPERATORS["sge"].apply(f, GroupEnhanceWeights(jnp.zeros(2), jnp.ones(2)), cyclic(4))
    assert_close(alpha, jnp.full(f.shape, 1 / (1 + jnp.exp(-1.0))))


@every_variant
def test_batch_may_be_empty_or_have_several_axes_or_none(variant):
    group = cyclic(4)
    run = functools.partial(attended, variant=variant, group=group)
    weights = weights_of(variant, C, 4, 4)
    for batch in ((), (0,), (2, 3)):
        shape = jax.eval_shape(run, jnp.zeros((*batch, 4, 4, 4, C)), weights).shape
        assert shape == (*batch, 4, 4, 4, C)


@pytest.mark.parametrize("variant", ["sge", "sge joint", "sge over group"])
def test_spatial_group_enhance_is_the_same_however_it_adds(variant, monkeypatch):
    f, weights = random(2, 4, 3, 4, C), weights_of(variant, C, 4, 4)
    outputs = []
    for most in (0, 1000):
        monkeypatch.setattr(sge, "MOST_COLUMNS", most)
        outputs.append(attended(f, weights, variant, cyclic(4)))
    assert_close(*outputs)


def test_gather_excite_without_weights_is_the_sigmoid_of_means():
    f = random(2, 4, 6, 4, C)
    alpha = OPERATORS["ge"].apply(f, GatherExciteWeights(), cyclic(4))
    assert_close(alpha, jax.nn.sigmoid(jnp.mean(f, axis=(1, 2), keepdims=True)))


def test_gather_excite_gives_every_pixel_of_a_window_one_weight():
    f = random(1, 4, 6, 4, C)
    alpha = OPERATORS["ge"].apply(f, GatherExciteWeights(), cyclic(4), extent=2)
    assert alpha.shape == f.shape
    assert_close(alpha[:, ::2, ::2], alpha[:, 1::2, 1::2], 0)
    assert jnp.all(alpha[:, :2, :2] != alpha[:, 2:4, :2])


def test_grouped_group_convolution_is_a_group_convolution_of_each_part():
    group = dihedral(4)
    f, w = random(2, 5, 5, 8, 6), random(3, 3, 8, 2, 9, seed=1)
    y = grouped_group_conv(f, w, group, 3, padding=1, stride=2)
    for p in range(3):
        part = group_conv(f[..., 2 * p : 2 * p + 2], w[..., 3 * p : 3 * p + 3], group, padding=1, stride=2)
        assert_close(y[..., 3 * p : 3 * p + 3], part)


@pytest.mark.parametrize("combination", ["scale", "suppress", "emphasise", "add"])
def test_attended_map_is_what_its_combination_says(combination):
    f, alpha = random(2, 3, 3, 4, C), random(2, 1, 1, 4, C, seed=1)
    expected = {"scale": alpha * f, "suppress": (1 - alpha) * f, "emphasise": (1 + alpha) * f, "add": f + alpha}
    assert_close(attend(f, alpha, combination), expected[combination])


def refused(name, f=None, weights=None, **options):
    f = random(1, 4, 4, 4, C) if f is None else f
    weights = weights_of(name, C, 4, 4) if weights is None else weights
    return OPERATORS[name].apply(f, weights, options.pop("group", cyclic(4)), **options)


def network(c, h):
    return MLPWeights(random(2, c, h), random(c, 2, h))


def one_hidden_channel():
    weights = weights_of("gc", C, 4, 4)
    of_hidden = {name: getattr(weights, name)[:1] for name in ("w1", "scale", "shift", "b1")}
    return weights._replace(**of_hidden, w2=weights.w2[:, :1])


REFUSALS = {
    "se of other channels": (lambda: refused("se", weights=network(3, 4)), ("takes w1 [c_hid, 4, 4]", "w1 (2, 3, 4)")),
    "se of an image's weights": (lambda: refused("se", weights=network(C, 1)), ("w2 [4, c_hid, 4]", "w2 (4, 2, 1)")),
    "se over the group, weights per element": (lambda: refused("se", over_group=True), ("w1 [c_hid, 4, 1]",)),
    "se with a plain tuple": (lambda: refused("se", weights=(1, 2)), ("MLPWeights", "tuple")),
    "se without hidden channels": (
        lambda: refused("se", weights=MLPWeights(jnp.zeros((0, C, 4)), jnp.zeros((C, 0, 4)))),
        ("c_hid", "(0, 4, 4)"),
    ),
    "se of another dtype": (
        lambda: refused("se", f=random(1, 4, 4, 4, C).astype(jnp.float32)),
        ("f and w1 must have one dtype, got float32 and float64",),
    ),
    "se of three axes": (lambda: refused("se", f=random(4, 4, C)), ("[..., x, y, h, c]", "(4, 4, 4)")),
    "se of another group": (lambda: refused("se", f=random(1, 4, 4, 3, C)), ("3 group elements",)),
    "ge windows that do not tile": (lambda: refused("ge", extent=3), ("one of 1, 2, 4", "got 3")),
    "ge of no extent": (lambda: refused("ge", extent=0), ("one of 1, 2, 4", "got 0")),
    "ge learnt over the group": (
        lambda: refused("ge", weights=weights_of("ge learnt", C, 4, 4), extent=2, over_group=True),
        ("leave out one",),
    ),
    "ge learnt over a map that is not square": (
        lambda: refused("ge", f=random(1, 4, 6, 4, C), weights=weights_of("ge learnt", C, 4, 4)),
        ("square", "4x6: give extent=2"),
    ),
    "ge learnt of a size that does not divide the map": (
        lambda: refused("ge", f=random(1, 9, 9, 4, C), weights=weights_of("ge learnt", C, 4, 4)),
        ("9x9: give a gather of 9x9 pixels and extent=9",),
    ),
    "bam without a bias": (
        lambda: refused("bam", weights=weights_of("bam", C, 4, 4)._replace(biases=())),
        ("4 convolutions takes 4 biases, of lengths [4, 4, 4, 1]; got 0, of lengths []",),
    ),
    "bam of even filters": (
        lambda: refused(
            "bam", weights=weights_of("bam", C, 4, 4)._replace(dilated=(random(2, 2, 4, 4, 4), random(2, 2, 4, 4, 4)))
        ),
        ("4 channels takes dilated[0] [k, k, 4, c_mid, c_mid] of odd size k, dilated[1] [k, k, 4,", "; got dilated[0]"),
    ),
    "cbam of an even filter": (
        lambda: refused("cbam", weights=weights_of("cbam", C, 4, 4)._replace(spatial=random(2, 2, 4, 2, 1))),
        ("odd size", "(2, 2, 4, 2, 1)"),
    ),
    "cbam of a filter on other statistics": (
        lambda: refused("cbam", weights=weights_of("cbam", C, 4, 4)._replace(spatial=random(3, 3, 4, 3, 1))),
        ("spatial [k, k, 4, 2, 1]", "(3, 3, 4, 3, 1)"),
    ),
    "sge of groups that do not divide": (
        lambda: refused("sge", weights=GroupEnhanceWeights(random(3), random(3))),
        ("groups must divide the 4 channels: one of 1, 2, 4; got 3",),
    ),
    "sge of weights of two lengths": (
        lambda: refused("sge", weights=GroupEnhanceWeights(random(2), random(4))),
        ("weight [groups], bias [groups]",),
    ),
    "sge of unknown grouping": (lambda: refused("sge", grouping="all"), ('"element", "joint", got \'all\'',)),
    "sge joint over the group": (
        lambda: refused("sge", grouping="joint", over_group=True),
        ('needs grouping "element"',),
    ),
    "sge of one pixel": (lambda: refused("sge", f=random(1, 1, 1, 4, C)), ("one position", "larger map")),
    "sk of other branches' channels": (
        lambda: refused("sk", weights=weights_of("sk", C, 4, 4)._replace(w2=random(2, 3, 4, 4))),
        ("w2 [branches, 4, c_hid, 4]", "(2, 3, 4, 4)"),
    ),
    "a required weight left out": (
        lambda: refused("cbam", weights=weights_of("cbam", C, 4, 4)._replace(spatial=None)),
        ("spatial [k, k, 4, 2, 1]", "spatial NoneType"),
    ),
    "a negative epsilon": (
        lambda: refused("sge", epsilon=-1.0),
        ("epsilon must be a positive finite number, got -1.0",),
    ),
    "a filter of another part": (
        lambda: grouped_group_conv(random(1, 4, 4, 4, 6), random(3, 3, 4, 3, 6), cyclic(4), 3),
        ("6 channels in 3 parts of 2 (shape (1, 4, 4, 4, 6)), but w takes 4 and 3 of a part",),
    ),
    "an image in parts": (
        lambda: grouped_group_conv(random(1, 4, 4, 1, 6), random(3, 3, 4, 2, 6), cyclic(4), 3),
        ("(shape (1, 4, 4, 1, 6)), but w takes 4 and 2", "f is an image"),
    ),
    "weights annotated as a pair": (
        lambda: check_weights("pair", random(1, 4, 4, 4, C), (), tuple[MLPWeights, MLPWeights], cyclic(4)),
        ("weights must be annotated as",),
    ),
    "maps of another number of branches": (
        lambda: attend(random(2, 3, 4, 4, 4, 3), random(1, 3, 1, 1, 4, 3), "choose"),
        ("broadcastable",),
    ),
    "gc with a key of an image": (
        lambda: refused("gc", weights=weights_of("gc", C, 4, 4)._replace(key=random(1, C, 1))),
        ("key [1, 4, 4]", "key (1, 4, 1)"),
    ),
    "gc of one hidden channel": (
        lambda: refused("gc", weights=one_hidden_channel()),
        ("2 hidden channels at least",),
    ),
    "srm of one statistic": (lambda: refused("srm", weights=random(C, 1, 4)), ("w [4, 2, 4]", "(4, 1, 4)")),
    "eca of even size": (lambda: refused("eca", weights=random(2, 4)), ("odd size", "(2, 4)")),
    "coordinate on eighth turns": (
        lambda: refused(
            "coordinate", f=random(1, 4, 4, 8, C), weights=weights_of("coordinate", C, 8, 8), group=cyclic(8)
        ),
        ("cyclic(8) does not map", "cyclic(4) or dihedral(4)"),
    ),
    "non-local of other channels": (
        lambda: refused("non_local", weights=weights_of("non_local", 3, 4, 4)),
        ("query [c_hid, 4, 4]", "(4, 3, 4)"),
    ),
    "self-attention of an even window": (
        lambda: refused("self", weights=weights_of("self", C, 4, 4)._replace(position=random(2, 2, 4, 4))),
        ("odd size", "position (2, 2, 4, 4)"),
    ),
    "self-attention of heads that do not divide": (
        lambda: refused("self", heads=3),
        ("heads must divide the 4 hidden channels: one of 1, 2, 4; got 3",),
    ),
    "unknown combination": (
        lambda: attend(random(2, 2), random(2, 2), "multiply"),
        ('one of "scale", "suppress", "emphasise", "add", "choose", got',),
    ),
    "a map of another shape": (
        lambda: attend(random(2, 4, 4, 4, 3), random(2, 4, 4, 4, 2)),
        ("(2, 4, 4, 4, 3)", "(2, 4, 4, 4, 2)"),
    ),
    "parts that do not divide": (
        lambda: grouped_group_conv(random(1, 4, 4, 4, 6), random(3, 3, 4, 2, 4), cyclic(4), 3),
        ("channel_groups must divide the 6 and 4 channels: one of 1, 2; got 3",),
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_work_is_refused_by_saying_what_would(case):
    call, parts = REFUSALS[case]
    with assert_refused(*parts):
        call()


def test_weights_may_be_annotated_in_any_spelling_and_tuples_be_lists():
    pair = NamedTuple("Pair", [("w", "Float[Array, ' c'] | None"), ("b", Float[Array, " c"])])  # noqa: UP014
    weights = [pair(None, random(C)), pair(random(C), random(C)), None]
    for kind in (Optional[pair], None | pair):  # noqa: UP045
        check_weights("pairs", random(1, 4, 4, 4, C), weights, tuple[kind, ...], cyclic(4))


def test_formula_names_its_paper_and_where_its_arguments_are_explained():
    assert OPERATORS["ge"].source == "Hu et al. 2018 (arXiv 1810.12348)"
    for operator in OPERATORS.values():
        assert re.search("rguments(: see| as) `", operator.apply.__doc__), operator.name


def test_statistics_over_the_group_are_those_of_an_ordinary_network_on_the_mean_image():
    f, weights = random(2, 4, 4, 4, C), network(C, 1)
    over = squeeze_excitation(f, weights, cyclic(4), over_group=True)
    assert_close(over, squeeze_excitation(jnp.mean(f, axis=-2, keepdims=True), weights, trivial()))


def test_non_local_attention_of_one_element_is_that_of_its_own_map():
    f, weights = random(2, 4, 3, 4, C), weights_of("non_local", C, 1, 1)
    group = trivial()
    per_element = [non_local(f[..., h : h + 1, :], weights, group) for h in range(4)]
    lifted = [jnp.zeros((*w.shape[:2], 4)).at[..., 0].set(w[..., 0]) for w in weights if w is not None]
    whole = non_local(f, type(weights)(*lifted), cyclic(4), over_group=False)
    assert_close(whole, jnp.concatenate(per_element, axis=-2))


def test_infinite_statistics_stay_where_they_are():
    s = jnp.ones([4, 2, 3]).at[0, 0, 0].set(jnp.inf)
    weight = jnp.ones([1, 3, 2]).at[:, :, 1].set(0)
    out = statistic_linear(s, weight, cyclic(2))
    np.testing.assert_array_equal(np.isfinite(out[1:]), True)
    assert out[0, 0, 0] == jnp.inf


@pytest.mark.parametrize("group", [cyclic(4), dihedral(4)], ids=str)
def test_gradients_of_moved_statistics_are_the_transpose(group):
    s, direction = random(2, group.order, 3, seed=0), random(2, group.order, 3, seed=1)
    weight, cotangent = random(5, 3, group.order, seed=2), random(2, group.order, 5, seed=3)
    out, tangent = jax.jvp(lambda s: statistic_linear(s, weight, group), (s,), (direction,))
    assert_close(out, group_linear(s, weight, group))
    (gradient,) = jax.vjp(lambda s: statistic_linear(s, weight, group), s)[1](cotangent)
    assert_close(jnp.sum(gradient * direction), jnp.sum(cotangent * tangent))
    # On CUDA the gradient is added in pieces.
    moved = random(2, group.order, 3, group.order, seed=4)
    assert_close(layers._moved_back_in_pieces(moved, group), layers._moved_back_by_product(moved, group))
