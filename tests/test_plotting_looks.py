"""How pictures look: grey images as they are, constant maps with their value."""

import jax
import jax.numpy as jnp
import networks
import pytest
from flax import nnx
from helpers import random
from matplotlib import pyplot

from attgconv_jax import cyclic, plotting

P4 = cyclic(4)


@pytest.fixture
def close():
    yield
    pyplot.close("all")


@pytest.mark.usefixtures("close")
def test_grey_images_are_shown_as_they_are_not_inverted():
    image = jnp.zeros([1, 28, 28, 1, 1]).at[0, 3:9, 5:20].set(1.0)
    network = networks.random_network(P4, "response", features=2)
    for figure in (
        plotting.attention_figure(networks.random_network(P4, "input", features=2), image, P4, elements=0),
        plotting.response_figure(network, image[0], elements=0, layer=0),
    ):
        (shown,) = figure.axes[0].images
        colours = shown.to_rgba(shown.get_array())
        assert colours[0, 0].tolist() == [0, 0, 0, 1] and colours[4, 6].tolist() == [1, 1, 1, 1]


@pytest.mark.usefixtures("close")
def test_maps_that_are_constant_have_their_value_in_place_of_a_colour_bar():
    network = networks.random_network(P4, "input", features=2)
    weights = network.convolutions[0].attention.weights
    for variable in jax.tree.leaves(weights, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable)):
        variable[...] = jnp.zeros_like(variable[...])
    figure = plotting.attention_figure(network, random(1, 28, 28, 1, 1), P4, layer=0)
    assert len(figure.axes) == 2 * 4
    assert [text.get_text() for axis in figure.axes for text in axis.texts] == ["suppressed:\nconstant, 0.250"]
    figure = plotting.attention_figure(network, random(1, 28, 28, 1, 1), P4, layer=1)
    assert len(figure.axes) == 2 * 4 + 1 and not any(axis.texts for axis in figure.axes)
