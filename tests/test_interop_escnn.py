"""States of escnn: layers that compute what escnn does, its order of elements and axes, what is refused.

`fixtures/escnn.npz` was written by `fixtures/escnn.py.txt`.
"""

import functools
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_close, assert_refused, random

from attgconv_jax import cyclic, dihedral, filter_bank, trivial
from attgconv_jax.interop import (
    escnn_elements,
    feature_map_from_escnn,
    feature_map_to_escnn,
    filter_bank_from_escnn,
    filter_bank_to_escnn,
    load_escnn,
)

FIXTURE = pathlib.Path(__file__).parent / "fixtures/escnn.npz"
GROUPS = {"C4": cyclic(4), "C8": cyclic(8), "D3": dihedral(3), "D4": dihedral(4), "D8": dihedral(8)}
AXES = dict.fromkeys(GROUPS, math.pi / 2) | {"D3": 0.0}
OPTIONS = {"0": {"padding": 2}, "3": {"padding": 1}}
SAMPLED = "_basisexpansion.block_expansion_('regular', 'regular').sampled_basis"


def escnn_product(group):
    """`R^a F^b R^c F^d = R^(a + (-1)^b c) F^(b + d)`; elements are listed by the reflection, then by the rotation."""
    n = group.rotations
    pairs = [divmod(i, n) for i in range(group.order)]
    return np.array([[(b + d) % 2 * n + (a + (-1) ** b * c) % n for d, c in pairs] for b, a in pairs])


@functools.cache
def fixture(label):
    """State, image and outputs by layer, in float64."""
    with np.load(FIXTURE) as file:
        arrays = {name.removeprefix(f"{label}/"): file[name] for name in file.files if name.startswith(f"{label}/")}
    parts = {"state": {}, "functions": {}, "mix": {}, "output": {}}
    for name, array in arrays.items():
        part, _, rest = name.partition("/")
        if part in parts:
            parts[part][rest] = array.astype(np.float64) if array.dtype == np.float32 else array
    product = escnn_product(GROUPS[label])
    quotient = product[np.argmin(product, axis=1)]  # g^-1 h
    for name, functions in parts["functions"].items():
        parts["state"][name] = np.einsum("guj,ighj->ighu", functions, parts["mix"][name][:, quotient])
    return parts["state"], arrays["image"].astype(np.float64), parts["output"]


def load(label, state=None, **options):
    state = fixture(label)[0] if state is None else state
    return load_escnn(state, GROUPS[label], axis=AXES[label], **{"options": OPTIONS} | options)


def outputs(layers, f):
    """What leaves the layers whose outputs the fixture has."""
    f = found_0 = layers["0"](f)
    f = found_3 = layers["3"](jax.nn.relu(layers["1"](f)))
    f = found_6 = layers["6"](jax.nn.relu(layers["4"](f)))
    return {"0": found_0, "3": found_3, "6": found_6, "7": layers["7"](f)}


def assert_outputs(label, layers, dtype, tolerance):
    _, image, expected = fixture(label)
    found = nnx.jit(outputs)(layers, feature_map_from_escnn(image, trivial()).astype(dtype))
    for name, f in found.items():
        assert f.dtype == dtype
        theirs = feature_map_to_escnn(f, GROUPS[label], axis=AXES[label])
        assert_close(theirs, expected[name], tolerance)


@pytest.mark.parametrize("label", GROUPS)
@pytest.mark.default("D4", "D8")
def test_a_network_of_three_layers_computes_what_escnn_does(label):
    layers = load(label)
    assert list(layers) == ["0", "1", "3", "4", "6", "7"]
    assert_outputs(label, layers, np.float64, 1e-6)


def test_float32_states_make_float32_layers():
    state = fixture("C8")[0]
    state = {name: value.astype(np.float32) if value.dtype == float else value for name, value in state.items()}
    assert_outputs("C8", load("C8", state), np.float32, 3e-6)


def test_filters_are_free_pixels_where_the_group_keeps_the_grid_unless_functions_are_asked_for():
    assert load("D4")["3"].w.shape == (3, 3, 8, 2, 2)
    layers = load("D4", functions=True)
    assert layers["3"].w.shape == (6, 8, 2, 2)
    assert_outputs("D4", layers, np.float64, 1e-6)


@pytest.mark.parametrize("label", ["C8", "D3", "D8"])
def test_there_are_as_many_coefficients_as_in_escnn_and_lifting_ones_are_its_own(label):
    state, layers = fixture(label)[0], load(label)
    for name in ("0", "3", "6"):
        assert layers[name].w.size == state[f"{name}.weights"].size
    assert np.array_equal(layers["0"].w[...], state["0.weights"].reshape(2, 2, -1).transpose(2, 1, 0)[:, None])
    assert np.array_equal(layers["0"].bias[...], state["0.expanded_bias"][:: GROUPS[label].order])


def test_other_weights_of_a_layer_are_other_coefficients_of_the_same_functions():
    state = fixture("C8")[0]
    weights = np.array(random(*state["3.weights"].shape))
    filters = np.einsum("oin,nghu->ogihu", weights.reshape(2, 2, -1), state[f"3.{SAMPLED}"]).reshape(16, 16, 3, 3)
    other = load("C8", state | {"3.weights": weights, "3.filter": filters})["3"]
    assert other.sampling == load("C8")["3"].sampling
    bank = filter_bank(other.w[...], GROUPS["C8"], sampling=other.sampling)
    assert_close(filter_bank_to_escnn(bank, GROUPS["C8"]), filters, 1e-6)


@pytest.mark.parametrize("label", ["C8", "D3", "D4", "D8"])
@pytest.mark.default("D8")
def test_the_filter_bank_of_a_layer_is_the_expanded_filter(label):
    group, axis, state, layers = GROUPS[label], AXES[label], fixture(label)[0], load(label)
    for name in ("0", "3"):
        bank = filter_bank(layers[name].w[...], group, sampling=layers[name].sampling)
        theirs = filter_bank_to_escnn(bank, group, axis=axis)
        assert_close(theirs, state[f"{name}.filter"], 1e-6)
        assert np.array_equal(filter_bank_from_escnn(theirs, group, lifting=name == "0", axis=axis), bank)


def test_channel_groups_are_the_groups_of_escnn():
    """A state is the same whether a layer has two channels in, or four in two parts."""
    parts = load("C4", options={"3": {"padding": 1, "channel_groups": 2}})["3"]
    assert parts.w.shape == (3, 3, 4, 2, 2)
    assert jax.eval_shape(parts, jnp.ones([1, 5, 5, 4, 4])).shape == (1, 5, 5, 4, 2)


def test_the_order_of_the_elements_of_d4_and_d8():
    assert escnn_elements(dihedral(4)).tolist() == [0, 1, 2, 3, 6, 5, 4, 7]
    assert escnn_elements(dihedral(8)).tolist() == [*range(8), 12, 11, 10, 9, 8, 15, 14, 13]
    assert escnn_elements(cyclic(8)).tolist() == [*range(8)]


@pytest.mark.parametrize(("n", "axis"), [(1, 0.0), (3, math.pi / 3), (4, math.pi / 2), (5, 0.0), (8, -math.pi / 8)])
def test_elements_multiply_and_move_points_as_in_escnn(n, axis):
    group, elements = dihedral(n), escnn_elements(dihedral(n), axis)
    assert np.array_equal(elements[escnn_product(group)], group.product[elements][:, elements])
    reflection = np.array([[np.cos(2 * axis), np.sin(2 * axis)], [np.sin(2 * axis), -np.cos(2 * axis)]])
    to_ours = np.array([[0, -1], [1, 0]])  # from (right, up) to (down, right)
    for i, element in enumerate(elements):
        mirrored, turns = divmod(i, n)
        cos, sin = np.cos(2 * np.pi * turns / n), np.sin(2 * np.pi * turns / n)
        matrix = np.array([[cos, -sin], [sin, cos]]) @ (reflection if mirrored else np.eye(2))
        assert_close(to_ours @ matrix @ to_ours.T, group.matrices[element])


@pytest.mark.parametrize("group", [trivial(), cyclic(3), dihedral(4)], ids=str)
@pytest.mark.default("dihedral(4)")
def test_feature_maps_of_escnn_and_back(group):
    theirs = random(2, 3 * group.order, 4, 5)
    ours = feature_map_from_escnn(theirs, group)
    assert ours.shape == (2, 4, 5, group.order, 3)
    for i, element in enumerate(escnn_elements(group)):
        assert np.array_equal(ours[1, 2, 3, element], theirs[1, i :: group.order, 2, 3])
    assert np.array_equal(feature_map_to_escnn(ours, group), theirs)
    assert np.array_equal(feature_map_to_escnn(ours[..., :1, :], group)[1, :, 2, 3], ours[1, 2, 3, 0])


def changed(name, change=None):
    """Changes one array of a state, or leaves it out."""
    return lambda state: {
        key: value if key != name else change(value) for key, value in state.items() if key != name or change
    }


def renamed(old, new):
    return lambda state: {name.replace(old, new): value for name, value in state.items()}


REFUSED = {
    "reference": (
        lambda _: {"c1.weight": np.zeros([4, 1, 3, 3])},
        "state must hold R2Conv, InnerBatchNorm",
        "got 'c1.weight'",
    ),
    "nothing": (lambda _: {}, "state must hold R2Conv", "got nothing"),
    "head": (
        lambda state: state | {"head.weight": np.zeros(3), "head.bias": np.zeros(3)},
        "alone, got 'head.weight', 'head'",
    ),
    "irreps": (
        renamed("('regular', 'regular')", "('irrep_1,1', 'regular')"),
        "layer '3' of state",
        "irrep_1,1 to regular",
    ),
    "invariant": (renamed("'regular')", "'irrep_0,0')"), "layer '0' of state", "got irrep_0,0 to irrep_0,0"),
    "training": (changed("3.filter"), "layer '3' of state must have filter: call train()"),
    "bias": (changed("0.expanded_bias"), "layer '0' of state must have expanded_bias: call train()"),
    "stale": (changed("3.filter", np.zeros_like), "must have the filter that follows from weights: call train()"),
    "stale bias": (changed("6.bias", lambda bias: bias + 1), "must have the expanded_bias that follows from bias"),
    "shape": (changed("3.weights", lambda weights: weights[1:]), "layer '3' of state", "do not fit: weights (383,)"),
    "statistic": (changed("4.batch_norm_[16].running_var"), "layer '4' of state must have weight, bias, running_mean"),
    "pool": (renamed("7.in_indices_16", "7.in_indices_4"), "layer '7' of state must pool over 16 elements"),
    "nan": (changed("1.batch_norm_[16].bias", lambda bias: bias * np.nan), "NaN or infinity in 1.batch_norm_[16].bias"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.default("reference", "irreps", "training", "stale", "shape")
def test_states_that_are_not_of_these_layers_are_refused_in_one_line(case):
    change, *parts = REFUSED[case]
    with assert_refused(*parts) as caught:
        load("D8", change(fixture("D8")[0]))
    assert len(str(caught.value).splitlines()) == 1


def test_groups_of_another_order_or_action_and_other_axes_are_refused():
    state = fixture("D4")[0]
    with assert_refused("group must be of the order of layer '0' of state, 8, got cyclic(4), of 4"):
        load_escnn(state, cyclic(4))
    with assert_refused("group must act as in layer '0' of state, got cyclic(8), or axis is another one"):
        load_escnn(state, cyclic(8))
    with assert_refused("group must act as in layer '0' of state, got dihedral(4), or axis is another one"):
        load_escnn(state, dihedral(4), axis=0.0)
    with assert_refused("axis must be a multiple of pi / 3 for dihedral(3)"):
        load_escnn(fixture("D3")[0], dihedral(3))


def test_options_that_a_layer_lacks_and_half_precision_are_refused():
    state = fixture("C4")[0]
    with assert_refused("options must be of layers '0', '1', '3', '4', '6', '7', got '2'"):
        load_escnn(state, cyclic(4), options={"2": {}})
    with assert_refused("options of layer '1', batch norm, must be of epsilon, running_variance, got momentum"):
        load_escnn(state, cyclic(4), options={"1": {"momentum": 0.1}})
    half = {name: value.astype(np.float16) if value.dtype == float else value for name, value in state.items()}
    with assert_refused("state must be float32 or float64, got float16"):
        load_escnn(half, cyclic(4))


def test_fields_that_are_no_whole_regular_ones_are_refused():
    with assert_refused("f must have a multiple of 8 fields, the order of dihedral(4), got 12"):
        feature_map_from_escnn(jnp.ones([12, 5, 5]), dihedral(4))
    with assert_refused("filters must have a multiple of 4 input fields, the order of cyclic(4), got 3"):
        filter_bank_from_escnn(jnp.ones([4, 3, 5, 5]), cyclic(4))
    with assert_refused("bank must be of 4 elements, those of cyclic(4), got shape (3, 3, 1, 2, 8, 2)"):
        filter_bank_to_escnn(jnp.ones([3, 3, 1, 2, 8, 2]), cyclic(4))
