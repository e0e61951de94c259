"""Response attention in blocks, which accelerators run: the formulas' values and gradients, on a CPU."""

import functools
import math
import re

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, assert_refused, random, without_annotations
from test_kernels_response import FACTORS, WINDOWS, assert_agrees, every_factor, problem, value_and_gradients

from attgconv_jax import ResponseChannelWeights, cyclic, response_attentive_group_conv
from attgconv_jax.kernels import response_attention
from attgconv_jax.kernels.response import xla
from attgconv_jax.kernels.response.blocks import Blocks
from attgconv_jax.kernels.response.correlation import Correlation, turn
from attgconv_jax.kernels.taps import Window, pad, take_pixels

WINDOW = (Window(3),) * 2
# In bytes, of one image and input group element of `problem((5, 8, 9), c=6)`: responses, patches, maps and statistics.
ONE = 4 * (42 * (6 * 4 + 3 * 6 * 9 + 4 * 4) + 10 * 6 * 4)


agrees = functools.partial(assert_agrees, implementation="blocks")


@hypothesis.settings(max_examples=14)
@hypothesis.given(
    shape=st.tuples(st.integers(1, 5), st.integers(5, 9), st.integers(5, 9)),
    channels=st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 3)),
    windows=st.tuples(WINDOWS, WINDOWS),
    attention=st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([1, 2, 5])),
    factors=st.sampled_from(FACTORS),
    dtype=st.sampled_from([jnp.float32, jnp.float64]),
    memory_budget=st.sampled_from([1, 20_000, 10**9]),
    stored=st.booleans(),
)
@pytest.mark.slow
def test_blocks_agree_with_the_formulas(shape, channels, windows, attention, factors, dtype, memory_budget, stored):
    (c, m, h), (k_a, dilation) = channels, attention
    sizes = dict(c=c, m=m, h=h, k=windows[0].size, l=windows[1].size, k_a=k_a)
    arrays = jax.tree.map(lambda x: x.astype(dtype), problem(shape, factors=factors, **sizes))
    tolerance = 1e-10 if dtype == jnp.float64 else 2e-5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xla, "KEPT", 10**9 if stored else 0)
        agrees(arrays, windows, dilation, tolerance, memory_budget=memory_budget)


@every_factor
@pytest.mark.parametrize("stored", [True, False], ids=["stored", "computed_again"])
@pytest.mark.parametrize(
    ("memory_budget", "group_elements", "chunk"),
    [(10**9, 2, 5), (4 * ONE, 2, 2), (2 * ONE, 2, 1), (ONE, 1, 1), (1, 1, 1)],
    ids=["whole", "images_that_do_not_divide", "one_image", "one_element", "less_than_the_least"],
)
@pytest.mark.default("whole-stored-channel+spatial", "images_that_do_not_divide-computed_again-channel+spatial")
@pytest.mark.default("one_element-stored-channel", "one_element-computed_again-spatial")
def test_small_blocks_agree_with_the_formulas(factors, stored, memory_budget, group_elements, chunk, monkeypatch):
    monkeypatch.setattr(xla, "KEPT", 10**9 if stored else 0)
    arrays = problem((5, 8, 9), c=6, factors=factors)
    blocks = Blocks.make(arrays[0].shape, (2, 6, 9, 4), WINDOW, 1, memory_budget)
    assert (blocks.group_elements, blocks.chunk) == (group_elements, chunk)
    agrees(arrays, WINDOW, memory_budget=memory_budget)


@pytest.mark.parametrize(
    ("sizes", "memory_budget"),
    [(dict(c=4, m=2, k=7, l=7), 20_000_000), (dict(c=1, m=32), 20_000_000), (dict(c=10, m=40, h=4), 60_000_000)],
    ids=["patches", "maps", "responses"],
)
def test_temporaries_keep_to_the_budget(sizes, memory_budget):
    arrays = problem((128, 20, 20), factors="channel+spatial", **sizes)
    arrays = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32), arrays)
    windows = (Window(sizes.get("k", 3)),) * 2
    run = functools.partial(value_and_gradients, "blocks", windows=windows, memory_budget=memory_budget)
    plan = jax.jit(functools.partial(run, compiled=lambda function: function)).lower(arrays).compile().memory_analysis()
    inputs = sum(math.prod(x.shape) * 4 for x in jax.tree.leaves(arrays))
    # Beside the blocks there are copies of the input, of the output and of their gradients. XLA for CPUs, which runs no
    # blocks unless it is told to, holds more than XLA for GPUs, in whose programs the sizes were counted.
    assert plan.temp_size_in_bytes <= 1.8 * memory_budget + 4 * inputs


@pytest.mark.parametrize("dilation", [1, 2])
def test_maps_one_by_one_give_the_logits_of_both_together(dilation):
    correlation = Correlation((5, 7), dilation)
    maps = random(2, 3, 35, 4, seed=1), random(2, 3, 35, 4, seed=2)
    filters, d_logits = random(3, 3, 2, 2, 4, seed=3), random(2, 3, 35, 4, seed=4)
    # The formula: one tap after another.
    windows = (Window(3, 1, dilation, dilation, dilation),) * 2

    def formula(maps, filters):
        planes = (pad(of.reshape(2, 3, 5, 7, 4), windows, axis=2) for of in maps)
        taps = (jnp.stack(list(take_pixels(of, windows, (5, 7), axis=2))) for of in planes)
        weights = filters.reshape(9, 2, 2, 4).swapaxes(0, 1)
        return sum(
            jnp.einsum("vhbxym,vhm->hbxym", *pair).reshape(2, 3, 35, 4) for pair in zip(taps, weights, strict=True)
        )

    expected, pull_back = jax.vjp(formula, maps, filters)
    for step in (correlation._logits_one_by_one, correlation._logits_together):
        assert_close(jax.jit(step)(maps, filters), expected)
    for step in (correlation._backward_one_by_one, correlation._backward_together):
        jax.tree.map(assert_close, jax.jit(step)(maps, filters, turn(filters), d_logits), pull_back(d_logits))


@pytest.mark.parametrize(("platform", "channels"), [("cuda", ["2"]), ("tpu", ["1", "1"])])
def test_accelerators_correlate_in_groups_that_suit_them(platform, channels):
    correlation = Correlation((5, 5), 1)
    maps, filters = (jnp.ones([2, 3, 25, 4]),) * 2, jnp.ones([3, 3, 2, 2, 4])
    program = jax.jit(correlation.logits).trace(maps, filters).lower(lowering_platforms=(platform,)).as_text()
    # The filters' shapes; of the platform's branch alone.
    assert re.findall(r", tensor<3x3x(\d+)x8xf\d+>\) -> ", program) == channels


@pytest.mark.parametrize("implementation", [None, "tiles", "blocks"])
def test_a_batch_may_be_a_symbol(implementation):
    f, *weights = problem((3, 6, 6), c=2)
    layer = functools.partial(response_attention, windows=WINDOW, memory_budget=1, implementation=implementation)

    def run(f):
        out, pull_back = jax.vjp(lambda f: layer(f, *weights), f)
        return out, pull_back(out)[0]

    (batch,) = jax.export.symbolic_shape("batch")
    shape = jax.ShapeDtypeStruct((batch, *f.shape[1:]), f.dtype)
    exported = jax.export.export(jax.jit(run), platforms=["cpu", "cuda"])(shape)
    jax.tree.map(assert_close, exported.call(f), jax.jit(run)(f))


def test_a_budget_of_few_bits_is_an_integer_like_others():
    with without_annotations():
        agrees(problem((2, 6, 6)), WINDOW, memory_budget=np.uint8(200))


def test_many_channels_are_counted_in_int32():
    # More than uint8 counts.
    agrees(problem((1, 3, 3), c=260, m=1, h=1, k=1, l=1, hidden=1), (Window(1),) * 2)


def test_gradients_of_gradients_agree():
    arrays, windows = problem((2, 5, 5), c=2, m=2, h=1, k=2, l=2), (Window(2),) * 2

    def second(implementation):
        layer = functools.partial(response_attention, windows=windows, implementation=implementation)
        gradients = jax.grad(lambda arrays: jnp.sum(jnp.sin(layer(*arrays))))
        return jax.jit(jax.grad(lambda a: sum(jnp.sum(g**2) for g in jax.tree.leaves(gradients(a)))))(arrays)

    jax.tree.map(assert_close, second("blocks"), second("reference"))


def test_filters_of_one_pixel_agree_with_the_formulas():
    agrees(problem((3, 5, 4), c=3, k=1, l=1), (Window(1),) * 2)


@pytest.mark.slow
def test_among_equal_elements_the_first_takes_the_gradient():
    f, bank, channel, spatial = problem((2, 6, 6), c=4)
    arrays = jnp.ones_like(f), jnp.broadcast_to(bank[:, :, :, :1], bank.shape), channel, spatial
    agrees(arrays, WINDOW)
    agrees((jnp.zeros_like(f), *arrays[1:]), (Window(3, 1, 1, 1),) * 2)


@every_factor
@pytest.mark.default("channel+spatial")
def test_not_a_number_is_not_lost(factors):
    f, *weights = problem((2, 6, 6), factors=factors)
    layer = functools.partial(response_attention, windows=WINDOW, implementation="blocks")
    out = jax.jit(lambda f: layer(f, *weights))(f.at[1, 3, 3, 0, 1].set(jnp.nan))
    assert np.all(np.isfinite(out[0]))
    assert np.all(np.isnan(out[1, 1:, 1:]))


@pytest.mark.slow
def test_several_seeds_are_one_batch():
    problems = [problem((3, 6, 6), seed=10 * seed) for seed in range(2)]
    together = jax.tree.map(lambda *arrays: jnp.stack(arrays), *problems)
    run = functools.partial(value_and_gradients, "blocks", windows=WINDOW, compiled=lambda function: function)
    batched = jax.jit(jax.vmap(run))(together)
    for i, arrays in enumerate(problems):
        jax.tree.map(assert_close, jax.tree.map(lambda x: x[i], batched), jax.jit(run)(arrays))  # noqa: B023 (now)


@pytest.mark.parametrize(("platform", "loops"), [("cpu", True), ("cuda", False), ("tpu", False)])
def test_accelerators_run_blocks_and_cpus_tiles(platform, loops):
    arrays = problem((64, 20, 20), c=8, m=16)
    gradients = jax.grad(lambda arrays: jnp.sum(response_attention(*arrays, WINDOW)))
    program = jax.jit(gradients).trace(arrays).lower(lowering_platforms=(platform,)).as_text()
    # Tiles are loops; of a batch that fits the budget there is one block.
    assert ("stablehlo.while" in program) == loops


def test_the_budget_reaches_the_blocks_of_a_layer():
    f, p4 = jnp.ones([8, 12, 12, 4, 10]), cyclic(4)
    channel = ResponseChannelWeights(jnp.ones([16, 5, 10, 4]), jnp.ones([16, 10, 5, 4]))

    def loops(memory_budget):
        layer = functools.partial(response_attentive_group_conv, group=p4, memory_budget=memory_budget)
        program = jax.jit(lambda f: layer(f, jnp.ones([3, 3, 4, 10, 16]), channel, None)).trace(f)
        return program.lower(lowering_platforms=("cuda",)).as_text().count("stablehlo.while")

    assert loops(10**9) == 0
    # Over the input group elements, and of each over the images.
    assert loops(1_000_000) == 2
    with assert_refused("memory_budget must be bytes, an integer of at least 1, such as 1_000_000_000, got 0"):
        loops(0)


def test_deep_networks_keep_nothing_that_costs_more_than_it_saves(monkeypatch):
    monkeypatch.setattr(xla, "LITTLE", 0)

    def keeps(memory_budget, **sizes):
        arrays = problem((4, 8, 8), **sizes)
        layer = functools.partial(response_attention, windows=WINDOW, memory_budget=memory_budget)
        kept = jax.eval_shape(lambda arrays: jax.vjp(lambda arrays: layer(*arrays), arrays)[1], arrays)
        inputs = sum(x.size for x in jax.tree.leaves(arrays))
        return sum(x.size for x in jax.tree.leaves(kept)) > inputs

    responses = 4 * 4 * 36 * 2 * 16 * 4
    assert keeps(memory_budget=4 * responses, c=16)
    # More than one block; more maps than responses.
    assert not keeps(memory_budget=responses - 1, c=16)
    assert not keeps(memory_budget=10**8, c=1)
