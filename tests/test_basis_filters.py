"""Filters by their coefficients: banks, convolutions and modules, at every angle, against loops."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from compilation import optimised
from flax import nnx
from helpers import assert_close, assert_refused, random, relative_error, response_weights
from networks import leaves, random_network, with_random_arrays

from attgconv_jax import (
    FilterBasis,
    Sampling,
    act,
    cyclic,
    dihedral,
    filter_bank,
    filter_basis,
    group_conv,
    grouped_group_conv,
    gseparable_group_conv,
    response_attentive_group_conv,
    separable_group_conv,
)
from attgconv_jax.export import export_network
from attgconv_jax.models import load_network, save_network
from attgconv_jax.nn import GroupConv, ResponseAttentiveGroupConv, SeparableGroupConv

C8 = cyclic(8)
every_kind = pytest.mark.parametrize("kind", ["least_error", "rings"])
on_images_and_feature_maps = pytest.mark.parametrize("lifting", [True, False], ids=["image", "feature_map"])


def coefficients_on(basis, group, lifting=False, c_in=2, c_out=3):
    return random(len(basis), 1 if lifting else group.order, c_in, c_out)


def loop_bank(a, basis, group):
    """`sum over j of (L_g psi_j)(u) a[j, g^-1 h']`, one number at a time."""
    a, k = np.asarray(a), basis.size
    bank = np.zeros((k, k, *a.shape[1:3], group.order, a.shape[3]))
    for g, x, y, j in itertools.product(range(group.order), range(k), range(k), range(len(basis))):
        rows = oracles.rows_of(group, g, a.shape[1])
        bank[x, y, :, :, g] += basis.table[g, x * k + y, j] * a[j, rows]
    return bank


def loop_conv(f, a, basis, group, stride, dilation, padding, haar):
    bank = loop_bank(a, basis, group)
    weight = group.haar_weight if haar and a.shape[1] > 1 else 1
    seen = oracles.windows(np.asarray(f), bank.shape[:2], (stride,) * 2, [(padding,) * 2] * 2, (dilation,) * 2)
    return oracles.assemble({at: weight * np.einsum("nabhc,abhcgo->ngo", patch, bank) for at, patch in seen})


@every_kind
@on_images_and_feature_maps
@pytest.mark.parametrize(("group", "k"), [(C8, 3), (dihedral(3), 4), (cyclic(4), 3), (dihedral(8), 2)], ids=str)
def test_bank_is_the_sum_of_the_functions_in_a_loop(group, k, lifting, kind):
    basis = filter_basis(group, k, Sampling(kind))
    a = coefficients_on(basis, group, lifting, c_in=1, c_out=2)
    assert_close(filter_bank(a, group, sampling=basis), loop_bank(a, basis, group))


@every_kind
@on_images_and_feature_maps
@pytest.mark.parametrize("settings", [dict(stride=2, dilation=1), dict(stride=1, dilation=2)], ids=str)
def test_group_conv_of_coefficients_is_the_loop_over_pixels(settings, lifting, kind):
    group, basis = dihedral(5), filter_basis(dihedral(5), 3, Sampling(kind))
    f, a = random(2, 7, 7, 1 if lifting else 10, 2), coefficients_on(basis, group, lifting)
    settings |= dict(padding=2, haar=True)
    out = jax.jit(functools.partial(group_conv, group=group, sampling=basis, **settings))(f, a)
    assert_close(out, loop_conv(f, a, basis, group, **settings))


@pytest.mark.default("dihedral(3)-rings", "cyclic(4)-least_error")
@every_kind
@pytest.mark.parametrize("group", [C8, cyclic(4), dihedral(3)], ids=str)
def test_a_filter_of_pixels_is_replaced_by_the_nearest_sum(group, kind):
    sampling, w = Sampling(kind), random(5, 5, group.order, 2, 3)
    basis = filter_basis(group, 5, sampling)
    flat = np.asarray(w).reshape(25, -1)
    nearest = np.linalg.lstsq(basis.functions, flat)[0].reshape(-1, *w.shape[2:])
    bank = filter_bank(w, group, sampling=sampling)
    assert_close(bank, filter_bank(jnp.asarray(nearest), group, sampling=basis))
    # A filter that is such a sum stays as it is.
    np.testing.assert_allclose(filter_bank(bank[..., 0, :], group, sampling=basis), bank, atol=1e-12)
    # On C4 all functions on 5x5 pixels err by less than 1 %: right angles are exact.
    assert (relative_error(bank[..., 0, :], w) > 0.1) == (len(basis) < 25)


@pytest.mark.default("rings")
@every_kind
def test_grouped_and_separable_convolutions_take_coefficients(kind):
    basis = filter_basis(C8, 3, Sampling(kind))
    f, a, over_group = random(1, 3, 3, 8, 4), coefficients_on(basis, C8, c_in=2, c_out=6), random(1, 1, 8, 4, 3)
    spatial = [random(len(basis), 1, c_in, 3) for c_in in (4, 1)]

    @jax.jit
    def both():
        conv = functools.partial(group_conv, group=C8, sampling=basis)
        halves = jnp.concatenate([conv(f[..., :2], a[..., :3]), conv(f[..., 2:], a[..., 3:])], -1)
        separable = [
            function(f, over_group, w, C8, sampling=basis)
            for function, w in zip((gseparable_group_conv, separable_group_conv), spatial, strict=True)
        ]
        actual = [grouped_group_conv(f, a, C8, 2, sampling=basis), *separable]
        return actual, [halves, *(conv(f, over_group[0] * w) for w in spatial)]

    for actual, expected in zip(*both(), strict=True):
        assert_close(actual, expected)


@every_kind
@pytest.mark.parametrize(
    ("group", "k", "settings"),
    [(C8, 5, dict(padding=2)), (dihedral(8), 3, dict(dilation=2)), (cyclic(12), 4, dict(stride=2)),
     (dihedral(6), 3, dict(padding=1, stride=2))],
    ids=str,
)  # fmt: skip
def test_layers_commute_with_the_elements_that_keep_the_grid(group, k, settings, kind):
    basis = filter_basis(group, k, Sampling(kind))
    f = random(1, *[10 if k == 4 else 9] * 2, group.order, 1)
    layer = jax.jit(
        functools.partial(group_conv, w=coefficients_on(basis, group, c_in=1), group=group, sampling=basis, **settings)
    )
    y = layer(f)
    for g in np.flatnonzero(group.preserves_grid)[1:].tolist():
        assert_close(layer(act(f, group, g, "feature_map")), act(y, group, g, "feature_map"), 1e-12)


def loss(f, a, basis):
    return jnp.sum(jnp.sin(group_conv(f, a, C8, sampling=basis)))


@pytest.mark.default("least_error")
@every_kind
def test_gradients_of_coefficients_are_finite_differences(kind):
    basis = filter_basis(C8, 3, Sampling(kind))
    arrays = random(1, 4, 4, 8, 2), coefficients_on(basis, C8, c_out=2)
    along, step = (random(*arrays[0].shape, seed=2), random(*arrays[1].shape, seed=3)), 1e-5
    compiled = jax.jit(functools.partial(jax.value_and_grad(loss, (0, 1)), basis=basis))
    there, back = (compiled(*(a + s * d for a, d in zip(arrays, along, strict=True)))[0] for s in (step, -step))
    slope = sum(np.vdot(gradient, d) for gradient, d in zip(compiled(*arrays)[1], along, strict=True))
    assert_close(slope, (there - back) / (2 * step), 1e-7)


@pytest.mark.slow
@every_kind
def test_compiled_gradients_of_coefficients_are_the_eager_ones(kind):
    basis = filter_basis(C8, 3, Sampling(kind))
    arrays = random(1, 4, 4, 8, 2), coefficients_on(basis, C8, c_out=2)
    gradient = functools.partial(jax.grad(loss, (0, 1)), basis=basis)
    jax.tree.map(assert_close, optimised(gradient)(*arrays), gradient(*arrays))


@pytest.mark.default("bfloat16-0.02-rings")
@every_kind
@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.02), ("float32", 1e-5)])
def test_lower_precision_is_close_to_float64(dtype, tolerance, kind):
    basis = filter_basis(C8, 5, Sampling(kind))
    f, a = random(1, 5, 5, 8, 2), coefficients_on(basis, C8)
    conv = jax.jit(functools.partial(group_conv, group=C8, sampling=basis))
    out = conv(f.astype(dtype), a.astype(dtype))
    assert out.dtype == dtype
    assert_close(out, conv(f, a), tolerance)


def test_mapped_coefficients_are_the_loop():
    basis = filter_basis(C8, 3)
    f, a = random(1, 4, 4, 1, 2), random(3, len(basis), 1, 2, 2)
    conv = jax.jit(functools.partial(group_conv, f, group=C8, sampling=basis))
    assert_close(jax.jit(jax.vmap(conv))(a), np.stack([conv(each) for each in a]))


def float64(module, *sizes, **options):
    return with_random_arrays(lambda: module(*sizes, C8, param_dtype=jnp.float64, rngs=nnx.Rngs(0), **options))


SAMPLINGS = [Sampling(), Sampling("rings", lowpass=0.2), Sampling("least_error", tolerance=0.1)]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda sampling: str(sampling.kind))
def test_modules_keep_coefficients_and_the_sampling_that_they_were_given(sampling):
    basis = filter_basis(C8, 5, sampling)
    layer = float64(GroupConv, 2, 3, 5, sampling=sampling)
    assert layer.sampling == sampling and layer.basis == basis
    assert layer.w.shape == (len(basis), 8, 2, 3)
    separable = float64(SeparableGroupConv, 2, 3, 5, sampling=sampling)
    assert separable.spatial_filter.shape == (len(basis), 1, 1, 3) and separable.w.shape == (len(basis), 8, 2, 3)


def test_modules_of_one_pixel_or_of_permutations_keep_pixels():
    for k, group, sampling in ((1, C8, Sampling()), (3, cyclic(4), Sampling()), (3, C8, Sampling("cubic"))):
        layer = GroupConv(2, 3, k, group, sampling=sampling, rngs=nnx.Rngs(0))
        assert layer.basis is None and layer.w.shape == (k, k, group.order, 2, 3)
    basis = filter_basis(cyclic(4), 3, Sampling("least_error"))
    own = GroupConv(2, 3, 3, cyclic(4), sampling=Sampling("least_error"), rngs=nnx.Rngs(0))
    assert own.basis == basis and own.w.shape == (len(basis), 4, 2, 3)


@pytest.mark.default("None")
@pytest.mark.parametrize("sampling", [Sampling(), Sampling("rings")], ids=lambda sampling: str(sampling.kind))
def test_response_attention_turns_filters_of_two_sizes(sampling):
    layer, f = (
        float64(ResponseAttentiveGroupConv, 2, 3, 3, attention_kernel_size=5, sampling=sampling),
        random(1, 5, 5, 8, 2),
    )
    channel, _ = response_weights(5, 2, 3, 8)
    layer.w1, layer.w2 = map(nnx.Param, channel)
    of_pixels = jnp.einsum("uj,jhio->uhio", layer.basis.functions, layer.w[...]).reshape(3, 3, 8, 2, 3)
    function = jax.jit(functools.partial(response_attentive_group_conv, group=C8, sampling=sampling))
    assert_close(jax.jit(layer)(f), function(f, of_pixels, channel, layer.spatial[...]), 1e-10)


def functions_of_ones_own():
    """Of 3x3 pixels: centre, sum, and the slopes along both axes, on C8."""
    x, y = np.meshgrid([-1, 0, 1], [-1, 0, 1], indexing="ij")
    bump = np.exp(-(x**2 + y**2))
    columns = np.stack([(x**2 + y**2 == 0) * 1.0, bump, x * bump, y * bump], -1).reshape(9, 4)
    turns = [np.block([[np.eye(2), np.zeros((2, 2))], [np.zeros((2, 2)), matrix]]) for matrix in C8.matrices]
    return FilterBasis(np.array([columns @ turn for turn in turns]))


def test_a_layer_comes_back_with_the_functions_that_it_was_saved_with_or_not_at_all(tmp_path):
    own = functions_of_ones_own()

    def layer(basis):
        return nnx.eval_shape(lambda: GroupConv(2, 2, 3, C8, sampling=basis, rngs=nnx.Rngs(0)))

    made = with_random_arrays(lambda: GroupConv(2, 2, 3, C8, sampling=own, rngs=nnx.Rngs(0)))
    save_network(tmp_path / "layer", made)
    back = load_network(tmp_path / "layer", like=layer(FilterBasis(own.table)))
    np.testing.assert_array_equal(back.w[...], made.w[...])
    for other in (FilterBasis(own.table[:, ::-1]), filter_basis(C8, 3)):
        assert len(other) == len(own)
        with assert_refused("FilterBasis(4 functions on 3x3 pixels, 8 group elements, "):
            load_network(tmp_path / "layer", like=layer(other))
    assert repr(filter_basis(C8, 5, Sampling(lowpass=0.3))) != repr(filter_basis(C8, 5))


def test_a_basis_of_ones_own_is_used_by_layers():
    basis = functions_of_ones_own()
    layer = float64(GroupConv, 2, 3, 3, sampling=basis, padding=1)
    f = random(1, 5, 5, 8, 2)
    y = layer(f)
    assert_close(y, loop_conv(f, layer.w[...], basis, C8, 1, 1, 1, False))
    assert_close(layer(act(f, C8, 2, "feature_map")), act(y, C8, 2, "feature_map"))


def test_networks_are_saved_and_loaded_with_their_sampling(tmp_path):
    sampling = Sampling("rings", lowpass=0.25)
    network = random_network(C8, features=2, sampling=sampling, param_dtype=jnp.float32)
    save_network(tmp_path / "network", network)
    loaded = load_network(tmp_path / "network")
    assert loaded.convolutions[0].sampling == sampling
    assert nnx.graphdef(loaded) == nnx.graphdef(network)
    jax.tree.map(np.testing.assert_array_equal, leaves(loaded), leaves(network))


def test_a_module_of_ones_own_is_loaded_with_no_other_sampling(tmp_path):
    make = functools.partial(GroupConv, 2, 3, 3, C8, rngs=nnx.Rngs(0))
    save_network(tmp_path / "layer", make(sampling=Sampling(lowpass=0.25)))
    with assert_refused("sampling is Sampling(", "lowpass=0.2", "instead of", "lowpass=0.25"):
        load_network(tmp_path / "layer", like=make())


@pytest.mark.slow
@every_kind
def test_networks_are_exported(tmp_path, kind):
    network = random_network(C8, features=2, sampling=Sampling(kind), param_dtype=jnp.float32)
    about = export_network(tmp_path / "network.zip", network, platforms=["cpu"])
    assert about["largest_difference"] <= 1e-5


REFUSALS = {
    "more functions than pixels": (
        lambda _: GroupConv(1, 1, 3, C8, sampling=FilterBasis(np.ones((8, 9, 12))), rngs=nnx.Rngs(0)),
        ("sampling must be a basis of at most 9 functions, one a pixel, got FilterBasis(12 functions",),
    ),
    "a basis for a network": (
        lambda _: random_network(C8, features=2, sampling=filter_basis(C8, 3)),
        ("sampling must be a Sampling", "a FilterBasis is one of layers"),
    ),
    "coefficients without their basis": (
        lambda w: filter_bank(w, C8),
        ("w must be [k, k, h_in, c_in, c_out], got shape (4, 8, 2, 3)", "filter_basis(group, k)"),
    ),
    "a number of coefficients that is not the basis's": (
        lambda w: filter_bank(w[:3], C8, sampling=filter_basis(C8, 3)),
        ("w must have 4 coefficients, one a function of FilterBasis(4 functions on 3x3 pixels", "got 3"),
    ),
    "a filter of another size": (
        lambda w: filter_bank(random(5, 5, 8, 2, 3), C8, sampling=filter_basis(C8, 3)),
        ("w must have 3 pixels, those of FilterBasis(", "got shape (5, 5, 8, 2, 3)"),
    ),
    "a basis of another group": (
        lambda w: group_conv(random(1, 5, 5, 12, 2), random(4, 12, 2, 3), cyclic(12), sampling=filter_basis(C8, 3)),
        ("sampling is a basis for cyclic(8), not for cyclic(12): make one with filter_basis",),
    ),
    "a module of another size": (
        lambda w: GroupConv(2, 3, 5, C8, sampling=filter_basis(C8, 3), rngs=nnx.Rngs(0)),
        ("sampling is a basis of 3x3 filters, but the filter has 5x5 pixels: make one with filter_basis(group, 5)",),
    ),
    "coefficients of another group axis": (
        lambda w: filter_bank(w[:, :3], C8, sampling=filter_basis(C8, 3)),
        ("w has 3 input group elements, but cyclic(8) needs 1 (on images) or 8",),
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_wrong_filters_are_refused_in_one_line_that_says_what_to_do(case):
    call, parts = REFUSALS[case]
    with assert_refused(*parts) as caught:
        call(random(4, 8, 2, 3))
    assert "\n" not in str(caught.value)
