"""The residual networks for CIFAR, narrow and wide: sizes, invariance, attention, and the textbook beside them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_close, assert_refused, random
from jax import lax
from networks import count, error_of_generators, invariance_error, leaves, random_network

from attgconv_jax import cyclic, dihedral, equivariance_error, mean_pool, smooth_max_pool, trivial
from attgconv_jax.models import CIFARResNet, WideResNet

P4, P4M = cyclic(4), dihedral(4)
# The shallowest with all that deep ones have.
NARROW = functools.partial(CIFARResNet, depth=8)
WIDE = functools.partial(WideResNet, 10, 2)


def shapes_of(make, group, attention=None, **settings):
    return nnx.eval_shape(lambda: make(group=group, attention=attention, **settings, rngs=nnx.Rngs(0)))


def shapes(function, network, size=32):
    """Of what a function returns of a network and images."""
    graphdef, state = nnx.split(network)
    image = jax.ShapeDtypeStruct((2, size, size, 1, network.in_features), jnp.float32)
    return jax.eval_shape(lambda state, image: function(nnx.merge(graphdef, state), image), state, image)


@pytest.mark.parametrize(
    ("group", "attention", "expected"),
    [
        (trivial(), None, 2_636_064),
        (P4, None, 2_633_744),
        (P4, "input", 2_677_612),
        (P4M, None, 2_621_683),
        (P4M, "input", 2_693_911),
    ],
    ids=str,
)
@pytest.mark.default("trivial()-None-2636064", "dihedral(4)-input-2693911")
def test_resnet_44_has_the_published_number_of_parameters(group, attention, expected):
    assert count(shapes_of(CIFARResNet, group, attention)) == expected


# Of the authors' code for PyTorch, with ten classes.
@pytest.mark.parametrize(("depth", "factor", "expected"), [(16, 8, 10_961_370), (28, 10, 36_479_194)])
@pytest.mark.default("16-8-10961370")
def test_wide_resnets_have_the_published_number_of_parameters(depth, factor, expected):
    plain = count(shapes_of(functools.partial(WideResNet, depth, factor), trivial()))
    assert plain == expected
    for group in (P4, P4M):
        ratio = count(shapes_of(functools.partial(WideResNet, depth, factor), group)) / plain
        assert 0.95 < ratio < 1.15


@pytest.mark.parametrize(
    ("make", "group", "attention"),
    [
        (NARROW, P4, "input"),
        (NARROW, P4M, "response"),
        (NARROW, P4, "sk"),
        (WIDE, P4M, "se"),
        (WIDE, P4M, "non_local"),
        (WIDE, P4, "bam"),
    ],
    ids=lambda value: {NARROW: "narrow", WIDE: "wide"}.get(value) if callable(value) else str(value),
)
@pytest.mark.default("narrow-cyclic(4)-input", "wide-dihedral(4)-se")
def test_logits_are_invariant(make, group, attention):
    function = jax.jit(random_network(group, attention, make=make, features=4, classes=3))
    assert invariance_error(function, random(2, 32, 32, 1, 3), group, depend=1e-5) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "group", "attention"),
    [
        (CIFARResNet, P4M, "input"),
        (functools.partial(WideResNet, 16, 8), P4M, None),
    ],
    ids=["44-alpha_F-p4m", "16-8-p4m"],
)
def test_logits_of_the_deepest_and_of_a_wider_network_are_invariant(make, group, attention):
    function = jax.jit(random_network(group, attention, make=make))
    assert error_of_generators(function, random(2, 32, 32, 1, 3), group) < 1e-10


def textbook(arrays, image, blocks, stride):
    """The wide network on the trivial group, in `lax` alone, from its arrays by name."""
    numbers = dict(dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def conv(f, name, stride=1):
        w = arrays[f"{name}.w"][:, :, 0]
        padding = w.shape[0] // 2
        return lax.conv_general_dilated(f, w, (stride, stride), [(padding, padding)] * 2, **numbers)

    def norm_relu(f, name):
        mean, var, scale, bias = (arrays[f"{name}.{key}"] for key in ("mean", "var", "scale", "bias"))
        return jax.nn.relu((f - mean) / jnp.sqrt(var + 1e-5) * scale + bias)

    def pool(f):
        return lax.reduce_window(f, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    f = conv(image[..., 0, :], "lifting")
    for stage in range(3):
        for block in range(blocks):
            name, halves = f"stages.{stage}.{block}", stage > 0 and block == 0
            by = 2 if halves and stride else 1
            after = pool if halves and not stride else lambda f: f
            active = norm_relu(f, f"{name}.norms.0")
            residual = norm_relu(after(conv(active, f"{name}.convolutions.0", by)), f"{name}.norms.1")
            residual = conv(residual, f"{name}.convolutions.1")
            f = residual + (f if block else after(conv(active, f"{name}.shortcut", by)))
    return jnp.mean(norm_relu(f, "norm"), axis=(1, 2)) @ arrays["classifier.kernel"] + arrays["classifier.bias"]


@pytest.mark.parametrize("downsampling", ["stride", "pool"])
def test_on_the_trivial_group_the_wide_network_is_the_textbooks(downsampling):
    make = functools.partial(WideResNet, 16, 2)
    network = random_network(trivial(), make=make, features=2, downsampling=downsampling)
    image = random(2, 32, 32, 1, 3)
    expected = jax.jit(functools.partial(textbook, blocks=2, stride=downsampling == "stride"))(leaves(network), image)
    assert_close(jax.jit(network)(image), expected, 1e-10)


def test_strides_on_a_group_are_refused_unless_exactness_is_given_up():
    with assert_refused('downsampling must be "pool" on cyclic(4)', 'got "stride"; or pass exact=False'):
        shapes_of(WIDE, P4, downsampling="stride")
    network = random_network(P4, make=WIDE, features=2, downsampling="stride", exact=False)
    assert equivariance_error(jax.jit(network), random(2, 32, 32, 1, 3), P4, output="invariant") > 1e-3
    plain = shapes_of(NARROW, trivial(), downsampling="stride")
    assert shapes(lambda network, image: network(image), plain).shape == (2, 10)


@pytest.mark.parametrize(
    ("attention", "layers"),
    [
        # The lifting convolution, the blocks' (from the second stage on with a shortcut before them), the classifier.
        ("input", range(10)),
        ("co", range(10)),
        ("sk", [0, 1, 2, 4, 5, 7, 8]),
        # What every block adds, behind its convolutions.
        ("se", [3, 7, 11]),
        ("bam", [3, 7]),
        ("non_local", [6]),
    ],
)
@pytest.mark.default("input-layers0", "se-layers3", "bam-layers4")
def test_attention_is_in_convolutions_on_branches_or_between_stages(attention, layers):
    network = shapes_of(NARROW, P4, attention, features=4)
    network.eval()
    assert network.attending_layers == [*layers]
    maps = shapes(lambda network, image: network.attention_maps(image), network)
    assert [i for i, alpha in enumerate(maps) if alpha is not None] == [*layers]
    assert len(maps) == len(shapes(lambda network, image: network.feature_maps(image), network)) - 1


def test_attention_maps_are_those_of_what_a_block_adds():
    network = random_network(P4, "se", make=NARROW, features=2)
    image, block = random(1, 32, 32, 1, 3), network.stages[0][0]

    @jax.jit
    def run(image):
        f = network.lifting(image)
        added = block.convolutions[1](
            jax.nn.relu(block.norms[1](block.convolutions[0](jax.nn.relu(block.norms[0](f)))))
        )
        alpha = block.attention.attention_maps(added)
        after = f + alpha * added
        # What enters the next block's shortcut.
        return network.attention_maps(image)[3], alpha, network.feature_maps(image)[4], after

    found, alpha, entering, after = run(image)
    assert_close(found, alpha)
    assert_close(entering, after)


def test_hidden_channels_of_the_papers_attention_are_two():
    network = shapes_of(CIFARResNet, P4M, "input", depth=8)
    assert network.lifting.attention.weights.channel.w1.shape == (3, 3, 1)
    for block in network._blocks():
        for layer in block.convolutions:
            assert layer.attention.weights.channel.w1.shape[0] == 2
            assert layer.attention.weights.spatial.shape == (7, 7, 8, 2, 1)
    assert network.classifier.attention.weights.channel.w1.shape == (2, 45, 8)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (functools.partial(WideResNet, 16, 8), [1, 8, 16, 32]),
        (functools.partial(CIFARResNet, features=(11, 32, 64), depth=8), [1, 1, 2, 4]),
        (
            functools.partial(CIFARResNet, features=(11, 32, 64), depth=8, attention_options=dict(reduction=2)),
            [5, 5, 16, 32],
        ),
    ],
    ids=["wide", "narrow", "chosen"],
)
def test_selective_kernels_choose_by_a_sixteenth_of_their_output_channels(make, expected):
    network = shapes_of(make, trivial(), "sk")
    first = [stage[0].convolutions[0] for stage in network.stages]
    assert [len(layer.w1) for layer in (network.lifting, *first)] == expected


@pytest.mark.parametrize("make", [WIDE, NARROW], ids=["wide", "narrow"])
def test_antialiased_blocks_pool_activations_and_average_shortcuts(make):
    network = random_network(P4, make=make, features=2, antialiased=True)
    block = network.stages[1][0]

    @jax.jit
    def run(f):
        active = jax.nn.relu(block.norms[0](f))
        skipped = mean_pool(block.shortcut(active if make is WIDE else f), P4, antialiased=True)
        smooth = smooth_max_pool(jax.nn.relu(block.norms[1](block.convolutions[0](active))), P4)
        return list(block._features(f))[-1], skipped + block.convolutions[1](smooth)

    found, expected = run(random(1, 8, 8, 4, block.shortcut.w.shape[3]))
    assert_close(found, expected)


def test_dropout_is_between_the_convolutions_in_training_mode_only():
    network = random_network(trivial(), make=WIDE, features=2, dropout_rate=0.5)
    image = random(1, 32, 32, 1, 3)
    run = nnx.jit(lambda network, image: network(image))
    assert np.array_equal(run(network, image), run(network, image))
    for _, module in nnx.iter_modules(network):
        if hasattr(module, "deterministic"):
            module.deterministic = False
    assert not np.allclose(run(network, image), run(network, image))


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (CIFARResNet, dict(depth=45), "depth must be 6 n + 2, such as 8, 14, 20, got 45"),
        (CIFARResNet, dict(depth=2), "depth must be 6 n + 2, such as 8, 14, 20, got 2"),
        (CIFARResNet, dict(features=(4, 8)), "features must be one number or 3, one per stage, got (4, 8)"),
        (CIFARResNet, dict(features=(4, 8, 0)), "features must be an integer of at least 1, got 0"),
        (CIFARResNet, dict(haar="yes"), "haar must be True or False, got 'yes'"),
        (CIFARResNet, dict(attention="self"), "attention must be None or one of bam, cbam, co, "),
        (CIFARResNet, dict(downsampling="mean"), 'downsampling must be one of "pool", "stride", got \'mean\''),
        (functools.partial(WideResNet, 17, 8), {}, "depth must be 6 n + 4, such as 10, 16, 22, got 17"),
        (functools.partial(WideResNet, 16, 0), {}, "widen_factor must be an integer of at least 1, got 0"),
        (WIDE, dict(dropout_rate=1.0), "dropout_rate must be in [0, 1), got 1"),
        (WIDE, dict(antialiased=None), "antialiased must be True or False, got None"),
        (
            CIFARResNet,
            dict(attention="response", implementation="blocks"),
            "got 'blocks'; the attention has one of this name: attention_options=dict(implementation=\"blocks\")",
        ),
    ],
    ids=lambda value: next(iter(value), "depth") if isinstance(value, dict) else "",
)
def test_bad_settings_are_refused_and_the_right_ones_named(make, settings, message):
    with assert_refused(message):
        shapes_of(make, P4, **settings)


def test_an_image_of_another_size_is_refused():
    with assert_refused("[..., 32, 32, 1, 3]", "(2, 28, 28, 1, 3)"):
        shapes_of(NARROW, P4, features=2)(jnp.ones((2, 28, 28, 1, 3)))
