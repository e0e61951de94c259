"""Kernels on Lie groups: the paper's, to its digits, and what the default ones promise."""

import functools
import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, assert_refused, random

from attgconv_jax import cyclic
from attgconv_jax.lie import (
    FourierWeights,
    Linear,
    MultiplicativeWeights,
    SirenWeights,
    b_spline,
    cardinal_b_spline,
    full_kernel,
    group_kernel,
    multiplicative_filter_network,
    random_fourier_features,
    rotations,
    scalings,
    similarities,
    siren,
    spatial_kernel,
)

PAPER = dict(coordinates="paper")
FILES = {
    "SE24": rotations(4),
    "SE28": rotations(8),
    "R2xRplus3": scalings(3, 1.74),
    "Sim24x3": similarities(4, 3, 1.74),
}


def siren_of(data, name):
    """The reference's network of this name, as a function of coordinates."""

    def layer(key):
        return Linear(jnp.asarray(data[f"{key}.weight"].T), jnp.asarray(data[f"{key}.bias"]))

    hidden = []
    while f"state/{name}net.net.{len(hidden)}.linear.weight" in data:
        hidden.append(layer(f"state/{name}net.net.{len(hidden)}.linear"))
    return functools.partial(siren, weights=SirenWeights(tuple(hidden), layer(f"state/{name}final_linear")))


def to_reference(kernel, channels):
    """`[(k, k), (h_in), h, (o i)] -> [o, h, i, (h_in), (k, k)]`, one input element left out."""
    kernel = np.asarray(kernel)
    kernel = kernel.reshape(*kernel.shape[:-1], channels, -1)
    axes = {6: (4, 3, 5, 2, 0, 1), 5: (3, 2, 4, 0, 1), 4: (2, 1, 3, 0)}[kernel.ndim]
    return kernel.transpose(axes)


@pytest.mark.parametrize("name", ["in1_h1x16", "in2_h1x64", "in3_h2x32", "in4_h0x8"])
def test_siren_is_the_references(reference, name):
    data = reference(f"lie/cknet_{name}")
    frequencies = dict(first_frequency=data.config["first_omega_0"], frequency=data.config["omega_0"])
    assert_close(siren_of(data, "")(jnp.asarray(data["input"]), **frequencies), data["output64"], 1e-6)


@pytest.mark.parametrize("size", [5, 7])
@pytest.mark.parametrize("file", [*FILES, "Sim24x3 2d"])
def test_lifting_kernels_are_the_papers(reference, file, size):
    name, _, planar = file.partition(" ")
    data = reference(f"lie/{name}_lifting{planar}_k{size}s1p1_9")
    group = FILES[name]
    kernel = spatial_kernel(siren_of(data, "kernel.cknet."), group, group.grid(), size, lifting=True, **PAPER)
    assert_close(to_reference(kernel, 5), data["kernel"], 1e-5)


@pytest.mark.parametrize("size", [5, 7])
@pytest.mark.parametrize("kind", ["nonseparable", "dseparable"])
@pytest.mark.parametrize("name", ["SE24", "SE28", "R2xRplus3"])
def test_full_kernels_are_the_papers(reference, name, kind, size):
    data = reference(f"lie/{name}_{kind}_k{size}s1p1_9")
    group = FILES[name]
    kernel = full_kernel(siren_of(data, "kernel.cknet."), group, group.grid(), group.grid(), size, **PAPER)
    assert_close(to_reference(kernel, 5), data["kernel"], 1e-5)


@pytest.mark.parametrize("size", [5, 7])
@pytest.mark.parametrize("kind", ["gseparable", "separable", "dgseparable"])
@pytest.mark.parametrize("name", ["SE24", "SE28", "R2xRplus3"])
def test_separable_kernels_are_the_papers(reference, name, kind, size):
    data = reference(f"lie/{name}_{kind}_k{size}s1p1_9")
    group = FILES[name]
    on_group = group_kernel(siren_of(data, "kernel.cknet_H."), group, group.grid(), group.grid(), **PAPER)
    on_plane = spatial_kernel(siren_of(data, "kernel.cknet_Rn."), group, group.grid(), size, **PAPER)
    assert_close(to_reference(on_group, 5), data["kernel0"][..., 0, 0], 1e-5)
    assert_close(to_reference(on_plane, 5), data["kernel1"], 1e-5)


@pytest.mark.parametrize("size", [5, 7])
@pytest.mark.parametrize("kind", ["gseparable+2d", "separable+2d"])
def test_kernels_of_rotation_scale_and_plane_are_the_papers(reference, kind, size):
    data = reference(f"lie/Sim24x3_{kind}_k{size}s1p1_9")
    turns, scales, group = rotations(4), scalings(3, 1.74), FILES["Sim24x3"]
    for i, (part, name) in enumerate([(turns, "SO2"), (scales, "Rplus")]):
        kernel = group_kernel(siren_of(data, f"kernel.cknet_{name}."), part, part.grid(), part.grid(), **PAPER)
        assert_close(to_reference(kernel, 5), data[f"kernel{i}"][..., 0, 0], 1e-5)
    kernel = spatial_kernel(siren_of(data, "kernel.cknet_Rn."), group, group.grid(), size, **PAPER)
    assert_close(to_reference(kernel, 5), data["kernel2"], 1e-5)


def random_siren(d, m, hidden=8):
    layers = [
        Linear(random(a, b, seed=i), random(b, seed=10 + i)) for i, (a, b) in enumerate([(d, hidden), (hidden, m)])
    ]
    return functools.partial(siren, weights=SirenWeights((layers[0],), layers[1]), first_frequency=2.0)


GROUPS = [rotations(8), scalings(3, 1.74), similarities(4, 3, 1.74)]
every_group = pytest.mark.parametrize("group", GROUPS, ids=str)


def coordinates_of(group):
    """How many coordinates of the group a kernel network is given."""
    return 2 * (group.angles is not None) + (group.scales is not None)


@every_group
def test_kernels_depend_on_the_difference_of_elements_alone(group):
    """So that moving both grids by one element moves the filters as the group moves the plane."""
    shift = group.exp(jnp.array([0.7, 0.2][-group.dimension :]))
    kernel = random_siren(coordinates_of(group), 6)
    moved = group.product(shift, group.grid())
    fixed = group_kernel(kernel, group, group.grid(), group.grid())
    assert_close(group_kernel(kernel, group, moved, moved), fixed, 1e-12)
    assert np.max(np.abs(group_kernel(kernel, group, group.grid(), moved) - fixed)) > 1e-3


@pytest.mark.parametrize("group", [rotations(4), similarities(4, 3, 1.74)], ids=str)
@pytest.mark.parametrize("angle", [0.0, math.pi])
def test_kernels_are_continuous_around_the_circle_and_the_papers_are_torn_at_the_identity(group, angle):
    near = [group.exp(jnp.array([angle + step, 0.1][: group.dimension]))[None] for step in (-1e-7, 1e-7)]
    identity = group.exp(jnp.zeros((1, group.dimension)))
    ours, papers = (
        [group_kernel(random_siren(d, 5), group, element, identity, coordinates=name) for element in near]
        for name, d in (("periodic", coordinates_of(group)), ("paper", group.dimension))
    )
    np.testing.assert_allclose(*ours, atol=1e-5)
    assert (np.max(np.abs(papers[0] - papers[1])) > 0.1) == (angle == 0)


@pytest.mark.parametrize("group", [rotations(8), similarities(4, 3, 1.74)], ids=str)
def test_the_grid_of_quarter_turns_turns_the_filters(group):
    """Filters of the element a quarter turn on are those before, turned counter-clockwise by `rot90`."""
    step = group.order // 4
    filters = spatial_kernel(random_siren(2, 3), group, group.grid(), 7)
    assert_close(filters[:, :, step:], np.rot90(filters[:, :, :-step], 1), 1e-12)


@pytest.mark.parametrize("mask", ["smooth", "hard"])
@pytest.mark.parametrize("group", [scalings(3, 1.74), similarities(4, 3, 1.74)], ids=str)
def test_the_integral_of_a_kernel_is_the_same_at_every_scale(group, mask):
    """Sums over fine filters approximate the integrals, which `1 / det` makes equal; without it they grow by 3."""

    def bump(x):
        return jnp.exp(-4 * jnp.sum(x**2, -1, keepdims=True)) * (1 + x[..., :1] + x[..., 1:] ** 2)

    sums = np.sum(spatial_kernel(bump, group, group.grid(), 401, mask=mask), axis=(0, 1))[:, 0]
    np.testing.assert_allclose(sums / sums[0], 1, atol=3e-3)


def test_a_filter_of_one_pixel_is_the_same_at_every_scale():
    group, kernel = scalings(3, 1.74), random_siren(2, 3)
    filters = spatial_kernel(kernel, group, group.grid(), 1)
    assert_close(filters[0, 0], np.tile(kernel(jnp.zeros((1, 2))), (3, 1)), 1e-4)


def test_a_single_scale_is_not_cut():
    group = similarities(4, 1, 1.0)
    kernel = random_siren(coordinates_of(group), 6)
    turns = group_kernel(
        lambda x: kernel(jnp.pad(x, [(0, 0), (0, 0), (0, 1)])), rotations(4), *[rotations(4).grid()] * 2
    )
    assert_close(group_kernel(kernel, group, group.grid(), group.grid()), turns)


def test_kernels_have_a_derivative_by_the_grid():
    def total(angle):
        return jnp.sum(spatial_kernel(random_siren(2, 3), rotations(4), rotations(4).grid() + angle, 5) ** 2)

    slope, step = jax.grad(total)(0.1), 1e-6
    np.testing.assert_allclose(slope, (total(0.1 + step) - total(0.1 - step)) / (2 * step), rtol=1e-5)


def test_beyond_distance_one_a_hard_kernel_is_zero_and_a_smooth_one_small():
    hard, smooth = (
        spatial_kernel(lambda x: jnp.ones((*x.shape[:-1], 1)), rotations(4), rotations(4).grid(), 7, mask=mask)
        for mask in ("hard", "smooth")
    )
    offset = np.linspace(-1, 1, 7)
    inside = np.hypot(*np.meshgrid(offset, offset)) <= 1 + 1e-6
    np.testing.assert_array_equal(hard[..., 0, 0], inside)
    assert np.min(np.where(inside, smooth[..., 0, 0], 1)) >= 0.5 - 1e-9
    assert smooth[0, 0, 0, 0] < 0.02


def test_the_smooth_edge_is_as_many_pixels_wide_in_larger_filters():
    """The last three pixels towards the end of an axis, whatever the filter's size."""
    ends = [
        spatial_kernel(lambda x: jnp.ones((*x.shape[:-1], 1)), rotations(4), rotations(4).grid(), size)[
            :3, size // 2, 0
        ]
        for size in (7, 9, 15)
    ]
    assert_close(ends[1], ends[0])
    assert_close(ends[2], ends[0])


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_b_splines_are_convolutions_of_the_indicator_and_sum_to_one(degree):
    t = np.linspace(-3, 3, 6001)[:-1] + 5e-4
    expected = indicator = (np.abs(t) < 0.5).astype(float)
    for _ in range(degree):
        expected = np.convolve(expected, indicator, mode="same") * 1e-3
    np.testing.assert_allclose(cardinal_b_spline(jnp.asarray(t), degree), expected, atol=3e-3)
    sums = sum(cardinal_b_spline(jnp.linspace(0, 0.999, 50) - i, degree) for i in range(-3, 5))
    np.testing.assert_allclose(sums, 1, atol=1e-12)


@hypothesis.settings(max_examples=20)
@hypothesis.given(degree=st.integers(0, 3), counts=st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_a_b_spline_is_the_sum_over_its_centres(degree, counts):
    periodic = tuple(i % 2 == 1 and count > degree for i, count in enumerate(counts))
    x, coefficients = jnp.tanh(random(5, len(counts))), random(*counts, 2, seed=1)
    expected = np.zeros((5, 2))
    for index in np.ndindex(*counts):
        weight = np.ones(5)
        for axis, (i, count) in enumerate(zip(index, counts, strict=True)):
            step = 2 / count if periodic[axis] else 2 / max(count - 1, 1)
            offset = np.asarray(x[:, axis]) - (i * step - 1 if count > 1 else 0)
            # Around a circle a spline comes again after every turn.
            turns = range(-3, 4) if periodic[axis] else [0]
            weight = weight * sum(
                np.asarray(cardinal_b_spline(jnp.asarray((offset + 2 * turn) / step), degree)) for turn in turns
            )
        expected += weight[:, None] * np.asarray(coefficients)[index]
    assert_close(b_spline(x, coefficients, degree=degree, periodic=periodic), expected, 1e-10)


def test_a_periodic_b_spline_closes_its_circle():
    coefficients = random(6, 3)
    ends = b_spline(jnp.array([[-1.0], [1.0]]), coefficients, degree=2, periodic=(True,))
    assert_close(ends[0], ends[1])


def linear(a, b, seed):
    return Linear(random(a, b, seed=seed), random(b, seed=seed + 1))


def test_fourier_features_and_multiplicative_filters_are_their_formulas():
    x = random(7, 3)
    frequencies, hidden, out = random(3, 5, seed=3), linear(10, 6, 1), linear(6, 2, 4)
    waves = np.asarray(x) @ np.asarray(frequencies)
    z = math.sqrt(2) * np.concatenate([np.cos(waves), np.sin(waves)], -1)
    z = np.maximum(0, z @ np.asarray(hidden.w) + np.asarray(hidden.b))
    expected = z @ np.asarray(out.w) + np.asarray(out.b)
    assert_close(random_fourier_features(x, FourierWeights(frequencies, (hidden,), out)), expected)

    filters, hidden, out = (linear(3, 6, 7), linear(3, 6, 9)), linear(6, 6, 11), linear(6, 2, 13)
    first, second = (np.sin(np.asarray(x) @ np.asarray(w) + np.asarray(b)) for w, b in filters)
    z = (first @ np.asarray(hidden.w) + np.asarray(hidden.b)) * second
    expected = z @ np.asarray(out.w) + np.asarray(out.b)
    assert_close(multiplicative_filter_network(x, MultiplicativeWeights(filters, (hidden,), out)), expected)


def test_frequencies_of_fourier_features_are_not_trained():
    weights = FourierWeights(random(3, 5), (), linear(10, 2, 1))
    gradient = jax.grad(lambda weights: jnp.sum(random_fourier_features(random(4, 3), weights)))(weights)
    assert np.all(np.asarray(gradient.frequencies) == 0)
    assert np.all(np.asarray(gradient.out.b) != 0)


def ones(x):
    return jnp.ones((*x.shape[:-1], 1))


REFUSALS = {
    "unknown coordinates": (
        lambda: spatial_kernel(ones, rotations(4), rotations(4).grid(), 5, coordinates="papers"),
        'coordinates must be one of "periodic", "angle", "paper", got \'papers\'',
    ),
    "unknown coordinates on the group": (
        lambda: group_kernel(ones, rotations(4), rotations(4).grid(), rotations(4).grid(), coordinates="x"),
        "coordinates must be",
    ),
    "unknown mask": (
        lambda: spatial_kernel(ones, rotations(4), rotations(4).grid(), 5, mask="disc"),
        'mask must be one of "smooth", "hard", got \'disc\'',
    ),
    "even filter": (
        lambda: spatial_kernel(ones, rotations(4), rotations(4).grid(), 4),
        "size must be odd, or filters are off centre, got 4",
    ),
    "grid of another group": (
        lambda: group_kernel(ones, rotations(4), similarities(4, 3, 2.0).grid(), rotations(4).grid()),
        "elements of rotations(4) are [..., 1], got shape (12, 2)",
    ),
    "too few splines for a circle": (
        lambda: b_spline(random(3, 1), random(2, 2), degree=2, periodic=(True,)),
        "coefficients need at least 3 centres on a circle for splines of degree 2, got 2",
    ),
    "a finite group": (
        lambda: spatial_kernel(ones, cyclic(4), rotations(4).grid(), 5),
        "group must be a LieGroup, as attgconv_jax.lie.rotations(8), got cyclic(4)",
    ),
    "another degree of cardinal splines": (
        lambda: cardinal_b_spline(random(3), 5),
        "degree must be 0, 1, 2 or 3, got 5",
    ),
    "a finite group's grid": (
        lambda: group_kernel(ones, cyclic(4), rotations(4).grid(), rotations(4).grid()),
        "group must be a LieGroup, as attgconv_jax.lie.rotations(8), got cyclic(4)",
    ),
    "a list of elements": (
        lambda: spatial_kernel(ones, rotations(2), [[0.0], [3.14]], 5),
        "out_grid must be an array [n, 1], as rotations(2).grid() is, got list",
    ),
    "elements without an axis": (
        lambda: group_kernel(ones, rotations(2), rotations(2).grid()[:, 0], rotations(2).grid()),
        "in_grid must be an array [n, 1], as rotations(2).grid() is, got shape (2,)",
    ),
    "no elements": (
        lambda: spatial_kernel(ones, rotations(2), rotations(2).grid()[:0], 5),
        "out_grid must be an array [n, 1], as rotations(2).grid() is, got shape (0, 1)",
    ),
    "a scale of zero": (
        lambda: spatial_kernel(ones, scalings(2, 2.0), jnp.array([[0.0], [1.0]]), 5),
        "out_grid must have scales above 0, got 0.0",
    ),
    "a grid of integers": (
        lambda: spatial_kernel(ones, scalings(2, 2.0), jnp.array([[1], [2]]), 5),
        "elements of scalings(2, 2.0) are arrays of floating-point numbers, got int64",
    ),
    "unknown degree": (lambda: b_spline(random(3, 1), random(4, 2), degree=4), "degree must be 0, 1, 2 or 3, got 4"),
    "a coordinate without an axis": (
        lambda: b_spline(random(3, 2), random(4, 2)),
        "coefficients need an axis for each of 2 coordinates, got (4, 2)",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_no_kernel_is_refused(case):
    call, message = REFUSALS[case]
    with assert_refused(message):
        call()
