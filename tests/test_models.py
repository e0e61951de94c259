"""The networks: their sizes, their invariance, and the reference's numbers to the last digits."""

import functools
import itertools

import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest
from compilation import optimised
from flax import nnx
from helpers import assert_close, assert_refused, random, relative_error
from networks import count, invariance_error

from attgconv_jax import act, cyclic, dihedral, trivial
from attgconv_jax.attention import OPERATORS
from attgconv_jax.interop import REFERENCE_NETWORKS, load_reference
from attgconv_jax.models import AllCNN, CIFARResNet, DenseNet, RotMNISTNet
from attgconv_jax.models.skeleton import ARRAYS
from attgconv_jax.nn import Dropout

# The other operators' networks are in test_nn_operators.py.
EVERY_ATTENTION = [None, "input", "input_channel", "input_spatial", "co"]
RESPONSE_ATTENTIONS = ["response", "response_channel", "response_spatial"]
P4, P4M = cyclic(4), dihedral(4)
# What attends is tested on every group function by function.
OTHER_GROUPS = [trivial(), cyclic(2), dihedral(1), dihedral(2)]
SMALL_REFERENCE_FILES = ["z2cnn", "p4cnn", "f_att_p4cnn", "att_p4cnn"]
REFERENCE_FILES = [*SMALL_REFERENCE_FILES, "p4m_allcnnc", "f_att_p4_allcnnc", "p4m_resnet44", "p4_densenet"]


def _sizes_in_resnet():
    for size, before in ((32, 32), (16, 32), (8, 16)):
        for block in range(7):
            yield f"layers_nc{size}.{block}.bn1", size if block else before
            yield f"layers_nc{size}.{block}.bn2", size


# Of the maps that every batch norm sees, along one axis.
NORM_SIZES = {
    RotMNISTNet: {f"bn{i}": size for i, size in enumerate((26, 24, 10, 8, 6, 4), 1)},
    AllCNN: {f"bn{i}": size for i, size in enumerate((32, 32, 16, 16, 16, 8, 8, 8, 8), 1)},
    CIFARResNet: {**dict(_sizes_in_resnet()), "bn_out": 8},
    DenseNet: {
        **{f"block_layers.{i}.bn": size for i, size in enumerate((94, 46, 22, 10, 4))},
        **{f"trans_layers.{i}.bn": size for i, size in enumerate((92, 44, 20, 8))},
        "bn_out": 2,
    },
}


@pytest.mark.parametrize(
    ("group", "attention", "expected"),
    [
        (trivial(), None, 21_620),
        (cyclic(4), None, 24_610),
        (cyclic(4), "input", 29_462),
        (cyclic(4), "co", 24_851),
        (cyclic(4), "response", 73_130),
        (cyclic(4), "response_channel", 48_630),
        (cyclic(4), "response_spatial", 49_110),
        (dihedral(4), None, 49_010),
        (dihedral(4), "input", 58_614),
    ],
    ids=str,
)
def test_parameter_counts_are_the_published_ones(group, attention, expected):
    assert count(nnx.eval_shape(lambda: RotMNISTNet(group, attention, rngs=nnx.Rngs(0)))) == expected


def test_the_number_of_features_channels_and_classes_can_be_chosen():
    network = networks.random_network(cyclic(2), features=3, in_features=2, classes=4)
    assert network.convolutions[0].w.shape == (3, 3, 1, 2, 3)
    assert networks.logits(network, random(5, 28, 28, 1, 2)).shape == (5, 4)


def test_batch_axes_may_be_several_or_none():
    network = networks.random_network(cyclic(2), features=2)
    images = random(2, 3, 28, 28, 1, 1)
    together = networks.logits(network, images)
    assert together.shape == (2, 3, 10)
    assert_close(networks.logits(network, images[1, 2]), together[1, 2])


@pytest.mark.parametrize(
    ("group", "attention"),
    [*itertools.product([P4, P4M], EVERY_ATTENTION), *itertools.product(OTHER_GROUPS, [None, "input"])],
    ids=str,
)
def test_logits_are_invariant(group, attention):
    function = jax.jit(networks.random_network(group, attention))
    assert invariance_error(function, random(2, 28, 28, 1, 1), group) < 1e-10


@pytest.mark.parametrize("attention", EVERY_ATTENTION)
@pytest.mark.parametrize("group", [cyclic(4), dihedral(4)], ids=str)
@pytest.mark.default("cyclic(4)-input_channel", "dihedral(4)-input_spatial")
def test_logits_are_invariant_in_float32(group, attention):
    # With seed 0 the logits of alpha_F-p4m are 1,300, of differences that magnify rounding ten thousand times.
    function = jax.jit(networks.random_network(group, attention, param_dtype=jnp.float32, seed=1))
    image = random(2, 28, 28, 1, 1).astype(jnp.float32)
    assert function(image).dtype == jnp.float32
    # Rounding alone: 1.02e-5 for co-attentive p4m with random weights under JAX 0.12, less for all others.
    assert invariance_error(function, image, group) < 2e-5


@pytest.mark.parametrize(
    ("group", "attention"),
    [*itertools.product([P4, P4M], RESPONSE_ATTENTIONS), (dihedral(1), "response"), (dihedral(2), "response")],
    ids=str,
)
@pytest.mark.default("cyclic(4)-response_spatial", "dihedral(1)-response")
def test_logits_of_response_attention_are_invariant(group, attention):
    function = jax.jit(networks.random_network(group, attention, features=4))
    assert invariance_error(function, random(2, 28, 28, 1, 1), group, depend=1e-5) < 1e-10


@pytest.mark.parametrize("group", [cyclic(4), dihedral(4)], ids=str)
@pytest.mark.slow
def test_logits_of_response_attention_are_invariant_in_float32(group):
    function = jax.jit(networks.random_network(group, "response", features=4, param_dtype=jnp.float32))
    image = random(2, 28, 28, 1, 1).astype(jnp.float32)
    assert function(image).dtype == jnp.float32
    assert invariance_error(function, image, group) < 2e-5


@pytest.mark.parametrize("attention", [None, "input", "response"])
@pytest.mark.parametrize("group", [trivial(), cyclic(4), dihedral(4)], ids=str)
@pytest.mark.default("trivial()-None", "cyclic(4)-input")
def test_all_cnn_is_invariant(group, attention):
    function = jax.jit(networks.random_network(group, attention, make=AllCNN, features=4, classes=3))
    image = random(2, 32, 32, 1, 3)
    assert function(image).shape == (2, 3)
    assert invariance_error(function, image, group, depend=1e-5) < 1e-10


@pytest.mark.parametrize(
    ("group", "attention", "expected"),
    [
        (trivial(), None, 1_370_996),
        (cyclic(4), None, 1_370_372),
        (cyclic(4), "input", 1_400_120),
        (cyclic(4), "response", 3_642_388),
        (dihedral(4), None, 1_219_252),
        (dihedral(4), "input", 1_249_192),
        (dihedral(4), "response", 2_752_468),
    ],
    ids=str,
)
def test_all_cnn_parameter_counts(group, attention, expected):
    network = nnx.eval_shape(lambda: AllCNN(group, attention, rngs=nnx.Rngs(0)))
    assert count(network) == expected
    with assert_refused("[..., 32, 32, 1, 3]", "(2, 28, 28, 1, 3)"):
        network(jnp.ones((2, 28, 28, 1, 3)))


def test_logits_are_not_invariant_under_a_larger_group():
    function = jax.jit(networks.random_network(cyclic(4), "input"))
    assert invariance_error(function, random(2, 28, 28, 1, 1), dihedral(4)) > 1e-3


@pytest.mark.parametrize(
    ("group", "attention"), [(cyclic(8), None), (cyclic(8), "input"), (dihedral(8), None)], ids=str
)
def test_interpolated_groups_run_and_keep_right_angles_exact(group, attention):
    function = jax.jit(networks.random_network(group, attention, features=4))
    x, y = np.meshgrid(*[np.linspace(-1, 1, 28)] * 2, indexing="ij")
    blobs = [np.exp(-8 * ((x - 0.2) ** 2 + (y + 0.1) ** 2)), np.exp(-16 * ((x + 0.3) ** 2 + y**2))]
    images = jnp.asarray(blobs)[..., None, None]
    expected = function(images)
    for element in np.flatnonzero(group.preserves_grid):
        assert relative_error(function(act(images, group, int(element), "image")), expected) < 1e-10
    assert 1e-10 < invariance_error(function, images, group) < 0.2


def test_the_axis_that_an_image_lacks_is_named():
    with assert_refused("got shape (2, 28, 28, 1); of images [batch, x, y, c] take image[..., None, :]"):
        networks.random_network(trivial(), features=2)(jnp.ones((2, 28, 28, 1)))


@pytest.mark.parametrize("shape", [(2, 32, 32, 1, 1), (2, 28, 27, 1, 1), (2, 28, 28, 4, 1), (28, 28, 1)])
def test_an_image_of_another_size_is_refused(shape):
    network = networks.random_network(trivial(), features=2)
    with assert_refused("[..., 28, 28, 1, 1]", str(shape)):
        network(jnp.ones(shape))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            dict(attention="spatial"),
            f"attention must be None or one of {', '.join(OPERATORS)}, got 'spatial'",
        ),
        (dict(kind="gc"), 'kind must be one of "nonseparable", "gseparable", "separable", got \'gc\''),
        (dict(haar="yes"), "haar must be True or False, got 'yes'"),
        (dict(sampling="cubic"), "sampling must be a Sampling"),
        (
            dict(attention="response", attention_options=dict(groups=2)),
            "response has no argument 'groups'; it takes channel, spatial, hidden_features, ",
        ),
        (dict(features=0), "features must be an integer of at least 1, got 0"),
        (dict(in_features=-1), "in_features must be an integer of at least 1, got -1"),
        (dict(classes=0), "classes must be an integer of at least 1, got 0"),
        (dict(dropout_rate=1), "dropout_rate must be in [0, 1), got 1"),
        (dict(kernel_init="normal"), "initialiser must be one of he_normal, paper_uniform, paper_normal"),
        (dict(kernel_init=""), "initialiser must be one of he_normal, paper_uniform, paper_normal"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_settings_are_refused_and_the_right_ones_named(settings, message):
    with assert_refused(message):
        nnx.eval_shape(lambda: RotMNISTNet(cyclic(4), **settings, rngs=nnx.Rngs(0)))


def test_attention_maps_are_those_of_the_seven_layers():
    network = networks.random_network(cyclic(4), "co", features=2)
    image = random(3, 28, 28, 1, 1)
    first = network.convolutions[0].attention
    maps, attended = jax.jit(lambda image: (network.attention_maps(image), first(image)))(image)
    assert [alpha.shape[1:4] for alpha in maps] == [(28, 28, 1), *[(n, n, 4) for n in (26, 12, 10, 8, 6, 4)]]
    assert all(bool(jnp.all((alpha > 0) & (alpha < 1))) for alpha in maps)
    assert_close(image - maps[0] * image, attended)
    with assert_refused("no attention"):
        networks.random_network(trivial(), features=2).attention_maps(image)


@functools.partial(optimised, static_argnums=0)
def train_step(graphdef, parameters, rest, image, labels):
    """Loss in training mode, with logits and running statistics afterwards, and its gradients by the parameters."""

    def loss(parameters):
        network = nnx.merge(graphdef, parameters, rest, copy=True)
        outputs = network(image)
        likelihood = jnp.take_along_axis(jax.nn.log_softmax(outputs), labels[:, None], axis=1)
        return -jnp.mean(likelihood), (outputs, nnx.state(network, nnx.BatchStat))

    return jax.value_and_grad(loss, has_aux=True)(parameters)


def test_training_mode_moves_the_running_statistics_a_tenth_of_the_way():
    network = networks.random_network(cyclic(4), features=2)
    image = random(4, 28, 28, 1, 1)
    before = networks.leaves(network)
    responses = np.asarray(jax.jit(network.convolutions[0])(image))
    network.train()
    networks.logits(network, image)
    after = networks.leaves(network)
    for name, value in before.items():
        assert np.array_equal(after[name], value) != name.endswith((".mean", ".var")), name
    for name, statistic in (("norms.0.mean", np.mean), ("norms.0.var", np.var)):
        assert_close(after[name], 0.9 * before[name] + 0.1 * statistic(responses, axis=(0, 1, 2, 3)))


def test_dropout_acts_in_training_mode_only():
    network = networks.random_network(trivial(), features=2)
    image = random(2, 28, 28, 1, 1)
    assert np.array_equal(networks.logits(network, image), networks.logits(network, image))
    network.train()
    assert not np.allclose(networks.logits(network, image), networks.logits(network, image))


def test_bfloat16_computes_close_to_float32_and_keeps_float32_arrays():
    settings = dict(param_dtype=jnp.float32, features=4)
    image = random(4, 28, 28, 1, 1).astype(jnp.float32)
    exact = networks.random_network(cyclic(4), "input", **settings)
    network = networks.random_network(cyclic(4), "input", dtype=jnp.bfloat16, **settings)
    rounded = jax.jit(network)(image)
    assert rounded.dtype == jnp.bfloat16
    assert relative_error(rounded.astype(jnp.float32), jax.jit(exact)(image)) < 0.05
    network.train()

    def arrays_after_training_step(network):
        network(image)
        return nnx.state(network, ARRAYS)

    after = nnx.eval_shape(arrays_after_training_step, network)
    assert {leaf.dtype for leaf in jax.tree.leaves(after)} == {np.dtype(np.float32)}


@pytest.fixture
def load(reference):
    """A reference network with dropout off, its image in our axes, and the file's other arrays."""

    def load(name):
        file = reference(f"models/{name}")
        network = load_reference(file.under("state"), name)
        for _, module in nnx.iter_modules(network):
            if isinstance(module, Dropout):
                module.rate = 0.0
        return network, jnp.asarray(file["input"].transpose(0, 2, 3, 1)[:, :, :, None]), file

    return load


@pytest.mark.parametrize("name", REFERENCE_FILES)
@pytest.mark.default("p4cnn", "f_att_p4cnn", "att_p4cnn")
def test_evaluation_matches_the_reference(load, name):
    network, image, file = load(name)
    assert_close(networks.logits(network, image), file["logits64"], 1e-9)
    network = load_reference(file.under("state") | file.under("bnafter64"), name)
    assert_close(networks.logits(network, image), file["eval_after_bn64/logits"], 1e-9)


# Attention eagerly is tested layer by layer: here it would be compiled operation by operation, for a minute.
@pytest.mark.parametrize(
    ("name", "jit"),
    [*((name, True) for name in REFERENCE_FILES), ("p4cnn", False)],
    ids=lambda value: {True: "jit", False: "eager"}.get(value, value),
)
@pytest.mark.default("p4cnn-jit")
def test_a_training_step_matches_the_reference(load, name, jit):
    network, image, file = load(name)
    old = networks.by_reference_name(network)
    network.train()
    graphdef, parameters, rest = nnx.split(network, nnx.Param, ...)
    step = train_step if jit else train_step.__wrapped__
    (loss, (outputs, statistics)), gradients = step(graphdef, parameters, rest, image, jnp.asarray(file["labels"]))
    assert_close(outputs, file["train64/logits"], 1e-9)
    assert_close(loss, file["train64/loss"], 1e-9)

    expected = file.under("grad64")
    nnx.update(network, statistics)
    ours = networks.by_reference_name(nnx.merge(graphdef, gradients, nnx.state(network, nnx.Not(nnx.Param))))
    # Of the large networks the reference kept some gradients.
    known = {key for key in ours if "running" not in key}
    assert expected.keys() == known or (name not in SMALL_REFERENCE_FILES and {"c1.weight"} < expected.keys() < known)
    for key, gradient in expected.items():
        assert relative_error(ours[key], gradient) < 1e-9, key

    make, group, _ = REFERENCE_NETWORKS[name]
    unbiased = {}
    for norm, size in NORM_SIZES[make].items():
        # PyTorch's running variance is the unbiased one, Flax's the biased one.
        n = image.shape[0] * size**2 * group.order
        kept = 0.9 * old[f"{norm}.running_var"]
        unbiased[f"{norm}.running_var"] = kept + (ours[f"{norm}.running_var"] - kept) * n / (n - 1)
        unbiased[f"{norm}.running_mean"] = ours[f"{norm}.running_mean"]
    for key, statistic in file.under("bnafter64").items():
        if "num_batches" not in key:
            assert_close(unbiased.pop(key), statistic, 1e-9)
    assert not unbiased
