"""The one differentiable maximum: values, ties, NaN, gradients, and that nobody in the library takes another."""

import ast
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import optimised
from helpers import assert_close, assert_refused, random
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import attgconv_jax
from attgconv_jax import maximum
from attgconv_jax.kernels import maxima, mean_and_maximum

COMPILED = {"jitted": optimised, "eager": lambda function: function}
jitted_and_eager = pytest.mark.parametrize("compiled", COMPILED.values(), ids=COMPILED)

# Lengths that are folded into 2 to 16 tiles, into none (primes), and a length of one.
LENGTHS = [1, 2, 3, 7, 16, 17, 18, 23, 32, 34, 48, 49]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_value_and_gradient_are_those_of_the_first_largest(axis, length):
    shape = [3, 4, 2]
    shape[axis] = length
    # Few different numbers: nearly every maximum is attained more than once.
    x = jnp.round(random(*shape))
    out, pullback = jax.jit(lambda x: jax.vjp(lambda x: maximum(x, axis), x))(x)
    np.testing.assert_array_equal(out, np.max(x, axis))
    d_out = random(*out.shape, seed=1)
    one_hot = np.arange(length) == np.expand_dims(np.argmax(x, axis), -1)
    expected = np.moveaxis(one_hot * np.expand_dims(np.asarray(d_out), -1), -1, axis)
    np.testing.assert_array_equal(pullback(d_out)[0], expected)


@jitted_and_eager
def test_gradient_is_one_hot_at_the_arg_max(compiled):
    x = random(5, 6, 7)
    gradient = compiled(jax.grad(lambda x: jnp.sum(maximum(x, 1))))(x)
    np.testing.assert_array_equal(gradient, np.asarray(x) == np.max(x, axis=1, keepdims=True))
    assert np.all(np.sum(gradient, axis=1) == 1)


@jitted_and_eager
@pytest.mark.parametrize("length", [2, 16, 17, 40])
@pytest.mark.parametrize("axis", [0, 1])
def test_first_of_all_equal_elements_takes_the_gradient(axis, length, compiled):
    x = jnp.zeros([length, 3] if axis == 0 else [3, length])
    gradient = compiled(jax.grad(lambda x: jnp.sum(maximum(x, axis))))(x)
    expected = np.zeros(x.shape)
    expected[(0, slice(None)) if axis == 0 else (slice(None), 0)] = 1
    np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("length", [3, 17, 32])
@pytest.mark.parametrize("at", [0, 1, -1])
@pytest.mark.parametrize("axis", [0, 1])
def test_nan_wins_over_every_number_and_takes_the_gradient(axis, at, length):
    x = jnp.moveaxis(random(length, 2).at[1, 0].set(jnp.inf).at[at, 0].set(jnp.nan), 0, axis)
    out, pullback = jax.vjp(lambda x: maximum(x, axis), x)
    np.testing.assert_array_equal(out, np.max(x, axis=axis))
    assert np.isnan(out[0])
    gradient = np.moveaxis(pullback(jnp.ones(2))[0], axis, 0)
    np.testing.assert_array_equal(np.flatnonzero(gradient[:, 0]), [at % length])


@jitted_and_eager
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_nan_is_kept_where_nothing_is_differentiated(axis, compiled):
    """Of such an array XLA:CPU's own maximum is a number."""
    x = jnp.ones([2, 12, 16, 4, 3], jnp.float32).at[0, 0, 0, 0, 0].set(jnp.nan)
    assert int(jnp.isnan(compiled(lambda x: maximum(x, axis))(x)).sum()) == 1


def test_derivatives_keep_the_index_and_no_mask():
    x = random(64, 12, 64).astype(jnp.float32)
    kept = jax.tree.leaves(jax.vjp(lambda x: maximum(x, 1), x)[1])
    assert sum(array.nbytes for array in kept) < 0.1 * x.nbytes


@pytest.mark.parametrize("axis", [0, 1])
def test_maximum_of_infinities_is_found(axis):
    x = jnp.full([20, 20], -jnp.inf)
    out, pullback = jax.vjp(lambda x: maximum(x, axis), x)
    assert np.all(out == -np.inf)
    assert np.sum(pullback(jnp.ones(20))[0]) == 20


def test_mapped_gradient_is_the_loop():
    x = random(4, 6, 5)
    gradient = jax.grad(lambda x: jnp.sum(maximum(x, 0) ** 2))
    mapped = jax.jit(jax.vmap(gradient, in_axes=1, out_axes=1))(x)
    np.testing.assert_array_equal(mapped, np.stack([gradient(x[:, i]) for i in range(6)], axis=1))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_type_is_kept(dtype):
    x = random(4, 18, 3).astype(dtype)
    out, pullback = jax.vjp(lambda x: maximum(x, 1), x)
    gradient = pullback(jnp.ones_like(out))[0]
    assert out.dtype == gradient.dtype == dtype
    np.testing.assert_array_equal(out, x.max(axis=1))
    assert np.all(gradient.astype(np.float32).sum(axis=1) == 1)


def test_gradient_of_a_gradient_goes_the_same_way():
    x = random(5, 4)

    def squares(x):
        return jnp.sum(jax.grad(lambda x: jnp.sum(maximum(x, 0) ** 3))(x) ** 2)

    largest = np.asarray(x) == np.max(x, axis=0)
    np.testing.assert_allclose(jax.jit(jax.grad(squares))(x), largest * 36 * np.asarray(x) ** 3, rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_derivative_forwards_is_the_transpose_of_that_in_reverse(axis):
    x, tangent = random(18, 5, 32), random(18, 5, 32, seed=1)
    out, d_out = jax.jvp(lambda x: maximum(x, axis), (x,), (tangent,))
    np.testing.assert_array_equal(out, np.max(x, axis))
    index = np.expand_dims(np.argmax(x, axis), axis)
    np.testing.assert_array_equal(d_out, np.take_along_axis(np.asarray(tangent), index, axis).squeeze(axis))
    hessian = jax.hessian(lambda x: jnp.sum(maximum(x, 0) ** 3))(x[:, 0, :2])
    largest = np.asarray(x[:, 0, :2]) == np.max(x[:, 0, :2], axis=0)
    diagonal = np.einsum("ijij->ij", hessian)
    np.testing.assert_allclose(diagonal, largest * 6 * np.asarray(x[:, 0, :2]), rtol=1e-12)


def test_index_is_found_for_a_gradient_alone():
    x = random(4, 6)
    alone, differentiated = (
        str(jax.make_jaxpr(f)(x)) for f in (lambda x: maximum(x, 1), jax.grad(lambda x: maximum(x, 1).sum()))
    )
    assert "i32" not in alone
    assert "i32" in differentiated
    assert alone.count("reduce[") == differentiated.count("reduce[") == 1


@pytest.mark.parametrize("axis", [3, -4])
def test_missing_axis_is_refused_with_those_that_exist(axis):
    with assert_refused("axis must be in [-3, 3)", "(2, 3, 4)", f"got {axis}"):
        maximum(random(2, 3, 4), axis)


def test_integers_are_refused():
    with assert_refused("x must be floating", "int32", "cast it"):
        maximum(jnp.ones([2, 3], jnp.int32), 0)


def test_empty_axis_is_refused():
    with assert_refused("axis -2", "(2, 0, 4)", "is empty"):
        maximum(jnp.zeros([2, 0, 4]), -2)


def takes_maximum(code):
    names = {"max", "amax", "nanmax", "reduce_max", "max_pool", "reduce_window", "cummax"}
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in names
        # NumPy's maxima are static.
        and not (isinstance(node.func.value, ast.Name) and node.func.value.id == "np")
        for node in ast.walk(ast.parse(code))
    )


def test_library_takes_no_other_maximum_that_could_be_differentiated():
    assert takes_maximum("jnp.max(x)")
    assert takes_maximum("x.max()")
    assert not takes_maximum("np.max(x)")
    root = pathlib.Path(attgconv_jax.__file__).parent
    files = list(root.rglob("*.py"))
    assert [path for path in files if takes_maximum(path.read_text())] == [root / "kernels" / "maxima.py"]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_reduction_on_cuda_finds_what_tiles_find(axis):
    x = np.random.default_rng(0).integers(0, 5, (32, 40, 6)).astype(np.float32)
    x[3, 4, 5] = x[20, 30, 1] = np.nan
    for at_once, by_tiles in zip(maxima._indexed_at_once(x, axis), maxima._indexed_by_tiles(x, axis), strict=True):
        np.testing.assert_array_equal(at_once, by_tiles)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float64])
def test_mean_and_maximum_in_one_reduction_are_those_in_turn(dtype):
    x = random(3, 5, 20).astype(dtype)
    for mean, *largest in maxima._mean_and_indexed_at_once(x), maxima._mean_and_indexed_in_turn(x):
        assert mean.dtype == jnp.promote_types(dtype, jnp.float32)
        np.testing.assert_allclose(
            mean, jnp.mean(x.astype(mean.dtype), -1), atol=1e-6 if dtype == jnp.bfloat16 else 1e-14
        )
        np.testing.assert_array_equal(largest[0], jnp.max(x, -1))
        np.testing.assert_array_equal(largest[1], jnp.argmax(x, -1))


def test_gradients_of_mean_and_maximum_are_those_of_both():
    x, of_mean, of_maximum = random(3, 4, 6), random(3, 4), random(3, 4, seed=1)
    results = []

    def loss(both, x):
        mean, highest = both(x)
        return jnp.sum(of_mean * mean**2 + of_maximum * highest**3)

    def apart(x):
        return jnp.mean(x, -1), maximum(x, -1)

    for both in mean_and_maximum, apart:
        gradient = jax.grad(functools.partial(loss, both))
        results.append((gradient(x), jax.jvp(gradient, (x,), (jnp.sin(x),))[1]))
    for got, wanted in zip(*results, strict=True):
        assert_close(got, wanted, 1e-12)


def test_arrays_on_an_explicit_mesh_keep_their_sharding():
    mesh = jax.make_mesh((1,), ("d",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        x = jax.device_put(jnp.ones([4, 40, 6]), NamedSharding(mesh, PartitionSpec("d")))
        gradient = jax.jit(jax.grad(lambda x: jnp.sum(maximum(x, 1)) + jnp.sum(jnp.stack(mean_and_maximum(x)))))(x)
        assert jax.typeof(gradient).sharding.spec == jax.typeof(x).sharding.spec
