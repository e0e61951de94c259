"""Low precision is near float32: nothing is summed over many positions in three digits, nor beyond 65504 in float16."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attgconv_jax import OPERATORS
from experiments.bench import low_precision
from experiments.bench.low_precision import FEATURES, MODULES, P4

# Relus stand behind responses that were rounded: some fall to the other side of 0, and of a gradient that is a random
# sum they take the root of their share.
ROUNDED = {"sk": 0.04}


@pytest.mark.default("conv", "se")
@pytest.mark.parametrize("name", MODULES)
def test_gradients_of_parameters_are_those_of_float32(name):
    differences = {row["parameter"]: row["difference"] for row in low_precision.differences(name, jnp.bfloat16)}
    assert differences
    assert max(differences.values()) < ROUNDED.get(name, 0.01), differences


def test_differences_of_gradients_are_measured(tmp_path, capsys, monkeypatch):
    gradients = {jnp.float32: {"w": np.array([3.0, 4.0]), "bias": np.array([0.0])}}
    gradients[jnp.dtype("bfloat16")] = {"w": np.array([3.0, 4.5]), "bias": np.array([0.001])}
    monkeypatch.setattr(low_precision, "gradients", lambda name, dtype, f: gradients[dtype])
    low_precision.main(low_precision.Arguments(modules=("conv",), out=tmp_path / "figures.json"))
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    # Of the bias, which has no gradient, in units of a thousandth of the other.
    assert [row["difference"] for row in rows] == pytest.approx([0.1, 0.2])
    assert "| conv | w | 2 | 10.00 |" in capsys.readouterr().out


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
    assert y.dtype == jnp.float16
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((gradients, y)))
