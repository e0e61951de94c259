"""The DenseNet for PatchCamelyon: its published sizes, its grids, its invariance."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from helpers import assert_close, assert_refused, random
from networks import count, error_of_generators, invariance_error, random_network

from attgconv_jax import cyclic, dihedral, trivial
from attgconv_jax.models import DenseNet

P4, P4M = cyclic(4), dihedral(4)
# Of what enters every convolution.
SIZES = (96, 94, 92, 46, 44, 22, 20, 10, 8, 4, 2)


def shapes_of(group, attention=None, **settings):
    return nnx.eval_shape(lambda: DenseNet(group, attention, **settings, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize(
    ("group", "attention", "expected"),
    [
        (trivial(), None, 130_598),
        (P4, None, 129_649),
        (P4M, None, 124_209),
        (P4, "input", 140_453),
        (P4M, "input", 141_221),
    ],
    ids=str,
)
def test_parameter_counts_are_the_published_ones(group, attention, expected):
    assert count(shapes_of(group, attention)) == expected


@pytest.mark.parametrize(
    ("group", "attention"), [(P4, "input"), (P4, "response_spatial"), (P4M, "se"), (P4, "sk")], ids=str
)
@pytest.mark.default("cyclic(4)-input")
def test_logits_are_invariant(group, attention):
    function = jax.jit(random_network(group, attention, make=DenseNet, features=2, classes=3))
    assert invariance_error(function, random(2, 96, 96, 1, 3), group, depend=1e-5) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize(("group", "attention"), [(P4, None), (P4M, "input")], ids=str)
def test_logits_of_networks_of_their_real_size_are_invariant(group, attention):
    function = jax.jit(random_network(group, attention, make=DenseNet))
    assert error_of_generators(function, random(2, 96, 96, 1, 3), group) < 1e-10


def test_its_grids_and_the_filters_of_its_attention_are_the_papers():
    network = shapes_of(P4, "input")
    network.eval()
    graphdef, state = nnx.split(network)
    image = jax.ShapeDtypeStruct((2, 96, 96, 1, 3), jnp.float32)
    maps = jax.eval_shape(lambda state, image: nnx.merge(graphdef, state).feature_maps(image), state, image)
    assert [f.shape[1:3] for f in maps[:-1]] == [(size, size) for size in SIZES]
    assert [f.shape[-1] // 13 for f in maps[1:-1]] == [1, 2, 2, 3, 3, 4, 4, 5, 5, 6]
    layers = [network.lifting, *(layer.conv for layer in [*network.layers, network.classifier])]
    attentions = [layer.attention for layer in layers]
    assert [attention.options["dilation"] for attention in attentions] == [4, 4, 4, 4, 4, 3, 3, 2, 1, 1, 1]
    assert [attention.weights.spatial.shape[0] for attention in attentions] == [7] * 9 + [5, 3]
    assert [attention.weights.channel.w1.shape[0] for attention in attentions] == [3] + [2] * 10


def test_a_dense_layer_puts_its_output_before_its_cropped_input():
    network = random_network(trivial(), make=DenseNet, features=2)
    run = jax.jit(lambda image: (network.lifting(image), network.feature_maps(image)[2]))
    lifted, joined = run(random(1, 96, 96, 1, 3))
    norm = network.layers[1].norm
    assert joined.shape[-1] == 4
    kept = jax.nn.relu(
        (lifted[:, 1:-1, 1:-1] - norm.mean[2:]) / jnp.sqrt(norm.var[2:] + 2e-5) * norm.scale[2:] + norm.bias[2:]
    )
    assert_close(joined[..., 2:], kept)


def test_options_of_the_attention_go_before_the_papers():
    network = shapes_of(P4, "input", attention_options=dict(kernel_size=3, hidden_features=1))
    assert {layer.conv.attention.weights.spatial.shape[0] for layer in network.layers} == {3}
    assert {layer.conv.attention.weights.channel.w1.shape[0] for layer in network.layers} == {1}


def test_operators_of_other_papers_have_as_many_hidden_channels_as_anywhere():
    network = shapes_of(trivial(), "se", features=32)
    assert [len(layer.conv.attention.weights.w1) for layer in network.layers] == [2, 4, 4, 6, 6, 8, 8, 10, 10]
    network = shapes_of(trivial(), "sk", features=32)
    assert [len(layer.conv.w1) for layer in network.layers if hasattr(layer.conv, "w1")] == [2] * 5


def test_an_implementation_of_attention_is_named_where_it_belongs():
    with assert_refused("got 'blocks'; the attention has one of this name: attention_options=dict("):
        shapes_of(P4, "response", implementation="blocks")


def test_an_image_of_another_size_is_refused():
    with assert_refused("[..., 96, 96, 1, 3]", "(2, 32, 32, 1, 3)"):
        shapes_of(P4, features=2)(jnp.ones((2, 32, 32, 1, 3)))
