"""Pictures of attention: what they show turns with the image, and what cannot be shown is refused."""

import matplotlib as mpl
import networks
import numpy as np
import pytest
from helpers import assert_close, assert_refused, random
from matplotlib import pyplot

from attgconv_jax import cyclic, dihedral, plotting, trivial

mpl.use("agg")
P4 = cyclic(4)


@pytest.fixture
def close():
    yield
    pyplot.close("all")


def pictures(figure):
    """The arrays of all pictures by their place among the axes, colour bars left out."""
    return [np.asarray(axis.images[0].get_array()) for axis in figure.axes if axis.images]


@pytest.mark.usefixtures("close")
def test_maps_of_response_attention_turn_with_the_image():
    network = networks.random_network(P4, "response", features=3)
    image = random(28, 28, 1, 1)
    shown = pictures(plotting.attention_figure(network, image[None], P4, layer=1, channels=[2, 0]))
    assert len(shown) == 3 * 4
    for row in range(3):
        upright, *turned = shown[4 * row : 4 * row + 4]
        assert np.ptp(upright) > 0
        for quarter, picture in enumerate(turned, 1):
            assert_close(picture, np.rot90(upright, quarter), 1e-10)
    assert np.ptp(shown[4] - shown[8]) > 0


@pytest.mark.usefixtures("close")
@pytest.mark.parametrize("group", [P4, dihedral(2)], ids=str)
def test_maps_between_group_elements_turn_and_are_permuted(group):
    network = networks.random_network(group, "response_spatial", features=2)
    image = random(28, 28, 1, 1)
    element = 1
    shown = pictures(plotting.response_figure(network, image, elements=[0, element], layer=1, channel=1))
    upright, turned = np.split(np.array([p for p in shown if p.shape == (24, 24)]), 2)
    row = group.action[element]
    order = group.order
    expected = np.rot90(upright.reshape(order, order, 24, 24)[row][:, row], 4 // group.rotations, axes=(2, 3))
    assert_close(turned.reshape(order, order, 24, 24), expected, 1e-10)


@pytest.mark.usefixtures("close")
def test_maps_of_input_attention_turn_with_the_image():
    network = networks.random_network(P4, "input", features=2)
    shown = pictures(plotting.attention_figure(network, random(1, 28, 28, 1, 1), P4, layer=2))
    assert len(shown) == 2 * 4
    assert_close(shown[5], np.rot90(shown[4]), 1e-10)


@pytest.mark.usefixtures("close")
def test_a_single_element_or_channel_need_not_be_in_a_list():
    network = networks.random_network(P4, "response_channel", features=2)
    shown = pictures(plotting.attention_figure(network, random(1, 28, 28, 1, 1), P4, elements=1, channels=1))
    assert len(shown) == 2
    assert len(pictures(plotting.response_figure(network, random(28, 28, 1, 1), elements=1, layer=0))) == 1 + 4


@pytest.mark.usefixtures("close")
def test_a_network_in_training_is_drawn_as_it_evaluates_and_left_as_it_was():
    network = networks.random_network(P4, "response_channel", features=2)
    image = random(1, 28, 28, 1, 1)
    evaluated = pictures(plotting.attention_figure(network, image, P4, layer=2))
    network.train()
    before = networks.leaves(network)
    for drawn, expected in zip(
        pictures(plotting.attention_figure(network, image, P4, layer=2)), evaluated, strict=True
    ):
        np.testing.assert_array_equal(drawn, expected)
    assert all(np.array_equal(after, before[name]) for name, after in networks.leaves(network).items())
    assert not network.norms[0].use_running_average


def test_what_cannot_be_shown_is_refused():
    image = random(1, 28, 28, 1, 1)
    response = networks.random_network(P4, "response_channel", features=2)
    with assert_refused("layers must be some of 0 to 6, got [7]"):
        plotting.attention_figure(response, image, P4, layer=7)
    with assert_refused("output channels must be some of 0 to 1, got [0, 2]"):
        plotting.attention_figure(response, image, P4, layer=1, channels=[0, 2])
    with assert_refused("output channels must be some of 0 to 1, got [-1]"):
        plotting.response_figure(response, image[0], channel=-1)
    with assert_refused("output channels must be some of 0 to 1, got []"):
        plotting.attention_figure(response, image, P4, layer=1, channels=np.array([], int))
    with assert_refused("elements of cyclic(4) must be some of 0 to 3, got [4]"):
        plotting.response_figure(response, image[0], elements=[4])
    with assert_refused("elements of cyclic(4) must be some of 0 to 3, got []"):
        plotting.attention_figure(response, image, P4, elements=[])
    with assert_refused("layers must be some of 0 to 6, got [1.0]"):
        plotting.attention_figure(response, image, P4, layer=1.0)
    with assert_refused("input channels must be some of 0 to 1, got [9]"):
        plotting.filter_bank_figure(random(3, 3, 4, 2, 4, 3), P4, c_in=9)
    with assert_refused("image must be a single one, [x, y, 1, c], got shape (1, 28, 28, 1, 1)"):
        plotting.response_figure(response, image)
    with assert_refused("images must be [image, x, y, 1, c], one at least, got shape (28, 28, 1, 1)"):
        plotting.attention_figure(response, image[0], P4)
    with assert_refused("images must be [image, x, y, 1, c], one at least, got shape (0, 28, 28, 1, 1)"):
        plotting.attention_figure(response, image[:0], P4)
    with assert_refused("attention on the input is the same for all output channels: leave out channels"):
        plotting.attention_figure(networks.random_network(P4, "input", features=2), image, P4, channels=[0])
    with assert_refused("attends to inputs, not to responses: its attention is input"):
        plotting.response_figure(networks.random_network(P4, "input", features=2), image[0])
    with assert_refused("the network has no attention"):
        plotting.response_figure(networks.random_network(trivial(), features=2), image[0])
