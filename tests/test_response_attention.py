"""Attention on responses: the formula, its equivariance, its maps, and what it refuses."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from helpers import (
    EXACT_GROUPS,
    INTERPOLATED_GROUPS,
    assert_close,
    assert_refused,
    random,
    relative_error,
    response_weights,
)
from test_geometry import fits, is_accepted

from attgconv_jax import (
    ResponseChannelWeights,
    Sampling,
    act,
    cyclic,
    dihedral,
    equivariance_error,
    group_conv,
    response_attentive_group_conv,
    trivial,
)
from attgconv_jax.attention import response_channel_bank
from attgconv_jax.filters import disc

P4, P4M = cyclic(4), dihedral(4)
FACTORS = ("channel", "spatial", "channel+spatial")
every_factor = pytest.mark.parametrize("attention", FACTORS)


def layer_of(group, attention, *, lifting=False, size=9, k=3, c=3, o=2, seed=0, **settings):
    """A compiled layer, its input, and its arguments, all random."""
    h = 1 if lifting else group.order
    f, w = random(2, size, size + 1, h, c, seed=seed), random(k, k, h, c, o, seed=seed + 1)
    weights = response_weights(3, c, o, h, attention, seed=seed)
    apply = functools.partial(response_attentive_group_conv, group=group, **settings)
    return jax.jit(lambda f: apply(f, w, *weights)), f, (f, w, *weights)


@pytest.mark.parametrize(
    ("group", "settings"),
    [
        (trivial(), dict(padding=1)),
        (P4, dict(haar=True)),
        (P4, dict(lifting=True, haar=True, padding="SAME")),
        (P4M, dict(haar=True, stride=2, padding=1, exact=False)),
        (dihedral(1), dict(dilation=2, attention_dilation=2)),
        (dihedral(2), dict(k=1, attention_dilation=3)),
        (cyclic(2), dict(k=2, padding="SAME", exact=False)),
    ],
    ids=str,
)
@every_factor
def test_layer_is_the_sum_of_all_responses_without_what_attention_marks(group, settings, attention):
    geometry = {key: settings.get(key) for key in ("stride", "padding", "dilation", "attention_dilation", "haar")}
    layer, f, arguments = layer_of(group, attention, size=6, return_attention=True, **settings)
    y, maps = layer(f)
    known = {key: value for key, value in geometry.items() if value is not None}
    expected = oracles.response_attentive_group_conv(*jax.tree.map(np.asarray, arguments), group, **known)
    assert_close(y, expected[0])
    for name, actual, alpha in zip(("channel", "spatial"), maps, expected[1:], strict=True):
        if name in attention:
            assert_close(actual, alpha)
        else:
            assert actual is None


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("group", INTERPOLATED_GROUPS, ids=str)
def test_layer_on_interpolated_groups_is_the_formula(group, masked):
    layer, f, arguments = layer_of(group, "channel+spatial", size=5, sampling=Sampling("cubic", masked))
    expected = oracles.response_attentive_group_conv(
        *jax.tree.map(np.asarray, arguments), group, kernel=oracles.keys, masked=masked
    )
    assert_close(layer(f), expected[0])


@hypothesis.settings(max_examples=25)
@hypothesis.given(
    group=st.sampled_from(EXACT_GROUPS),
    lifting=st.booleans(),
    shape=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    k=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.sampled_from([0, 1, 2, "SAME", "VALID"]),
    dilation=st.integers(1, 2),
    attention=st.sampled_from(FACTORS),
)
def test_layer_commutes_with_the_group_where_it_is_accepted(
    group, lifting, shape, k, stride, padding, dilation, attention
):
    settings = k, stride, padding, dilation
    hypothesis.assume(all(fits(n, *settings) for n in shape))
    h = 1 if lifting else group.order
    f, w = random(2, *shape, h, 3), random(k, k, h, 3, 2, seed=1)
    layer = functools.partial(
        response_attentive_group_conv,
        group=group,
        stride=stride,
        padding=padding,
        dilation=dilation,
        attention_dilation=dilation,
        haar=True,
    )
    weights = response_weights(3, 3, 2, h, attention)
    if is_accepted(group, shape, *settings):
        assert equivariance_error(jax.jit(lambda f: layer(f, w, *weights)), f, group) < 1e-10
    else:
        with assert_refused("does not map the sampling grid to itself"):
            jax.eval_shape(lambda f: layer(f, w, *weights), f)


@pytest.mark.parametrize("group", [P4, P4M, dihedral(1), dihedral(2)], ids=str)
@every_factor
def test_two_layers_commute_with_the_group(group, attention):
    lift, image, _ = layer_of(group, attention, lifting=True, size=7, c=2, o=3, padding=1)
    layer, _, _ = layer_of(group, attention, c=3, o=2, haar=True, seed=1, attention_dilation=2)
    assert equivariance_error(lambda f: layer(lift(f)), image, group) < 1e-10


@every_factor
def test_layer_is_not_invariant_under_a_larger_group(attention):
    layer, _, _ = layer_of(P4, attention, lifting=True)
    image = random(2, 8, 8, 1, 3)
    assert equivariance_error(lambda f: jnp.max(layer(f), axis=(1, 2, 3)), image, P4, "invariant") < 1e-10
    assert equivariance_error(lambda f: jnp.max(layer(f), axis=(1, 2, 3)), image, P4M, "invariant") > 1e-3


@every_factor
def test_every_factor_changes_the_output(attention):
    layer, f, arguments = layer_of(P4, attention)
    plain = group_conv(*arguments[:2], P4)
    assert relative_error(layer(f), plain) > 1e-2
    others = {layer_of(P4, other)[0](f).tobytes() for other in FACTORS}
    assert len(others) == 3


def test_without_weights_the_layer_is_the_group_convolution():
    f, w = random(2, 6, 6, 8, 3), random(3, 3, 8, 3, 2)
    y, maps = response_attentive_group_conv(f, w, None, None, P4M, haar=True, return_attention=True)
    # Four rotations and their reflections: the plain convolution carries 2 (2 pi / 4), the response one 2 pi / 8.
    assert_close(4 * y, group_conv(f, w, P4M, haar=True))
    assert maps == (None, None)


@every_factor
def test_an_empty_batch_gives_an_empty_batch_and_no_gradient(attention):
    layer, f, arguments = layer_of(P4, attention)
    assert layer(f[:0]).shape == (0, 7, 8, 4, 2)
    loss = functools.partial(response_attentive_group_conv, group=P4)
    gradients = jax.jit(jax.grad(lambda weights: jnp.sum(loss(f[:0], *weights))))(arguments[1:])
    assert not any(np.any(gradient) for gradient in jax.tree.leaves(gradients))


def test_batch_axes_may_be_several_or_none():
    layer, f, arguments = layer_of(cyclic(2), "channel+spatial", return_attention=True)
    y, maps = layer(jnp.stack([f, 2 * f]))
    assert_close(y[0, 1], layer(f)[0][1])
    apply = functools.partial(response_attentive_group_conv, group=cyclic(2), return_attention=True)
    single, alone = jax.jit(apply)(f[1], *arguments[1:])
    assert_close(single, y[0, 1])
    assert [alpha.shape for alpha in alone] == [(1, 1, 2, 3, 2, 2), (7, 8, 2, 1, 2, 2)]
    assert maps.spatial.shape == (2, 2, 7, 8, 2, 1, 2, 2)


def test_maps_turn_with_the_input_and_no_gradient_flows_through_them():
    layer, f, _ = layer_of(P4, "channel+spatial", lifting=True, size=7, return_attention=True)
    f = f[:, :, :7]
    for g in range(4):
        turned, maps = layer(act(f, P4, g, "image"))[1], layer(f)[1]
        rows = oracles.rows_of(P4, g, 4)
        assert_close(turned.spatial, oracles.turn(np.asarray(maps.spatial), P4, g, (1, 2))[..., rows, :])
        assert_close(turned.channel, np.asarray(maps.channel)[..., rows, :])
    gradient = jax.grad(lambda f: sum(jnp.sum(alpha) for alpha in layer(f)[1]))(f)
    assert not np.any(gradient)


def test_bfloat16_input_has_float32_statistics():
    layer, f, arguments = layer_of(P4, "channel+spatial", return_attention=True)
    rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16), arguments)
    y, maps = jax.jit(functools.partial(response_attentive_group_conv, group=P4, return_attention=True))(*rounded)
    assert y.dtype == jnp.bfloat16
    assert {alpha.dtype for alpha in maps} == {np.dtype(np.float32)}
    exact, exact_maps = layer(f)
    assert relative_error(y.astype(jnp.float32), exact) < 0.03
    # One rounding: what is left is not the difference of two rounded parts.
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), rounded)
    np.testing.assert_array_equal(y, response_attentive_group_conv(*wide, P4).astype(jnp.bfloat16))
    # What the bfloat16 numbers mean in float64 has the same maps: nothing between is rounded to bfloat16.
    known = response_attentive_group_conv(
        *jax.tree.map(lambda x: x.astype(jnp.float64), rounded), P4, return_attention=True
    )[1]
    for alpha, expected in zip(maps, known, strict=True):
        assert relative_error(alpha, expected) < 1e-5
    assert relative_error(exact_maps.channel, known.channel) > 1e-4


def weights_for(o=2, c=3, h=4, hidden=2, k=3):
    return response_weights(k, c, o, h, hidden=hidden)


ERRORS = {
    "an even attention filter": (dict(spatial=random(4, 4, 4, 2, 2)), "spatial [k, k, 4, 2, 2] of odd size k; got"),
    "an oblong attention filter": (dict(spatial=random(3, 5, 4, 2, 2)), "spatial (3, 5, 4, 2, 2)"),
    "one statistic": (dict(spatial=random(3, 3, 4, 1, 2)), "spatial (3, 3, 4, 1, 2)"),
    "weights of input attention": (
        dict(channel=ResponseChannelWeights(random(2, 3, 4), random(3, 2, 4))),
        "takes channel.w1 [2, c_hid, 3, 4], channel.w2 [2, 3, c_hid, 4]; got",
    ),
    "a plain tuple": (
        dict(channel=(random(2, 2, 3, 4), random(2, 3, 2, 4))),
        "takes channel as ResponseChannelWeights, got tuple",
    ),
    "a list": (dict(spatial=[[1.0]]), "spatial list"),
    "no array": (
        dict(channel=ResponseChannelWeights(random(2, 2, 3, 4), None)),
        "channel.w2 NoneType",
    ),
    "no hidden channel": (
        dict(channel=ResponseChannelWeights(random(2, 0, 3, 4), random(2, 3, 0, 4))),
        "channel.w1 (2, 0, 3, 4)",
    ),
    "weights of an image": (dict(channel=response_weights(3, 3, 2, 1)[0]), "w1 [2, c_hid, 3, 4]"),
    "other weights' dtype": (
        dict(spatial=random(3, 3, 4, 2, 2).astype(jnp.float32)),
        "f and spatial must have one dtype, got float64 and float32; cast one of them",
    ),
    "another input dtype": (dict(f=random(1, 6, 6, 4, 3).astype(jnp.float32)), "f and w must have one dtype"),
    "no attention dilation": (
        dict(attention_dilation=0),
        "attention_dilation must be an integer of at least 1, got 0",
    ),
    "an unknown implementation": (
        dict(implementation="cuda"),
        'implementation must be None or one of "xla", "tiles", "blocks", "reference", "rows", "fourier", got \'cuda\'',
    ),
    "an unknown implementation of no attention": (
        dict(channel=None, spatial=None, implementation="cuda"),
        'implementation must be None or one of "xla", "tiles", "blocks", "reference", "rows", "fourier", got \'cuda\'',
    ),
    "an uneven grid": (dict(stride=2), "does not map the sampling grid to itself"),
    "an image for a feature map": (dict(f=random(1, 6, 6, 1, 3)), "f has 1 group elements and 3 channels"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_cannot_work_is_refused_by_saying_what_would(case):
    changes, message = ERRORS[case]
    channel, spatial = weights_for()
    good = dict(f=random(1, 6, 6, 4, 3), w=random(3, 3, 4, 3, 2), channel=channel, spatial=spatial, group=P4)
    response_attentive_group_conv(**good)
    with assert_refused(message):
        response_attentive_group_conv(**(good | changes))


def test_a_bank_of_another_group_is_refused():
    channel, _ = response_weights(3, 3, 2, 2)
    with assert_refused("weights have 2 group elements, but cyclic(4) needs 1 (on images) or 4"):
        response_channel_bank(channel, P4)


def test_the_disc_masks_the_attention_filter_too():
    spatial = random(5, 5, 1, 2, 1)
    f, w = random(1, 7, 7, 1, 2), jnp.ones((1, 1, 1, 2, 1))
    masked = spatial * disc(5)[:, :, None, None, None]
    layer = functools.partial(response_attentive_group_conv, group=trivial())
    assert_close(layer(f, w, None, spatial, sampling=Sampling("bilinear", True)), layer(f, w, None, masked))
