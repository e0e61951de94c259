"""Pooling and projection: against loops and the reference, gradients, and what is refused with which advice."""

import functools
import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from compilation import optimised
from helpers import assert_close, assert_refused, check_reference_layer, maps_to_ours, maps_to_reference, random

from attgconv_jax import cyclic, dihedral, max_pool, mean_pool, project_max, project_mean, trivial

POOLS = {"max": (max_pool, oracles.max_pool), "mean": (mean_pool, oracles.mean_pool)}
PROJECTIONS = {"max": (project_max, oracles.project_max), "mean": (project_mean, oracles.project_mean)}

# Window, stride, padding, shape: tiles, tiles with pixels left over, overlapping and padded windows, gaps.
GEOMETRIES = [
    (2, 2, 0, (6, 4)),
    (2, 2, 0, (7, 4)),
    (3, 3, 0, (3, 6)),
    (3, 2, 0, (7, 5)),
    (3, 1, 1, (4, 5)),
    (3, 2, 1, (5, 7)),
    (2, 2, 1, (4, 6)),
    (2, 3, 0, (5, 8)),
    (1, 2, 0, (5, 5)),
    (1, 1, 0, (3, 2)),
    (5, 4, 2, (5, 9)),
]
every_pool = pytest.mark.parametrize("pool", POOLS)


@every_pool
@pytest.mark.parametrize("h", [1, 4], ids=["image", "feature_map"])
@pytest.mark.parametrize(("window", "stride", "padding", "shape"), GEOMETRIES)
def test_pooling_is_the_loop_over_windows(pool, window, stride, padding, shape, h):
    function, oracle = POOLS[pool]
    f = random(2, *shape, h, 3)
    settings = dict(group=cyclic(4), window=window, stride=stride, padding=padding, exact=False)
    out = jax.jit(functools.partial(function, **settings))(f)
    assert_close(out, oracle(np.asarray(f), window, stride, padding))


@every_pool
def test_windows_tile_unless_a_stride_is_given(pool):
    function, _ = POOLS[pool]
    f = random(2, 6, 6, 4, 3)
    np.testing.assert_array_equal(function(f, cyclic(4), window=3), function(f, cyclic(4), window=3, stride=3))
    assert function(f, cyclic(4)).shape == (2, 3, 3, 4, 3)


@every_pool
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("window", [2, 3], ids=["tiles", "overlap"])
def test_any_number_of_batch_axes_is_kept(pool, window, batch):
    function, oracle = POOLS[pool]
    f = random(*batch, 6, 4, 4, 2)
    out = jax.jit(functools.partial(function, group=cyclic(4), window=window, stride=2, exact=False))(f)
    flat = oracle(np.asarray(f).reshape(-1, 6, 4, 4, 2), window, 2, 0)
    assert_close(out, flat.reshape(*batch, *flat.shape[1:]))


def test_padding_of_a_maximum_loses_against_every_number():
    f = jnp.full([1, 3, 3, 1, 1], -5.0)
    np.testing.assert_array_equal(max_pool(f, cyclic(4), window=3, stride=1, padding=1), f)


@every_pool
@pytest.mark.parametrize(("window", "stride", "padding"), [(2, 2, 0), (3, 1, 1), (3, 3, 0)])
def test_compiled_gradient_is_the_eager_one_and_that_of_finite_differences(pool, window, stride, padding):
    f = random(2, 6, 6, 4, 2)
    settings = dict(window=window, stride=stride, padding=padding)

    def loss(f):
        return jnp.sum(jnp.sin(POOLS[pool][0](f, cyclic(4), **settings)))

    gradient = optimised(jax.grad(loss))(f)
    assert_close(gradient, jax.grad(loss)(f), 1e-13)
    along, step = random(*f.shape, seed=1), 1e-5
    slope = (loss(f + step * along) - loss(f - step * along)) / (2 * step)
    assert_close(jnp.vdot(gradient, along), slope, 1e-6)


@every_pool
@pytest.mark.parametrize(("window", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (5, 1, 2), (6, 6, 0)])
def test_derivatives_forwards_are_the_transpose_of_those_in_reverse(pool, window, stride, padding):
    f = random(2, 7, 7, 4, 2)
    settings = dict(group=cyclic(4), window=window, stride=stride, padding=padding, exact=False)
    function = functools.partial(POOLS[pool][0], **settings)
    tangent, along = random(*f.shape, seed=1), random(*jax.eval_shape(function, f).shape, seed=2)
    out, d_out = jax.jvp(function, (f,), (tangent,))
    assert_close(out, function(f), 1e-15)
    assert_close(jnp.vdot(along, d_out), jnp.vdot(jax.vjp(function, f)[1](along)[0], tangent), 1e-12)
    hessian = jax.jvp(jax.grad(lambda f: jnp.sum(function(f) ** 3)), (f,), (tangent,))[1]
    assert_close(hessian, jax.vjp(function, f)[1](6 * out * d_out)[0], 1e-12)


@pytest.mark.parametrize(("window", "stride"), [(3, 2), (4, 4), (9, 1)])
def test_first_of_equal_pixels_takes_the_gradient_row_by_row(window, stride):
    f = jnp.zeros([1, 12, 12, 1, 1])
    gradient = jax.grad(lambda f: jnp.sum(max_pool(f, cyclic(1), window=window, stride=stride)))(f)
    count = (12 - window) // stride + 1
    expected = np.zeros([12, 12])
    expected[: stride * count : stride, : stride * count : stride] = 1
    np.testing.assert_array_equal(gradient[0, :, :, 0, 0], expected)


@pytest.mark.parametrize(("window", "stride"), [(3, 2), (4, 4)])
def test_nan_wins_in_every_window_that_has_it(window, stride):
    f = random(1, 8, 8, 1, 1).at[0, 4, 4].set(jnp.nan)
    out, pullback = jax.vjp(lambda f: max_pool(f, cyclic(1), window=window, stride=stride), f)
    first = np.arange((8 - window) // stride + 1) * stride
    has = (first <= 4) & (first + window > 4)
    np.testing.assert_array_equal(np.isnan(out[0, :, :, 0, 0]), np.outer(has, has))
    assert float(pullback(jnp.ones_like(out))[0][0, 4, 4, 0, 0]) == has.sum() ** 2


@pytest.mark.parametrize(("window", "stride", "inputs"), [(2, 2, 0.1), (3, 2, 1.6), (28, 28, 0.2)])
def test_gradient_of_pooling_needs_no_copy_of_all_windows(window, stride, inputs):
    """Those of the maximum's gradient, in megabytes over those of the input; all windows together are up to 9."""
    f = jnp.ones([8, 28, 28, 4, 8], jnp.float32)
    pool = functools.partial(max_pool, group=cyclic(4), window=window, stride=stride, exact=False)
    compiled = jax.jit(jax.grad(lambda f: jnp.sum(pool(f) ** 2))).lower(f).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < inputs * f.nbytes


def test_derivatives_of_maxima_keep_indices_and_no_masks():
    f = random(2, 16, 16, 4, 8).astype(jnp.float32)
    kept = jax.tree.leaves(jax.vjp(lambda f: max_pool(f, cyclic(4), window=3, stride=1), f)[1])
    assert sum(array.nbytes for array in kept) < 2 * f.nbytes


@pytest.mark.slow
def test_second_derivative_is_exported_for_any_number_of_images():
    def gradient(f):
        inner = jax.grad(lambda f: jnp.sum(max_pool(f, cyclic(1), window=3, stride=1) ** 3))
        return jax.grad(lambda f: jnp.sum(inner(f) ** 2))(f)

    shape = (*jax.export.symbolic_shape("batch"), 6, 6, 1, 2)
    exported = jax.export.export(jax.jit(gradient))(jax.ShapeDtypeStruct(shape, jnp.float64))
    f = random(3, 6, 6, 1, 2)
    assert_close(exported.call(f), gradient(f), 1e-12)


@pytest.mark.parametrize(("window", "stride"), [(2, 2), (3, 1)])
def test_nan_is_kept_where_nothing_is_differentiated(window, stride):
    f = jnp.ones([2, 24, 24, 4, 1], jnp.float32).at[0, 4, 4].set(jnp.nan)
    out = max_pool(f, cyclic(4), window=window, stride=stride)
    assert int(jnp.isnan(out).sum()) == 4 * (1 if stride == 2 else 9)
    assert jnp.isnan(project_max(f)).sum() == 1


def test_means_of_low_precision_are_summed_in_float32():
    f = 1 + random(1, 28, 28, 1, 4).astype(jnp.bfloat16)
    mean = mean_pool(f, cyclic(4), window=28)
    expected = np.asarray(f, np.float64).mean((1, 2), keepdims=True)
    np.testing.assert_array_equal(mean, expected.astype(jnp.bfloat16))


def test_gradient_of_overlapping_maxima_adds_up():
    f = jnp.zeros([1, 3, 3, 1, 1]).at[0, 1, 1].set(1)
    gradient = jax.grad(lambda f: jnp.sum(max_pool(f, cyclic(4), window=2, stride=1)))(f)
    assert float(gradient[0, 1, 1, 0, 0]) == 4
    assert float(jnp.sum(gradient)) == 4


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("h", [1, 4, 8])
def test_projection_is_the_loop_over_the_group(projection, h):
    function, oracle = PROJECTIONS[projection]
    f = random(2, 3, 4, h, 5)
    assert_close(jax.jit(function)(f), oracle(np.asarray(f)), 1e-15)
    np.testing.assert_array_equal(function(f[0]), function(f)[0])


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_gradient_of_a_projection_sums_to_the_cotangent(projection):
    f = random(2, 3, 3, 4, 2)
    out, pullback = jax.vjp(PROJECTIONS[projection][0], f)
    d_out = random(*out.shape, seed=1)
    gradient = jax.jit(pullback)(d_out)[0]
    share = np.asarray(f) == np.max(f, axis=3, keepdims=True) if projection == "max" else np.full(f.shape, 0.25)
    assert_close(gradient, share * np.asarray(d_out), 1e-15)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("function", POOLS)
def test_type_is_kept(function, dtype):
    f = random(2, 4, 4, 4, 2).astype(dtype)
    for apply in (jax.jit(lambda f: POOLS[function][0](f, cyclic(4))), jax.jit(PROJECTIONS[function][0])):
        assert apply(f).dtype == dtype
        assert_close(apply(f), apply(f.astype(jnp.float64)), 0.01)


@pytest.mark.parametrize(("file", "pool"), [("se2_max_pooling_Rn", "max"), ("se2_average_pooling_Rn", "mean")])
def test_pooling_of_the_reference_is_reproduced_with_its_gradient(reference, file, pool):
    data = reference(f"layers/{file}")
    settings = {"max": max_pool, "mean": mean_pool}[pool], data.config

    def layer(f, _):
        function, config = settings
        return maps_to_reference(
            function(
                maps_to_ours(f),
                cyclic(4),
                window=config["kernel_size"],
                stride=config["stride"],
                padding=config["padding"],
            )
        )

    check_reference_layer(data, layer)


def test_asymmetric_windows_are_refused_with_sizes_that_work():
    with assert_refused("7 pixels along x", "window 2, stride 2", "exact=False") as caught:
        max_pool(random(1, 7, 7, 4, 1), cyclic(4))
    advised = [int(n) for n in re.search(r"Sizes that work: ([\d, ]+);", str(caught.value))[1].split(", ")]
    assert advised
    for n in advised:
        assert max_pool(random(1, n, n, 4, 1), cyclic(4)).shape == (1, n // 2, n // 2, 4, 1)


def test_axis_that_no_element_reverses_may_be_asymmetric():
    f = random(1, 6, 7, 2, 1)
    assert max_pool(f, dihedral(1)).shape == (1, 3, 3, 2, 1)
    with assert_refused("7 pixels along x"):
        max_pool(f.swapaxes(1, 2), dihedral(1))
    assert max_pool(random(1, 7, 7, 1, 1), trivial()).shape == (1, 3, 3, 1, 1)


@every_pool
@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"window": 0}, ("window must be an integer of at least 1", "got 0")),
        ({"window": 2.0}, ("window must be an integer of at least 1", "2.0")),
        ({"stride": 0}, ("stride must be an integer of at least 1", "got 0")),
        ({"stride": True}, ("stride must be an integer of at least 1", "True")),
        ({"padding": -1}, ("padding must be", "got -1")),
        ({"padding": 2}, ("padding must be smaller than the window", "got 2 for a window of 2")),
        ({"padding": "SAME"}, ("padding must be an integer of at least 0", "'SAME'")),
        ({"padding": 1.0}, ("padding must be", "1.0")),
        ({"window": 9}, ("window of 9 pixels", "does not fit", "6x6", "at least 9 pixels")),
    ],
    ids=str,
)
def test_bad_settings_are_refused_with_good_ones(pool, settings, parts):
    with assert_refused(*parts):
        POOLS[pool][0](random(1, 6, 6, 4, 1), cyclic(4), **settings)


@pytest.mark.parametrize("function", [project_max, project_mean, lambda f: max_pool(f, trivial())])
def test_integers_are_refused(function):
    with assert_refused("f must be floating", "int32", "cast it"):
        function(jnp.ones([2, 4, 4, 1, 1], jnp.int32))


@every_pool
def test_feature_map_of_another_group_is_refused(pool):
    with assert_refused("f has 3 group elements", "cyclic(4) has 4", "an image has 1"):
        POOLS[pool][0](random(1, 6, 6, 3, 1), cyclic(4))


@pytest.mark.parametrize("function", [project_max, project_mean, *[pool for pool, _ in POOLS.values()]])
@pytest.mark.parametrize(
    ("shape", "parts"),
    [((6, 6, 4), ("[..., x, y, h, c]", "(6, 6, 4)", "length 1")), ((2, 6, 6, 4, 0), ("empty axis", "at least 1"))],
)
def test_what_is_no_feature_map_is_refused(function, shape, parts):
    with assert_refused(*parts):
        function(random(*shape), *([] if function in (project_max, project_mean) else [cyclic(4)]))
