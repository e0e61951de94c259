"""Errors under elements that do not map pixels to pixels: what is wrong is found, and what is right is not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_refused, random

from attgconv_jax import Sampling, band_limited_error, cyclic, dihedral, equivariance_error, filter_basis, group_conv
from attgconv_jax.lie import rotations, scalings, similarities
from attgconv_jax.moves import moves_of
from attgconv_jax.nn import GroupConv
from attgconv_jax.probes import Waves, pixels_of

C8 = cyclic(8)
BASIS = filter_basis(C8, 5)
COEFFICIENTS = random(len(BASIS), 1, 1, 2)
SMALL = dict(images=1, size=33, dtype=jnp.float64)


@functools.cache
def lifting():
    return jax.jit(lambda f: group_conv(f, COEFFICIENTS, C8, sampling=BASIS, padding=2))


def test_a_layer_of_least_error_errs_by_less_than_a_thousandth_and_the_measure_by_far_less():
    measured = band_limited_error(lifting(), C8, **SMALL)
    assert measured.floor < 2e-4
    assert measured.error == max(measured.by_element) < 1e-3
    assert max(measured.by_element[::2]) < 1e-12
    assert measured.radius == 33 / 2 - 0.5 - 2 - 5


def test_a_group_axis_that_is_turned_the_wrong_way_errs_by_all():
    odd = np.all(np.abs(BASIS.table[4] + BASIS.functions) < 1e-12, axis=0)
    coefficients = COEFFICIENTS * jnp.asarray(odd)[:, None, None, None]

    def wrong(f):
        return jnp.roll(group_conv(f, coefficients, C8, sampling=BASIS)[..., ::-1, :], 1, axis=-2)

    measured = band_limited_error(jax.jit(wrong), C8, elements=[1, 2, 3], **SMALL)
    assert 0.7 < measured.error < 2.1


def test_two_bilinear_layers_of_five_pixels_err_by_half():
    options = dict(sampling=Sampling("bilinear"), param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    lift, conv = GroupConv(1, 2, 5, C8, lifting=True, **options), GroupConv(2, 2, 5, C8, **options)
    function = jax.jit(lambda f: conv(jax.nn.relu(lift(f))))
    assert 0.35 < band_limited_error(function, C8, elements=[1], **SMALL).error < 0.75


def test_exact_elements_err_as_equivariance_error_says():
    p4m, w, place = dihedral(4), random(3, 3, 1, 1, 2), random(31, 31, 1, 1, seed=1)
    image = Waves(1, 1)(pixels_of(33))[None]
    right = jax.jit(lambda f: group_conv(f, w, p4m))
    wrong = jax.jit(lambda f: group_conv(f, w, p4m) * place)
    assert max(equivariance_error(right, image, p4m), band_limited_error(right, p4m, **SMALL).error) < 1e-12
    measured = band_limited_error(wrong, p4m, **SMALL)
    assert measured.by_element[0] < 1e-12
    assert 0.3 < measured.error / equivariance_error(wrong, image, p4m) < 3


@pytest.mark.parametrize(
    ("group", "elements"),
    [
        (dihedral(6), None),
        (rotations(4), np.array([[0.3], [-2.0]])),
        (scalings(3, 1.74), np.array([[0.9], [1.2], [1.74]])),
        (similarities(2, 2, 1.5), np.array([[1.0, 1.1], [0.5, 0.95]])),
    ],
    ids=["D6", "SE2", "scales", "Sim2"],
)
def test_the_image_itself_errs_by_the_floor_alone(group, elements):
    if isinstance(elements, np.ndarray):
        elements = jnp.asarray(elements)
    measured = band_limited_error(lambda f: f, group, output="image", elements=elements, **SMALL)
    assert measured.error < 1e-3
    invariant = band_limited_error(
        lambda f: jnp.sum(f**2, (1, 2, 3)) * jnp.sum(f**6, (1, 2, 3)) / jnp.sum(f**4, (1, 2, 3)) ** 2,
        group,
        output="invariant",
        elements=elements,
        **SMALL,
    )
    assert invariant.error == pytest.approx(invariant.floor, abs=1e-9)
    assert invariant.floor < 1e-3


def test_means_over_pixels_are_measured_on_images_that_fade():
    def scaled_by_mean(f):
        return f * jax.nn.sigmoid(jnp.mean(f**2, axis=(1, 2), keepdims=True))

    with assert_refused("size 33 with outputs of 33 pixels leaves no disc", "fade=True"):
        band_limited_error(scaled_by_mean, C8, output="image", **SMALL)
    assert band_limited_error(scaled_by_mean, C8, output="image", fade=True, **SMALL).error < 1e-3


def test_strided_outputs_are_turned_about_their_centre():
    basis = filter_basis(C8, 5, Sampling("least_error", lowpass=0.2))

    def strided(f):
        return group_conv(f, random(len(basis), 1, 1, 2), C8, sampling=basis, padding=2, stride=2)

    measured = band_limited_error(jax.jit(strided), C8, elements=[1, 2], images=1, size=65, dtype=jnp.float64)
    assert measured.by_element[1] < 1e-12
    assert measured.error < 20 * measured.floor < 0.1


def test_scales_that_leave_the_grid_are_not_compared():
    group = scalings(3, 1.44)
    shrunk, first, last = moves_of(group, jnp.asarray([[1 / 1.2], [1.2], [1.44]]))
    assert [move.action.tolist() for move in (shrunk, first, last)] == [[1, 2, -1], [-1, 0, 1], [-1, -1, 0]]
    np.testing.assert_allclose(first.matrix, 1.2 * np.eye(2), rtol=1e-6)

    def neighbours(f):
        return f + jnp.concatenate([f[..., 1:, :], jnp.zeros_like(f[..., :1, :])], axis=-2)

    options = dict(input="feature_map", elements=[1], **SMALL)
    assert band_limited_error(neighbours, group, **options).error < 1e-3
    assert band_limited_error(neighbours, group, ends=True, **options).error > 0.1


def test_elements_of_a_grid_are_known_by_their_coordinates():
    group = similarities(4, 3, 1.44)
    by_index, by_coordinates = moves_of(group), moves_of(group, group.grid())
    for one, other in zip(by_index, by_coordinates, strict=True):
        np.testing.assert_allclose(one.matrix, other.matrix, atol=1e-12)
        np.testing.assert_array_equal(one.action, other.action)
    (between,) = moves_of(group, np.array([[0.1, 1.0]]))
    assert between.action is None
    (single,) = moves_of(scalings(1, 1.5), np.array([[1.2]]))
    assert single.action is None


def test_a_finite_group_moves_as_it_acts_and_a_lie_group_of_rotations_alike():
    for finite, lie in zip(moves_of(C8), moves_of(rotations(8)), strict=True):
        np.testing.assert_array_equal(finite.matrix, lie.matrix)
        np.testing.assert_array_equal(finite.action, lie.action)


def test_waves_have_no_higher_frequencies_than_promised():
    window = np.outer(*[np.blackman(64)] * 2)
    spectrum = np.abs(np.fft.fft2(Waves(1, 1)(pixels_of(64))[..., 0, 0] * window))
    frequencies = np.fft.fftfreq(64)
    # The window widens a line by three bins.
    beyond = np.hypot(frequencies[:, None], frequencies) > 1 / 8 + 4 / 64
    assert np.max(spectrum[beyond]) < 1e-3 * np.max(spectrum)


REFUSED = {
    "input": (lambda: band_limited_error(abs, C8, input="picture"), 'input must be one of "image", "feature_map", got'),
    "output": (
        lambda: band_limited_error(abs, C8, output="vector"),
        'output must be one of "feature_map", "image", "inv',
    ),
    "group": (
        lambda: band_limited_error(abs, 8),
        "group must be a Group such as attgconv_jax.cyclic(8), or a LieGroup",
    ),
    "element": (
        lambda: band_limited_error(abs, C8, elements=[8]),
        "elements must be from 0 to 7, those of cyclic(8), got [8]",
    ),
    "no element": (
        lambda: band_limited_error(abs, C8, elements=[]),
        "elements must be indices of elements of cyclic(8), got []",
    ),
    "coordinates": (
        lambda: band_limited_error(abs, rotations(8), elements=[0.3]),
        "elements must be indices of elements of rotations(8), or coordinates [n, 1] of elements, got [0.3]",
    ),
    "between the grid": (
        lambda: band_limited_error(abs, rotations(8), elements=[[0.3]]),
        "elements must map the grid of rotations(8) to itself where feature maps are compared",
    ),
    "scale of zero": (
        lambda: band_limited_error(abs, scalings(2, 2.0), output="image", elements=[[0.0]]),
        "elements must be finite, with scales above 0, got [0.0]",
    ),
    "band": (lambda: band_limited_error(abs, C8, band=0), "band must be a positive finite number, got 0"),
    "fade": (lambda: band_limited_error(abs, C8, fade="no"), "fade must be True or False, got 'no'"),
    "not square": (
        lambda: band_limited_error(lambda f: f[:, 1:], C8, output="image", **SMALL),
        "the function must map 1 square images to as many square outputs [1, x, x, h, c], got shape (1, 32, 33, 1",
    ),
    "kind of output": (
        lambda: band_limited_error(lambda f: f, C8, **SMALL),
        "the function's output must be feature map [..., x, y, h, c] with h = 8 for cyclic(8)",
    ),
    "Lie group": (
        lambda: equivariance_error(abs, random(1, 5, 5, 4, 2), rotations(4)),
        "group must be a finite Group such as attgconv_jax.cyclic(4), got rotations(4); the error under elements",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_measured_is_refused_in_a_line(case):
    call, message = REFUSED[case]
    with assert_refused(message):
        call()
