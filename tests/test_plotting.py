"""Pictures of filters, attention and errors: what they show is so, and what cannot be shown is refused."""

import functools

import jax
import jax.numpy as jnp
import matplotlib as mpl
import networks
import numpy as np
import pytest
from flax import nnx
from helpers import assert_close, assert_refused, random
from matplotlib import pyplot
from PIL import Image

from attgconv_jax import Sampling, cyclic, dihedral, equivariance_error, filter_bank, group_conv, plotting, trivial
from attgconv_jax.lie import rotations
from attgconv_jax.models import ResNet, RotMNISTNet
from attgconv_jax.nn import AttentiveGroupConv, GroupConv, ResponseAttentiveGroupConv
from attgconv_jax.plotting.layers import layers_of

mpl.use("agg")
P4 = cyclic(4)


@functools.cache
def made(group, attention=None, features=2):
    """A network with random arrays, the same for all tests: none may change it."""
    return networks.random_network(group, attention, features=features)


@pytest.fixture
def close():
    yield
    pyplot.close("all")


def pictures(figure):
    """The arrays of all pictures by their place among the axes, colour bars left out."""
    return [np.asarray(axis.images[0].get_array()) for axis in figure.axes if axis.images]


@pytest.mark.usefixtures("close")
def test_maps_of_response_attention_turn_with_the_image():
    network = made(P4, "response", 3)
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
@pytest.mark.default("dihedral(2)")
def test_maps_between_group_elements_turn_and_are_permuted(group):
    network = made(group, "response_spatial")
    image = random(28, 28, 1, 1)
    element = 1
    shown = pictures(plotting.response_figure(network, image, elements=[0, element], layer=1, channel=1))
    upright, turned = np.split(np.array([p for p in shown if p.shape == (24, 24)]), 2)
    row = group.action[element]
    order = group.order
    expected = np.rot90(upright.reshape(order, order, 24, 24)[row][:, row], 4 // group.rotations, axes=(2, 3))
    assert_close(turned.reshape(order, order, 24, 24), expected, 1e-10)


def test_layers_have_the_combination_of_their_stage():
    def combinations(make):
        network = nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0)))
        layers = layers_of(network)
        return [layers.combination(i) for i in network.attending_layers]

    options = dict(combination=["add", "add", "scale", "scale"], reduction=1)
    resnet = functools.partial(ResNet, 18, trivial(), "gc", attention_options=options, features=2)
    assert combinations(resnet) == 4 * ["add"] + 4 * ["scale"]
    wanted = {"input": "suppress", "response": "suppress", "sk": "choose", "bam": "emphasise"}
    for attention, combination in wanted.items():
        assert {*combinations(functools.partial(RotMNISTNet, P4, attention, features=2))} == {combination}


@pytest.mark.usefixtures("close")
def test_maps_of_input_attention_turn_with_the_image():
    network = made(P4, "input")
    shown = pictures(plotting.attention_figure(network, random(1, 28, 28, 1, 1), P4, layer=2))
    assert len(shown) == 2 * 4
    assert_close(shown[5], np.rot90(shown[4]), 1e-10)


@pytest.mark.usefixtures("close")
def test_a_single_element_or_channel_need_not_be_in_a_list():
    network = made(P4, "response_channel")
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


@pytest.mark.usefixtures("close")
def test_turned_back_maps_of_an_equivariant_network_are_the_same():
    figure = plotting.attention_figure(made(P4, "input"), random(2, 28, 28, 1, 1), P4, layer=1, turned_back=True)
    shown = pictures(figure)
    for top in (4, 16):
        maps, back = np.array(shown[top : top + 4]), np.array(shown[top + 4 : top + 8])
        assert np.max(np.abs(maps[1] - maps[0])) > 0.1 * np.ptp(maps[0]) > 0
        assert_close(back, maps[[0, 0, 0, 0]], 1e-10)
    assert len(differences(figure)) == 2
    assert max(differences(figure)) < 1e-10


def differences(figure):
    """The numbers written beside rows of maps turned back."""
    labels = [axis.get_ylabel() for axis in figure.axes]
    return [float(label.split("differ by ")[1]) for label in labels if "differ by" in label]


@pytest.mark.usefixtures("close")
def test_turned_back_maps_of_another_network_differ_by_what_is_written():
    figure = plotting.attention_figure(made(trivial(), "input"), random(1, 28, 28, 1, 1), P4, turned_back=True)
    _, maps, back = np.array(pictures(figure)).reshape(3, 4, 28, 28)
    for quarter in range(4):
        np.testing.assert_array_equal(np.rot90(back[quarter], quarter), maps[quarter])
    written = np.max(np.ptp(back, axis=0))
    assert written > 0.01
    assert differences(figure) == [float(f"{written:.1g}")]


@pytest.mark.usefixtures("close")
def test_maps_of_one_pixel_are_matrices_whose_rows_the_group_permutes():
    network = made(P4, "input_channel", 3)
    figure = plotting.attention_figure(network, random(1, 28, 28, 1, 1), P4, layer=1, turned_back=True)
    shown = pictures(figure)
    maps, back = np.array(shown[4:8]), np.array(shown[8:])
    assert maps.shape == (4, P4.order, 3)
    assert np.max(np.ptp(maps[0], axis=0)) > 1e-3
    for element in range(4):
        assert_close(maps[element], maps[0][P4.action[element]], 1e-10)
        assert_close(back[element], maps[0], 1e-10)
    assert differences(figure)[0] < 1e-10


@pytest.mark.usefixtures("close")
def test_response_maps_of_one_pixel_are_permuted_along_both_axes():
    network = made(P4, "response_channel")
    figure = plotting.attention_figure(
        network, random(1, 28, 28, 1, 1), P4, layer=1, channels=1, elements=[0, 1], turned_back=True
    )
    _, _, upright, turned, *back = pictures(figure)
    assert upright.shape == (4, 4)
    assert np.ptp(upright) > 1e-6
    row = P4.action[1]
    assert_close(turned, upright[row][:, row], 1e-10)
    assert_close(back, [upright, upright], 1e-10)


@pytest.mark.usefixtures("close")
@pytest.mark.parametrize("channels", [2, 3])
def test_images_of_three_channels_are_in_colour_and_of_others_their_mean(channels):
    network = networks.random_network(P4, "input_channel", features=1, in_features=channels)
    images = 5 + 3 * random(2, 28, 28, 1, channels)
    shown = pictures(plotting.attention_figure(network, images, P4, elements=[0, 1]))
    for image, (upright, turned) in zip(images[..., 0, :], (shown[:2], shown[4:6]), strict=True):
        expected = image if channels == 3 else image.mean(axis=-1)
        assert_close(upright, (expected - expected.min()) / (expected.max() - expected.min()), 1e-12)
        np.testing.assert_array_equal(turned, np.rot90(upright))


@pytest.mark.usefixtures("close")
def test_between_right_angles_the_disc_that_stays_is_compared_on_the_images_background():
    group = cyclic(8)
    image = 3 + jnp.abs(random(1, 28, 28, 1, 1))
    figure = plotting.attention_figure(made(group, "input"), image, group, elements=[0, 1], turned_back=True)
    shown = pictures(figure)
    assert shown[1][0, 0] == np.min(shown[1]) and np.min(shown[1]) == np.min(shown[0])
    radius = np.hypot(*np.meshgrid(*[np.arange(28) - 13.5] * 2))
    for back in shown[4:]:
        np.testing.assert_array_equal(np.isnan(back), radius > 13.5)
    assert 0 < differences(figure)[0] < 1


@pytest.mark.usefixtures("close")
def test_filters_of_a_lifting_layer_turn_along_their_row():
    layer = GroupConv(2, 5, 3, P4, lifting=True, param_dtype=float, rngs=nnx.Rngs(0))
    shown = pictures(plotting.layer_filters_figure(layer, c_in=1, c_out=[4, 0]))
    assert len(shown) == 2 * 4
    for row, channel in enumerate([4, 0]):
        for quarter in range(4):
            expected = np.rot90(layer.w[...][:, :, 0, 1, channel], quarter)
            np.testing.assert_array_equal(shown[4 * row + quarter], expected)
    assert len(pictures(plotting.layer_filters_figure(layer))) == 4 * 4


@pytest.mark.usefixtures("close")
@pytest.mark.parametrize("group", [P4, dihedral(2)], ids=str)
def test_frames_follow_one_plane_of_a_filter(group):
    layer = AttentiveGroupConv(2, 5, 3, group, param_dtype=float, rngs=nnx.Rngs(0))
    figure = plotting.layer_filters_figure(layer, c_out=3)
    axes = np.array([axis for axis in figure.axes if axis.images]).reshape(4, 4)
    plane = layer.conv.w[...][:, :, 0, 0, 3]
    for element, column in enumerate(axes.T):
        (framed,) = (axis for axis in column if axis.spines["left"].get_linewidth() > 2)
        reflection, rotation = divmod(element, group.rotations)
        expected = np.rot90(plane, 4 * rotation // group.rotations)
        np.testing.assert_array_equal(framed.images[0].get_array(), expected[::-1] if reflection else expected)


@pytest.mark.usefixtures("close")
@pytest.mark.parametrize("make", [GroupConv, ResponseAttentiveGroupConv])
@pytest.mark.parametrize("sampling", [Sampling("cubic", disc_mask=True), Sampling()], ids=lambda s: str(s.kind))
def test_filters_are_turned_as_the_layer_turns_them(make, sampling):
    group = cyclic(8)
    layer = make(1, 2, 5, group, lifting=True, param_dtype=float, rngs=nnx.Rngs(0), sampling=sampling)
    shown = pictures(plotting.layer_filters_figure(layer, c_out=1))
    bank = filter_bank(layer.w[...], group, sampling=layer.basis or sampling)
    assert_close(shown, np.moveaxis(bank[:, :, 0, 0, :, 1], -1, 0))


@pytest.mark.usefixtures("close")
def test_errors_by_layer_are_those_of_every_feature_map_and_drawn_as_bars():
    images = random(2, 28, 28, 1, 1)
    half_turn = cyclic(2)
    p2, z2 = made(half_turn), made(trivial())
    errors = {"p2": plotting.layer_errors(p2, images), "z2": plotting.layer_errors(z2, images, half_turn)}
    names = ["layer 1", "layer 2", "layer 3", "layer 4", "layer 5", "layer 6", "logits"]
    for name, low, high in (("p2", 0, 1e-12), ("z2", 1e-2, 10)):
        assert [layer for layer, _ in errors[name]] == names
        assert all(low <= error < high for _, error in errors[name])

    def first_layer(image):
        norm = z2.norms[0]
        scaled = (group_conv(image, z2.convolutions[0].w[...], trivial()) - norm.mean[...]) * norm.scale[...]
        return jnp.maximum(scaled / jnp.sqrt(norm.var[...] + norm.epsilon) + norm.bias[...], 0)

    np.testing.assert_allclose(
        errors["z2"][0][1], equivariance_error(jax.jit(first_layer), images, half_turn, "image"), rtol=1e-10
    )
    figure = plotting.equivariance_figure(errors)
    axis = figure.axes[0]
    assert axis.get_yscale() == "log"
    assert [tick.get_text() for tick in axis.get_xticklabels()] == names
    for bars, measured in zip(axis.containers, errors.values(), strict=True):
        np.testing.assert_allclose([bar.get_y() + bar.get_height() for bar in bars], [e for _, e in measured])
    lines = [line.get_ydata()[0] for line in axis.lines]
    np.testing.assert_allclose(lines, [1.2e-7, 1], rtol=0.01)
    assert [text.get_text() for text in figure.legends[0].get_texts()][-2:] == ["p2", "z2"]


@pytest.mark.usefixtures("close")
def test_an_error_of_zero_is_written_and_leaves_the_axis_readable():
    axis = plotting.equivariance_figure([("layer 1", 0.0), ("logits", 3e-3)]).axes[0]
    assert [text.get_text() for text in axis.texts] == ["0", "3.0e-03"]
    assert axis.containers[0][0].get_height() == 0
    low, high = axis.get_ylim()
    assert 0 < low < 1e-7 and high > 1


@pytest.mark.slow
def test_the_animation_turns_image_and_map_while_the_map_turned_back_stands_still(tmp_path):
    path = tmp_path / "turning.gif"
    image = random(28, 28, 1, 1).at[:9].set(-3)
    assert plotting.turning_animation(made(P4, "input"), image, path, frames=8, layer=0) == path
    with Image.open(path) as file:
        assert file.n_frames == 8
        assert file.info["loop"] == 0
        frames = []
        for frame in range(8):
            file.seek(frame)
            frames.append(np.asarray(file.convert("L"), float))
    height, width = frames[0].shape
    rows = slice(height // 4, 3 * height // 4)
    panels = [slice(round(left * width), round((left + 0.2) * width)) for left in (0.05, 0.34, 0.62)]

    def change(panel, frame):
        return np.mean(np.abs(frames[frame][rows, panels[panel]] - frames[0][rows, panels[panel]]))

    for quarter in (2, 4, 6):
        still = change(2, quarter)
        assert change(0, quarter) > 10 * still + 1
        assert change(1, quarter) > 5 * still + 1
    assert change(2, 1) > change(2, 2)


@functools.cache
def resnet(attention):
    return networks.random_network_of("resnet", P4, attention, depth=18, features=2, classes=2)


@functools.cache
def lie_resnet(**options):
    small = dict(features=(2, 2), head_features=4, kernel_size=3, network_options=dict(hidden_features=4))
    return networks.random_network_of("lie_resnet", rotations(4), "se", **small, **options)


@pytest.mark.usefixtures("close")
@pytest.mark.parametrize(
    ("make", "size", "layer"), [(lambda: resnet("bam"), 33, 2), (lie_resnet, 28, 1)], ids=["resnet", "lie"]
)
@pytest.mark.slow
def test_networks_of_every_class_are_drawn(make, size, layer):
    network = make()
    image = random(1, size, size, 1, network.settings["in_features"])
    assert network.attending_layers[0] == layer
    figure = plotting.attention_figure(network, image, P4, elements=[0, 1], turned_back=True)
    assert f"layer {layer + 1}" in figure.get_suptitle()
    assert max(differences(figure)) < 1e-10
    errors = plotting.layer_errors(network, image)
    assert len(errors) == len(nnx.eval_shape(lambda network: network.feature_maps(image), network)) - 1
    assert all(error < 1e-9 for _, error in errors)


def test_a_network_whose_group_acts_as_no_finite_one_is_not_turned_back():
    network = lie_resnet(coordinates="paper")
    with assert_refused("layer_errors needs", "rotations(4) acts there as no finite group"):
        plotting.layer_errors(network, random(1, 28, 28, 1, 1))


def test_animations_that_cannot_be_are_refused(tmp_path):
    network, image, path = made(P4, "input"), random(28, 28, 1, 1), tmp_path / "turning.gif"
    with assert_refused("frames must be an integer of at least 2", "got 1"):
        plotting.turning_animation(network, image, path, frames=1)
    with assert_refused("path must end in .gif", "turning.mp4"):
        plotting.turning_animation(network, image, tmp_path / "turning.mp4")
    with assert_refused("image must be a single square one, [x, x, 1, c], got shape (28, 26, 1, 1)"):
        plotting.turning_animation(network, image[:, :26], path)
    with assert_refused("layer must be one of those with attention, 0, 1, 2, 3, 4, 5, 6; got 7"):
        plotting.turning_animation(network, image, path, layer=7)
    with assert_refused("frames_per_second must be in (0, 50], got 0"):
        plotting.turning_animation(network, image, path, frames_per_second=0)
    with assert_refused("attention maps of one pixel cannot be seen turning"):
        plotting.turning_animation(made(P4, "input_channel", 3), image, path, frames=2)
    with assert_refused("this attention has one map for all output channels"):
        plotting.turning_animation(network, image, path, frames=2, channel=0)
    assert not path.exists()


def test_filters_and_errors_that_cannot_be_shown_are_refused():
    image = random(1, 28, 28, 1, 1)
    layer = GroupConv(2, 5, 3, P4, rngs=nnx.Rngs(0))
    with assert_refused("input channels must be some of 0 to 1, got [2]"):
        plotting.layer_filters_figure(layer, c_in=2)
    with assert_refused("output channels must be some of 0 to 4, got [0, 5]"):
        plotting.layer_filters_figure(layer, c_out=[0, 5])
    with assert_refused("layer must be a group convolution, with a filter `w` and a `group`, got BatchNorm"):
        plotting.layer_filters_figure(made(trivial()).norms[0])
    with assert_refused("layer_errors needs", "group must be cyclic(4), got dihedral(4)"):
        plotting.layer_errors(made(P4, "input"), image, dihedral(4))
    with assert_refused("images must be given to measure the errors of a network"):
        plotting.equivariance_figure({"z2": made(trivial())})
    with assert_refused("there is nothing to draw"):
        plotting.equivariance_figure({})
    with assert_refused("must have the same layers", "logits"):
        plotting.equivariance_figure({"one": [("layer 1", 0.1)], "other": [("logits", 0.1)]})
    with assert_refused("errors must be finite and at least 0", "nan"):
        plotting.equivariance_figure([("layer 1", float("nan"))])


def test_what_cannot_be_shown_is_refused():
    image = random(1, 28, 28, 1, 1)
    response = made(P4, "response_channel")
    with assert_refused("layer must be one of those with attention, 0, 1, 2, 3, 4, 5, 6; got 7"):
        plotting.attention_figure(response, image, P4, layer=7)
    with assert_refused("output channels must be some of 0 to 1, got [0, 2]"):
        plotting.attention_figure(response, image, P4, layer=1, elements=[0, 1], channels=[0, 2])
    with assert_refused("output channels must be some of 0 to 1, got [-1]"):
        plotting.response_figure(response, image[0], channel=-1)
    with assert_refused("output channels must be some of 0 to 1, got []"):
        plotting.attention_figure(response, image, P4, layer=1, elements=[0, 1], channels=np.array([], int))
    with assert_refused("elements of cyclic(4) must be some of 0 to 3, got [4]"):
        plotting.response_figure(response, image[0], elements=[4])
    with assert_refused("elements of cyclic(4) must be some of 0 to 3, got []"):
        plotting.attention_figure(response, image, P4, elements=[])
    with assert_refused("layer must be one of those with attention, 0, 1, 2, 3, 4, 5, 6; got 1.0"):
        plotting.attention_figure(response, image, P4, layer=1.0)
    with assert_refused("input channels must be some of 0 to 1, got [9]"):
        plotting.filter_bank_figure(random(3, 3, 4, 2, 4, 3), P4, c_in=9)
    with assert_refused("image must be a single one, [x, y, 1, c], got shape (1, 28, 28, 1, 1)"):
        plotting.response_figure(response, image)
    with assert_refused("images must be [image, x, y, 1, c], one at least, got shape (28, 28, 1, 1)"):
        plotting.attention_figure(response, image[0], P4)
    with assert_refused("images must be [image, x, y, 1, c], one at least, got shape (0, 28, 28, 1, 1)"):
        plotting.attention_figure(response, image[:0], P4)
    with assert_refused("this attention has one map for all output channels: leave out channels"):
        plotting.attention_figure(made(trivial(), "input"), image, P4, channels=[0])
    with assert_refused("attends to inputs, not to responses: its attention is input"):
        plotting.response_figure(made(P4, "input"), image[0])
    with assert_refused("turned_back needs", "group must be cyclic(4), got dihedral(2)"):
        plotting.attention_figure(response, image, dihedral(2), turned_back=True)
    with assert_refused("turned_back compares the maps of several elements, got one"):
        plotting.attention_figure(response, image, P4, elements=[3], turned_back=True)
    with assert_refused("the network has no attention"):
        plotting.response_figure(made(trivial()), image[0])
