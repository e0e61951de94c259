"""Published networks in ours: names, shapes, logits, the way back, and what fits none."""

import functools
import re

import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest
from flax import nnx
from helpers import assert_close, assert_refused
from published_weights import image_of, loaded, published, state_of

from attgconv_jax import cyclic, trivial
from attgconv_jax.interop import (
    REFERENCE_NETWORKS,
    SOURCES,
    load_published,
    load_reference,
    published_state,
    read_state,
    write_state,
)
from attgconv_jax.interop.loading import complete_settings
from attgconv_jax.interop.recognition import published_names
from attgconv_jax.lie import rotations
from attgconv_jax.models import LieResNet, ResNet, RotMNISTNet

SMALL_SETTINGS = dict(features=4, classes=5)
GROUP = trivial()


# Those of depth 50 are as those of depth 18, but for the block; `published_weights.py` measures all.
DEEPER = "pytorch_insight/gc_resnet50"  # of no other depth
MEASURED = [name for name in published() if name == DEEPER or not name.endswith("50")]


@pytest.mark.parametrize("name", MEASURED)
@pytest.mark.default("pytorch_insight/cbam_resnet18")
def test_a_network_computes_what_the_original_does_and_goes_back_without_a_bit_changed(name):
    state = state_of(name, np.float64)
    network = loaded(name, np.float64)
    back = published_state(network, name.split("/")[0])
    assert back.keys() == state.keys()
    for key, array in state.items():
        assert (back[key].dtype, back[key].shape) == (array.dtype, array.shape), key
        assert back[key].tobytes() == array.tobytes(), key
    logits = jax.jit(network)(image_of(name, np.float64))[:, :10]
    if "logits64" in published()[name]:
        assert_close(logits, published()[name]["logits64"], 1e-10)
    assert_close(logits, published()[name]["logits32"], 1e-4)


def test_every_source_has_the_networks_that_the_fixture_is_of():
    for name in published():
        source, network = name.split("/")
        assert network in SOURCES[source].networks


@pytest.fixture(scope="module")
def small():
    """A ResNet of few channels with random arrays, and its state dict."""
    network = networks.random_network(trivial(), "sge", make=ResNet, depth=18, param_dtype=np.float32, **SMALL_SETTINGS)
    return network, published_state(network, "pytorch_insight")


def test_sizes_may_be_others(small):
    network, state = small
    again = load_published(state, "pytorch_insight", "sge_resnet18", **SMALL_SETTINGS)
    expected = networks.leaves(network)
    assert all(np.array_equal(array, expected[name]) for name, array in networks.leaves(again).items())


def test_norms_go_on_with_pytorchs_variance_if_asked(small):
    state = small[1]
    load = functools.partial(load_published, state, "pytorch_insight", "sge_resnet18", **SMALL_SETTINGS)
    assert load().running_variance == "biased" and load(running_variance="unbiased").running_variance == "unbiased"
    with assert_refused('running_variance must be one of "biased", "unbiased", got True'):
        load(running_variance=True)


def test_data_parallel_states_with_counters_are_taken(small):
    network, state = small
    parallel = {f"module.{name}": array for name, array in state.items()}
    parallel["module.bn1.num_batches_tracked"] = np.array(7)
    again = load_published(parallel, "pytorch_insight", "sge_resnet18", **SMALL_SETTINGS)
    assert np.array_equal(again.classifier.kernel[...], network.classifier.kernel[...])


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
def test_a_network_goes_through_a_file(small, tmp_path, suffix):
    network, state = small
    write_state(tmp_path / f"weights{suffix}", state)
    again = load_published(
        read_state(tmp_path / f"weights{suffix}"), "pytorch_insight", "sge_resnet18", **SMALL_SETTINGS
    )
    expected = networks.leaves(network)
    assert all(array.tobytes() == expected[name].tobytes() for name, array in networks.leaves(again).items())


def refusal(state, network="sge_resnet18", source="pytorch_insight", **settings):
    with assert_refused() as caught:
        load_published(state, source, network, **SMALL_SETTINGS | settings)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_broken_weights_are_one_line_each(small):
    _, state = small
    missing = {name: array for name, array in state.items() if name != "layer2.0.conv1.weight"}
    assert refusal(missing) == "state is not one of sge_resnet18; missing: layer2.0.conv1.weight"
    transposed = state | {"layer2.0.conv1.weight": state["layer2.0.conv1.weight"].swapaxes(0, 1)}
    assert refusal(transposed) == (
        "state is not one of sge_resnet18; misshapen: layer2.0.conv1.weight is (4, 8, 3, 3) instead of (8, 4, 3, 3)"
    )
    assert refusal(state | {"head": np.zeros(3, np.float32)}) == "state is not one of sge_resnet18; extra: head"
    assert "float32, float64" in refusal(state | {"fc.bias": state["fc.bias"].astype(np.float64)})
    assert "NaN or infinity in fc.bias" in refusal(state | {"fc.bias": np.full(5, np.inf, np.float32)})


def test_another_network_is_refused_with_a_few_of_its_names_and_their_number(small):
    _, state = small
    message = refusal(state, "se_resnet34")
    assert message.startswith("state is not one of se_resnet34; missing: layer1.0.se.fc.0.bias, ")
    assert re.search(r" and \d+ more; extra: layer1\.0\.sge\.bias, ", message)
    assert "fc.weight is (5, 32) instead of (7, 32)" in refusal(state, classes=7)


def test_unknown_names_are_refused(small):
    _, state = small
    assert refusal(state, source="timmy") == f"source must be one of {', '.join(SOURCES)}, got 'timmy'"
    names = ", ".join(SOURCES["torchvision"].networks)
    assert refusal(state, "resnet20", "torchvision") == f"network must be one of {names}, got 'resnet20'"


def made(attention=None, *, depth=18, group=GROUP, **settings):
    """A ResNet without numbers."""
    return nnx.eval_shape(lambda: ResNet(depth, group, attention, **settings, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: made(group=cyclic(4)), "network must be one that timm has: resnet18, "),
        (lambda: made("srm"), "got ResNet with depth=18, "),
        (lambda: made(masked=True), "network differs from timm's resnet18 in masked, True instead of False"),
        (
            lambda: made("se", attention_options=dict(reduction=2)),
            "network differs from timm's seresnet18 in attention_options, {'reduction': 2} instead of {",
        ),
        (
            lambda: made("gc", attention_options=dict(combination="scale")),
            "network differs from timm's gcresnet18 in attention_",
        ),
        (lambda: nnx.Linear(2, 3, rngs=nnx.Rngs(0)), "network must be one that timm has: resnet18, "),
    ],
    ids=["group", "attention", "setting", "option", "nearest", "layer"],
)
def test_a_network_that_no_published_one_is_has_no_way_back(make, message):
    with assert_refused(message) as caught:
        published_state(make(), "timm")
    assert len(str(caught.value)) < 300


def test_a_network_is_known_by_what_it_computes_however_it_was_made():
    timm, insight = SOURCES["timm"], SOURCES["pytorch_insight"]
    # The default reduction gives the widths to which timm rounds.
    assert published_names(made("se", depth=50), timm, "timm") == ["seresnet50"]
    options = dict(reduction=16, over_group=False)
    assert published_names(made("se", attention_options=options), insight, "") == ["se_resnet18"]
    options = dict(combination="add", reduction=8, epsilon=1e-6, use_key_bias=True)
    assert published_names(made("gc", attention_options=options), timm, "timm") == ["gcaresnet18"]
    make = functools.partial(RotMNISTNet, cyclic(4), kernel_init="he_normal")
    network = nnx.eval_shape(lambda: make("input", rngs=nnx.Rngs(0)))
    assert published_names(network, SOURCES["att_gconvs"], "att_gconvs") == ["f_att_p4cnn"]


def test_a_network_of_another_name_is_refused(small):
    with assert_refused("network_name must be sge_resnet18, which it is, got 'se_resnet18'"):
        published_state(small[0], "pytorch_insight", "se_resnet18")


def test_unknown_settings_are_refused(small):
    message = refusal(small[1], clases=5)
    assert message.startswith("settings must be among depth, group, ") and message.endswith(", got clases")


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_goes_there_and_back_with_statistics_in_float32(small, dtype):
    network = networks.random_network(trivial(), None, make=ResNet, depth=18, param_dtype=dtype, **SMALL_SETTINGS)
    state = published_state(network, "torchvision")
    statistics = {name for name in state if ".running_" in name}
    assert statistics and all(
        array.dtype == (np.float32 if name in statistics else dtype) for name, array in state.items()
    )
    halves = {name: array.astype(dtype) for name, array in state.items()}
    for given in (state, halves):
        again = load_published(given, "torchvision", "resnet18", **SMALL_SETTINGS)
        assert again.lifting.norm.var.dtype == np.float32 and again.lifting.conv.w.dtype == dtype
        back = published_state(again, "torchvision")
        assert {name: array.dtype for name, array in back.items()} == {n: array.dtype for n, array in state.items()}
        assert all(back[name].tobytes() == np.asarray(a, back[name].dtype).tobytes() for name, a in given.items())
    mixed = state | {"fc.bias": state["fc.bias"].astype(np.float32)}
    with assert_refused("state must hold arrays of one type of ", f"got {np.dtype(dtype)}, float32"):
        load_published(mixed, "torchvision", "resnet18", **SMALL_SETTINGS)


@pytest.mark.parametrize("name", ["f_att_p4cnn", "att_p4cnn", "RomHog_att_p4cnn", "f_att_p4m_allcnnc"])
def test_networks_of_the_attentive_paper_go_back(name):
    make, group, attention = REFERENCE_NETWORKS[name]
    network = networks.random_network(group, attention, make=make, param_dtype=np.float32)
    expected = networks.by_reference_name(network)
    state = published_state(network, "att_gconvs")
    assert state.keys() == expected.keys()
    assert all(np.array_equal(state[key], expected[key]) for key in expected)
    ours, theirs = (
        networks.leaves(made) for made in (load_published(state, "att_gconvs", name), load_reference(state, name))
    )
    assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)


def test_the_separable_papers_network_is_that_of_its_code(reference):
    file = reference("lie/ckgresnet_small_SE2_separable")
    state = {key: value for key, value in file.under("state").items() if "num_batches" not in key}
    settings = dict(features=(8, 8, 16), network_options=dict(hidden_features=16))
    network = load_published(state, "sepgconv", "ckgresnet", **settings)
    back = published_state(network, "sepgconv")
    assert back.keys() == state.keys()
    assert all(back[key].tobytes() == np.asarray(value).tobytes() for key, value in state.items())
    state["lifting.group.identity"] = np.ones(1, np.float32)
    with assert_refused("state is not one of ckgresnet on this group; lifting.group.identity is [1.] instead of [0.]"):
        load_published(state, "sepgconv", "ckgresnet", **settings)


def test_the_last_filter_of_the_separable_papers_network_follows_its_code():
    # As `last_kernel_size` in its `ck_g_resnet.py`.
    sizes = {(7, (8, 8, 8)): 3, (5, (8, 8, 8)): 3, (7, (8, 8)): 7, (5, (8, 8)): 9, (1, (8, 8)): 11}
    for (kernel_size, features), last in sizes.items():
        given = dict(group=rotations(4), kernel_size=kernel_size, features=features)
        settings = complete_settings(SOURCES["sepgconv"].networks["ckgresnet"], given)
        network = nnx.eval_shape(lambda s=settings: LieResNet(**s, rngs=nnx.Rngs(0)))
        assert network.last.conv.kernel_size == network.settings["last_kernel_size"] == last
    with assert_refused("kernel_size must not be 3 with 3 features: the last filter of the original then has 4 pixels"):
        load_published({}, "sepgconv", "ckgresnet", kernel_size=3)
    with assert_refused("last_kernel_size must be odd, or filters are off centre, got 4"):
        LieResNet(rotations(4), last_kernel_size=4, rngs=nnx.Rngs(0))
    with assert_refused("last_kernel_size must be at most 7, the pixels of the feature map there, got 9"):
        LieResNet(rotations(4), last_kernel_size=9, rngs=nnx.Rngs(0))
