"""Equivariance as a property: whatever the library accepts commutes with the group, and what it refuses does not."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from flax import nnx
from helpers import EXACT_GROUPS, assert_close, assert_refused, channel_weights, random
from test_geometry import fits, is_accepted, is_reversed, pixels_read, reversed_reading

from attgconv_jax import (
    Sampling,
    act,
    cyclic,
    dihedral,
    equivariance_error,
    group_conv,
    input_attention,
    input_co_attention,
    max_pool,
    mean_pool,
    nn,
    project_max,
    project_mean,
)

every_exact_group = pytest.mark.parametrize("group", EXACT_GROUPS, ids=str)
ATTENTIONS = ("none", "channel", "spatial", "channel+spatial", "co")


def attend(f, attention, group, dilation=1):
    h, c = f.shape[-2:]
    if attention == "co":
        return input_co_attention(f, random(1, 1, h, c, 1, seed=5), group)
    channel = channel_weights(c, h) if "channel" in attention else None
    spatial = random(3, 3, h, 2, 1, seed=6) if "spatial" in attention else None
    return input_attention(f, channel, spatial, group, dilation=dilation)


@hypothesis.settings(max_examples=40)
@hypothesis.given(
    group=st.sampled_from(EXACT_GROUPS),
    lifting=st.booleans(),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    k=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.sampled_from([0, 1, 2, "SAME", "VALID"]),
    dilation=st.integers(1, 2),
    attention=st.sampled_from(ATTENTIONS),
)
def test_attentive_convolution_commutes_with_the_group_exactly_where_it_is_accepted(
    group, lifting, shape, k, stride, padding, dilation, attention
):
    settings = k, stride, padding, dilation
    hypothesis.assume(all(fits(n, *settings) for n in shape))
    readings = [pixels_read(n, *settings) for n in shape]
    # Where nothing but padding is read all is zero, and commutes.
    hypothesis.assume(all(any(pixel is not None for taps in reading for pixel in taps) for reading in readings))
    h = 1 if lifting else group.order
    f, w = random(2, *shape, h, 2), random(k, k, h, 2, 3, seed=1)

    def layer(f, exact):
        attended = attend(f, attention, group, dilation)
        return group_conv(attended, w, group, stride=stride, padding=padding, dilation=dilation, haar=True, exact=exact)

    if is_accepted(group, shape, *settings):
        assert equivariance_error(jax.jit(functools.partial(layer, exact=True)), f, group) < 1e-10
    else:
        with assert_refused("does not map the sampling grid to itself"):
            jax.eval_shape(functools.partial(layer, exact=True), f)
        assert equivariance_error(jax.jit(functools.partial(layer, exact=False)), f, group) > 1e-3


@pytest.mark.parametrize("pool", [max_pool, mean_pool])
@hypothesis.settings(max_examples=12)
@hypothesis.given(
    group=st.sampled_from(EXACT_GROUPS),
    shape=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    window=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
)
def test_pooling_commutes_with_the_group_exactly_where_it_is_accepted(pool, group, shape, window, stride, padding):
    settings = window, stride, padding, 1
    hypothesis.assume(padding < window and all(fits(n, *settings) for n in shape))
    f = random(2, *shape, group.order, 8)
    apply = functools.partial(pool, group=group, window=window, stride=stride, padding=padding)
    if is_accepted(group, shape, *settings):
        assert equivariance_error(jax.jit(apply), f, group) < 1e-10
        return
    with assert_refused("does not map the sampling grid to itself"):
        apply(f)
    # A pool has no taps to tell apart: where every window holds the whole axis, it reads the same off centre.
    differs = [
        [sorted(p for p in taps if p is not None) for taps in reading]
        != [sorted(p for p in taps if p is not None) for taps in reversed_reading(reading, n)]
        for reading, n in zip((pixels_read(n, *settings) for n in shape), shape, strict=True)
    ]
    hypothesis.assume(any(d and is_reversed(group, axis) for axis, d in enumerate(differs)))
    assert equivariance_error(jax.jit(functools.partial(apply, exact=False)), f, group) > 1e-3


def network(image, attention, group):
    lift, w = random(3, 3, 1, 2, 3, seed=1), random(3, 3, group.order, 3, 4, seed=2)
    f = jax.nn.relu(group_conv(attend(image, attention, group), lift, group, padding=1))
    f = group_conv(attend(f, attention, group), w, group, stride=2, padding=1, haar=True)
    return max_pool(f, group, window=3, stride=1)


@pytest.mark.parametrize("attention", ATTENTIONS)
@every_exact_group
def test_network_commutes_with_the_group(group, attention):
    # Optimised, as users compile it.
    layers = jax.jit(functools.partial(network, attention=attention, group=group))
    assert equivariance_error(layers, random(2, 7, 7, 1, 2), group) < 1e-10


@pytest.mark.parametrize("group", [cyclic(4), dihedral(4)], ids=str)
def test_projections_give_images_that_turn_and_means_that_do_not(group):
    image = random(2, 9, 7, 1, 2)
    outputs = {
        "image": lambda f: project_max(network(f, "channel+spatial", group)),
        "invariant": lambda f: jnp.mean(project_mean(network(f, "co", group)), axis=(1, 2, 3)),
    }
    for kind, function in outputs.items():
        assert equivariance_error(jax.jit(function), image, group, kind) < 1e-10


@every_exact_group
@pytest.mark.parametrize("h", ["image", "feature_map"])
def test_action_is_the_rotated_flipped_and_permuted_array(group, h):
    f = random(2, 4, 5, 1 if h == "image" else group.order, 3)
    for g in range(group.order):
        np.testing.assert_array_equal(act(f, group, g, h), oracles.act(np.asarray(f), group, g))


@every_exact_group
@pytest.mark.parametrize("kind", ["image", "feature_map", "invariant"])
def test_acting_twice_is_acting_with_the_product(group, kind):
    f = random(3, 4, 1 if kind == "image" else group.order, 2)
    for g in range(group.order):
        for h in range(group.order):
            twice = act(act(f, group, h, kind), group, g, kind)
            np.testing.assert_array_equal(twice, act(f, group, group.product[g, h].item(), kind))


def blobs(size, matrix, width=3.0):
    """Gaussians at fixed places of the plane, seen after the plane has been moved by `matrix`."""
    offset = np.arange(size) - (size - 1) / 2
    plane = np.stack(np.meshgrid(offset, offset, indexing="ij"), -1)
    centres = [((3.0, -2.0), 1.0), ((-4.0, 1.5), -0.7), ((0.5, 5.0), 0.5)]
    heights = [s * np.exp(-np.sum((plane - matrix @ np.array(c)) ** 2, -1) / (2 * width**2)) for c, s in centres]
    return jnp.asarray(sum(heights))[None, :, :, None, None]


@pytest.mark.parametrize("group", [cyclic(8), dihedral(6)], ids=str)
def test_interpolated_action_is_close_to_the_rotation_of_the_plane(group):
    image = blobs(25, np.eye(2))
    for g, matrix in enumerate(oracles.elements(group)):
        # Bilinear interpolation misses at most (|f_xx| + |f_yy|) / 8, here 2 / (8 width^2).
        assert_close(act(image, group, g, "image"), blobs(25, matrix), 1 / 36)


def test_interpolated_action_is_exact_for_right_angles_and_permutes_the_group():
    group, f = cyclic(8), random(2, 5, 5, 8, 2)
    for quarter in range(4):
        expected = oracles.turn(np.asarray(f), cyclic(4), quarter, axes=(1, 2))[
            ..., oracles.rows_of(group, 2 * quarter, 8), :
        ]
        np.testing.assert_array_equal(act(f, group, 2 * quarter, "feature_map"), expected)
    constant = jnp.broadcast_to(jnp.arange(8.0)[:, None], (9, 9, 8, 1))
    for g in range(8):
        np.testing.assert_allclose(act(constant, group, g, "feature_map")[4, 4, :, 0], (np.arange(8) - g) % 8)


def smooth_filter(k, h, c_in, c_out, seed):
    offset = np.arange(k) - (k - 1) / 2
    bump = np.exp(-(offset[:, None] ** 2 + offset[None] ** 2) / 2)[:, :, None, None, None]
    slope = 1 + random(1, 1, h, c_in, c_out, seed=seed) * (offset / k)[:, None, None, None, None]
    return bump * slope * random(1, 1, h, c_in, c_out, seed=seed + 1)


# Measured on a smooth image with smooth filters: 1.1, 0.7, 3.5, 1.7, 1.2 and 0.9 %. Interpolated groups are inexact.
@pytest.mark.parametrize(
    ("group", "interpolation", "bound"),
    [
        (cyclic(8), "bilinear", 0.014),
        (cyclic(8), "cubic", 0.009),
        (cyclic(16), "bilinear", 0.042),
        (cyclic(16), "cubic", 0.02),
        (dihedral(8), "bilinear", 0.015),
        (dihedral(8), "cubic", 0.012),
    ],
)
def test_error_of_an_interpolated_group_is_bounded_and_not_zero(group, interpolation, bound):
    lift, w = smooth_filter(5, 1, 1, 2, seed=1), smooth_filter(5, group.order, 2, 2, seed=3)
    settings = dict(padding=2, sampling=Sampling(interpolation))

    def layers(f):
        return group_conv(group_conv(f, lift, group, **settings), w, group, **settings)

    assert 1e-6 < equivariance_error(jax.jit(layers), blobs(29, np.eye(2)), group) < bound


def test_right_angles_of_an_interpolated_group_are_exact():
    group = cyclic(8)
    f, w = random(2, 7, 7, 8, 2), random(3, 3, 8, 2, 3, seed=1)
    layer = jax.jit(lambda f: group_conv(attend(f, "channel+spatial", group), w, group, padding=1))
    for g in (2, 4, 6):
        turned = act(layer(f), group, g, "feature_map")
        assert_close(layer(act(f, group, g, "feature_map")), turned, 1e-12)


def test_error_of_the_identity_and_of_zero_is_zero():
    f = random(2, 5, 4, 4, 3)
    assert equivariance_error(lambda f: f, f, cyclic(4)) == 0
    assert equivariance_error(jnp.zeros_like, f, cyclic(4)) == 0


@pytest.mark.parametrize("group", [group for group in EXACT_GROUPS if group.order > 1], ids=str)
def test_error_of_a_function_that_ignores_the_group_is_about_one(group):
    f = random(2, 6, 6, group.order, 3)
    place = random(6, 6, group.order, 3, seed=1)
    assert 0.3 < equivariance_error(lambda f: f * place, f, group) < 3


def test_error_is_relative_to_the_largest_output():
    f, place = random(2, 6, 6, 4, 3), random(6, 6, 4, 3, seed=1)
    small, large = (equivariance_error(lambda f, s=s: s * f * place, f, cyclic(4)) for s in (1e-6, 1e6))
    assert small == pytest.approx(large, rel=1e-9)


def test_error_is_not_hidden_by_zero_or_nan():
    f = random(1, 3, 3, 4, 1)
    appears = equivariance_error(lambda g: jnp.where(jnp.all(g == f), 0.0, 1.0) * jnp.ones_like(g), f, cyclic(4))
    assert appears == np.inf
    assert np.isnan(equivariance_error(lambda g: g * jnp.nan, f, cyclic(4)))
    assert np.isnan(equivariance_error(lambda g: g * 0 + jnp.inf, f, cyclic(4)))


def test_error_beyond_the_largest_number_is_infinite():
    f, place = jnp.full((1, 2, 2, 4, 1), 6e4, jnp.float16), jnp.sign(random(2, 2, 4, 1)).astype(jnp.float16)
    assert equivariance_error(lambda f: f * place, f, cyclic(4)) == np.inf


@pytest.mark.parametrize("group", [cyclic(4), cyclic(8)], ids=str)
def test_numpy_arrays_are_jax_arrays_once_they_are_moved(group):
    f = np.array(random(5, 5, group.order, 1))
    before = f.copy()
    with jax.enable_x64(False):
        for element in range(group.order):
            assert isinstance(act(f, group, element, "feature_map"), jax.Array)
            assert act(f, group, element, "feature_map").dtype == jnp.float32
    np.testing.assert_array_equal(f, before)


def test_the_function_sees_its_argument_where_it_is():
    device, seen = jax.devices()[-1], []
    f = jax.device_put(random(1, 3, 3, 4, 1), device)

    def function(f):
        seen.append((f.committed, f.devices()))
        return f

    equivariance_error(function, f, cyclic(4))
    assert seen == [(True, {device})] * 5


def test_error_of_a_module_is_measured():
    layer = nn.GroupConv(2, 3, 3, cyclic(2), padding=1, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    assert equivariance_error(layer, random(2, 5, 5, 2, 2), cyclic(2)) < 1e-10
    assert equivariance_error(layer, random(2, 5, 5, 2, 2), dihedral(1)) > 0.1


def test_interpolated_action_on_an_image_that_is_not_square_is_refused():
    with assert_refused("cyclic(8)", "square image", "5x6 pixels"):
        act(random(5, 6, 8, 1), cyclic(8), 1, "feature_map")


@pytest.mark.parametrize("element", [-1, 4, 100])
def test_unknown_element_is_refused_with_the_known_ones(element):
    with assert_refused("element must be one of cyclic(4), 0 to 3", str(element)):
        act(random(5, 5, 4, 1), cyclic(4), element, "feature_map")


@pytest.mark.parametrize(
    ("shape", "kind", "parts"),
    [
        ((5, 5, 4, 1), "picture", ('kind must be "feature_map", "image" or "invariant"', "'picture'")),
        ((5, 5, 1, 1), "feature_map", ("h = 4 for cyclic(4)", "(5, 5, 1, 1)")),
        ((5, 5, 4, 1), "image", ("f must be image [..., x, y, h, c] with h = 1", "(5, 5, 4, 1)")),
        ((5, 4, 1), "feature_map", ("[..., x, y, h, c]", "(5, 4, 1)")),
        ((4,), "image", ("[..., x, y, h, c]", "(4,)")),
    ],
)
def test_array_of_another_kind_is_refused_by_the_action(shape, kind, parts):
    with assert_refused(*parts):
        act(random(*shape), cyclic(4), 1, kind)


@pytest.mark.parametrize(
    ("function", "shape", "output", "parts"),
    [
        (project_max, (1, 5, 5, 4, 2), "feature_map", ("the function's output must be feature map", "h = 4")),
        (lambda f: f, (1, 5, 5, 4, 2), "image", ("the function's output must be image", "h = 1", "(1, 5, 5, 4, 2)")),
        (lambda f: f, (1, 5, 5, 4, 2), "picture", ('output must be "feature_map", "image"', "'picture'")),
        (lambda f: f, (1, 5, 5, 3, 2), "feature_map", ("x must be feature map", "h = 4", "(1, 5, 5, 3, 2)")),
        (lambda f: f, (5, 4, 2), "feature_map", ("x must be feature map", "(5, 4, 2)")),
        (lambda f: f, (4,), "feature_map", ("x must be feature map", "(4,)")),
        (lambda f: (f, f), (1, 5, 5, 4, 2), "feature_map", ("the function's output must be one array", "tuple")),
        (lambda f: jnp.argmax(f, -1), (1, 5, 5, 4, 2), "invariant", ("must be floating", "int64")),
        (lambda f: f[:0], (1, 5, 5, 4, 2), "feature_map", ("not empty", "(0, 5, 5, 4, 2)")),
        (lambda f: f[:, :3], (1, 4, 6, 4, 2), "feature_map", ("not treat the axes x and y alike", "(1, 3, 4, 4, 2)")),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(function, shape, output, parts):
    with assert_refused(*parts):
        equivariance_error(function, random(*shape), cyclic(4), output)
