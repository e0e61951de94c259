"""Convolutions of channels one by one, of images a few at a time, and what memory that takes on a CPU."""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from compilation import optimised
from helpers import assert_close, assert_refused, primitives, random

from attgconv_jax.kernels import (
    ChannelBank,
    by_images,
    channelwise_conv,
    chunks,
    conv,
    depthwise_conv,
    response_attention,
)
from attgconv_jax.kernels.taps import Window
from attgconv_jax.lie import dseparable_conv, separable_conv

WINDOWS = (Window(3, 1, 1, 0), Window(2, 2, 0, 1))
IMPLEMENTATIONS = ["rows", "fourier", "xla", None]


def with_gradients(function, f, *weights, d_out):
    out, pullback = jax.vjp(function, f, *weights)
    return out, *pullback(d_out)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jitted"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_every_channel_has_a_convolution_of_its_own(implementation, compiled):
    f, w = random(3, 5, 6, 2, 3), random(3, 2, 2, 4, 3, seed=1)
    d_out = random(3, 4, 3, 4, 3, seed=2)
    geometry = [window.stride for window in WINDOWS], [w_[2:4] for w_ in WINDOWS], [w_.dilation for w_ in WINDOWS]
    channels = [
        (
            oracles.dense_conv(*map(np.asarray, (f[..., c], w[..., c])), *geometry),
            *oracles.conv_gradients(
                oracles.dense_conv, *map(np.asarray, (f[..., c], w[..., c], d_out[..., c])), *geometry
            ),
        )
        for c in range(3)
    ]
    function = functools.partial(channelwise_conv, windows=WINDOWS, implementation=implementation)
    run = functools.partial(with_gradients, function, d_out=d_out)
    for actual, *expected in zip((jax.jit(run) if compiled else run)(f, w), *channels, strict=True):
        assert_close(actual, np.stack(expected, -1), 1e-11)


def test_channels_one_by_one_are_what_runs_on_a_cpu():
    f, w = random(2, 6, 6, 2, 3), random(3, 3, 2, 2, 3, seed=1)
    windows = (Window(3, 1, 1, 1),) * 2
    named = (functools.partial(channelwise_conv, windows=windows, implementation=name) for name in ("rows", "xla"))
    assert ["scan" in str(jax.make_jaxpr(function)(f, w)) for function in named] == [True, False]
    cpu = jax.devices("cpu")[0]
    default, named = (channelwise_conv(*jax.device_put((f, w), cpu), windows, name) for name in (None, "rows"))
    np.testing.assert_array_equal(default, named)


def test_channels_of_other_ranks_and_types_and_unknown_implementations_are_refused():
    f, w = random(2, 6, 6, 2, 3), random(3, 3, 2, 2, 3, seed=1)
    with assert_refused("images and filter must have 5 and 5 axes"):
        channelwise_conv(f[0], w, WINDOWS)
    with assert_refused("images and filter must have one floating dtype"):
        channelwise_conv(f, w.astype(jnp.float32), WINDOWS)
    with assert_refused('implementation must be None or one of "rows", "fourier", "xla", got \'shifts\''):
        channelwise_conv(f, w, WINDOWS, "shifts")
    with assert_refused("f has axes h_in and c (2, 3), but w is made for (2, 2)"):
        channelwise_conv(f, w[..., :2], WINDOWS)


def two_steps(f, a, b):
    """Not linear in between, so that the first step is needed for the gradient of the second."""
    return jnp.tanh(f @ a) @ b


@pytest.mark.parametrize("fewest", [1, 2, 8])
@pytest.mark.parametrize("batch", [1, 9, 17])
def test_a_few_images_at_a_time_are_all_of_them_at_once(batch, fewest):
    arrays = random(batch, 4, 3), random(3, 6, seed=1), random(6, 2, seed=2)
    d_out = random(batch, 4, 2, seed=3)
    expected = with_gradients(two_steps, *arrays, d_out=d_out)
    in_steps = functools.partial(by_images, two_steps, 24)
    with mock.patch("attgconv_jax.kernels.image_chunks.FEWEST", fewest), mock.patch.object(chunks, "CHUNK_BYTES", 1):
        run = functools.partial(with_gradients, in_steps, d_out=d_out)
        for found in (run(*arrays), jax.jit(run)(*arrays)):
            for actual, wanted in zip(found, expected, strict=True):
                assert_close(actual, wanted, 1e-12)


def test_gradients_of_gradients_of_a_few_images_at_a_time_are_those_of_all():
    arrays = random(5, 4, 3), random(3, 6, seed=1), random(6, 2, seed=2)

    def twice(function):
        def first(*arrays):
            return jax.grad(lambda *arrays: jnp.sum(function(*arrays) ** 2), argnums=(0, 1, 2))(*arrays)

        return jax.grad(lambda *arrays: sum(jnp.sum(x**2) for x in first(*arrays)), argnums=(0, 1, 2))(*arrays)

    with mock.patch("attgconv_jax.kernels.image_chunks.FEWEST", 2), mock.patch.object(chunks, "CHUNK_BYTES", 1):
        found = jax.jit(lambda: twice(functools.partial(by_images, two_steps, 24)))()
    for actual, wanted in zip(found, twice(two_steps), strict=True):
        assert_close(actual, wanted, 1e-11)


def test_bfloat16_gradients_of_weights_are_added_in_float32():
    """One chunk has a large gradient, all others gradients that bfloat16 would lose beside it."""
    f = jnp.ones((257, 1, 1), jnp.bfloat16)
    d_out = f.at[0].set(256)
    w = jnp.ones((1, 1), jnp.bfloat16)
    with mock.patch("attgconv_jax.kernels.image_chunks.FEWEST", 1), mock.patch.object(chunks, "CHUNK_BYTES", 1):
        d_w = jax.vjp(lambda w: by_images(jnp.matmul, 1, f, w), w)[1](d_out)[0]
    assert d_w.dtype == jnp.bfloat16
    assert float(d_w[0, 0]) == 512


def planned_bytes(function, *arrays):
    return optimised(function).lower(*arrays).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize(
    ("convolution", "shapes"),
    [(separable_conv, [(2, 4, 2, 64), (5, 5, 2, 64)]), (dseparable_conv, [(4, 64), (5, 5, 2, 2, 64)])],
    ids=["separable", "dseparable"],
)
def test_what_a_convolution_in_two_steps_has_between_them_is_never_held_whole(convolution, shapes):
    f = random(128, 8, 8, 2, 4).astype(jnp.float32)
    kernels = [random(*shape, seed=seed).astype(jnp.float32) for seed, shape in enumerate(shapes)]
    d_out = jnp.ones((128, 8, 8, 2, 64), jnp.float32)
    with mock.patch.object(chunks, "CHUNK_BYTES", 100_000):
        planned = planned_bytes(lambda d_out, *arrays: jax.vjp(convolution, *arrays)[1](d_out), d_out, f, *kernels)
        # In a network the forward pass runs too: what it had is not to be kept for the gradient either.
        loss = jax.grad(lambda f, *kernels: jnp.sum(jnp.sin(convolution(f, *kernels))), argnums=(0, 1, 2))
        planned_with_loss = planned_bytes(loss, f, *kernels)
    assert planned < 2 * d_out.nbytes
    assert planned_with_loss < 3 * d_out.nbytes


def test_layers_that_scan_do_not_hold_their_outputs_before_their_turn():
    f = random(64, 16, 16, 32).astype(jnp.float32)
    filters = [random(3, 3, 32, seed=i).astype(jnp.float32) for i in range(8)]

    def chain(f):
        for w in filters:
            f = depthwise_conv(f, w, (Window(3, 1, 1, 1),) * 2)
        return f

    with mock.patch.object(chunks, "CHUNK_BYTES", 100_000):
        assert planned_bytes(chain, f) < 4 * f.nbytes


def test_kernels_over_devices_are_mapped_like_any_function():
    """Under `jax.shard_map` outputs vary over the mesh as their weights do, though the images do not."""
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    windows = (Window(3, 1, 1, 1),) * 2
    f, w = random(9, 6, 5, 2, 4), random(3, 3, 2, 4, seed=1)
    cases = [
        (lambda f, w: depthwise_conv(f[..., 0, :], w[:, :, 0], windows, "shifts"), w),
        (lambda f, w: channelwise_conv(f[..., :1], w[..., None], windows, "rows"), w),
        (lambda f, w: by_images(lambda f, w: jnp.tanh(f @ w[0, 0].T) @ w[0, 1], 1, f, w), w),
    ]
    everywhere, split = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec(None, None, None, "d")
    with mock.patch.object(chunks, "CHUNK_BYTES", 1):
        for function, weights in cases:
            mapped = jax.shard_map(
                lambda f, w, function=function: jnp.sum(function(f, w))[None],
                mesh=mesh,
                in_specs=(everywhere, split),
                out_specs=jax.sharding.PartitionSpec("d"),
            )
            assert_close(jax.jit(mapped)(f, weights)[0], jnp.sum(function(f, weights)), 1e-11)


@pytest.mark.parametrize("name", ["conv", "depthwise", "by images", "response"])
def test_gradients_over_devices_are_those_of_one(name):
    """Under `jax.shard_map` images vary over the mesh and weights do not: their gradient is the sum of the devices'."""
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    windows = (Window(3, 1, 1, 1),) * 2
    f, w, spatial = random(4, 6, 5, 2, 4), random(3, 3, 2, 4, 3, seed=1), random(3, 3, 2, 2, 3, seed=2)
    bank = ChannelBank(random(2, 3, 2, 4), random(2, 3, 4, 2))
    function, weights = {
        "conv": (lambda f, w: conv(f[..., 0, :], w[:, :, 0], windows), w),
        "depthwise": (lambda f, w: depthwise_conv(f[..., 0, :], w[:, :, 0, :, 0], windows), w),
        "by images": (lambda f, w: by_images(lambda f, w: jnp.tanh(f @ w[0, 0, 0]), 1, f, w), w),
        "response": (lambda f, w: response_attention(f, *w, windows), (w, bank, spatial)),
    }[name]

    def loss(f, weights):
        return jnp.sum(jnp.sin(function(f, weights)))

    with mock.patch.object(chunks, "CHUNK_BYTES", 1), mock.patch("attgconv_jax.kernels.image_chunks.FEWEST", 1):
        images, everywhere = jax.sharding.PartitionSpec("d"), jax.sharding.PartitionSpec()
        mapped = jax.shard_map(
            lambda f, weights: jax.lax.psum(loss(f, weights), "d"),
            mesh=mesh,
            in_specs=(images, everywhere),
            out_specs=everywhere,
        )
        jax.tree.map(assert_close, *(jax.jit(jax.grad(each, argnums=(0, 1)))(f, weights) for each in (mapped, loss)))


def test_channels_of_a_batch_sharded_over_an_explicit_mesh_have_gradients():
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Explicit,))
    windows = (Window(3, 1, 1, 1),) * 2
    f, w = random(4, 6, 5, 2, 3), random(3, 3, 2, 2, 3, seed=1)

    def gradients(f, w):
        return jax.grad(lambda f, w: jnp.sum(channelwise_conv(f, w, windows) ** 2), argnums=(0, 1))(f, w)

    expected = jax.jit(gradients)(f, w)
    with jax.set_mesh(mesh):
        batch = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))
        whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        for actual, alone in zip(
            jax.jit(gradients)(jax.device_put(f, batch), jax.device_put(w, whole)), expected, strict=True
        ):
            assert_close(actual, alone)


def test_mapped_over_further_axes_they_are_loops():
    windows = (Window(3, 1, 1, 1),) * 2
    f, w = random(2, 9, 6, 5, 2, 3), random(3, 3, 2, 2, 3, seed=1)
    in_steps = functools.partial(by_images, lambda f, w: f @ w, 1)
    with mock.patch.object(chunks, "CHUNK_BYTES", 1):
        for function, weights in ((lambda f, w: channelwise_conv(f, w, windows), w), (in_steps, random(3, 4, seed=2))):
            mapped = jax.jit(jax.vmap(function, (0, None)))(f, weights)
            assert_close(mapped, jnp.stack([function(images, weights) for images in f]), 1e-11)


def test_no_number_is_made_that_the_images_do_not_have():
    f = random(20, 6, 5, 2).at[0, 0, 0, 0].set(jnp.inf)
    with jax.debug_nans(True), mock.patch.object(chunks, "CHUNK_BYTES", 1):
        out = depthwise_conv(f, jnp.ones((3, 3, 2)), (Window(3, 1, 1, 1),) * 2)
    assert jnp.sum(jnp.isinf(out)) == 4


@pytest.mark.parametrize(
    ("convolution", "kernels", "message"),
    [
        (dseparable_conv, [(4, 4), (3, 5, 2, 2, 4)], "kernel must be [k, k, h_in, h, 4]"),
        (separable_conv, [(2, 4, 2, 4), (3, 5, 2, 4)], "spatial_kernel must be [k, k, 2, 4]"),
    ],
)
def test_kernels_that_are_not_square_are_refused(convolution, kernels, message):
    with assert_refused(message):
        convolution(random(2, 6, 6, 2, 4), *(random(*shape, seed=i) for i, shape in enumerate(kernels)))


def test_a_depthwise_sum_is_a_loop_of_its_own_however_few_the_images_are():
    """Fused with what reads it, it would be computed once for every reader."""
    f, w, windows = random(2, 6, 5, 3), random(3, 3, 3, seed=1), (Window(3, 1, 1, 1),) * 2
    run = functools.partial(with_gradients, lambda f, w: depthwise_conv(f, w, windows, "shifts"), d_out=f)
    # One for the images, one for their gradient, and one for that of the filter.
    assert primitives(run, f, w)["scan"] == 3
