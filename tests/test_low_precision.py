"""Low precision is near float32: nothing is summed over many positions in three digits, nor beyond 65504 in float16."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attgconv_jax import OPERATORS, cyclic
from attgconv_jax.nn import (
    ATTENTIONS,
    GroupConv,
    ResponseAttentiveGroupConv,
    SelectiveKernelGroupConv,
    SeparableGroupConv,
)
from attgconv_jax.nn.norm import batch_norm

P4, FEATURES = cyclic(4), 4


def conv(make, **options):
    return functools.partial(make, FEATURES, FEATURES, 3, P4, padding=1, **options)


def norm(*, dtype, rngs):
    return batch_norm(FEATURES, dtype, jnp.float32, rngs)


MODULES = {
    "conv": conv(GroupConv, use_bias=True),
    "lifting": conv(GroupConv, use_bias=True, lifting=True),
    "grouped": conv(GroupConv, use_bias=True, channel_groups=2),
    "separable": conv(SeparableGroupConv, use_bias=True, kind="separable"),
    "gseparable": conv(SeparableGroupConv, use_bias=True, kind="gseparable"),
    "response": conv(ResponseAttentiveGroupConv),
    "sk": conv(SelectiveKernelGroupConv),
    "norm": norm,
    **{name: functools.partial(make, FEATURES, P4) for name, make in ATTENTIONS.items()},
}
# Relus stand behind responses that were rounded: some fall to the other side of 0, and of a gradient that is a random
# sum they take the root of their share.
ROUNDED = {"sk": 0.04}


def gradients(name, dtype, f):
    """By path those of the parameters, of random values, and in float64."""
    graph, parameters, rest = nnx.split(MODULES[name](dtype=dtype, rngs=nnx.Rngs(0)), nnx.Param, ...)
    keys = iter(jax.random.split(jax.random.key(1), 64))
    # Values that bfloat16 holds.
    drawn = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(next(keys), p.shape, p.dtype), parameters)
    parameters = jax.tree.map(lambda p: p.astype(jnp.bfloat16).astype(p.dtype), drawn)

    def loss(parameters):
        y = nnx.merge(graph, parameters, rest, copy=True)(f.astype(dtype))
        assert y.dtype == dtype
        return jnp.mean((y.astype(jnp.float32) + 1) ** 2)

    leaves = jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(parameters))
    return {jax.tree_util.keystr(path): np.asarray(leaf, np.float64) for path, leaf in leaves}


@pytest.mark.default("conv", "se")
@pytest.mark.parametrize("name", MODULES)
def test_gradients_of_parameters_are_those_of_float32(name):
    shape = (32, 28, 28, 1 if name == "lifting" else 4, FEATURES)
    f = jax.random.normal(jax.random.key(0), shape, jnp.float32).astype(jnp.bfloat16)
    expected, got = (gradients(name, dtype, f) for dtype in (jnp.float32, jnp.bfloat16))
    assert expected
    # Biases before a norm have no gradient but rounding.
    least = 1e-3 * max(np.linalg.norm(gradient) for gradient in expected.values())
    errors = {
        path: np.linalg.norm(got[path] - gradient) / max(np.linalg.norm(gradient), least)
        for path, gradient in expected.items()
    }
    assert max(errors.values()) < ROUNDED.get(name, 0.01), errors


@pytest.mark.default("non_local")
@pytest.mark.parametrize("name", ["non_local", "self"])
def test_pairs_of_positions_in_float16_are_those_of_float32(name):
    f = 30 * jax.random.normal(jax.random.key(0), (1, 6, 6, 4, 64), jnp.float32).astype(jnp.float16)
    weights = OPERATORS[name].init(jax.random.key(1), 64, P4, dtype=jnp.float32)
    weights = jax.tree.map(lambda w: (w + 0.01).astype(jnp.float16), weights)

    @jax.jit
    def gradients(weights, f):
        def loss(weights, f):
            return jnp.sum(jnp.sin(OPERATORS[name].apply(f, weights, P4).astype(jnp.float32) / 8))

        return jax.grad(loss, (0, 1))(weights, f)

    expected = gradients(*jax.tree.map(lambda x: x.astype(jnp.float32), (weights, f)))
    for got, gradient in zip(*map(jax.tree.leaves, (gradients(weights, f), expected)), strict=True):
        assert jnp.abs(gradient).max() < 65504
        error = jnp.linalg.norm(got.astype(jnp.float32) - gradient) / jnp.linalg.norm(gradient)
        assert error < 2e-3


@pytest.mark.default("srm")
@pytest.mark.parametrize("name", MODULES)
def test_float16_is_finite_at_ordinary_sizes(name):
    size = (1, 12, 12) if name in ("non_local", "self") else (32, 28, 28)
    f = 30 * jax.random.normal(jax.random.key(0), (*size, 1 if name == "lifting" else 4, FEATURES), jnp.float16)
    graph, parameters, rest = nnx.split(MODULES[name](dtype=jnp.float16, rngs=nnx.Rngs(0)), nnx.Param, ...)

    def loss(parameters, f):
        y = nnx.merge(graph, parameters, rest, copy=True)(f)
        return jnp.mean(jnp.square(y.astype(jnp.float32))), y

    gradients, y = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(parameters, f)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((gradients, y)))
