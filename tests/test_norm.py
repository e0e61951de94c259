"""Batch norm of images whose mean is far larger than their deviation: raw counts of a camera."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attgconv_jax import cyclic
from attgconv_jax.models import RotMNISTNet
from attgconv_jax.nn import ATTENTIONS
from attgconv_jax.nn.norm import batch_norm


def counts(seed=0):
    """16-bit counts, mean 10,000 and deviation 10, of three channels a little apart."""
    normal = np.random.default_rng(seed).standard_normal((16, 12, 12, 1, 3))
    return np.rint(1e4 + np.arange(3) + 10 * normal).astype(np.uint16)


def standardised(f, epsilon=2e-5):
    """What batch norm is, in float64."""
    f = f.astype(np.float64)
    axes = tuple(range(f.ndim - 1))
    return (f - f.mean(axes)) / np.sqrt(f.var(axes) + epsilon)


def test_deviation_is_one_in_training_and_evaluation():
    norm = batch_norm(3, None, jnp.float32, nnx.Rngs(0))
    step = nnx.jit(lambda norm, f: norm(f))
    for seed in range(120):
        trained = step(norm, jnp.asarray(counts(seed), jnp.float32))
    np.testing.assert_allclose(np.std(trained, axis=(0, 1, 2, 3)), 1, atol=0.01)
    np.testing.assert_allclose(trained, standardised(counts(119)), atol=1e-3)
    norm.eval()
    # Of many images, for 16 have deviations of their own.
    evaluated = norm(jnp.asarray(np.concatenate([counts(seed) for seed in range(60)]), jnp.float32))
    np.testing.assert_allclose(np.std(evaluated, axis=(0, 1, 2, 3)), 1, atol=0.01)
    np.testing.assert_allclose(np.mean(evaluated, axis=(0, 1, 2, 3)), 0, atol=0.02)


def test_deviation_is_one_in_bfloat16():
    norm = batch_norm(3, jnp.bfloat16, jnp.float32, nnx.Rngs(0))
    # bfloat16 has 10,048 next to 9,984; of 100 the next is 100.5.
    f = jnp.asarray(counts() - 9900.0, jnp.bfloat16)
    y = norm(f)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.std(y.astype(np.float64), axis=(0, 1, 2, 3)), 1, atol=0.01)
    wanted = 0.9 + 0.1 * np.var(f.astype(np.float64), axis=(0, 1, 2, 3))
    np.testing.assert_allclose(norm.var[...], wanted, rtol=1e-5)


@pytest.mark.parametrize("compiled", [jax.jit, lambda function: function], ids=["jitted", "eager"])
def test_gradients_are_those_of_float64(compiled):
    weights = np.random.default_rng(1).standard_normal(counts().shape)

    def loss(f, norm):
        return jnp.sum(jnp.asarray(weights, f.dtype) * norm(f) ** 2)

    gradients = {}
    for dtype in (jnp.float32, jnp.float64):
        graphdef, state = nnx.split(batch_norm(3, None, dtype, nnx.Rngs(0)))

        def of_images(f, graphdef=graphdef, state=state):
            return loss(f, nnx.merge(graphdef, state, copy=True))

        gradients[dtype] = np.asarray(compiled(jax.grad(of_images))(jnp.asarray(counts(), dtype)))
    scale = np.abs(gradients[jnp.float64]).max()
    assert np.abs(gradients[jnp.float32] - gradients[jnp.float64]).max() <= 1e-3 * scale


@pytest.mark.parametrize("attention", ["bam", "srm", "sk"])
def test_every_batch_norm_of_the_library_is_exact(attention):
    if attention == "sk":
        network = nnx.eval_shape(lambda: RotMNISTNet(cyclic(4), "sk", features=2, rngs=nnx.Rngs(0)))
    else:
        network = nnx.eval_shape(lambda: ATTENTIONS[attention](4, cyclic(4), rngs=nnx.Rngs(0)))
    norms = [module for _, module in nnx.iter_graph(network) if isinstance(module, nnx.BatchNorm)]
    assert norms and not any(norm.use_fast_variance for norm in norms)
