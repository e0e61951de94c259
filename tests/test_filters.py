"""Filter banks: against rotated copies, interpolation pixel by pixel, masks, and what they compile to."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from helpers import EXACT_GROUPS, INTERPOLATED_GROUPS, assert_close, assert_refused, filter_to_ours, primitives, random

from attgconv_jax import Sampling, cyclic, dihedral, filter_bank, filter_basis
from attgconv_jax.bases.grid import grid_permutation
from attgconv_jax.filters import disc, resampling_operator
from attgconv_jax.kernels.taps import permuted

KERNELS = {"bilinear": oracles.hat, "cubic": oracles.keys}
SIZES = [1, 2, 3, 4, 5, 7]

every_exact_group = pytest.mark.parametrize("group", EXACT_GROUPS, ids=str)
every_interpolated_group = pytest.mark.parametrize("group", [*INTERPOLATED_GROUPS, cyclic(3)], ids=str)
every_interpolation = pytest.mark.parametrize("interpolation", KERNELS)
on_images_and_feature_maps = pytest.mark.parametrize("lifting", [True, False], ids=["image", "feature_map"])


def compiled_bank(w, group, **settings):
    return jax.jit(functools.partial(filter_bank, group=group, **settings))(w)


def filter_on(group, k, lifting, c_in=2, c_out=3):
    return random(k, k, 1 if lifting else group.order, c_in, c_out)


@on_images_and_feature_maps
@pytest.mark.parametrize("k", SIZES)
@every_exact_group
def test_exact_bank_is_rotated_flipped_and_permuted_copies(group, k, lifting):
    w = filter_on(group, k, lifting)
    np.testing.assert_array_equal(compiled_bank(w, group), oracles.filter_bank(np.asarray(w), group))


@every_interpolation
@on_images_and_feature_maps
@pytest.mark.parametrize("k", SIZES)
@every_interpolated_group
def test_interpolated_bank_is_the_loop_over_pixels_and_taps(group, k, lifting, interpolation):
    w = filter_on(group, k, lifting, c_in=1, c_out=2)
    bank = compiled_bank(w, group, sampling=Sampling(interpolation))
    assert_close(bank, oracles.filter_bank(np.asarray(w), group, KERNELS[interpolation]))


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize(("group", "kernel"), [(dihedral(4), None), (cyclic(8), oracles.hat)], ids=["p4m", "C8"])
def test_disc_mask_is_applied_before_the_filter_turns(group, kernel, k):
    w = filter_on(group, k, False, c_in=1)
    bank = compiled_bank(w, group, sampling=Sampling("bilinear", disc_mask=True))
    assert_close(bank, oracles.filter_bank(np.asarray(w), group, kernel, masked=True))


@on_images_and_feature_maps
@every_interpolation
@pytest.mark.parametrize("group", EXACT_GROUPS + INTERPOLATED_GROUPS, ids=str)
def test_identity_gives_the_filter_back(group, lifting, interpolation):
    w = filter_on(group, 5, lifting)
    np.testing.assert_array_equal(filter_bank(w, group, sampling=Sampling(interpolation))[:, :, :, :, 0], w)


@every_interpolation
@pytest.mark.parametrize("k", [2, 3, 4, 5, 7])
def test_right_angles_of_an_interpolated_group_are_exact(k, interpolation):
    operator = resampling_operator(cyclic(8), k, interpolation)
    permutation = grid_permutation(cyclic(4), k)
    for quarter in range(4):
        np.testing.assert_array_equal(operator[2 * quarter], np.eye(k * k)[permutation[quarter]])


@every_interpolation
@pytest.mark.parametrize("k", [1, 2, 3, 4, 7])
@every_exact_group
def test_interpolating_an_exact_group_is_its_permutation(group, k, interpolation):
    operator = resampling_operator(group, k, interpolation)
    np.testing.assert_array_equal(operator, np.eye(k * k)[grid_permutation(group, k)])


@pytest.mark.parametrize(("interpolation", "support"), [("bilinear", 1), ("cubic", 2)])
@pytest.mark.parametrize("group", [cyclic(8), cyclic(5), dihedral(6)], ids=str)
def test_constant_filter_stays_constant_inside_the_disc(group, interpolation, support):
    k = 9
    operator = resampling_operator(group, k, interpolation)
    offset = np.arange(k) - (k - 1) / 2
    inside = np.hypot(*np.meshgrid(offset, offset)).ravel() <= (k - 1) / 2 - support + 1e-9
    np.testing.assert_allclose(operator.sum(axis=2)[:, inside], 1, atol=1e-12)
    assert inside.sum() > 9


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 6, 7, 8])
def test_disc_holds_what_is_within_half_the_filter(k):
    np.testing.assert_array_equal(disc(k), oracles.disc(k))


def test_masked_filter_is_zero_at_the_corners():
    bank = filter_bank(filter_on(cyclic(4), 3, True), cyclic(4), sampling=Sampling("cubic", disc_mask=True))
    corners = bank[::2, ::2]
    assert np.all(corners == 0)
    assert np.all(bank[1, :] != 0)


@pytest.mark.parametrize("order", [[0], [1, 2, 0], [2, 1, 0], [0, 2, 1, 3], [3, 1, 0, 2], [1, 0, 3, 2, 4]])
def test_permuted_is_indexing(order):
    x = random(2, len(order), 3)
    np.testing.assert_array_equal(permuted(x, np.array(order), 1), x[:, np.array(order)])


@every_interpolation
def test_interpolated_bank_is_linear_in_the_filter(interpolation):
    group = cyclic(8)
    a, b = (random(5, 5, 8, 2, 2, seed=seed) for seed in (0, 1))
    bank = filter_bank(2 * a - 3 * b, group, sampling=Sampling(interpolation))
    parts = [filter_bank(w, group, sampling=Sampling(interpolation)) for w in (a, b)]
    assert_close(bank, 2 * parts[0] - 3 * parts[1])


@on_images_and_feature_maps
@every_exact_group
def test_exact_bank_and_its_gradient_move_slices(group, lifting):
    w = filter_on(group, 3, lifting)
    counts = primitives(jax.grad(lambda w: jnp.sum(jnp.sin(filter_bank(w, group)))), w)
    assert not {"dot_general", "gather", "dynamic_slice", "scatter", "scatter-add", "scatter_add"} & set(counts)


@on_images_and_feature_maps
@pytest.mark.parametrize("sampling", [Sampling("bilinear"), filter_basis(cyclic(8), 5)], ids=["bilinear", "basis"])
def test_bank_at_other_angles_is_one_product(lifting, sampling):
    w = filter_on(cyclic(8), 5, lifting)
    if sampling != Sampling("bilinear"):
        w = w.reshape(25, *w.shape[2:])[: len(sampling)]
    counts = primitives(lambda w: filter_bank(w, cyclic(8), sampling=sampling), w)
    assert counts["dot_general"] == 1
    assert counts["gather"] == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("group", [cyclic(4), cyclic(8)], ids=str)
@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling("cubic", True), Sampling("rings")], ids=lambda s: str(s.kind)
)
def test_bank_keeps_the_type_of_the_filter(group, dtype, sampling):
    assert filter_bank(filter_on(group, 3, False).astype(dtype), group, sampling=sampling).dtype == dtype


@pytest.mark.parametrize(("name", "group"), [("se2", cyclic(4)), ("e2", dihedral(4))])
def test_bank_on_a_feature_map_is_the_action_of_the_reference(reference, name, group):
    data = reference(f"layers/{name}_group_action")
    bank = filter_bank(jnp.asarray(filter_to_ours(data["w"])), group)
    expected = data["action_on_G"].transpose(4, 5, 3, 2, 0, 1)
    np.testing.assert_array_equal(bank, expected)


@pytest.mark.parametrize(("name", "group"), [("se2", cyclic(4)), ("e2", dihedral(4))])
def test_bank_on_an_image_is_the_action_of_the_reference(reference, name, group):
    data = reference(f"layers/{name}_group_action")
    # The reference acted on the filter's first slice.
    bank = filter_bank(jnp.asarray(filter_to_ours(data["w"][:, :, 0])), group)
    expected = data["action_on_Rn"].transpose(3, 4, 2, 0, 1)[:, :, None]
    np.testing.assert_array_equal(bank, expected)


@pytest.mark.parametrize(
    ("shape", "parts"),
    [
        ((3, 3, 4, 2), ("[k, k, h_in, c_in, c_out]", "(3, 3, 4, 2)")),
        ((3, 3, 4, 2, 2, 1), ("[k, k, h_in, c_in, c_out]", "(3, 3, 4, 2, 2, 1)")),
        ((3, 2, 4, 2, 2), ("square", "3x2")),
        ((3, 3, 4, 0, 2), ("empty axis", "(3, 3, 4, 0, 2)", "at least 1")),
        ((0, 0, 4, 2, 2), ("empty axis", "at least 1")),
        ((3, 3, 3, 2, 2), ("3 input group elements", "cyclic(4)", "1 (on images)", "4 (on feature maps)")),
        ((3, 3, 8, 2, 2), ("8 input group elements", "1 (on images)", "4 (on feature maps)")),
    ],
)
def test_bad_filter_is_refused_with_what_would_be_right(shape, parts):
    with assert_refused(*parts):
        filter_bank(random(*shape), cyclic(4))


def test_unknown_kind_is_refused_with_the_known_ones():
    with assert_refused('kind must be one of "least_error", "rings", "bilinear", "cubic"', "'nearest'"):
        Sampling("nearest")


def test_former_arguments_are_a_sampling_with_a_warning():
    w = filter_on(cyclic(8), 3, True)
    with pytest.warns(DeprecationWarning, match="interpolation and disc_mask .* use sampling=Sampling"):
        former = filter_bank(w, cyclic(8), interpolation="cubic", disc_mask=True)
    np.testing.assert_array_equal(former, filter_bank(w, cyclic(8), sampling=Sampling("cubic", True)))


def test_grid_permutation_of_an_interpolated_group_is_refused():
    with assert_refused("cyclic(8)", "resampling_operator"):
        grid_permutation(cyclic(8), 3)


def test_a_bank_can_be_made_before_and_after_x64_is_switched_on():
    for x64 in (False, True, False):
        with jax.enable_x64(x64):
            w = jnp.ones([3, 3, 4, 2, 2], jnp.float64 if x64 else jnp.float32)
            assert jax.jit(lambda w: filter_bank(w, cyclic(4)))(w).dtype == w.dtype
