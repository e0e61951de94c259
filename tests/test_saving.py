"""Saving never lies: a network changed after it was made comes back the same to the bit, or is refused by name."""

import functools
import types

import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest
from flax import nnx
from helpers import assert_refused, random

from attgconv_jax import Sampling, cyclic, dihedral
from attgconv_jax.attention import OPERATORS
from attgconv_jax.lie import rotations
from attgconv_jax.models import NETWORKS, Network, load_network, register, save_network
from attgconv_jax.models.checkpoint import check_described
from attgconv_jax.models.description import describe_registered
from attgconv_jax.nn import ATTENTIONS, AttentiveGroupConv, Dropout, GroupConv
from attgconv_jax.nn.norm import batch_norm

P4 = cyclic(4)
IMAGE = random(2, 5, 5, 1, 1)


class Tiny(Network):
    """Of everything a little: convolutions, attention, norms, dropout, a variable of its own, a dense head."""

    def __init__(self, group, attention=None, *, attention_options=None, features=2, classes=3, dtype=None, **arrays):
        super().__init__(group, attention, features=features, classes=classes, dtype=dtype)
        arrays |= dict(dtype=dtype)
        layer = functools.partial(GroupConv, features, features, 3, group, haar=True, padding=1, **arrays)
        of_attention = dict(attention="gc", attention_options=dict(reduction=1), padding=1, kind="nonseparable")
        self.convolutions = nnx.List(
            [
                GroupConv(1, features, 3, group, lifting=True, padding=1, **arrays),
                AttentiveGroupConv(features, features, 3, group, **of_attention, **arrays),
                layer(),
            ]
        )
        self.norms = nnx.List([batch_norm(features, **arrays) for _ in range(2)])
        self.dropout = Dropout(0.1, rngs=arrays["rngs"])
        self.offset = nnx.Variable(jnp.zeros(features, arrays["param_dtype"]))
        self.activation = jax.nn.relu
        self.head = nnx.Linear(features, classes, **arrays)

    def _features(self, image):
        f = image
        for i, layer in enumerate(self.convolutions):
            yield f
            f = layer(f) if i == 0 else self.activation(self.norms[i - 1](layer(f)))
        yield self.head(self.dropout(jnp.mean(f, axis=(-4, -3, -2)) + self.offset[...]))

    def _attentions(self):
        return [None, self.convolutions[1].attention_maps, None]


@pytest.fixture(scope="module", autouse=True)
def tiny():
    register("tiny")(Tiny)
    yield
    del NETWORKS["tiny"]


@pytest.fixture(scope="module")
def made(tiny):
    return networks.random_network(P4, make=Tiny)


def rngs():
    return nnx.Rngs(0)


def assign(path, value):
    """A change: the attribute at a dotted path becomes a value, or what a function makes of the network."""

    def change(network):
        *parents, name = path.split(".")
        owner = functools.reduce(
            lambda node, key: node[int(key)] if key.isdigit() else getattr(node, key), parents, network
        )
        new = value(network) if isinstance(value, types.FunctionType) else value
        owner.__setitem__(int(name), new) if name.isdigit() else setattr(owner, name, new)

    return change


def layer(*sizes, group=P4, **options):
    return lambda network: GroupConv(*sizes or (2, 2, 3), group, param_dtype=jnp.float64, rngs=rngs(), **options)


def cast(network, kinds, dtype):
    nnx.update(network, jax.tree.map(lambda leaf: leaf.astype(dtype), nnx.state(network, kinds)))


def swap(name, i, j):
    def change(network):
        row = getattr(network, name)
        row[i], row[j] = row[j], row[i]

    return change


def add_to_arrays(network):
    for _, variable in nnx.iter_graph(network):
        if isinstance(variable, nnx.Param | nnx.BatchStat) or type(variable) is nnx.Variable:
            variable.set_value(variable[...] + 0.25)


class Doubled(nnx.Variable):
    def get_value(self, **options):
        return 2 * super().get_value(**options)


def scaled(factor):
    return lambda f: factor * f


# By name: a change, and what the refusal names; None: the network comes back the same to the bit.
CHANGES = {
    "layer without the Haar weight": (assign("convolutions.2", layer(padding=1)), "convolutions.2.haar is False"),
    "haar": (assign("convolutions.2.haar", False), "convolutions.2.haar is False instead of True"),
    "stride": (assign("convolutions.0.stride", 2), "convolutions.0.stride is 2 instead of 1"),
    "padding": (assign("convolutions.2.padding", 0), "convolutions.2.padding is 0 instead of 1"),
    "dilation": (assign("convolutions.2.dilation", 2), "convolutions.2.dilation is 2 instead of 1"),
    "size of a filter": (
        assign("convolutions.2", layer(2, 2, 5, haar=True, padding=1)),
        "convolutions.2.w is Param (5",
    ),
    "sampling": (assign("convolutions.2.sampling", Sampling("cubic")), "convolutions.2.sampling is Sampling("),
    "bias": (assign("convolutions.2.bias", lambda _: nnx.Param(jnp.ones(2))), "convolutions.2.bias is Param (2,)"),
    "use_bias": (assign("head.bias", lambda _: nnx.data(None)), "head.bias is None instead of Param (3,)"),
    "epsilon": (assign("norms.0.epsilon", 0.1), "norms.0.epsilon is 0.1 instead of 2e-05"),
    "momentum": (assign("norms.1.momentum", 0.5), "norms.1.momentum is 0.5 instead of 0.9"),
    "registered norm replaced": (
        assign("norms.0", lambda _: nnx.LayerNorm(2, rngs=rngs())),
        "norms.0 is LayerNorm instead of BatchNorm. ",
    ),
    "head of other classes": (
        assign("head", lambda _: nnx.Linear(2, 5, param_dtype=jnp.float64, rngs=rngs())),
        "head.out_features is 5 instead of 3",
    ),
    "head of two layers": (
        assign("head", lambda network: nnx.Sequential(network.head, jax.nn.relu)),
        "head is Sequential instead of Linear. Change it by the arguments of tiny",
    ),
    "extra module": (assign("extra", lambda _: nnx.Linear(2, 2, rngs=rngs())), "extra (Linear) is new"),
    "extra parameter": (assign("extra", lambda _: nnx.Param(jnp.ones(1))), "extra (Param (1,)) is new"),
    "removed module": (lambda network: network.convolutions.pop(), "convolutions.2 is missing"),
    "swapped layers": (swap("convolutions", 1, 2), "convolutions.1 is GroupConv instead of AttentiveGroupConv"),
    "swapped norms": (swap("norms", 0, 1), None),
    "shared norm": (assign("norms.1", lambda network: network.norms[0]), "norms.1 is the same as norms.0 instead"),
    "group of a layer": (assign("convolutions.2", layer(group=dihedral(2))), "convolutions.2.group is dihedral(2)"),
    "group": (assign("group", dihedral(2)), "convolutions.0.group is cyclic(4) instead of dihedral(2)"),
    "dtype of a layer": (assign("convolutions.2.dtype", jnp.bfloat16), "convolutions.2.dtype is dtype(bfloat16)"),
    "dtype of a parameter": (
        assign("head.bias", lambda network: nnx.Param(jnp.ones(3, jnp.float32))),
        "parameters must be of one dtype, got float32, float64",
    ),
    "dtype of all parameters": (lambda network: cast(network, nnx.Param, jnp.bfloat16), None),
    "dtype of running statistics": (lambda network: cast(network, nnx.BatchStat, jnp.float32), None),
    "activation": (assign("activation", jax.nn.silu), "activation is silu instead of relu"),
    "dropout rate": (assign("dropout.rate", 0.5), "dropout.rate is 0.5 instead of 0.1"),
    "attention replaced": (
        assign("convolutions.1.attention", lambda _: ATTENTIONS["se"](2, P4, rngs=rngs())),
        "convolutions.1.attention is SqueezeExcitation instead of GlobalContext",
    ),
    "attention's options": (assign("convolutions.1.attention._options", (("over_group", True),)), "._options.0"),
    "kind of a variable": (
        assign("offset", lambda network: nnx.BatchStat(network.offset[...])),
        "offset is BatchStat (2,) instead of Variable (2,)",
    ),
    "function on reading": (
        assign("offset", lambda _: Doubled(jnp.ones(2))),
        "offset is Doubled (2,) instead of Variable (2,)",
    ),
    "method": (assign("_attentions", functools.partial(list, [None])), "_attentions (partial of list((None))) is new"),
    "settings": (
        lambda network: setattr(network, "_settings", (*network._settings[:3], ("classes", 4), *network._settings[4:])),
        "head.out_features is 3 instead of 4",
    ),
    "all arrays": (add_to_arrays, None),
    "training mode": (lambda network: network.train(), None),
}


@pytest.mark.default(*CHANGES)
@pytest.mark.parametrize("name", CHANGES)
def test_a_network_changed_after_construction_comes_back_the_same_or_is_refused(made, tmp_path, name):
    change, difference = CHANGES[name]
    network = nnx.clone(made)
    change(network)
    if difference is not None:
        with assert_refused(difference) as caught:
            save_network(tmp_path / "network", network)
        assert len(str(caught.value).splitlines()) == 1
        assert not list(tmp_path.iterdir())
        return
    save_network(tmp_path / "network", network)
    loaded = load_network(tmp_path / "network")
    network.eval()
    expected = networks.leaves(network)
    for path, array in networks.leaves(loaded).items():
        assert array.dtype == expected[path].dtype and np.array_equal(array, expected[path]), path
    if name == "swapped norms":  # one program is compiled, for all that are left have these settings
        assert np.array_equal(networks.logits(loaded, IMAGE), networks.logits(network, IMAGE))


def test_the_refusal_says_what_to_do(made, tmp_path):
    network = nnx.clone(made)
    for i, norm in enumerate(network.norms):
        norm.epsilon, norm.momentum, norm.axis = 0.5 + i, 0.5, -2
    message = (
        "the settings of this Tiny no longer describe it, and it would come back as another: norms.0.axis is -2 "
        "instead of -1; norms.0.epsilon is 0.5 instead of 2e-05; norms.0.momentum is 0.5 instead of 0.9; norms.1.axis "
        "is -2 instead of -1; and 2 more. Change it by the arguments of tiny, or register a class that makes it so, or "
        "save it with arrays_only=True and load it with load_network(path, like=network)"
    )
    with assert_refused(message):
        save_network(tmp_path / "network", network)


def test_a_changed_network_is_saved_by_its_arrays(made, tmp_path):
    network = nnx.clone(made)
    network.norms[0].epsilon = 0.5
    save_network(tmp_path / "network", network, arrays_only=True)
    loaded = load_network(tmp_path / "network", like=network)
    assert np.array_equal(networks.logits(loaded, IMAGE), networks.logits(network, IMAGE))
    with assert_refused("like must be the network that", "holds: norms.0.epsilon is 2e-05 instead of 0.5"):
        load_network(tmp_path / "network", like=made)


@pytest.mark.parametrize("same", [True, False])
def test_functions_made_anew_are_the_same_if_they_compute_the_same(tmp_path, same):
    factors = iter([2, 2 if same else 3])

    class Scaled(Tiny):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.activation = scaled(next(factors))

    register("scaled")(Scaled)
    try:
        network = Scaled(P4, param_dtype=jnp.float32, rngs=rngs())
        if same:
            save_network(tmp_path / "network", network)
            return
        with assert_refused("activation is another scaled.<locals>.<lambda>"):
            save_network(tmp_path / "network", network)
    finally:
        del NETWORKS["scaled"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "tiny"])
def test_no_network_of_the_papers_is_taken_for_a_changed_one(name):
    entry = NETWORKS[name]
    group, known = (rotations(4), ATTENTIONS) if entry.lie else (P4, OPERATORS)
    attentions, further = known.keys() & {"input", "bam", "sk", "response"}, {}
    if name == "resnet":
        attentions, further = {"bam", "se"}, {"depth": 18}
    elif name == "wide_resnet":
        further = {"depth": 16, "widen_factor": 1}
    for attention, dtype in [*((name, None) for name in attentions), (None, "bfloat16"), (None, jnp.float64)]:
        options = further | dict(group=group, attention=attention, dtype=dtype)
        network = nnx.eval_shape(lambda options=options: entry.network(**options, rngs=rngs()))
        check_described(describe_registered(name, network), network)
