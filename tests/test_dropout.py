"""The dropout module: two modes, a fresh mask a call, and the same mask forward and backward."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_refused, primitives

from attgconv_jax import cyclic
from attgconv_jax.models import RotMNISTNet
from attgconv_jax.nn import Dropout


def ones():
    return jnp.ones([4, 16, 16, 4, 8])


def test_training_drops_a_fraction_and_scales_the_rest():
    dropped = np.asarray(Dropout(0.3, rngs=nnx.Rngs(0))(ones()))
    assert np.unique(dropped) == pytest.approx([0, 1 / 0.7])
    assert np.mean(dropped == 0) == pytest.approx(0.3, abs=0.02)


def test_evaluation_passes_the_input_through():
    layer = Dropout(0.5, rngs=nnx.Rngs(0))
    layer.eval()
    assert np.array_equal(layer(ones()), ones())
    layer.train()
    assert not np.array_equal(layer(ones()), ones())
    assert np.array_equal(Dropout(0.5, deterministic=True, rngs=nnx.Rngs(0))(ones()), ones())


def test_a_view_has_its_own_mode_and_leaves_the_layer_alone():
    layer = Dropout(0.5, rngs=nnx.Rngs(0))
    view = nnx.view(layer, deterministic=True)
    assert np.array_equal(view(ones()), ones())
    assert not np.array_equal(layer(ones()), ones())


def test_rate_zero_drops_nothing_and_draws_no_key():
    layer = Dropout(0.0, rngs=nnx.Rngs(0))
    assert np.array_equal(layer(ones()), ones())
    assert layer.rngs.count[...] == 0


def test_every_call_and_every_layer_has_its_own_mask():
    rngs = nnx.Rngs(0)
    first, second = Dropout(0.5, rngs=rngs), Dropout(0.5, rngs=rngs)
    masks = [np.asarray(layer(ones())) for layer in (first, first, second, second)]
    for i, mask in enumerate(masks):
        for other in masks[:i]:
            assert np.mean(mask == other) == pytest.approx(0.5, abs=0.03)


def test_a_layer_does_not_notice_how_often_another_is_called():
    rngs = nnx.Rngs(0)
    _, second = Dropout(0.5, rngs=rngs), Dropout(0.5, rngs=rngs)
    expected = second(ones())
    rngs = nnx.Rngs(0)
    first, second = Dropout(0.5, rngs=rngs), Dropout(0.5, rngs=rngs)
    first(ones())
    assert np.array_equal(second(ones()), expected)


def test_the_seed_decides_the_masks():
    first, again, other = (Dropout(0.5, rngs=nnx.Rngs(dropout=seed))(ones()) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_keys_advance_between_compiled_calls():
    layer = Dropout(0.5, rngs=nnx.Rngs(0))
    eager = Dropout(0.5, rngs=nnx.Rngs(0))
    compiled = nnx.jit(lambda layer, f: layer(f))
    for _ in range(3):
        assert np.array_equal(compiled(layer, ones()), eager(ones()))
    assert layer.rngs.count[...] == eager.rngs.count[...] == 3


def test_split_and_merge_carry_the_stream():
    graphdef, state = nnx.split(Dropout(0.5, rngs=nnx.Rngs(0)))

    @jax.jit
    def call(state):
        layer = nnx.merge(graphdef, state)
        dropped = layer(ones())
        return dropped, nnx.state(layer)

    first, after = call(state)
    again, _ = call(state)
    second, _ = call(after)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)


def test_the_gradient_has_the_mask_of_the_output():
    graphdef, state = nnx.split(Dropout(0.5, rngs=nnx.Rngs(0)))
    f = ones() * 3

    @jax.jit
    def function(f):
        layer = nnx.merge(graphdef, state, copy=True)
        return layer(f)

    dropped, backward = jax.vjp(function, f)
    (gradient,) = backward(jnp.ones_like(f))
    assert np.array_equal(gradient * 3, dropped)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_a_rate_out_of_range_is_refused(rate):
    with assert_refused("rate must be in [0, 1)", str(rate)):
        Dropout(rate, rngs=nnx.Rngs(0))


def test_a_key_that_is_given_takes_the_place_of_the_stream():
    key = jax.random.key(3)
    layer, own = Dropout(0.5, rngs=nnx.Rngs(1)), Dropout(0.5, rngs=nnx.Rngs(0))
    assert np.array_equal(layer(ones(), key), own(ones(), key))
    assert own.rngs.count[...] == 0
    assert not np.array_equal(layer(ones(), key), layer(ones(), key, ones().size))
    with assert_refused("start must be at least 0", "-1"):
        layer(ones(), key, -1)
    layer.eval()
    assert np.array_equal(layer(ones()), ones())


def test_layers_of_a_network_take_positions_of_their_own():
    graphdef, state = nnx.split(nnx.eval_shape(lambda: RotMNISTNet(cyclic(4), features=2, rngs=nnx.Rngs(0))))
    taken = []

    def logits(state, image):
        return nnx.merge(graphdef, state, copy=True)(image)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dropout, "__call__", lambda _, f, key, start: taken.append((start, start + f.size)) or f)
        jax.eval_shape(logits, state, jax.ShapeDtypeStruct((2, 28, 28, 1, 1), jnp.float32))
    assert len(taken) > 2
    assert all(first[1] == second[0] for first, second in itertools.pairwise(taken))


def test_streams_of_a_network_are_where_runs_have_kept_them():
    streams = nnx.state(RotMNISTNet(cyclic(4), features=2, rngs=nnx.Rngs(0)), nnx.RngCount)
    assert {path[:2] for path, _ in nnx.to_flat_state(streams)} == {("dropouts", i) for i in range(6)}


def test_one_key_a_call_serves_all_layers_of_a_network():
    graphdef, state = nnx.split(nnx.eval_shape(lambda: RotMNISTNet(cyclic(4), features=2, rngs=nnx.Rngs(0))))
    for mode, wanted in {"train": 1, "eval": 0}.items():

        def logits(state, image, mode=mode):
            network = nnx.merge(graphdef, state, copy=True)
            getattr(network, mode)()
            return network(image)

        image = jax.ShapeDtypeStruct((2, 28, 28, 1, 1), jnp.float32)
        assert primitives(logits, state, image)["random_fold_in"] == wanted
