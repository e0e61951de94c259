"""The separable paper's All-CNN-C: its size, its invariance, its grids, that it learns, and what it refuses."""

import itertools
import math
from unittest import mock

import jax
import jax.numpy as jnp
import networks
import numpy as np
import optax
import pytest
from flax import nnx
from helpers import assert_close, assert_refused, random, relative_error

from attgconv_jax.lie import rotations, similarities
from attgconv_jax.models import LieAllCNN, load_network, save_network
from attgconv_jax.nn import Dropout, LieConv

SE2, SIM2 = rotations(4), similarities(4, 2, 1.5)
SMALL = dict(features=3, classes=3, network_options=dict(hidden_features=4), param_dtype=jnp.float64)


def small(group=SE2, **options):
    return LieAllCNN(group, **SMALL | options, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("group", "kind", "parameters"),
    [
        (rotations(8), "nonseparable", 12_166_496),
        (rotations(4), "nonseparable", 12_166_496),
        (rotations(8), "gseparable", 24_305_888),
        (rotations(8), "separable", 12_275_818),
        (rotations(8), "dseparable", 322_666),
        (rotations(8), "dgseparable", 431_988),
        (similarities(16, 3, 1.74), "separable+2d", 12_385_652),
    ],
    ids=str,
)
def test_parameter_counts(group, kind, parameters):
    network = nnx.eval_shape(lambda: LieAllCNN(group, kind, coordinates="paper", rngs=nnx.Rngs(0)))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(network, nnx.Param))) == parameters


@pytest.mark.parametrize(
    ("group", "kind", "attention"), [(SE2, "separable", "input_channel"), (SIM2, "separable+2d", None)], ids=str
)
def test_the_logits_are_invariant_under_quarter_turns(group, kind, attention):
    logits = jax.jit(networks.with_random_arrays(lambda: small(group, kind=kind, attention=attention)))
    image = random(2, 32, 32, 1, 3)
    expected = logits(image)
    assert expected.shape == (2, 3)
    assert relative_error(expected[0], expected[1]) > 1e-2
    assert_close(logits(jnp.rot90(image, axes=(1, 2))), expected, 1e-10)


@pytest.mark.slow
def test_a_step_along_the_gradient_lowers_the_loss_by_as_much_as_it_promises():
    graphdef, params, rest = nnx.split(
        small(kind="dseparable", lifting_dropout_rate=0.0, dropout_rate=0.0), nnx.Param, ...
    )
    images, labels = random(4, 32, 32, 1, 3), jnp.asarray([0, 1, 2, 0])

    def loss(params):
        logits = nnx.merge(graphdef, params, rest, copy=True)(images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    loss_and_gradient = jax.jit(jax.value_and_grad(loss))
    before, gradient = loss_and_gradient(params)
    for path, leaf in nnx.to_flat_state(gradient):
        assert np.all(np.isfinite(leaf)) and np.any(leaf), path
    after, _ = loss_and_gradient(jax.tree.map(lambda x, d: x - 1e-6 * d, params, gradient))
    promised = 1e-6 * sum(np.sum(leaf**2) for leaf in jax.tree.leaves(gradient))
    np.testing.assert_allclose(before - after, promised, rtol=0.1)


def test_maps_enter_every_convolution_on_the_grid_they_live_on():
    network, convolve, grids = small(random_grids=True), LieConv.__call__, []

    def recorded(self, f, in_grid=None, out_grid=None):
        grids.append((in_grid, out_grid))
        return convolve(self, f, in_grid, out_grid)

    def sizes(network):
        graphdef, state = nnx.split(network)
        maps = jax.eval_shape(lambda state: nnx.merge(graphdef, state).feature_maps(random(1, 32, 32, 1, 3)), state)
        return [f.shape[-4:] for f in maps]

    with mock.patch.object(LieConv, "__call__", recorded):
        drawn = sizes(network)
        assert len(grids) == 9 and grids[0][0] is None
        assert all(out is entered and out is not None for (_, out), (entered, _) in itertools.pairwise(grids))
        assert len({id(out) for _, out in grids}) == 9
        network.eval()
        grids.clear()
        fixed = sizes(network)
        assert grids == [(None, None)] * 9
    expected = [(32, 1, 3), (32, 4, 3), (16, 4, 3), (16, 4, 3), (16, 4, 6), *[(8, 4, 6)] * 4]
    assert drawn == fixed == [*((size, size, h, c) for size, h, c in expected), (1, 3)]


def test_dropout_is_of_the_lifted_image_and_after_the_third_and_sixth_layer():
    network = nnx.eval_shape(small)
    assert network.lifting_dropout.rate == 0.2
    assert [dropout.rate for dropout in network.dropouts] == [0, 0.5, 0, 0, 0.5, 0, 0]
    graphdef, state = nnx.split(small())
    shapes = []

    def logits(state):
        with mock.patch.object(Dropout, "__call__", lambda _, f: shapes.append(f.shape[1:]) or f):
            return nnx.merge(graphdef, state)(random(1, 32, 32, 1, 3))

    jax.eval_shape(logits, state)
    expected = [(32, 3), (16, 3), (16, 3), (16, 6), (8, 6), (8, 6), (8, 6), (8, 6)]
    assert shapes == [(size, size, 4, c) for size, c in expected]


def test_attention_is_on_the_input_of_every_convolution_but_the_lifting():
    network = nnx.eval_shape(lambda: small(attention="sge", attention_options=dict(groups=1)))
    assert all(conv.attention is not None for conv in [*network.convolutions, network.classifier])
    conv = small(attention="se", attention_options=dict(reduction=1)).convolutions[0]
    f = random(1, 5, 5, 4, 3)
    assert_close(conv(f), conv.conv(conv.attention(f)))
    assert relative_error(conv(f), conv.conv(f)) > 1e-3
    without = nnx.eval_shape(small)
    assert all(conv.attention is None for conv in [*without.convolutions, without.classifier])


def test_a_network_comes_back_bit_for_bit(tmp_path):
    others = dict(
        kernel_size=3, in_features=2, lifting_dropout_rate=0.1, dropout_rate=0.3, mask="hard", random_grids=True
    )
    others |= dict(kind="dgseparable", attention="sge", attention_options=dict(groups=1), coordinates="paper")
    network = networks.with_random_arrays(lambda: small(**others))
    save_network(tmp_path / "network", network)
    loaded = load_network(tmp_path / "network")
    assert type(loaded) is LieAllCNN and loaded.group == SE2
    assert loaded.settings == network.settings
    assert nnx.split(loaded)[0] == nnx.split(network)[0]
    arrays, expected = networks.leaves(loaded), networks.leaves(network)
    assert arrays.keys() == expected.keys() and len(arrays) > 40
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name])


REFUSALS = {
    "image of another size": (
        lambda: nnx.eval_shape(small)(random(2, 28, 28, 1, 3)),
        "image must be [..., 32, 32, 1, 3], got shape (2, 28, 28, 1, 3)",
    ),
    "unknown kind": (lambda: small(kind="separabel"), 'kind must be one of "nonseparable"', "got 'separabel'"),
    "a network of liftings": (lambda: small(kind="lifting"), 'kind must be one of "nonseparable"', "got 'lifting'"),
    "a kind of two factors": (lambda: small(kind="separable+2d"), "kind must be separable on rotations(4)"),
    "unknown attention": (lambda: small(attention="response"), 'attention must be one of "bam"', "got 'response'"),
    "options of no attention": (
        lambda: small(attention_options=dict(groups=2)),
        "attention_options need an attention, got {'groups': 2} with attention=None",
    ),
    "no channels": (lambda: small(features=0), "features must be an integer of at least 1, got 0"),
    "several widths": (lambda: small(features=[4, 8]), "features must be an integer of at least 1, got [4, 8]"),
    "even filters": (lambda: small(kernel_size=4), "kernel_size must be odd, or filters are off centre, got 4"),
    "filters too small for the scales": (lambda: small(SIM2, kernel_size=3), "kernel_size must be 1 or at least 5"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_the_network_cannot_do_is_refused_in_one_line(case):
    call, *parts = REFUSALS[case]
    with assert_refused(*parts) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1
