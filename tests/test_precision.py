"""Products are as precise as is asked: all of a program, the derivatives' too, wherever those are traced."""

import collections
import functools
import re

import jax
import jax.numpy as jnp
import networks
import pytest
from flax import nnx
from helpers import assert_refused

from attgconv_jax import (
    ResponseChannelWeights,
    cyclic,
    dihedral,
    filter_basis,
    group_conv,
    grouped_group_conv,
    gseparable_group_conv,
    lie,
    response_attentive_group_conv,
    separable_group_conv,
)
from attgconv_jax.lie import convolution, product_convolution
from attgconv_jax.models import NETWORKS
from attgconv_jax.nn import (
    ATTENTIONS,
    AttentiveGroupConv,
    GroupConv,
    LieConv,
    ResponseAttentiveGroupConv,
    SelectiveKernelGroupConv,
    SeparableGroupConv,
)
from experiments.run.configuration import Config
from experiments.run.identity import from_identity, identity
from experiments.run.model_configuration import model
from experiments.run.saved import precision_of
from experiments.run.training import make_network

P4 = cyclic(4)
SE2 = lie.rotations(4)
MAP = (2, 7, 7, 4, 2)
CHANNEL = ResponseChannelWeights((3, 1, 2, 4), (3, 2, 1, 4))


def response(f, w, channel, spatial, **options):
    return response_attentive_group_conv(f, w, channel, spatial, P4, padding=1, **options)


# By name a function of arrays, and the shapes of those.
CONVOLUTIONS = {
    "lifting": (functools.partial(group_conv, group=P4), ((2, 7, 7, 1, 2), (3, 3, 1, 2, 3))),
    "frequencies": (functools.partial(group_conv, group=P4, implementation="fourier"), (MAP, (3, 3, 4, 2, 3))),
    "rows": (functools.partial(group_conv, group=dihedral(2), implementation="rows"), (MAP, (3, 3, 4, 2, 3))),
    "basis": (
        functools.partial(group_conv, group=cyclic(8), sampling=filter_basis(cyclic(8), 3)),
        ((2, 7, 7, 8, 2), (3, 3, 8, 2, 3)),
    ),
    "grouped": (functools.partial(grouped_group_conv, group=P4, channel_groups=2), (MAP, (3, 3, 4, 1, 4))),
    "gseparable": (functools.partial(gseparable_group_conv, group=P4), (MAP, (1, 1, 4, 2, 3), (3, 3, 1, 2, 3))),
    "separable": (functools.partial(separable_group_conv, group=P4), (MAP, (1, 1, 4, 2, 3), (3, 3, 1, 1, 3))),
    "response": (response, (MAP, (3, 3, 4, 2, 3), CHANNEL, (3, 3, 4, 2, 3))),
    "response, stored": (
        functools.partial(response, implementation="reference"),
        (MAP, (3, 3, 4, 2, 3), CHANNEL, (3, 3, 4, 2, 3)),
    ),
    "Lie nonseparable": (convolution.nonseparable_conv, (MAP, (3, 3, 4, 2, 4, 3))),
    "Lie gseparable": (convolution.gseparable_conv, (MAP, (4, 2, 4, 3), (3, 3, 2, 4, 3))),
    "Lie separable": (convolution.separable_conv, (MAP, (4, 2, 4, 3), (3, 3, 4, 3))),
    "Lie dseparable": (convolution.dseparable_conv, (MAP, (2, 3), (3, 3, 4, 4, 3))),
    "Lie dgseparable": (convolution.dgseparable_conv, (MAP, (2, 3), (4, 4, 3), (3, 3, 4, 3))),
    "Lie depthwise": (convolution.depthwise_conv, (MAP, (3, 3, 4, 2))),
    "Lie separable+2d": (product_convolution.separable_2d_conv, (MAP, (2, 2, 2, 3), (2, 2, 3), (3, 3, 4, 3))),
    "Lie gseparable+2d": (
        product_convolution.gseparable_2d_conv,
        (MAP, (2, 2, 2, 3), (2, 2, 2, 3), (3, 3, 2, 4, 3)),
    ),
}
MODULES = {
    "conv": functools.partial(GroupConv, 2, 3, 3, P4),
    "separable": functools.partial(SeparableGroupConv, 2, 3, 3, P4),
    "attentive": functools.partial(AttentiveGroupConv, 2, 3, 3, P4),
    "response": functools.partial(ResponseAttentiveGroupConv, 2, 3, 3, P4),
    "sk": functools.partial(SelectiveKernelGroupConv, 2, 4, 3, P4),
    "Lie": functools.partial(LieConv, 2, 3, 3, SE2, network="fourier"),
    **{name: functools.partial(make, 2, P4) for name, make in ATTENTIONS.items()},
}
SIZES = {
    "rot_mnist": dict(group=P4, attention="response", features=1),
    "all_cnn": dict(group=P4, attention="input", features=1),
    "resnet": dict(group=P4, attention="se", depth=18, features=1),
    "lie_resnet": dict(group=SE2, attention="input", features=(1, 1), kernel_size=3, head_features=1),
    "lie_all_cnn": dict(group=SE2, features=1, kernel_size=3),
}


def arrays_of(shapes):
    def is_shape(leaf):
        return isinstance(leaf, tuple) and isinstance(leaf[0], int)

    return jax.tree.map(lambda shape: jnp.ones(shape, jnp.float32), shapes, is_leaf=is_shape)


def gradient(function):
    """Of a function, compiled by itself: derivatives are traced when it has been left."""
    compiled = jax.jit(function)

    def loss(*arrays):
        return sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(compiled(*arrays)))

    return lambda *arrays: jax.grad(loss, tuple(range(len(arrays))))(*arrays)


def precisions(function, *arrays, platform="cuda"):
    """How many products of a program have each precision."""
    text = jax.jit(function).trace(*arrays).lower(lowering_platforms=(platform,)).as_text()
    products = [line for line in text.splitlines() if re.search(r"stablehlo\.(dot_general|convolution)\W", line)]
    return collections.Counter(" ".join(re.findall(r"\b(?:DEFAULT|HIGH|HIGHEST)\b", line)) for line in products)


def gradient_of_module(module):
    graph, state, rest = nnx.split(module, nnx.Param, ...)
    return gradient(lambda state, f: nnx.merge(graph, state, rest, copy=True)(f)), state


@pytest.mark.default("frequencies", "basis", "Lie dseparable")
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_all_products_of_a_convolution_and_of_its_gradient_are_as_precise_as_asked(name):
    function, shapes = CONVOLUTIONS[name]
    arrays = arrays_of(shapes)
    for platform in ("cuda", "cpu"):
        asked = precisions(gradient(functools.partial(function, precision="highest")), *arrays, platform=platform)
        assert asked.keys() == {"HIGHEST HIGHEST"} or not asked
        assert asked or (name, platform) == ("Lie depthwise", "cpu")
    usual = precisions(gradient(function), *arrays)
    assert usual.total() == precisions(gradient(functools.partial(function, precision="high")), *arrays).total()
    assert usual.keys() == {"DEFAULT DEFAULT"}


@pytest.mark.default("attentive")
@pytest.mark.parametrize("name", MODULES)
def test_all_products_of_a_module_and_of_its_gradient_are_as_precise_as_asked(name):
    step, state = gradient_of_module(MODULES[name](precision="highest", rngs=nnx.Rngs(0)))
    assert precisions(step, state, jnp.ones(MAP, jnp.float32)).keys() == {"HIGHEST HIGHEST"}


@pytest.mark.default("lie_resnet")
@pytest.mark.parametrize("name", SIZES)
def test_all_products_of_a_training_step_are_as_precise_as_asked(name):
    size, arrays = NETWORKS[name].size or 33, dict(param_dtype=jnp.float32, in_features=1)
    network = networks.random_network_of(name, **SIZES[name], **arrays, precision="highest")
    network.train()
    step, state = gradient_of_module(network)
    images = jax.ShapeDtypeStruct((2, size, size, 1, 1), jnp.float32)
    assert precisions(step, state, images).keys() == {"HIGHEST HIGHEST"}


def test_none_is_what_jax_is_set_to():
    function, shapes = CONVOLUTIONS["lifting"]
    arrays = arrays_of(shapes)

    def set_inside(*arrays):
        with jax.default_matmul_precision("high"):
            return function(*arrays)

    assert precisions(gradient(set_inside), *arrays).keys() == {"HIGH HIGH"}
    with jax.default_matmul_precision("high"):
        assert precisions(gradient(function), *arrays).keys() == {"HIGH HIGH"}
        asked = functools.partial(function, precision="highest")
        assert precisions(gradient(asked), *arrays).keys() == {"HIGHEST HIGHEST"}


def test_tangents_are_as_precise_as_asked():
    for name in ("lifting", "response", "Lie dseparable"):
        function, shapes = CONVOLUTIONS[name]
        arrays, compiled = arrays_of(shapes), jax.jit(functools.partial(function, precision="highest"))
        tangents = precisions(lambda *arrays, f=compiled: jax.jvp(f, arrays, arrays)[1], *arrays)
        assert tangents.keys() == {"HIGHEST HIGHEST"}


def test_a_run_trains_as_its_configuration_says():
    config = Config(model=model("rot_mnist", "p4", features=(1,), precision="highest", implementation="rows"))
    fields = identity(config)
    assert from_identity(fields) == config
    network = nnx.eval_shape(lambda: make_network(config.model, 2, 0))
    assert (network.precision, network.implementation) == ("highest", "rows")
    former = {name: value for name, value in fields.items() if not name.endswith((".precision", ".implementation"))}
    assert from_identity(former).model == model("rot_mnist", "p4", features=(1,))


def test_commands_say_where_their_precision_changes_nothing(capsys):
    saved = {"param_dtype": "float32", "settings": {"precision": "high"}}
    for network in (saved, model("rot_mnist", "p4", features=(1,), precision="high")):
        note = "note: the network has products of precision high, its own; --precision highest does not change that\n"
        for products, said in {"highest": note, "high": "", None: ""}.items():
            with precision_of(network, products):
                assert jax.config.jax_default_matmul_precision == products
            assert capsys.readouterr() == ("", said)
    for network in (saved | {"settings": {}}, model("rot_mnist", "p4", features=(1,))):
        with precision_of(network, "highest"):
            assert capsys.readouterr() == ("", "")


def test_the_precision_of_a_network_may_be_changed():
    network = networks.random_network(P4, features=1, param_dtype=jnp.float32)
    image = jnp.ones([1, 28, 28, 1, 1], jnp.float32)
    network.precision = "highest"
    assert precisions(network, image).keys() == {"HIGHEST HIGHEST"}
    assert network.settings["precision"] == "highest"
    assert precisions(lambda image: network.feature_maps(image)[-1], image).keys() == {"HIGHEST HIGHEST"}


@pytest.mark.parametrize(
    "call",
    [
        lambda precision: group_conv(jnp.ones(MAP), jnp.ones([3, 3, 4, 2, 3]), P4, precision=precision),
        lambda precision: convolution.depthwise_conv(jnp.ones(MAP), jnp.ones([3, 3, 4, 2]), precision=precision),
        lambda precision: GroupConv(2, 3, 3, P4, precision=precision, rngs=nnx.Rngs(0)),
        lambda precision: ATTENTIONS["se"](2, P4, precision=precision, rngs=nnx.Rngs(0)),
        lambda precision: LieConv(2, 3, 3, SE2, precision=precision, rngs=nnx.Rngs(0)),
        lambda precision: NETWORKS["rot_mnist"].network(P4, features=1, precision=precision, rngs=nnx.Rngs(0)),
    ],
    ids=["function", "Lie function", "module", "attention", "Lie module", "network"],
)
def test_an_unknown_precision_is_refused(call):
    with assert_refused("""precision must be None or one of "default", "high", "highest", got 'float32'"""):
        call("float32")
