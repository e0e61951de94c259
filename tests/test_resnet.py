"""The ResNets: their published sizes, the grids they stand on, their invariance, and the textbook beside them."""

import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_close, assert_refused, random, relative_error
from jax import lax
from networks import leaves

from attgconv_jax import Group, Sampling, cyclic, dihedral, equivariance_error, max_pool, trivial
from attgconv_jax.attention import OPERATORS
from attgconv_jax.models.residual import place
from attgconv_jax.models.resnet import ARCHITECTURES, ConvNorm, ResNet
from attgconv_jax.models.skeleton import skeleton
from attgconv_jax.nn import SelectiveKernelGroupConv

P4, P4M = cyclic(4), dihedral(4)


def shapes_of(depth, group, attention=None, **settings):
    return nnx.eval_shape(lambda: ResNet(depth, group, attention, **settings, rngs=nnx.Rngs(0)))


def count(network):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))


def sge_weights(network):
    return [block.attention.weights.weight for stage in network.stages for block in stage]


@functools.cache
def parameters(depth, group, attention):
    """How many the network of default width has."""
    return count(shapes_of(depth, group, attention))


def output_shape(network, image_shape, function=lambda network, image: network(image)):
    """What the function would return of the network and an image, without arrays."""
    graphdef, state = nnx.split(network)
    image = jax.ShapeDtypeStruct(image_shape, jnp.float32)
    return jax.eval_shape(lambda state, image: function(nnx.merge(graphdef, state), image), state, image)


def random_resnet(depth, group, attention=None, *, features=8, classes=5, seed=0, **settings):
    """A narrow network in evaluation mode, with random numbers in every parameter and running statistic."""
    settings |= dict(features=features, classes=classes)
    generator = np.random.default_rng(seed)
    graphdef, arrays, rest = skeleton(lambda: ResNet(depth, group, attention, **settings, rngs=nnx.Rngs(0)))

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            values = generator.uniform(0.5, 1.5, leaf.shape)
        elif leaf.ndim == 1:
            values = generator.uniform(0, 1, leaf.shape)
        else:
            values = generator.standard_normal(leaf.shape) * (leaf.shape[-1] / math.prod(leaf.shape)) ** 0.5
        return jnp.asarray(values, leaf.dtype)

    nnx.replace_by_pure_dict(arrays, jax.tree_util.tree_map_with_path(draw, nnx.to_pure_dict(arrays)))
    network = nnx.merge(graphdef, arrays, rest)
    network.eval()
    return network


@pytest.fixture
def shallow(monkeypatch):
    """Five blocks at every depth: the deep networks take seconds to trace, and their blocks are counted below."""
    for depth, architecture in ARCHITECTURES.items():
        monkeypatch.setitem(ARCHITECTURES, depth, architecture._replace(blocks=(1, 2, 1, 1)))


@pytest.mark.parametrize(
    ("depth", "attention", "millions"),
    [
        (50, None, 25.56),
        (50, "sge", 25.56),
        (50, "se", 28.09),
        (50, "cbam", 28.09),
        (50, "bam", 25.92),
        (50, "sk", 26.15),
        (101, None, 44.55),
        (101, "sge", 44.55),
        (101, "se", 49.33),
    ],
)
@pytest.mark.default("50-se-28.09", "50-sk-26.15", "101-None-44.55")
def test_parameter_counts_are_the_published_ones(depth, attention, millions):
    assert parameters(depth, trivial(), attention) == pytest.approx(millions * 1e6, rel=1e-3)


# Of PyTorch's own networks; SGE adds two numbers a group and block.
@pytest.mark.parametrize(
    ("depth", "plain", "blocks"),
    [(18, 11_689_512, 8), (34, 21_797_672, 16), (50, 25_557_032, 16), (101, 44_549_160, 33)],
)
@pytest.mark.default("18-11689512-8", "50-25557032-16")
def test_plain_networks_have_the_textbook_number_of_parameters_and_sge_next_to_none_more(depth, plain, blocks):
    assert parameters(depth, trivial(), None) == plain
    assert parameters(depth, trivial(), "sge") == plain + 2 * 64 * blocks


@pytest.mark.parametrize(("depth", "group", "features"), [(18, P4, 32), (50, P4M, 24), (18, cyclic(8), 24)], ids=str)
def test_the_default_width_keeps_the_parameters_about_equal_on_every_group(depth, group, features):
    # Of filters that are free in every pixel.
    network = shapes_of(depth, group, "sge", sampling=Sampling("bilinear"))
    assert network.settings["features"] == features
    assert {weight.shape for weight in sge_weights(network)} == {(features,)}
    assert count(network) == pytest.approx(parameters(depth, trivial(), "sge"), rel=0.15)


@pytest.mark.parametrize("group", [P4, P4M], ids=str)
def test_every_grid_of_a_225_pixel_image_is_symmetric(group):
    network = shapes_of(18, group, "sge")
    lifted = output_shape(network, (1, 225, 225, 1, 3), lambda network, image: network.lifting(image))
    assert lifted.shape == (1, 113, 113, group.order, network.settings["features"])
    maps = output_shape(network, (1, 225, 225, 1, 3), lambda network, image: network.attention_maps(image))
    assert maps[0] is maps[-1] is None
    assert [alpha.shape[1:4] for alpha in maps[1:-1]] == [(n, n, group.order) for n in (57, 57, 29, 29, 15, 15, 8, 8)]
    assert output_shape(network, (1, 225, 225, 1, 3)).shape == (1, 1000)


@pytest.mark.parametrize(
    ("group", "shape", "message"),
    [
        (
            P4,
            (224, 224),
            "along x, and strides of 2 sample it off centre: cyclic(4) needs (size - 1) divisible by 32; ",
        ),
        (P4M, (224, 224), "take 225 or 193, or pass exact=False"),
        (P4M, (225, 231), "image has 231 pixels along y"),
        (P4M, (20, 33), "take 33, or pass exact=False"),
        (dihedral(1), (40, 33), "image has 40 pixels along x"),
    ],
    ids=str,
)
def test_a_size_that_is_sampled_off_centre_is_refused_at_once_with_those_that_work(group, shape, message):
    with assert_refused(message) as caught:
        shapes_of(18, group, features=8)(jnp.ones((1, *shape, 1, 3)))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("group", "shape", "settings"),
    [(trivial(), (224, 224), {}), (P4M, (224, 224), dict(exact=False)), (dihedral(1), (33, 40), {})],
    ids=str,
)
def test_other_sizes_are_taken_where_the_group_asks_nothing_of_them(group, shape, settings):
    network = shapes_of(18, group, features=8, **settings)
    assert output_shape(network, (2, *shape, 1, 3)).shape == (2, 1000)


@pytest.mark.parametrize(("group", "attention"), [(P4, "sge"), (P4M, "sge"), (P4, "cbam"), (P4M, "non_local")], ids=str)
@pytest.mark.default("cyclic(4)-sge")
def test_logits_are_invariant(group, attention):
    function = jax.jit(random_resnet(18, group, attention))
    images = random(2, 33, 33, 1, 3).astype(jnp.float32)
    outputs = function(images)
    assert outputs.dtype == jnp.float32
    assert relative_error(outputs[0], outputs[1]) > 1e-3
    assert equivariance_error(function, images, group, output="invariant") < 1e-5


def test_logits_are_not_invariant_on_grids_that_are_not_symmetric(shallow):
    function = jax.jit(random_resnet(18, P4, "sge", exact=False))
    assert equivariance_error(function, random(2, 36, 36, 1, 3).astype(jnp.float32), P4, output="invariant") > 1e-3


def textbook(arrays, image, scales):
    """The network on the trivial group, in `lax` alone, from its arrays by name."""
    numbers = dict(dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def conv_norm(f, name, stride=1):
        w = arrays[f"{name}.conv.w"][:, :, 0]
        padding = w.shape[0] // 2
        f = lax.conv_general_dilated(f, w, (stride, stride), [(padding, padding)] * 2, **numbers)
        norm = {key: arrays[f"{name}.norm.{key}"] for key in ("mean", "var", "scale", "bias")}
        return (f - norm["mean"]) / jnp.sqrt(norm["var"] + 1e-5) * norm["scale"] + norm["bias"]

    f = jax.nn.relu(conv_norm(image[..., 0, :], "lifting", 2))
    f = lax.reduce_window(f, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), [(0, 0), (1, 1), (1, 1), (0, 0)])
    for stage, count in enumerate((1, 2, 1, 1)):
        for block in range(count):
            name = f"stages.{stage}.{block}"
            stride = 2 if stage > 0 and block == 0 else 1
            bottleneck = f"{name}.branch.2.conv.w" in arrays
            residual = conv_norm(f, f"{name}.branch.0", 1 if bottleneck else stride)
            residual = conv_norm(jax.nn.relu(residual), f"{name}.branch.1", stride if bottleneck else 1)
            if bottleneck:
                residual = conv_norm(jax.nn.relu(residual), f"{name}.branch.2")
            if scales:
                residual = jax.nn.sigmoid(jnp.mean(residual, axis=(1, 2), keepdims=True)) * residual
            projects = f"{name}.shortcut.conv.w" in arrays
            f = jax.nn.relu(residual + (conv_norm(f, f"{name}.shortcut", stride) if projects else f))
    return jnp.mean(f, axis=(1, 2)) @ arrays["classifier.kernel"] + arrays["classifier.bias"]


# Gather-Excite without parameters shows that attention is on what the branch adds.
@pytest.mark.parametrize(
    ("depth", "settings"), [(18, dict(attention="ge", attention_options=dict(excite=False))), (50, {})], ids=str
)
def test_on_the_trivial_group_it_is_the_textbook_network(shallow, depth, settings):
    network = random_resnet(depth, trivial(), features=4, param_dtype=jnp.float64, **settings)
    image = random(2, 40, 36, 1, 3)
    expected = jax.jit(functools.partial(textbook, scales="attention" in settings))(leaves(network), image)
    assert_close(jax.jit(network)(image), expected, 1e-10)


def test_selective_kernels_take_the_place_of_the_bottlenecks_3x3_convolutions(shallow):
    network = random_resnet(50, P4, "sk")
    for stage in network.stages:
        for block in stage:
            assert [type(layer) for layer in block.branch] == [ConvNorm, SelectiveKernelGroupConv, ConvNorm]
    logits = jax.jit(network)(random(2, 33, 33, 1, 3).astype(jnp.float32))
    assert logits.shape == (2, 5)
    assert np.all(np.isfinite(logits))
    maps = output_shape(network, (2, 33, 33, 1, 3), lambda network, image: network.attention_maps(image))
    assert [alpha.shape for alpha in maps[1:-1]] == [(2, 1, 1, 4, width) for width in (8, 16, 16, 32, 64)]


@pytest.mark.parametrize(
    ("depth", "attention", "blocks"),
    [
        (18, "se", [[0, 1], [0, 1], [0, 1], [0, 1]]),
        (18, "bam", [[1], [1], [1], []]),
        (18, "non_local", [[], [1], [1], []]),
        (34, "non_local", [[], [1, 3], [1, 3, 5], []]),
        (101, "non_local", [[], [1, 3], [6, 13, 20], []]),
    ],
    ids=str,
)
def test_attention_is_in_the_blocks_where_its_paper_has_it(depth, attention, blocks):
    network = shapes_of(depth, trivial(), attention, features=8)
    assert [[i for i, block in enumerate(stage) if block.attention is not None] for stage in network.stages] == blocks


def test_attention_maps_are_those_of_the_blocks_that_attend(shallow):
    network = random_resnet(18, cyclic(2), "bam", features=4)
    image = random(2, 33, 33, 1, 3).astype(jnp.float32)
    block = network.stages[0][0]

    @jax.jit
    def run(image):
        f = max_pool(jax.nn.relu(network.lifting(image)), cyclic(2), window=3, stride=2, padding=1)
        before = jax.nn.relu(f + block.branch[1](jax.nn.relu(block.branch[0](f))))
        return network.attention_maps(image)[1], block(f), before, block.attention.attention_maps(before)

    alpha, attended, before, expected = run(image)
    assert_close(alpha, expected, 1e-6)
    assert_close(attended, (1 + expected) * before, 1e-6)
    maps = output_shape(network, image.shape, lambda network, image: network.attention_maps(image))
    assert network.attending_layers == [1, 3, 4]
    assert [i for i, alpha in enumerate(maps) if alpha is not None] == network.attending_layers
    assert [maps[i].shape for i in network.attending_layers] == [(2, n, n, 2, c) for n, c in ((9, 4), (5, 8), (3, 16))]


@pytest.mark.parametrize("attention", [name for name in OPERATORS if place(name)])
@pytest.mark.default("sk", "sge", "srm")
def test_every_attention_runs_in_bfloat16_and_comes_back_from_its_settings(shallow, attention):
    depth = 50 if attention == "sk" else 18
    network = shapes_of(depth, P4M, attention, features=8, classes=3, in_features=2, dtype=jnp.bfloat16)
    logits = output_shape(network, (1, 33, 33, 1, 2))
    assert logits.shape == (1, 3)
    assert logits.dtype == jnp.bfloat16
    settings = json.loads(json.dumps(network.settings))
    settings |= dict(group=Group(**settings["group"]), dtype=jnp.dtype(settings["dtype"]))
    settings["sampling"] = Sampling(**settings["sampling"])
    again = nnx.eval_shape(lambda: ResNet(**settings, rngs=nnx.Rngs(0)))
    assert nnx.split(again)[0] == nnx.split(network)[0]
    # It can be a static argument.
    assert isinstance(hash(nnx.split(network)[0]), int)


def test_options_of_the_attention_can_be_chosen_and_are_kept_in_the_settings():
    network = shapes_of(18, trivial(), "se", attention_options=dict(reduction=4))
    assert network.settings["attention_options"] == {"reduction": 4}
    assert count(network) > count(shapes_of(18, trivial(), "se"))


@pytest.mark.parametrize(
    ("depth", "settings", "message"),
    [
        (20, {}, "depth must be one of 18, 34, 50, 101, got 20"),
        (
            18,
            dict(attention="input"),
            "attention must be None or one of bam, cbam, coordinate, eca, gc, ge, non_local, se, sge, sk, srm, got "
            "'input'",
        ),
        (
            18,
            dict(attention="se", attention_options={"hidden_features": [1, 2]}),
            "attention_options must hold one hidden_features, or 4, one per stage, got [1, 2]",
        ),
        (18, dict(attention_options=dict(reduction=4)), "attention_options need an attention, got {'reduction': 4}"),
        (18, dict(features=0), "features must be an integer of at least 1, got 0"),
        (18, dict(classes=True), "classes must be an integer of at least 1, got True"),
    ],
    ids=str,
)
def test_bad_settings_are_refused_and_the_right_ones_named(depth, settings, message):
    with assert_refused(message):
        shapes_of(depth, P4, **settings)


@pytest.mark.parametrize("shape", [(33, 33, 3), (1, 33, 33, 1, 1), (1, 33, 33, 4, 3)], ids=str)
def test_an_image_of_another_rank_or_of_other_channels_is_refused(shape):
    with assert_refused("image must be [..., x, y, 1, 3], got shape", str(shape)):
        shapes_of(18, P4, features=8)(jnp.ones(shape))


def test_a_network_without_attention_has_no_maps():
    with assert_refused("no attention"):
        shapes_of(18, P4, features=8).attention_maps(jnp.ones((1, 33, 33, 1, 3)))
