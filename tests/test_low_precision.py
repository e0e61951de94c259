"""Gradients in bfloat16 are those of float32: nothing is summed over many positions in three digits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attgconv_jax import cyclic
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
