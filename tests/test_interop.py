"""State dicts of the reference implementation: loading networks, refusing what fits none."""

import collections
import itertools

import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest
from flax import nnx
from helpers import assert_close, assert_refused, random

from attgconv_jax.interop import REFERENCE_NETWORKS, load_reference, read_state

SMALL = ["z2cnn", "p4cnn", "f_att_p4cnn", "RomHog_att_p4cnn"]
LARGE = [name for name in REFERENCE_NETWORKS if name not in SMALL]
# One of every class and of every attention.
DEFAULT = [
    *("z2cnn-float32", "p4cnn-float64", "f_att_p4cnn-float32", "RomHog_att_p4cnn-float64", "att_p4cnn-float32"),
    *("p4m_allcnnc-float32", "z2_resnet44-float32", "f_att_p4_densenet-float32"),
]
SIZES = {"RotMNISTNet": 28, "AllCNN": 32, "CIFARResNet": 32, "DenseNet": 96}


def reference_state(name, dtype=np.float64):
    """A network with random arrays, and those arrays as the reference would save them."""
    make, group, attention = REFERENCE_NETWORKS[name]
    network = networks.random_network(group, attention, make=make, param_dtype=dtype)
    state = networks.by_reference_name(network)
    return network, {**state, "bn1.num_batches_tracked": np.array(3)}


def error_of(call, kind=ValueError):
    with assert_refused() if kind is ValueError else pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    return message


@pytest.mark.parametrize(
    ("name", "dtype"),
    [*itertools.product(SMALL, [np.float32, np.float64]), *itertools.product(LARGE, [np.float32])],
)
@pytest.mark.default(*DEFAULT)
def test_a_state_dict_becomes_the_network_it_was_taken_from(name, dtype):
    network, state = reference_state(name, dtype)
    loaded = load_reference(state, name)
    arrays, expected = networks.leaves(loaded), networks.leaves(network)
    assert arrays.keys() == expected.keys()
    for key, array in arrays.items():
        assert array.dtype == dtype
        assert np.array_equal(array, expected[key]), key
    size = SIZES[type(network).__name__]
    image = np.empty([2, size, size, 1, network.settings["in_features"]], dtype)
    assert jax.eval_shape(loaded, image).dtype == dtype
    if dtype == np.float32:
        # The same program, in the type that a network has by default.
        assert nnx.split(loaded)[0] == nnx.split(network)[0]


@pytest.mark.parametrize("name", SMALL)
def test_a_network_from_a_state_dict_computes_in_float64_what_the_other_does(name):
    network, state = reference_state(name)
    loaded = load_reference(state, name)
    ours, theirs = jax.jit(lambda image: (loaded(image), network(image)))(random(2, 28, 28, 1, 1))
    assert np.array_equal(ours, theirs)


def test_a_loaded_network_is_in_evaluation_mode_and_can_be_trained():
    _, state = reference_state("p4cnn", np.float32)
    network, image = load_reference(state, "p4cnn"), random(2, 28, 28, 1, 1).astype(np.float32)
    assert np.array_equal(networks.logits(network, image), networks.logits(network, image))
    network.train()
    assert not np.allclose(networks.logits(network, image), networks.logits(network, image))


@pytest.mark.parametrize("name", ["z2cnn", "p4cnn", "f_att_p4cnn", "att_p4cnn"])
@pytest.mark.default("p4cnn")
def test_a_file_of_the_reference_gives_its_logits(reference, name, tmp_path):
    file = reference(f"models/{name}")
    np.savez(tmp_path / "weights.npz", **{f"state/{key}": value for key, value in file.under("state").items()}, x=1)
    network = load_reference(read_state(tmp_path / "weights.npz"), name)
    image = jnp.asarray(file["input"].transpose(0, 2, 3, 1)[:, :, :, None])
    assert_close(networks.logits(network, image), file["logits64"], 1e-9)


def test_jax_arrays_are_arrays_too():
    network, state = reference_state("z2cnn", np.float32)
    state = {name: jnp.asarray(value) for name, value in state.items()}
    loaded = load_reference(collections.OrderedDict(state), "z2cnn")
    assert_close(loaded.convolutions[2].w[...], network.convolutions[2].w[...], 0)


def test_everything_that_does_not_fit_is_said_at_once():
    _, state = reference_state("p4cnn", np.float32)
    del state["c3.weight"], state["bn2.bias"]
    state |= {"c1.bias": np.zeros(10, np.float32), "c2.weight": state["c2.weight"][:, :, :, :2]}
    message = error_of(lambda: load_reference(state, "p4cnn"))
    assert "state is not one of p4cnn" in message
    assert "missing: bn2.bias, c3.weight;" in message
    assert "extra: c1.bias;" in message
    assert "misshapen: c2.weight is (10, 10, 4, 2, 3) instead of (10, 10, 4, 3, 3)" in message


@pytest.mark.parametrize(("theirs", "asked"), [("p4cnn", "f_att_p4cnn"), ("f_att_p4cnn", "p4cnn"), ("z2cnn", "p4cnn")])
def test_the_weights_of_another_network_are_refused(theirs, asked):
    _, state = reference_state(theirs, np.float32)
    assert f"state is not one of {asked}; " in error_of(lambda: load_reference(state, asked))


def test_an_unknown_network_is_refused():
    message = error_of(lambda: load_reference({}, "p4_resnet44"))
    assert message == f"network must be one of {', '.join(REFERENCE_NETWORKS)}, got 'p4_resnet44'"


def test_what_maps_no_names_to_arrays_is_refused():
    with assert_refused("state must map names to arrays, got list"):
        load_reference([("c1.weight", np.zeros(3))], "p4cnn")
    with assert_refused("got dict under 'c1.weight'"):
        load_reference({"c1.weight": {"nested": 1}}, "p4cnn")
    with assert_refused("got ndarray under 'c1.weight'"):
        load_reference({"c1.weight": np.array([None])}, "p4cnn")
    with assert_refused("got ndarray under 3"):
        load_reference({3: np.zeros(3)}, "p4cnn")


def test_arrays_of_several_types_or_no_floating_type_are_refused():
    _, state = reference_state("p4cnn", np.float32)
    allowed = "state must hold arrays of one type of float16, bfloat16, float32, float64, got "
    mixed = state | {"c1.weight": state["c1.weight"].astype(np.float64)}
    assert error_of(lambda: load_reference(mixed, "p4cnn")) == allowed + "float32, float64"
    for dtype in ("int32", "complex64"):
        others = {name: np.zeros(value.shape, dtype) for name, value in state.items()}
        assert error_of(lambda: load_reference(others, "p4cnn")) == allowed + dtype  # noqa: B023 (called at once)


def test_numbers_that_are_not_finite_are_refused_by_name():
    _, state = reference_state("p4cnn", np.float32)
    for name, value in (("c1.weight", np.nan), ("bn3.running_var", np.inf)):
        state[name] = state[name].copy()
        state[name].flat[2] = value
    message = error_of(lambda: load_reference(state, "p4cnn"))
    assert "NaN or infinity in " in message
    assert {"c1.weight", "bn3.running_var"} == set(message.split(" in ")[1].split(", "))
    broken = {name: array * np.float32(np.nan) for name, array in state.items()}
    message = error_of(lambda: load_reference(broken, "p4cnn"))
    assert message.endswith(" and 27 more") and len(message) < 150


def test_the_order_of_bytes_does_not_matter():
    network, state = reference_state("z2cnn", np.float32)
    state = {name: value.astype(value.dtype.newbyteorder(">")) for name, value in state.items()}
    loaded = networks.leaves(load_reference(state, "z2cnn"))
    assert all(np.array_equal(loaded[name], value) for name, value in networks.leaves(network).items())


def test_float64_without_x64_is_refused_by_naming_the_switch():
    _, state = reference_state("z2cnn")
    with jax.enable_x64(False):
        message = error_of(lambda: load_reference(state, "z2cnn"))
        halved = {name: np.asarray(value, np.float32) for name, value in state.items()}
        assert load_reference(halved, "z2cnn").convolutions[0].w.dtype == np.float32
    assert 'jax.config.update("jax_enable_x64", True)' in message
    assert "float32" in message


def test_a_state_of_data_parallel_is_recognised():
    network, state = reference_state("p4cnn", np.float32)
    loaded = load_reference({f"module.{name}": array for name, array in state.items()}, "p4cnn")
    for name, array in networks.leaves(loaded).items():
        assert np.array_equal(array, networks.leaves(network)[name]), name
    mixed = {f"module.{name}" if name.startswith("c1") else name: array for name, array in state.items()}
    assert "missing: c1.weight; extra: module.c1.weight" in error_of(lambda: load_reference(mixed, "p4cnn"))
