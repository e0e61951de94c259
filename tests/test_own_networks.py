"""Networks that are not in the registry: their arrays on disk, and the module to fill."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_refused

from attgconv_jax import cyclic
from attgconv_jax.models import RotMNISTNet, load_classifier, load_network, save_network
from attgconv_jax.models.structure import text
from attgconv_jax.preprocessing import Preprocessing


class Own(nnx.Module):
    """What a reader's own network may hold: dense layers, statistics, dropout, tables, a variable of its own."""

    def __init__(self, features=3, *, rate=0.5, activation=nnx.relu, rngs):
        self.layers = nnx.List([nnx.Linear(4, features, rngs=rngs), nnx.Linear(features, 2, rngs=rngs)])
        self.norm = nnx.BatchNorm(features, rngs=rngs)
        self.dropout = nnx.Dropout(rate, rngs=rngs)
        self.table = np.arange(4.0)
        self.count = nnx.Variable(jnp.array(0, jnp.int32))
        self.activation = activation

    def __call__(self, image):
        f = jnp.mean(image, axis=(1, 2, 3)) * jnp.asarray(self.table, jnp.float32)
        return self.layers[1](self.dropout(self.activation(self.norm(self.layers[0](f)))))


def own(seed=0, **options):
    return Own(**options, rngs=nnx.Rngs(seed))


IMAGES = np.random.default_rng(0).integers(0, 256, [3, 2, 2, 4]).astype(np.uint8)
PREPROCESSING = Preprocessing(size=2, features=4, mean=0.5, deviation=0.25)


@pytest.fixture(scope="module")
def trained():
    network = own(seed=1)
    network(PREPROCESSING(IMAGES))
    network.count.set_value(network.count[...] + 7)
    network.table = network.table + 1
    return network


@pytest.fixture
def saved(trained, tmp_path):
    save_network(tmp_path / "network", trained)
    return tmp_path / "network"


@pytest.mark.parametrize("abstract", [False, True])
def test_a_module_of_ones_own_is_filled(trained, saved, abstract):
    like = nnx.eval_shape(own) if abstract else own()
    before = jax.tree.map(np.shape, nnx.to_pure_dict(nnx.state(like, nnx.Param)))
    kernel = like.layers[0].kernel.get_value()
    loaded = load_network(saved, like=like)
    expected = nnx.to_pure_dict(nnx.state(trained, nnx.Not(nnx.RngState)))
    jax.tree.map(np.testing.assert_array_equal, nnx.to_pure_dict(nnx.state(loaded, nnx.Not(nnx.RngState))), expected)
    assert loaded.norm.use_running_average and loaded.dropout.deterministic
    assert like.layers[0].kernel.get_value() is kernel and not like.dropout.deterministic
    assert jax.tree.map(np.shape, nnx.to_pure_dict(nnx.state(like, nnx.Param))) == before
    loaded.train()
    first, second = (loaded(PREPROCESSING(IMAGES)) for _ in range(2))
    assert not np.array_equal(first, second)


def test_without_the_module_the_message_asks_for_it(saved):
    message = (
        f"{saved} holds the arrays of a Own alone, and not how it is made: make one, and pass it as like=, for example "
        "like=nnx.eval_shape(lambda: Own(...))"
    )
    with assert_refused(message):
        load_network(saved)
    expected = ["class", "class_names", "format", "preprocessing", "structure", "version"]
    assert sorted(json.loads((saved / "network.json").read_text())) == expected


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (dict(features=5), "holds: layers.0.bias is Param (5,) instead of Param (3,); layers.0.kernel is Param (4, 5)"),
        (dict(rate=0.1), "like must be the network that {saved} holds: dropout.rate is 0.1 instead of 0.5"),
        (dict(activation=nnx.silu), "holds: activation is silu instead of relu"),
    ],
    ids=["features", "rate", "activation"],
)
def test_a_module_of_another_structure_is_not_filled(saved, like, message):
    with assert_refused(message.format(saved=saved)):
        load_network(saved, like=nnx.eval_shape(lambda: own(**like)))


def test_a_module_with_other_parts_is_not_filled(saved):
    like = own()
    like.extra = nnx.Param(jnp.ones(1))
    with assert_refused(f"like must be the network that {saved} holds: extra (Param (1,)) is new"):
        load_network(saved, like=like)
    like.norm = None
    with assert_refused(f"like must be the network that {saved} holds: norm is None instead of BatchNorm"):
        load_network(saved, like=like)
    with assert_refused("like must be an nnx.Module, got function"):
        load_network(saved, like=own)


def test_a_network_with_one_function_more_or_less_is_another(tmp_path):
    conv = nnx.Conv(1, 1, (1, 1), rngs=nnx.Rngs(0))
    rectified, linear = nnx.Sequential(conv, nnx.relu), nnx.Sequential(conv)
    save_network(tmp_path / "rectified", rectified)
    save_network(tmp_path / "linear", linear)
    with assert_refused("rectified holds: layers.1 is missing"):
        load_network(tmp_path / "rectified", like=linear)
    with assert_refused("linear holds: layers.1 (relu) is new"):
        load_network(tmp_path / "linear", like=rectified)


class Shared(nnx.Module):
    """Two layers, and a third that is one of them."""

    def __init__(self, third, rngs=None):
        self.a, self.b = (nnx.Linear(2, 2, rngs=nnx.Rngs(i)) for i in range(2))
        self.c = getattr(self, third)


def test_which_layer_is_shared_is_part_of_the_structure(tmp_path):
    save_network(tmp_path / "network", Shared("a"))
    assert load_network(tmp_path / "network", like=nnx.eval_shape(lambda: Shared("a"))).c is not None
    with assert_refused("c is the same as b instead of the same as a"):
        load_network(tmp_path / "network", like=Shared("b"))


class Scale:
    def __init__(self, factor):
        self.factor = factor


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (frozenset({"b", "a", "c"}), "{'a', 'b', 'c'}"),
        (functools.partial(nnx.leaky_relu, negative_slope=0.3), "partial of leaky_relu(negative_slope=0.3)"),
        (functools.partial(max, 2, key=abs), "partial of max(2, key=abs)"),
        (Scale(3), "Scale(factor=3)"),
        (object(), "object"),
    ],
    ids=["set", "partial", "arguments", "object", "nothing"],
)
def test_words_of_attributes_tell_them_apart_in_every_process(value, words):
    assert text(value) == words


def test_an_object_that_holds_itself_has_words():
    scale = Scale(None)
    scale.factor = scale
    assert text(scale) == "Scale(factor=Scale)"


def test_two_arrays_of_one_name_are_not_saved(tmp_path):
    network = nnx.Dict({"a.b": nnx.Param(jnp.ones(1)), "a": nnx.Dict({"b": nnx.Param(jnp.zeros(1))})})
    with assert_refused("network must have a name of its own for each array, got two a.b: avoid dots"):
        save_network(tmp_path / "network", network)
    assert not list(tmp_path.iterdir())


def test_what_is_no_module_or_holds_no_arrays_is_not_saved(tmp_path):
    for network, message in [
        (own, "network must be an nnx.Module, got function"),
        (nnx.Sequential(nnx.relu), "network must hold arrays, got a Sequential without any"),
        (nnx.List([nnx.Variable("word")]), "network must hold arrays, got str under 0"),
    ]:
        with assert_refused(message):
            save_network(tmp_path / "network", network)
    assert not list(tmp_path.iterdir())


def test_float64_without_x64_is_refused(tmp_path):
    network = nnx.Linear(2, 2, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    save_network(tmp_path / "network", network)
    with jax.enable_x64(False), assert_refused('is float64: call jax.config.update("jax_enable_x64", True) before'):
        load_network(tmp_path / "network", like=network)
    assert load_network(tmp_path / "network", like=network).kernel.dtype == jnp.float64


def test_a_network_of_the_registry_may_be_given_too(tmp_path):
    def make(**options):
        return RotMNISTNet(cyclic(2), features=1, **options, rngs=nnx.Rngs(0))

    save_network(tmp_path / "network", make())
    loaded = load_network(tmp_path / "network", like=nnx.eval_shape(make))
    assert np.array_equal(loaded.convolutions[0].w[...], make().convolutions[0].w[...])
    with assert_refused("like must be the network that ", " holds: convolutions.0.haar is False instead of True; "):
        load_network(tmp_path / "network", like=nnx.eval_shape(lambda: make(haar=False)))


def test_a_module_of_ones_own_classifies_pixels(trained, tmp_path):
    path = tmp_path / "network"
    save_network(path, trained, preprocessing=PREPROCESSING, class_names=["cell", "dust"])
    classifier = load_classifier(path, like=own())
    trained.eval()
    expected = jax.nn.softmax(trained(PREPROCESSING(IMAGES)))
    trained.train()
    np.testing.assert_allclose(classifier(IMAGES), expected, rtol=1e-6)
    with assert_refused("class_names must be one a logit, got 3 for logits of shape (3, 2)"):
        load_classifier(path, like=own(), class_names=["a", "b", "c"])(IMAGES)
    save_network(tmp_path / "nameless", trained, preprocessing=PREPROCESSING)
    with assert_refused("nameless has no class names: pass class_names=[...], one a logit"):
        load_classifier(tmp_path / "nameless", like=own())
