"""Response attention's tiles against its formulas: values, gradients, what it takes and what it refuses."""

import functools
import os
import subprocess
import sys

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import optimised
from helpers import assert_close, assert_refused, random, relative_error

from attgconv_jax.kernels import ChannelBank, response, response_attention, response_attention_maps
from attgconv_jax.kernels.response import reference, tiles, xla
from attgconv_jax.kernels.taps import Window

FACTORS = ("channel", "spatial", "channel+spatial")
every_factor = pytest.mark.parametrize("factors", FACTORS)


WINDOWS = st.builds(
    Window, st.integers(1, 3), st.integers(1, 2), st.integers(0, 2), st.integers(0, 2), st.integers(1, 2)
)


def problem(shape, c=3, m=4, h=2, k=3, l=3, hidden=2, k_a=3, factors="channel+spatial", seed=0):
    """Random input, filters and weights of one layer; `shape` is `[batch, x, y]`."""
    f, bank = random(*shape, h, c, seed=seed), random(k, l, h, c, m, seed=seed + 1) / k
    channel = ChannelBank(random(h, m, hidden, c, seed=seed + 2), random(h, m, c, hidden, seed=seed + 3))
    spatial = random(k_a, k_a, 2, h, m, seed=seed + 4) / k_a
    return f, bank, channel if "channel" in factors else None, spatial if "spatial" in factors else None


def value_and_gradients(implementation, arrays, windows, dilation=1, compiled=optimised, **options):
    """The layer's output, and the gradients of a weighted sum of it by all its arrays."""

    def run(arrays):
        layer = functools.partial(response_attention, windows=windows, dilation=dilation, implementation=implementation)
        layer = functools.partial(layer, **options)
        out, pull_back = jax.vjp(layer, *arrays)
        return out, pull_back(jnp.cos(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape))

    return compiled(run)(arrays)


def assert_agrees(arrays, windows, dilation=1, tolerance=1e-10, implementation="xla", **options):
    expected = value_and_gradients("reference", arrays, windows, dilation, compiled=jax.jit)
    actual = value_and_gradients(implementation, arrays, windows, dilation, **options)
    jax.tree.map(functools.partial(assert_close, tolerance=tolerance), actual, expected)


@hypothesis.settings(max_examples=14)
@hypothesis.given(
    shape=st.tuples(st.integers(1, 5), st.integers(5, 9), st.integers(5, 9)),
    channels=st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 3)),
    windows=st.tuples(WINDOWS, WINDOWS),
    attention=st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([1, 2, 5])),
    factors=st.sampled_from(FACTORS),
    dtype=st.sampled_from([jnp.float32, jnp.float64]),
    stored=st.booleans(),
)
@pytest.mark.slow
def test_tiles_agree_with_the_formulas(shape, channels, windows, attention, factors, dtype, stored):
    (c, m, h), (k_a, dilation) = channels, attention
    sizes = dict(c=c, m=m, h=h, k=windows[0].size, l=windows[1].size, k_a=k_a)
    arrays = jax.tree.map(lambda x: x.astype(dtype), problem(shape, factors=factors, **sizes))
    tolerance = 1e-10 if dtype == jnp.float64 else 2e-5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xla, "KEPT", 10**9 if stored else 0)
        assert_agrees(arrays, windows, dilation, tolerance)


@every_factor
@pytest.mark.parametrize("stored", [True, False], ids=["stored", "computed_again"])
def test_small_tiles_agree_with_the_formulas(factors, stored, monkeypatch):
    # Several chunks that do not divide the batch, several blocks of channels, and of positions that overlap.
    monkeypatch.setattr(xla, "KEPT", 10**9 if stored else 0)
    monkeypatch.setattr(xla, "TILING", xla.Tiling(maps=1500, responses=1800))
    arrays = problem((5, 8, 9), c=6, factors=factors)
    cut = tiles.Tiles(arrays[0].shape, arrays[1].shape, None, (Window(3),) * 2, 1, xla.TILING)
    assert (cut.chunk, cut.tile_images, cut.tile_channels) == (2, 1, 2)
    assert 42 % cut.positions
    assert cut.positions < 42
    assert_agrees(arrays, (Window(3),) * 2)


@every_factor
@pytest.mark.default("channel")
def test_gradients_agree_without_a_compiler(factors):
    arrays = problem((2, 5, 5), c=2, m=2, h=1, k=2, l=2, factors=factors)
    windows = (Window(2),) * 2
    eager = value_and_gradients("xla", arrays, windows, compiled=lambda function: function)
    jax.tree.map(assert_close, eager, value_and_gradients("reference", arrays, windows, compiled=jax.jit))


@every_factor
def test_gradients_are_finite_differences(factors):
    arrays, windows = problem((2, 6, 5), factors=factors), (Window(3),) * 2
    weights = random(2, 4, 3, 4, seed=9)
    loss = jax.jit(lambda arrays: jnp.sum(weights * response_attention(*arrays, windows)))
    gradients = jax.jit(jax.grad(loss))(arrays)
    leaves, structure = jax.tree.flatten(arrays)
    for i, gradient in enumerate(jax.tree.leaves(gradients)):
        step = 1e-6 * random(*leaves[i].shape, seed=20 + i)
        moved = [structure.unflatten([*leaves[:i], leaves[i] + s * step, *leaves[i + 1 :]]) for s in (1, -1)]
        difference = float(loss(moved[0]) - loss(moved[1]))
        assert difference == pytest.approx(2 * float(jnp.sum(gradient * step)), rel=1e-6)


@every_factor
@pytest.mark.default("channel+spatial")
def test_gradients_of_gradients_agree(factors):
    arrays, windows = problem((2, 5, 5), c=2, m=2, h=1, k=2, l=2, factors=factors), (Window(2),) * 2

    def second(implementation, compiled):
        layer = functools.partial(response_attention, windows=windows, implementation=implementation)
        gradients = jax.grad(lambda arrays: jnp.sum(jnp.sin(layer(*arrays))))
        return compiled(jax.grad(lambda a: sum(jnp.sum(g**2) for g in jax.tree.leaves(gradients(a)))))(arrays)

    jax.tree.map(assert_close, second("xla", jax.jit), second("reference", jax.jit))


@pytest.mark.parametrize(("c", "k"), [(2, 2), (15, 3)])
@pytest.mark.default("2-2")
def test_gradients_may_be_differentiated_forwards(c, k):
    arrays, windows = problem((1, 4, 4), c=c, m=2, h=1, k=k, l=k), (Window(k),) * 2
    directions = jax.tree.map(jnp.cos, arrays)

    def gradients(implementation):
        layer = functools.partial(response_attention, windows=windows, implementation=implementation)
        return jax.grad(lambda arrays: jnp.sum(jnp.sin(layer(*arrays))))

    forwards = jax.jit(lambda arrays: jax.jvp(gradients("xla"), (arrays,), (directions,))[1])

    def along(arrays):
        products = jax.tree.map(jnp.vdot, gradients("reference")(arrays), directions)
        return sum(jax.tree.leaves(products))

    # The matrix of second derivatives is symmetric.
    jax.tree.map(assert_close, forwards(arrays), jax.jit(jax.grad(along))(arrays))


@pytest.mark.parametrize("c", [15, 16])
@pytest.mark.parametrize("factors", ["spatial", "channel+spatial"])
def test_many_channels_are_compared_in_blocks(c, factors):
    # One channel remains of 15, none of 16.
    assert_agrees(problem((2, 4, 4), c=c, m=2, h=1, factors=factors), (Window(3),) * 2)


def test_among_equal_elements_the_first_takes_the_gradient():
    f, bank, channel, spatial = problem((2, 6, 6), c=4)
    # Where the input is constant all positions are maxima at once; where it is zero all channels too.
    arrays = jnp.ones_like(f), jnp.broadcast_to(bank[:, :, :, :1], bank.shape), channel, spatial
    assert_agrees(arrays, (Window(3),) * 2)
    assert_agrees((jnp.zeros_like(f), *arrays[1:]), (Window(3, 1, 1, 1),) * 2)


@pytest.mark.parametrize("c", [4, 16])
def test_of_equal_channels_only_the_first_has_a_gradient_of_the_maximum(c):
    f, bank, _, spatial = problem((2, 6, 6), c=c)
    arrays = jnp.ones_like(f), jnp.broadcast_to(bank[:, :, :, :1], bank.shape), None, spatial.at[:, :, 0].set(0)
    d_f = value_and_gradients("xla", arrays, (Window(3),) * 2)[1][0]
    first, others = d_f[..., 0], d_f[..., 1:]
    assert_close(others, jnp.broadcast_to(others[..., :1], others.shape))
    assert relative_error(first, others[..., 0]) > 1e-3


@every_factor
def test_not_a_number_is_not_lost(factors):
    f, *weights = problem((2, 6, 6), factors=factors)
    out = jax.jit(lambda f: response_attention(f, *weights, (Window(3),) * 2))(f.at[1, 3, 3, 0, 1].set(jnp.nan))
    assert np.all(np.isfinite(out[0]))
    assert np.all(np.isnan(out[1, 1:, 1:]))


@every_factor
def test_maps_are_those_of_the_formulas(factors):
    arrays = problem((3, 6, 7), factors=factors)
    for dilation in (1, 2):
        maps = [
            jax.jit(
                functools.partial(
                    response_attention_maps, windows=(Window(3),) * 2, dilation=dilation, implementation=implementation
                )
            )(*arrays)
            for implementation in ("xla", "reference")
        ]
        assert [alpha is not None for alpha in maps[0]] == ["channel" in factors, "spatial" in factors]
        jax.tree.map(assert_close, *maps)


def test_maps_have_the_gradients_of_the_formulas():
    arrays = problem((3, 6, 7), c=4)

    def gradients(implementation, compiled):
        def loss(arrays):
            maps = response_attention_maps(*arrays, (Window(3),) * 2, implementation=implementation)
            return sum(jnp.sum(jnp.cos(alpha) ** 3) for alpha in maps if alpha is not None)

        return compiled(jax.grad(loss))(arrays)

    jax.tree.map(assert_close, gradients("xla", jax.jit), gradients("reference", jax.jit))


def test_bfloat16_is_computed_in_float32():
    arrays = jax.tree.map(lambda x: x.astype(jnp.bfloat16), problem((2, 6, 6)))
    windows = (Window(3),) * 2
    out, gradients = value_and_gradients("xla", arrays, windows)
    assert {leaf.dtype for leaf in jax.tree.leaves((out, gradients))} == {jnp.dtype(jnp.bfloat16)}
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), arrays)
    # One rounding, of the result; what comes back to the output was rounded too.
    layer = functools.partial(response_attention, windows=windows)
    exact, pull_back = jax.vjp(layer, *wide)
    np.testing.assert_array_equal(out, exact.astype(jnp.bfloat16))
    weights = jnp.cos(jnp.arange(out.size, dtype=jnp.bfloat16)).reshape(out.shape)
    for actual, expected in zip(
        jax.tree.leaves(gradients), jax.tree.leaves(pull_back(weights.astype(jnp.float32))), strict=True
    ):
        assert relative_error(actual.astype(jnp.float32), expected) < 0.005


@pytest.mark.slow
def test_several_seeds_are_one_batch():
    problems = [problem((3, 6, 6), seed=10 * seed) for seed in range(2)]
    together = jax.tree.map(lambda *arrays: jnp.stack(arrays), *problems)
    run = functools.partial(value_and_gradients, "xla", windows=(Window(3),) * 2, compiled=lambda function: function)
    batched = jax.jit(jax.vmap(run))(together)
    for i, arrays in enumerate(problems):
        jax.tree.map(assert_close, jax.tree.map(lambda x: x[i], batched), jax.jit(run)(arrays))  # noqa: B023 (now)


@pytest.mark.parametrize("function", [response_attention, response_attention_maps])
def test_unknown_implementation_is_refused_with_the_known_ones(function):
    with assert_refused('implementation must be None or one of "xla", "tiles", "blocks", "reference", got \'cuda\''):
        function(*problem((1, 4, 4)), (Window(3),) * 2, implementation="cuda")


def test_an_implementation_that_declines_passes_to_the_next(monkeypatch):
    arrays, windows = problem((2, 5, 5)), (Window(3),) * 2

    def decline(*arguments, **options):
        raise NotImplementedError("not today")

    declined = response._IMPLEMENTATIONS["xla"]._replace(attended_responses=decline)
    monkeypatch.setitem(response._IMPLEMENTATIONS, "xla", declined)
    with pytest.warns(UserWarning, match="not computed by xla: not today; the next may take far more memory"):
        actual = response_attention(*arrays, windows)
    assert_close(actual, reference.attended_responses(*arrays, windows, 1), 0)
    with assert_refused("no implementation takes these arguments; xla: not today"):
        response_attention(*arrays, windows, implementation="xla")


def test_patches_that_int32_cannot_count_are_declined():
    shapes = (1, 4096, 4096, 1, 16), (3, 3, 1, 16, 1), (1, 1, 1, 16), (1, 1, 16, 1)
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]

    def run(f, bank, w1, w2):
        windows = (Window(3, 1, 1, 1),) * 2
        return response_attention(f, bank, ChannelBank(w1, w2), None, windows, implementation="xla")

    with assert_refused("xla: the patches of one image are 2^31 numbers or more"):
        jax.eval_shape(run, *arrays)


def test_the_reference_changes_with_every_array():
    arrays, windows = problem((2, 5, 5)), (Window(3),) * 2
    out = reference.attended_responses(*arrays, windows, 1)
    leaves, structure = jax.tree.flatten(arrays)
    for i, leaf in enumerate(leaves):
        changed = structure.unflatten([*leaves[:i], leaf[::-1], *leaves[i + 1 :]])
        assert relative_error(reference.attended_responses(*changed, windows, 1), out) > 1e-3


SHARDED = """
import functools
import jax, jax.numpy as jnp, numpy as np
from attgconv_jax.kernels import ChannelBank, response_attention
from attgconv_jax.kernels.taps import Window

generator = np.random.default_rng(0)
shapes = (4, 6, 6, 2, 3), (3, 3, 2, 3, 4), (2, 4, 2, 3), (2, 4, 3, 2), (3, 3, 2, 2, 4)
f, bank, w1, w2, spatial = (jnp.asarray(generator.normal(size=shape), jnp.float32) for shape in shapes)
arrays = f, bank, ChannelBank(w1, w2), spatial
loss = lambda arrays, **options: jnp.sum(response_attention(*arrays, (Window(3),) * 2, **options) ** 2)
expected = jax.jit(jax.value_and_grad(loss))(arrays)
small_blocks = functools.partial(loss, implementation="blocks", memory_budget=1)
types = jax.sharding.AxisType
for kind, loss in ((types.Auto, loss), (types.Explicit, loss), (types.Explicit, small_blocks)):
    with jax.set_mesh(jax.make_mesh((2,), ("data",), axis_types=(kind,))) as mesh:
        spread = jax.device_put(f, jax.NamedSharding(jax.sharding.get_mesh(), jax.P("data")))
        actual = jax.device_get(jax.jit(jax.value_and_grad(loss))((spread, *arrays[1:])))
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())
print("equal")
"""


@pytest.mark.slow
def test_images_may_be_spread_over_devices():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(
        [sys.executable, "-c", SHARDED], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert (run.stdout, run.returncode) == ("equal\n", 0), run.stderr
