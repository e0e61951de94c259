"""Sampling down and nonlinearities without aliasing: against loops and Fourier series, exact where the grid allows."""

import functools
import math
from unittest import mock

import jax
import jax.export
import jax.numpy as jnp
import networks
import numpy as np
import pytest
from compilation import optimised
from flax import nnx
from helpers import assert_close, assert_refused, primitives, random

from attgconv_jax import (
    Sampling,
    act,
    circular_mask,
    cyclic,
    dihedral,
    filter_basis,
    group_conv,
    low_pass,
    max_pool,
    mean_pool,
    oversampled,
    response_attentive_group_conv,
    separable_group_conv,
    smooth_max_pool,
)
from attgconv_jax.antialiasing import DEVIATION
from attgconv_jax.models import all_cnn, load_network, save_network
from attgconv_jax.models.layers import pool_activations
from attgconv_jax.nn import GroupConv, SpatialPool, nonlinearity

relu = oversampled(jax.nn.relu)


def filtered(group, k, c_in, c_out):
    """A basis for filters of a group, and coefficients."""
    basis = filter_basis(group, k, Sampling("least_error", tolerance=0.05))
    return basis, random(len(basis), group.order, c_in, c_out)


def conv(f, group, **options):
    basis, w = filtered(group, 3, f.shape[-1], 2)
    return group_conv(f, w, group, stride=2, padding=1, antialiased=True, sampling=basis, **options)


NETWORKS = {
    # Shape of images, further settings, how often pixels are left out, and how many relus there are.
    "rot_mnist": ((1, 28, 28, 1, 1), {}, 1, 6),
    "all_cnn": ((1, 32, 32, 1, 3), {}, 2, 9),
    # The lifting, the pooling, and a convolution and the shortcut in three stages; two relus in each of eight blocks.
    "resnet": ((1, 65, 65, 1, 3), {"depth": 18, "classes": 2}, 1 + 1 + 3 * 2, 1 + 2 * 8),
}
EVERY_OPTION = dict(antialiased=True, oversampled=True, masked=True)

# Functions of a feature map of 9x9 pixels and a group.
LAYERS = {
    "low_pass": lambda f, group: low_pass(f, group, deviation=1.2, stride=2),
    "max_pool": lambda f, group: max_pool(f, group, window=3, stride=2, padding=1, antialiased=True),
    "mean_pool": lambda f, group: mean_pool(f, group, window=3, stride=2, antialiased=True),
    "smooth_max_pool": lambda f, group: smooth_max_pool(f, group, window=3, stride=2, padding=1),
    "group_conv": conv,
    "oversampled": lambda f, _: relu(f),
    "circular_mask": lambda f, _: circular_mask(f),
    "layers": lambda f, group: conv(relu(max_pool(f, group, window=3, stride=1, padding=1)), group),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("group", [cyclic(8), dihedral(8)], ids=str)
def test_right_angles_and_reflections_are_exact_within_finer_groups(group, name):
    f = random(1, 9, 9, group.order, 2)
    layer = jax.jit(lambda f: LAYERS[name](f, group))
    expected = layer(f)
    for element in np.flatnonzero(group.preserves_grid)[1:].tolist():
        turned = layer(act(f, group, element, "feature_map"))
        assert_close(turned, act(expected, group, element, "feature_map"), 1e-12)


def gaussian_mean(f, positions, deviation):
    """The loop: about every pair of positions the mean of all pixels with Gaussian weights."""
    out = np.zeros([len(positions[0]), len(positions[1]), *f.shape[2:]])
    for i, x in enumerate(positions[0]):
        for j, y in enumerate(positions[1]):
            weight = np.exp(
                -((np.arange(f.shape[0])[:, None] - x) ** 2 + (np.arange(f.shape[1]) - y) ** 2) / (2 * deviation**2)
            )
            out[i, j] = np.tensordot(weight / weight.sum(), f, 2)
    return out


def test_low_pass_is_the_gaussian_mean_of_what_is_inside():
    f = np.asarray(random(9, 7, 1, 2))
    expected = gaussian_mean(f, (range(0, 9, 2), range(0, 7, 2)), 1.3)
    assert_close(low_pass(jnp.asarray(f), cyclic(4), deviation=1.3, stride=2), expected, 1e-13)


@pytest.mark.parametrize("shape", [(7, 7), (6, 8), (2, 2), (1, 1), (1, 5)], ids=str)
def test_mask_is_a_disc_with_a_soft_edge(shape):
    f = np.asarray(random(2, *shape, 3, 2))
    radius, mask = (min(shape) - 1) / 2, np.zeros(shape)
    for x, y in np.ndindex(shape):
        distance = math.hypot(x - (shape[0] - 1) / 2, y - (shape[1] - 1) / 2)
        mask[x, y] = math.erfc((distance - radius) / 0.5 / math.sqrt(2))
    expected = (mask / mask.max())[..., None, None] * f
    assert_close(circular_mask(jnp.asarray(f)), expected, 1e-13)


def test_mask_rounds_low_precision_once():
    f = random(1, 5, 5, 4, 2).astype(jnp.bfloat16)
    expected = circular_mask(f.astype(jnp.float32)).astype(jnp.bfloat16)
    masked = circular_mask(f)
    assert masked.dtype == jnp.bfloat16
    np.testing.assert_array_equal(masked, expected)


@pytest.mark.default("rot_mnist")
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_with_masks_see_nothing_outside_of_the_disc(name):
    """Neither of the image nor in any feature map that has corners."""
    shape, settings, _, _ = NETWORKS[name]
    network = networks.random_network_of(name, cyclic(4), features=2, masked=True, **settings)
    image = random(*shape)
    *maps, logits = jax.jit(network.feature_maps)(image)
    corners = [float(jnp.max(jnp.abs(f[:, 0, 0])) / jnp.max(jnp.abs(f))) for f in maps if f.shape[1] > 8]
    assert len(corners) >= 3
    assert max(corners) < 1e-3
    outside = (circular_mask(jnp.ones(shape)) < 1e-6).astype(image.dtype)
    assert float(jnp.sum(outside)) > 50
    assert_close(networks.logits(network, image + 9 * outside), logits, 1e-3)


def test_pools_put_the_low_pass_where_their_windows_are():
    f = np.asarray(random(8, 8, 1, 2))
    settings = dict(group=cyclic(4), window=2, stride=3, padding=0)
    mean = mean_pool(jnp.asarray(f), **settings, antialiased=True)
    assert_close(mean, gaussian_mean(f, (np.arange(3) * 3 + 0.5,) * 2, DEVIATION * 3), 1e-13)
    dense = np.asarray(max_pool(jnp.asarray(f), **settings | {"stride": 1}))
    maximum = max_pool(jnp.asarray(f), **settings, antialiased=True)
    assert_close(maximum, gaussian_mean(dense, (np.arange(0, 7, 3),) * 2, DEVIATION * 3), 1e-13)


def test_smooth_maximum_is_the_power_mean_and_has_a_gradient_where_all_is_zero():
    f = np.array(random(9, 9, 1, 3))
    expected = gaussian_mean(np.maximum(f, 0) ** 4, (np.arange(0, 9, 2),) * 2, DEVIATION * 2) ** (1 / 4)
    f[..., 1] *= 1e100  # to the fourth it is too large
    f[5, 5, :, 2] = np.nan
    pool = jax.jit(functools.partial(smooth_max_pool, group=cyclic(4), window=3, stride=2, padding=1))
    pooled = np.asarray(pool(jnp.asarray(f)))
    for c, scale in enumerate((1, 1e100)):
        assert_close(pooled[..., c], scale * expected[..., c])
    assert np.all(np.isnan(pooled[..., 2]))
    half = jnp.asarray(f[..., :1]).at[:5].set(-1)
    gradient = jax.jit(jax.grad(lambda f: jnp.sum(pool(f))))(half)
    assert np.all(np.isfinite(gradient)) and np.any(gradient) and not np.any(gradient[:5])


@pytest.mark.parametrize(
    "layer",
    [
        lambda f, **options: group_conv(f, random(3, 3, 4, 2, 2), cyclic(4), padding=1, **options),
        lambda f, **options: separable_group_conv(
            f, random(1, 1, 4, 2, 2), random(3, 3, 1, 1, 2), cyclic(4), padding=1, **options
        ),
        lambda f, **options: response_attentive_group_conv(
            f, random(3, 3, 4, 2, 2), None, random(3, 3, 4, 2, 2), cyclic(4), padding=1, **options
        ),
    ],
    ids=["group", "separable", "response"],
)
def test_convolutions_with_a_stride_see_a_low_pass(layer):
    f = random(1, 9, 9, 4, 2)
    expected = layer(low_pass(f, cyclic(4), deviation=DEVIATION * 2), stride=2)
    assert_close(layer(f, stride=2, antialiased=True), expected, 1e-13)


@pytest.mark.parametrize("pool", [max_pool, mean_pool])
def test_nothing_is_smoothed_where_no_pixel_is_left_out(pool):
    f, settings = random(1, 5, 5, 4, 2), dict(window=3, stride=1, padding=1)
    np.testing.assert_array_equal(pool(f, cyclic(4), **settings, antialiased=True), pool(f, cyclic(4), **settings))
    plain, smooth = (
        primitives(lambda f, on=on: group_conv(f, jnp.ones([3, 3, 4, 2, 2]), cyclic(4), antialiased=on), f)
        for on in (False, True)
    )
    assert plain == smooth


def wave(size, frequency, phase, harmonics):
    """`sum over m of harmonics[m] cos(m (2 pi frequency x + phase))`."""
    x = 2 * np.pi * frequency * np.arange(size) + phase
    return sum(a * np.cos(m * x) for m, a in enumerate(harmonics))


def test_relu_of_a_wave_holds_the_harmonics_that_pixels_can_and_no_others():
    """The fourth harmonic of 0.19 cycles a pixel is 0.76, which pixels take for 0.24."""
    size, frequency, inside = 49, 0.19, slice(16, -16)
    # Of max(cos, 0), up to half a cycle a pixel.
    series = 1 / np.pi, 1 / 2, 2 / (3 * np.pi)
    errors = {}
    for name, function in {"relu": jax.nn.relu, "oversampled": relu}.items():
        worst = 0
        for phase in (0.0, 0.4, 0.9):
            f = np.broadcast_to(wave(size, frequency, phase, (0, 1))[:, None], (size, size))
            out = np.asarray(function(jnp.asarray(f)[..., None, None]))[:, size // 2, 0, 0]
            worst = max(worst, np.max(np.abs(out - wave(size, frequency, phase, series))[inside]))
        errors[name] = worst
    assert errors["oversampled"] < 0.4 * errors["relu"], errors


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_constants_stay_and_types_are_kept(dtype):
    f = jnp.full([1, 41, 41, 1, 1], 3, dtype)
    for function in (
        lambda f: low_pass(f, cyclic(4), deviation=4.0, stride=2),
        lambda f: max_pool(f, cyclic(4), window=3, stride=2, padding=1, antialiased=True),
        lambda f: mean_pool(f, cyclic(4), window=3, stride=2, padding=1, antialiased=True),
        lambda f: smooth_max_pool(f, cyclic(4), window=3, stride=2, padding=1),
        relu,
    ):
        out = function(f)
        assert out.dtype == dtype
        assert_close(out, np.full(out.shape, 3), {"float32": 1e-6, "bfloat16": 0}[dtype])


def test_nonlinearity_is_oversampled_by_other_factors():
    f = random(1, 5, 4, 1, 1)
    assert_close(oversampled(lambda f: f, 3)(f), oversampled(lambda f: f, 3)(f[:, ::-1])[:, ::-1], 1e-14)
    seen = []
    assert oversampled(lambda f: seen.append(f.shape) or f, 3)(f).shape == f.shape
    assert seen == [(1, 13, 10, 1, 1)]


def test_compiled_gradient_is_that_of_finite_differences():
    f, along, step = random(2, 7, 7, 4, 2), random(2, 7, 7, 4, 2, seed=1), 1e-5

    def loss(f):
        pooled = max_pool(oversampled(jnp.tanh)(f), cyclic(4), window=3, stride=2, antialiased=True)
        return jnp.sum(jnp.sin(pooled))

    gradient, value = optimised(jax.grad(loss))(f), jax.jit(loss)
    slope = (value(f + step * along) - value(f - step * along)) / (2 * step)
    assert_close(jnp.vdot(gradient, along), slope, 1e-6)
    mapped = jax.vmap(relu)(f)
    np.testing.assert_array_equal(mapped, relu(f))


@pytest.mark.default("rot_mnist")
@pytest.mark.parametrize("name", NETWORKS)
def test_options_reach_every_layer_of_a_network(name):
    shape, settings, strides, relus = NETWORKS[name]

    def counts(**options):
        network = networks.random_network_of(name, cyclic(4), features=2, **settings, **options)
        assert options.items() <= network.settings.items()
        return primitives(network, jnp.ones(shape))

    plain = counts()
    # One product along each axis; to oversample takes it there and back.
    assert counts(antialiased=True)["dot_general"] == plain["dot_general"] + 2 * strides
    assert counts(oversampled=True)["dot_general"] == plain["dot_general"] + 4 * relus
    # One of the image, and one behind every relu.
    assert counts(masked=True)["mul"] == plain["mul"] + 1 + relus


@pytest.mark.default("rot_mnist")
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_with_all_options_are_loaded_and_exact_at_right_angles(name, tmp_path):
    shape, settings, _, _ = NETWORKS[name]
    group = cyclic(4) if name == "rot_mnist" else dihedral(4)
    network = networks.random_network_of(name, group, features=2, **EVERY_OPTION, **settings)
    save_network(tmp_path / "network", network)
    image = random(*shape)
    images = jnp.concatenate([image, *(act(image, group, element, "image") for element in (1, group.order - 1))])
    logits = networks.logits(load_network(tmp_path / "network"), images)
    assert_close(logits[1:], np.broadcast_to(logits[:1], logits[1:].shape), 1e-12)


@pytest.mark.slow
def test_network_is_exported_for_any_number_of_images():
    network = networks.random_network(cyclic(4), features=2, **EVERY_OPTION)
    batch = jax.export.symbolic_shape("batch")
    shape = jax.ShapeDtypeStruct((*batch, 28, 28, 1, 1), jnp.float64)
    exported = jax.export.export(jax.jit(network))(shape)
    for n in (1, 3):
        image = random(n, 28, 28, 1, 1)
        assert_close(jax.jit(exported.call)(image), networks.logits(network, image), 1e-12)


def test_networks_oversample_with_a_gaussian_and_pool_smoothly():
    f = random(1, 9, 9, 4, 2)
    gaussian = oversampled(jax.nn.relu, deviation=0.5)(f)
    np.testing.assert_array_equal(nonlinearity.relu(f, True), gaussian)
    assert float(jnp.max(jnp.abs(gaussian - oversampled(jax.nn.relu)(f)))) > 0.01
    settings = dict(window=3, stride=2, padding=1)
    smooth = smooth_max_pool(f, cyclic(4), **settings)
    np.testing.assert_array_equal(pool_activations(f, cyclic(4), antialiased=True, **settings), smooth)
    plain = pool_activations(f, cyclic(4), antialiased=False, **settings)
    np.testing.assert_array_equal(plain, max_pool(f, cyclic(4), **settings))


def test_all_cnn_pools_activations_where_it_is_not_to_alias():
    """The maps after the third layer: `smooth_max_pool` of a relu, so nothing in them is negative or all zero."""
    network = networks.random_network_of("all_cnn", cyclic(4), features=2, antialiased=True)
    seen = []
    with mock.patch.object(all_cnn, "smooth_max_pool", lambda f, group: seen.append(f) or smooth_max_pool(f, group)):
        network(jnp.ones((1, 32, 32, 1, 3)))
    assert [f.shape[1] for f in seen] == [32, 16]
    assert all(float(jnp.min(f)) >= 0 for f in seen)


def test_oversampled_nonlinearities_are_known_by_what_they_are():
    names = {repr(oversampled(f, k)).split(" at ")[0] for f in (jax.nn.relu, jax.nn.gelu) for k in (2, 3)}
    assert len(names) == 4


def test_modules_take_the_option():
    f = random(1, 9, 9, 4, 2)
    layer = GroupConv(2, 2, 3, cyclic(4), stride=2, antialiased=True, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    expected = group_conv(f, layer.w[...], cyclic(4), stride=2, antialiased=True)
    np.testing.assert_array_equal(layer(f), expected)
    pool = SpatialPool(cyclic(4), window=3, stride=2, antialiased=True)
    np.testing.assert_array_equal(pool(f), max_pool(f, cyclic(4), window=3, stride=2, antialiased=True))


@pytest.mark.parametrize(
    ("function", "parts"),
    [
        (lambda f: relu(f[:, :1]), ("at least 2 pixels along x and y", "(1, 1, 6, 4, 2)", "as it is")),
        (lambda f: relu(f[0, 0]), ("[..., x, y, h, c]", "(6, 4, 2)")),
        (lambda f: oversampled(jax.nn.relu, 1), ("factor must be an integer of at least 2", "got 1")),
        (lambda f: low_pass(f, cyclic(4), stride=2), ("6 pixels along x", "stride 2", "Sizes that work: 5, 7")),
        (lambda f: low_pass(f, cyclic(4), deviation=0), ("deviation must be a positive", "got 0")),
        (lambda f: low_pass(f, cyclic(8)), ("f has 4 group elements", "cyclic(8) has 8")),
        (lambda f: max_pool(f, cyclic(4), antialiased=1), ("antialiased must be True or False", "got 1")),
        (lambda f: smooth_max_pool(f, cyclic(4), power=0), ("power must be a positive finite number", "got 0")),
        (lambda f: group_conv(f, random(3, 3, 4, 2, 2), cyclic(4), antialiased=None), ("antialiased must be", "None")),
        (lambda f: max_pool(f, cyclic(4), window=3, stride=2, antialiased=True), ("6 pixels along x", "off centre")),
    ],
    ids=["one pixel", "axes", "factor", "stride", "deviation", "group", "pool", "power", "conv", "windows"],
)
def test_wrong_inputs_are_refused_with_what_to_do(function, parts):
    with assert_refused(*parts) as caught:
        function(random(1, 6, 6, 4, 2))
    assert "\n" not in str(caught.value)
