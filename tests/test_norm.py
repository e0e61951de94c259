"""Batch norm of images whose mean is far larger than their deviation: raw counts of a camera."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import random

from attgconv_jax import cyclic
from attgconv_jax.kernels import normalisation
from attgconv_jax.models import RotMNISTNet
from attgconv_jax.nn import ATTENTIONS
from attgconv_jax.nn.norm import BatchNorm, batch_norm


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


def derivatives_of_norm(cls):
    """Loss, statistics and gradients of a batch norm, and a product of second derivatives with a vector, in float64."""
    norm = cls(3, momentum=0.9, use_fast_variance=False, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    norm.scale[...], norm.bias[...] = jnp.asarray([1.0, 2.0, -0.5]), jnp.asarray([0.0, 1.0, 2.0])
    for statistic in (norm.mean, norm.var):
        statistic.set_value(statistic[...].astype(jnp.float64))
    graph, params, rest = nnx.split(norm, nnx.Param, ...)
    f = 1 + 3 * random(4, 5, 5, 2, 3)

    def loss(params, f):
        norm = nnx.merge(graph, params, rest, copy=True)
        y = norm(f)
        return jnp.sum(jnp.sin(y) * jnp.arange(y.size).reshape(y.shape) / y.size), nnx.state(norm, nnx.BatchStat)

    def run(params, f):
        gradients = jax.grad(loss, (0, 1), has_aux=True)
        first = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, f)
        along = jax.tree.map(jnp.cos, (params, f))
        return first, jax.jvp(lambda *arrays: gradients(*arrays)[0], (params, f), along)[1]

    return jax.jit(run)(params, f)


def test_derivatives_are_those_of_flax():
    ours, theirs = (jax.tree.leaves(derivatives_of_norm(cls)) for cls in (BatchNorm, nnx.BatchNorm))
    for mine, flax in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, flax, rtol=1e-10, atol=1e-11)


def test_what_the_kernel_does_not_know_is_left_to_flax_and_statistics_across_an_axis_are_as_there():
    f, mask = random(4, 5, 5, 2, 3).astype(jnp.float32), random(4, 5, 5, 2, 3, seed=1) > 0
    norms = [cls(3, use_fast_variance=False, rngs=nnx.Rngs(0)) for cls in (BatchNorm, nnx.BatchNorm)]
    np.testing.assert_array_equal(*(norm(f, mask=mask) for norm in norms))
    np.testing.assert_array_equal(*(norm(f, use_running_average=True) for norm in norms))
    for options in (dict(axis=3), dict(use_scale=False), dict(use_bias=False)):
        norms = [
            cls(f.shape[options.get("axis", -1)], **options, rngs=nnx.Rngs(0)) for cls in (BatchNorm, nnx.BatchNorm)
        ]
        np.testing.assert_array_equal(*(norm(f) for norm in norms))
    together = [
        jax.vmap(lambda f, cls=cls: cls(3, use_fast_variance=False, axis_name="a", rngs=nnx.Rngs(0))(f), axis_name="a")
        for cls in (BatchNorm, nnx.BatchNorm)
    ]
    np.testing.assert_allclose(*(norm(f) for norm in together), rtol=1e-6, atol=1e-6)


def test_statistics_by_blocks_are_those_of_all():
    x = jnp.asarray(counts(), jnp.float32)
    whole = normalisation._two_passes(x.astype(jnp.float64))
    for blocks in 1, 4, 48:
        mean, variance = normalisation._two_passes_by_blocks(x.reshape(blocks, -1, 3))
        np.testing.assert_allclose(mean, whole[0], rtol=1e-6)
        np.testing.assert_allclose(variance, whole[1], rtol=1e-4)


def test_what_is_added_to_blocks_has_the_derivatives_of_what_is_added():
    arrays = random(4, 6, 3), random(4, 6, 3, seed=1), random(3, seed=2), random(3, seed=3)
    outputs = [jax.vjp(add, *arrays) for add in (normalisation._added, normalisation._added_to_blocks)]
    (y, pull), (y_blocks, pull_blocks) = outputs
    np.testing.assert_allclose(y_blocks, y, rtol=1e-14)
    for got, wanted in zip(pull_blocks(jnp.cos(y)), pull(jnp.cos(y)), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 3), (16, 12, 12, 4, 3), (700, 3), (0, 4, 3)], ids=str)
def test_blocks_hold_all_positions(shape):
    x = jnp.arange(np.prod(shape), dtype=jnp.float32).reshape(shape)
    blocks = normalisation._in_blocks(x)
    assert blocks.ndim >= 3
    np.testing.assert_array_equal(blocks.reshape(shape), x)


def test_an_empty_batch_and_one_of_any_length_are_normalised():
    graphdef, state = nnx.split(BatchNorm(3, rngs=nnx.Rngs(0)))

    def normalise(f):
        return nnx.merge(graphdef, state, copy=True)(f)

    assert normalise(jnp.zeros([0, 4, 4, 2, 3], jnp.float32)).shape == (0, 4, 4, 2, 3)
    (batch,) = jax.export.symbolic_shape("b")
    exported = jax.export.export(jax.jit(normalise))(jax.ShapeDtypeStruct((batch, 4, 4, 2, 3), jnp.float32))
    f = random(5, 4, 4, 2, 3).astype(jnp.float32)
    np.testing.assert_allclose(exported.call(f), normalise(f), atol=1e-5)


@pytest.mark.parametrize(("platform", "in_blocks"), [("cpu", False), ("tpu", False), ("cuda", True)])
def test_feature_maps_keep_their_shape_but_on_cuda(platform, in_blocks):
    def loss(x):
        return jnp.sum(
            jnp.sin(normalisation.normalised(x, jnp.ones(8, jnp.float32), jnp.zeros(8, jnp.float32), 1e-5)[0])
        )

    x = jax.ShapeDtypeStruct((4, 16, 16, 4, 8), jnp.float32)
    text = jax.jit(jax.grad(loss)).trace(x).lower(lowering_platforms=(platform,)).as_text()
    reshaped = re.findall(r"stablehlo.reshape .*\(tensor<4x16x16x4x8xf32>\) -> ", text)
    assert bool(reshaped) == in_blocks
