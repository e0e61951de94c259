"""How pictures look: grey images as they are, constant maps with their value."""

import jax
import jax.numpy as jnp
import networks
import pytest
from flax import nnx
from matplotlib import pyplot

from attgconv_jax import cyclic, plotting


@pytest.fixture(scope="module")
def figure():
    """A white rectangle on black, above maps of attention whose weights are all zero."""
    network = networks.random_network(cyclic(4), "input", features=2)
    weights = network.convolutions[0].attention.weights
    for variable in jax.tree.leaves(weights, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable)):
        variable[...] = jnp.zeros_like(variable[...])
    image = jnp.zeros([1, 28, 28, 1, 1]).at[0, 3:9, 5:20].set(1.0)
    yield plotting.attention_figure(network, image, layer=0)
    pyplot.close("all")


def test_grey_images_are_shown_as_they_are_not_inverted(figure):
    (shown,) = figure.axes[0].images
    colours = shown.to_rgba(shown.get_array())
    assert colours[0, 0].tolist() == [0, 0, 0, 1] and colours[4, 6].tolist() == [1, 1, 1, 1]


def test_maps_that_are_constant_have_their_value_in_place_of_a_colour_bar(figure):
    assert len(figure.axes) == 2 * 4
    assert [text.get_text() for axis in figure.axes for text in axis.texts] == ["suppressed:\nconstant, 0.250"]
