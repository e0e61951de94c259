"""The Lie groups: their axioms, what they do to the plane, and their grids."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_refused, without_annotations

from attgconv_jax import cyclic
from attgconv_jax.lie import LieGroup, rotations, scalings, similarities

GROUPS = [rotations(8), scalings(3, 1.74), similarities(4, 3, 1.74)]
every_group = pytest.mark.parametrize("group", GROUPS, ids=str)
vectors = st.tuples(st.floats(-20, 20), st.floats(-3, 3))


def element(group, vector):
    angle, log = vector
    return group.exp(jnp.array([angle] * (group.angles is not None) + [log] * (group.scales is not None)))


def assert_same(group, g, h):
    """Up to a whole turn."""
    if group.angles is not None:
        np.testing.assert_allclose(np.exp(1j * g[..., 0]), np.exp(1j * h[..., 0]), atol=1e-12)
    if group.scales is not None:
        np.testing.assert_allclose(g[..., -1], h[..., -1], rtol=1e-12)


@every_group
@hypothesis.settings(max_examples=30)
@hypothesis.given(a=vectors, b=vectors, c=vectors)
def test_axioms_hold(group, a, b, c):
    g, h, u = (element(group, vector) for vector in (a, b, c))
    identity = group.exp(jnp.zeros(group.dimension))
    assert_same(group, group.product(group.product(g, h), u), group.product(g, group.product(h, u)))
    assert_same(group, group.product(g, identity), g)
    assert_same(group, group.product(identity, g), g)
    assert_same(group, group.product(g, group.inverse(g)), identity)
    assert_same(group, group.product(g, h), group.product(h, g))


@every_group
@hypothesis.settings(max_examples=30)
@hypothesis.given(a=vectors, b=vectors)
def test_matrices_are_a_representation_whose_determinants_are_the_groups(group, a, b):
    g, h = (element(group, vector) for vector in (a, b))
    together = group.matrices(group.product(g, h))
    np.testing.assert_allclose(group.matrices(g) @ group.matrices(h), together, atol=1e-12 * np.max(np.abs(together)))
    np.testing.assert_allclose(np.linalg.det(group.matrices(g)), group.determinant(g), rtol=1e-12)
    np.testing.assert_allclose(group.matrices(g) @ group.matrices(group.inverse(g)), np.eye(2), atol=1e-12)


@every_group
@hypothesis.settings(max_examples=30)
@hypothesis.given(a=vectors, b=vectors, c=vectors)
def test_distance_is_a_metric_that_the_group_leaves_alone(group, a, b, c):
    g, h, u = (element(group, vector) for vector in (a, b, c))
    distance = group.distance(g, h)
    np.testing.assert_allclose(group.distance(h, g), distance, atol=1e-12)
    np.testing.assert_allclose(group.distance(group.product(u, g), group.product(u, h)), distance, atol=1e-11)
    assert distance <= group.distance(g, u) + group.distance(u, h) + 1e-12
    np.testing.assert_allclose(distance, jnp.linalg.norm(group.log(group.product(group.inverse(g), h))), rtol=1e-12)


@every_group
def test_distance_from_the_identity_is_the_length_of_the_logarithm(group):
    v = jnp.array([0.3, -0.4][: group.dimension])
    identity = group.exp(jnp.zeros(group.dimension))
    np.testing.assert_allclose(group.distance(identity, group.exp(v)), np.linalg.norm(v), rtol=1e-12)
    gradient = jax.grad(group.distance, argnums=1)
    assert np.linalg.norm(gradient(identity, group.exp(v))) > 0.5
    np.testing.assert_array_equal(gradient(identity, identity), 0)
    assert np.isnan(group.distance(identity, jnp.full(group.dimension, jnp.nan)))


@every_group
@hypothesis.settings(max_examples=30)
@hypothesis.given(a=vectors)
def test_exponential_and_logarithm_are_inverse(group, a):
    g = element(group, a)
    assert_same(group, group.exp(group.log(g)), g)
    if group.angles is not None:
        assert -np.pi <= group.log(g)[0] < np.pi
        assert 0 <= g[0] < 2 * np.pi


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_rotations_are_those_of_the_finite_group(n):
    group = rotations(n)
    np.testing.assert_allclose(group.matrices(group.grid()), cyclic(n).matrices, atol=1e-12)


def test_scales_are_uniform_in_their_logarithm():
    np.testing.assert_allclose(scalings(3, 1.74).grid()[:, 0], [1, 1.74**0.5, 1.74], rtol=1e-12)
    np.testing.assert_allclose(scalings(1, 1.74).grid(), [[1]])


def test_a_grid_of_similarities_has_all_pairs_scales_fastest():
    grid = similarities(4, 3, 1.74).grid().reshape(4, 3, 2)
    np.testing.assert_allclose(grid[..., 0], np.repeat(np.arange(4)[:, None] * np.pi / 2, 3, 1), atol=1e-12)
    np.testing.assert_allclose(grid[..., 1], np.repeat(scalings(3, 1.74).grid().T, 4, 0), rtol=1e-12)


@pytest.mark.parametrize("name", ["SO2_1", "SO2_2", "SO2_4", "SO2_8", "SO2_16"])
def test_grids_of_rotations_are_the_references(reference, name):
    np.testing.assert_allclose(rotations(int(name[4:])).grid()[:, 0], reference("lie/group_grids")[name], atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 8])
def test_grids_of_scalings_are_the_references(reference, n):
    expected = reference("lie/group_grids")[f"Rplus1.74_{n}"]
    np.testing.assert_allclose(scalings(n, 1.74).grid()[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize(("angles", "scales"), [(4, 3), (8, 2), (16, 3)])
def test_grids_of_similarities_are_the_references(reference, angles, scales):
    expected = reference("lie/group_grids")[f"Sim2_1.74_{angles}x{scales}"]
    np.testing.assert_allclose(similarities(angles, scales, 1.74).grid(), expected, atol=1e-6)


@every_group
def test_a_random_grid_is_the_grid_moved_by_one_element(group):
    fixed, moved = group.grid(), group.grid(jax.random.key(0))
    shifts = group.log(group.product(group.inverse(fixed), moved))
    np.testing.assert_allclose(shifts, np.broadcast_to(shifts[0], shifts.shape), atol=1e-12)
    assert np.all(np.abs(shifts[0]) > 1e-3)
    assert not np.allclose(moved, group.grid(jax.random.key(1)))


def test_random_grids_cover_every_angle_and_every_scale_alike():
    """The elements nearest to the identity, over many draws: uniform over its cell, whose ends meet the next."""
    group = similarities(4, 3, 1.74)
    moved = jax.vmap(group.grid)(jax.random.split(jax.random.key(0), 4000))
    shifts = np.asarray(group.log(moved[:, 0]))
    for values, cell in zip(shifts.T, (np.pi / 2, np.log(1.74) / 2), strict=True):
        counts, _ = np.histogram(values, bins=8, range=(-cell / 2, cell / 2))
        assert counts.sum() == 4000
        # Five deviations of a multinomial.
        assert np.max(np.abs(counts - 500)) < 5 * (500 * 7 / 8) ** 0.5


def test_numbers_of_numpy_make_the_same_group():
    with without_annotations():
        group = similarities(np.int64(4), np.int32(2), np.float64(1.5))
    assert group == similarities(4, 2, 1.5) and hash(group) == hash(similarities(4, 2, 1.5))
    assert repr(group) == "similarities(4, 2, 1.5)"


REFUSALS = {
    "no rotations": (lambda: rotations(0), "angles must be an integer of at least 1, got 0"),
    "half a rotation": (lambda: rotations(2.5), "angles must be an integer of at least 1, got 2.5"),
    "no scales": (lambda: scalings(0, 2), "scales must be an integer of at least 1, got 0"),
    "shrinking": (lambda: scalings(3, 0.5), "max_scale must be at least 1, got 0.5"),
    "words": (lambda: scalings(3, "2"), "max_scale must be a positive finite number, got '2'"),
    "no number": (lambda: scalings(3, float("nan")), "max_scale must be a positive finite number, got nan"),
    "all the same": (lambda: scalings(3, 1), "max_scale must be above 1, or all 3 scales are the same"),
    "nothing": (LieGroup, "needs angles, scales or both"),
    "a scale without scales": (lambda: LieGroup(4, None, 2.0), "max_scale must be left out without scales, got 2.0"),
    "elements of another group": (
        lambda: rotations(4).log(jnp.ones((3, 2))),
        "elements of rotations(4) are [..., 1], got shape (3, 2)",
    ),
    "integers": (
        lambda: scalings(2, 2.0).log(jnp.array([[1], [2]])),
        "elements of scalings(2, 2.0) are arrays of floating-point numbers, got int64",
    ),
    "a list": (
        lambda: rotations(4).log([0.5]),
        "elements of rotations(4) are arrays of floating-point numbers, got list",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_no_group_is_refused(case):
    call, message = REFUSALS[case]
    with assert_refused(message):
        call()
