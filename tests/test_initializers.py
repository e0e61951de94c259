"""Initialisers: their statistics, their dtypes, and how modules choose them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import random

from attgconv_jax import cyclic, dihedral, trivial
from attgconv_jax.nn import INITIALIZERS, GroupConv, InputAttention


@pytest.mark.parametrize("group", [trivial(), cyclic(4), dihedral(4)], ids=str)
def test_he_normal_keeps_the_variance_of_what_came_before_the_relu(group):
    before = random(8, 9, 9, group.order, 16)
    layer = GroupConv(16, 16, 3, group, param_dtype=jnp.float64, rngs=nnx.Rngs(1))
    assert 0.8 < np.var(jax.jit(layer)(jax.nn.relu(before))) / np.var(before) < 1.25


@pytest.mark.parametrize("h", [1, 8])
def test_initialisers_have_their_bounds_and_deviations(h):
    shape, key = (5, 5, h, 4, 64), jax.random.key(0)
    uniform = np.asarray(INITIALIZERS["paper_uniform"](key, shape, jnp.float64))
    assert 0.0999 < np.max(np.abs(uniform)) <= 0.1
    assert np.std(uniform) == pytest.approx(0.1 / np.sqrt(3), rel=0.05)
    assert np.std(INITIALIZERS["paper_normal"](key, shape, jnp.float64)) == pytest.approx(0.1, rel=0.05)
    assert np.std(INITIALIZERS["he_normal"](key, shape, jnp.float64)) == pytest.approx(np.sqrt(0.02 / h), rel=0.05)


@pytest.mark.parametrize("h", [1, 8])
def test_channel_attention_is_drawn_uniformly_with_the_group_in_the_fan(h):
    attention = InputAttention(64, cyclic(h), hidden_features=16, spatial=False, rngs=nnx.Rngs(0))
    for weight, fan_in in zip(attention.weights.channel, (64 * h, 16 * h), strict=True):
        assert 0.99 < np.max(np.abs(weight[...])) * np.sqrt(fan_in) <= 1
        assert np.std(weight[...]) * np.sqrt(3 * fan_in) == pytest.approx(1, rel=0.05)


def test_initialisers_draw_anew_for_every_array_and_alike_for_the_same_seed():
    rngs = nnx.Rngs(0)
    first, second = (GroupConv(2, 2, 3, cyclic(4), rngs=rngs).w[...] for _ in range(2))
    assert not np.allclose(first, second)
    assert np.array_equal(first, GroupConv(2, 2, 3, cyclic(4), rngs=nnx.Rngs(0)).w[...])
    attention = InputAttention(4, cyclic(4), hidden_features=4, spatial=False, rngs=nnx.Rngs(0))
    w1, w2 = attention.weights.channel
    assert not np.allclose(w1[...], w2[...])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, jnp.bfloat16])
@pytest.mark.parametrize("name", INITIALIZERS)
def test_initialisers_draw_in_the_dtype_of_the_parameters(name, dtype):
    options = dict(kernel_init=name, use_bias=True, param_dtype=dtype)
    layer = GroupConv(2, 3, 3, cyclic(4), **options, rngs=nnx.Rngs(0))
    assert layer.w.dtype == layer.bias.dtype == dtype
    assert np.std(layer.w[...].astype(jnp.float32)) > 0


def test_an_initialiser_may_be_a_function():
    calls = []

    def initialiser(key, shape, dtype):
        calls.append((shape, dtype))
        return jnp.ones(shape, dtype)

    layer = GroupConv(2, 3, 3, cyclic(4), kernel_init=initialiser, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert calls == [((3, 3, 4, 2, 3), jnp.bfloat16)]
    assert np.all(layer.w[...] == 1)
