"""The dropout kernel: the statistics of its mask, its gradient, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_refused, random

from attgconv_jax.kernels import dropout

SHAPE = (64, 64, 50)
COUNT = 64 * 64 * 50


def mask(seed, rate=0.3, shape=SHAPE):
    """One where an element is kept."""
    return np.asarray(jax.jit(dropout, static_argnums=2)(jnp.ones(shape), jax.random.key(seed), rate)) != 0


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.3, 0.5, 0.9, 0.999])
def test_share_of_zeros_is_the_rate(rate, seed):
    zeros = COUNT - np.count_nonzero(mask(seed, rate))
    assert abs(zeros - COUNT * rate) < 5 * np.sqrt(COUNT * rate * (1 - rate))


def test_arrays_that_share_a_key_take_consecutive_numbers():
    key, ones = jax.random.key(0), jnp.ones(5000)
    whole = dropout(ones, key, 0.5)
    parts = [dropout(part, key, 0.5, start) for part, start in ((ones[:2000], 0), (ones[2000:], 2000))]
    np.testing.assert_array_equal(jnp.concatenate(parts), whole)
    with assert_refused("fewer than 2^32 elements a key, got 4294967000 before"):
        dropout(ones, key, 0.5, 4_294_967_000)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_mean_is_kept(rate):
    out = dropout(jnp.ones(SHAPE), jax.random.key(3), rate)
    assert abs(float(jnp.mean(out)) - 1) < 5 * np.sqrt(rate / (1 - rate) / COUNT)


def test_kept_elements_are_scaled_and_others_are_zero():
    f = random(40, 30)
    out = np.asarray(dropout(f, jax.random.key(0), 0.25))
    kept = out != 0
    np.testing.assert_allclose(out[kept], np.asarray(f)[kept] / 0.75, rtol=1e-15)
    assert 0 < kept.sum() < kept.size


def test_same_key_gives_the_same_mask():
    np.testing.assert_array_equal(mask(5), mask(5))


@pytest.mark.parametrize("other", [1, 2, 2**20])
def test_different_keys_give_independent_masks(other):
    assert abs(correlation(mask(0), mask(other))) < 5 / np.sqrt(COUNT)


def test_split_keys_give_independent_masks():
    first, second = (dropout(jnp.ones(SHAPE), key, 0.5) for key in jax.random.split(jax.random.key(0)))
    assert abs(correlation(np.asarray(first), np.asarray(second))) < 5 / np.sqrt(COUNT)


@pytest.mark.parametrize("rate", [0.1, 0.5])
@pytest.mark.parametrize("step", [1, 2, 50, 64, 3200])
def test_neighbours_are_independent(step, rate):
    kept = mask(7, rate).ravel()
    assert abs(correlation(kept[:-step], kept[step:])) < 5 / np.sqrt(COUNT - step)


def test_every_element_is_kept_as_often_as_any_other():
    rate, keys = 0.4, jax.random.split(jax.random.key(1), 4000)
    kept = jax.jit(jax.vmap(lambda key: dropout(jnp.ones(25), key, rate)))(keys) != 0
    counts = np.asarray(jnp.sum(kept, axis=0))
    assert np.max(np.abs(counts - 4000 * (1 - rate))) < 5 * np.sqrt(4000 * rate * (1 - rate))


def test_mapped_keys_give_each_image_its_own_mask():
    keys = jax.random.split(jax.random.key(2), 3)
    f = jnp.ones([3, 100])
    mapped = jax.vmap(lambda f, key: dropout(f, key, 0.5))(f, keys)
    np.testing.assert_array_equal(mapped, np.stack([dropout(f[i], keys[i], 0.5) for i in range(3)]))
    assert not np.array_equal(mapped[0], mapped[1])


@pytest.mark.parametrize("compiled", [jax.jit, lambda function: function], ids=["jitted", "eager"])
def test_gradient_uses_the_mask_of_the_forward_pass(compiled):
    f, key, rate = random(30, 40), jax.random.key(4), 0.3

    def total(f):
        out = dropout(f, key, rate)
        return jnp.sum(out), out

    gradient, out = compiled(jax.grad(total, has_aux=True))(f)
    np.testing.assert_allclose(gradient, (np.asarray(out) != 0) / (1 - rate), rtol=1e-9)


def test_compiled_is_eager():
    f, key = random(20, 30), jax.random.key(6)
    np.testing.assert_array_equal(jax.jit(dropout, static_argnums=2)(f, key, 0.5), dropout(f, key, 0.5))


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_type_is_kept_and_decides_nothing(dtype):
    out = dropout(jnp.ones([50, 40], dtype), jax.random.key(0), 0.5)
    assert out.dtype == dtype
    np.testing.assert_array_equal(out != 0, mask(0, 0.5, (50, 40)))


def test_rate_zero_gives_the_input_back():
    f = random(5, 5)
    assert dropout(f, jax.random.key(0), 0.0) is f


def test_nan_of_a_dropped_element_is_dropped():
    out = np.asarray(dropout(jnp.full([1000], jnp.nan), jax.random.key(0), 0.5))
    assert 400 < np.count_nonzero(out == 0) < 600


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, float("nan")])
def test_bad_rate_is_refused(rate):
    with assert_refused("rate must be in [0, 1)", str(rate)):
        dropout(random(3, 3), jax.random.key(0), rate)


def test_integers_are_refused():
    with assert_refused("f must be floating", "int32", "cast it"):
        dropout(jnp.ones([3, 3], jnp.int32), jax.random.key(0), 0.5)


def test_too_many_elements_are_refused():
    with assert_refused("fewer than 2^32 elements", str((2**16, 2**16))):
        jax.eval_shape(lambda f: dropout(f, jax.random.key(0), 0.5), jax.ShapeDtypeStruct((2**16, 2**16), jnp.float32))
