"""Groups: axioms, tables against 2x2 matrices, and what may be asked of the object."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from helpers import assert_refused

from attgconv_jax import Group, cyclic, dihedral, trivial

GROUPS = [cyclic(n) for n in (1, 2, 3, 4, 5, 6, 7, 8, 12, 16)] + [dihedral(n) for n in (1, 2, 3, 4, 5, 6, 8, 12)]
every_group = pytest.mark.parametrize("group", GROUPS, ids=str)


@every_group
def test_product_is_closed_and_cancels(group):
    everything = np.arange(group.order)
    for g in range(group.order):
        np.testing.assert_array_equal(np.sort(group.product[g]), everything)
        np.testing.assert_array_equal(np.sort(group.product[:, g]), everything)


@every_group
def test_product_is_associative(group):
    product = group.product
    np.testing.assert_array_equal(product[product], product[:, product])


@every_group
def test_first_element_is_the_identity(group):
    np.testing.assert_array_equal(group.product[0], np.arange(group.order))
    np.testing.assert_array_equal(group.product[:, 0], np.arange(group.order))


@every_group
def test_inverse_undoes_from_both_sides(group):
    elements = np.arange(group.order)
    np.testing.assert_array_equal(group.product[elements, group.inverse], 0)
    np.testing.assert_array_equal(group.product[group.inverse, elements], 0)


@every_group
def test_product_follows_the_composition_formula(group):
    n = group.rotations
    for g in range(group.order):
        for h in range(group.order):
            (a, r), (b, s) = divmod(g, n), divmod(h, n)
            assert group.product[g, h] == ((a + b) % 2) * n + ((-1) ** b * r + s) % n


@every_group
def test_tables_are_those_of_the_matrices(group):
    np.testing.assert_array_equal(group.product, oracles.product(group))
    np.testing.assert_array_equal(group.inverse, [oracles.inverse(group, g) for g in range(group.order)])
    np.testing.assert_allclose(group.matrices, oracles.elements(group), atol=1e-15)


@every_group
def test_matrices_are_a_homomorphism(group):
    for g in range(group.order):
        np.testing.assert_allclose(group.matrices[g] @ group.matrices, group.matrices[group.product[g]], atol=1e-15)


@every_group
def test_action_rows_gather_the_inverse_translate(group):
    expected = [[group.product[group.inverse[g], h] for h in range(group.order)] for g in range(group.order)]
    np.testing.assert_array_equal(group.action, expected)


@every_group
def test_acting_twice_is_acting_with_the_product(group):
    f = np.arange(group.order)
    for g in range(group.order):
        for h in range(group.order):
            np.testing.assert_array_equal(f[group.action[h]][group.action[g]], f[group.action[group.product[g, h]]])


@every_group
def test_tables_are_read_only(group):
    for table in (group.product, group.inverse, group.action, group.matrices, group.preserves_grid):
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 0


@every_group
def test_repr_is_the_call_that_makes_the_group(group):
    assert eval(repr(group), {"trivial": trivial, "cyclic": cyclic, "dihedral": dihedral}) == group


def test_trivial_group_is_the_one_rotation():
    assert trivial() == cyclic(1) == Group(1)
    assert repr(trivial()) == "trivial()"
    assert trivial().order == 1


@pytest.mark.parametrize("n", [1, 2, 3, 4, 8])
def test_order_counts_rotations_and_reflections(n):
    assert cyclic(n).order == n
    assert dihedral(n).order == 2 * n


def test_equal_groups_hash_alike_and_different_ones_differ():
    assert {cyclic(4): "p4", dihedral(4): "p4m"}[Group(4, reflections=True)] == "p4m"
    assert hash(cyclic(4)) == hash(cyclic(4))
    assert len({cyclic(4), cyclic(4), cyclic(8), dihedral(4)}) == 3
    assert cyclic(2) != dihedral(1)


def test_group_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        cyclic(4).rotations = 8


def test_group_is_a_static_argument_of_jit():
    traced = []

    @functools.partial(jax.jit, static_argnums=1)
    def gather(f, group):
        traced.append(group)
        return f[group.action[1]]

    for _ in range(2):
        np.testing.assert_array_equal(gather(jnp.arange(4), cyclic(4)), [3, 0, 1, 2])
    np.testing.assert_array_equal(gather(jnp.arange(4), dihedral(2)), [1, 0, 3, 2])
    assert traced == [cyclic(4), dihedral(2)]


@pytest.mark.parametrize("make", [cyclic, dihedral, Group])
@pytest.mark.parametrize("n", [0, -1, 2.5, True, "4", None])
def test_number_of_rotations_must_be_a_positive_integer(make, n):
    with assert_refused("rotations must be an integer of at least 1", repr(n)):
        make(n)


@pytest.mark.parametrize("reflections", [1, None, "yes"])
def test_reflections_must_be_a_boolean(reflections):
    with assert_refused("reflections must be True or False", repr(reflections)):
        Group(4, reflections)


@every_group
def test_exact_groups_are_those_of_right_angles(group):
    right = [4 * r % group.rotations == 0 for r in range(group.rotations)]
    np.testing.assert_array_equal(group.preserves_grid, right * (1 + group.reflections))
    assert group.is_exact == (group.rotations in (1, 2, 4))


@every_group
def test_right_angles_have_integer_matrices(group):
    exact = group.matrices[group.preserves_grid]
    np.testing.assert_array_equal(exact, np.round(exact))


@every_group
def test_reversed_axes_are_those_some_element_moves(group):
    moves = [any(not np.allclose(matrix[:, axis], np.eye(2)[axis]) for matrix in group.matrices) for axis in (0, 1)]
    assert group.reversed_axes == tuple(moves)


@pytest.mark.parametrize(
    ("group", "weight"), [(cyclic(4), math.pi / 2), (dihedral(4), math.pi), (cyclic(8), math.pi / 4)], ids=str
)
def test_haar_weight_of(group, weight):
    assert group.haar_weight == pytest.approx(weight, rel=1e-15)


@pytest.mark.parametrize(("name", "group"), [("se2", cyclic(4)), ("e2", dihedral(4))])
def test_haar_weight_and_order_of_elements_are_the_reference(reference, name, group):
    data = reference(f"layers/{name}_group_action")
    assert group.haar_weight == pytest.approx(float(data["haar"]), rel=1e-15)
    np.testing.assert_allclose(data["h_grid"][:, 0], 2 * np.pi / 4 * (np.arange(group.order) % 4), atol=1e-6)
