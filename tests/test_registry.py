"""The registry of networks, and what every network in it can do: settings, maps, tables, copies, hashes."""

import inspect
import json
import typing

import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest
from flax import nnx
from helpers import assert_refused, without_annotations

from attgconv_jax import Sampling, cyclic, dihedral, trivial
from attgconv_jax.docstrings import without_functions
from attgconv_jax.lie import rotations
from attgconv_jax.models import NETWORKS, Network, RotMNISTNet, load_network, register, save_network
from experiments.bench.devices import SMALL
from experiments.run.model_configuration import model

P4, SE2 = cyclic(4), rotations(4)
CASES = [
    *[("rot_mnist", name) for name in (None, "input", "co", "response_channel", "sge", "sk")],
    *[("all_cnn", name) for name in (None, "input", "sge")],
    *[("cifar_resnet", name) for name in (None, "input", "se")],
    *[("densenet", name) for name in (None, "input")],
    *[("wide_resnet", name) for name in (None, "bam", "sk")],
    *[("resnet", name) for name in (None, "se", "bam", "non_local")],
    *[(network, name) for network in ("lie_resnet", "lie_all_cnn") for name in (None, "input", "sge", "bam")],
]
every_case = pytest.mark.parametrize(("name", "attention"), CASES, ids=str)


def make(name, attention=None, **options):
    entry = NETWORKS[name]
    options = SMALL[name] | dict(group=SE2 if entry.lie else P4, classes=3, in_features=2, rngs=nnx.Rngs(0)) | options
    return entry.network(attention=attention, **options)


def image_of(name, batch=2):
    size = NETWORKS[name].nearest_size(28, P4)
    return jax.ShapeDtypeStruct((batch, size, size, 1, 2), jnp.float32)


def test_the_networks_are_those_of_the_package():
    finite = ["all_cnn", "cifar_resnet", "densenet", "resnet", "rot_mnist", "wide_resnet"]
    assert sorted(name for name, entry in NETWORKS.items() if not entry.lie) == finite
    assert [name for name, entry in NETWORKS.items() if entry.lie] == ["lie_all_cnn", "lie_resnet"]


@pytest.mark.parametrize("name", NETWORKS)
def test_options_are_the_arguments_of_its_own_with_what_the_docstring_says(name):
    options = NETWORKS[name].options()
    parameters = inspect.signature(NETWORKS[name].network.__init__).parameters
    assert {"features", "sampling"} < options.keys() < parameters.keys()
    assert not options.keys() & {"self", "group", "attention", "attention_options", "classes", "rngs"}
    for option, (_, default, text) in options.items():
        assert default is NETWORKS[name].defaults.get(option, parameters[option].default)
        assert text.endswith("."), option
    assert options["sampling"].type is Sampling


def test_an_option_is_described_by_type_default_and_help():
    options = NETWORKS["rot_mnist"].options()
    assert options["dropout_rate"] == (float, 0.3, "after every layer but the second and the last.")
    assert typing.get_args(options["kind"].type) == ("nonseparable", "gseparable", "separable")
    assert NETWORKS["resnet"].options()["depth"].default == 18


def test_of_arguments_that_may_be_functions_names_are_options():
    names = typing.Literal["he_normal", "paper_uniform", "paper_normal"]
    assert NETWORKS["all_cnn"].options()["kernel_init"].type == names | None
    assert without_functions(typing.Callable[[int], int] | None) is None
    assert without_functions(typing.Callable) is None
    assert without_functions(list[typing.Callable] | int) is int
    assert without_functions(int | None) == int | None

    def deviation(**arguments):
        network = model("all_cnn", "p4", features=2, **arguments).build(3, 10, nnx.Rngs(0))
        return float(jnp.std(network.convolutions[1].w[...]))

    # A filter of 3x3 pixels, 4 group elements and 2 channels: uniform within a bound, or normal.
    np.testing.assert_allclose(deviation(), 0.035 / np.sqrt(3 * 9 * 2), rtol=0.1)
    np.testing.assert_allclose(deviation(kernel_init="he_normal"), np.sqrt(2 / (9 * 4 * 2)), rtol=0.2)


def test_the_nearest_size_is_the_least_that_the_network_takes():
    resnet = NETWORKS["resnet"]
    assert [resnet.nearest_size(size, P4) for size in (1, 28, 33, 34, 224)] == [33, 33, 33, 65, 225]
    assert resnet.nearest_size(224, trivial()) == 224
    assert resnet.nearest_size(32, dihedral(1)) == 33
    assert NETWORKS["lie_all_cnn"].nearest_size(28, SE2) == 32
    others = "take all_cnn or cifar_resnet or densenet or resnet or wide_resnet, or smaller images"
    with assert_refused(f"size must be at most 28, the pixels that rot_mnist takes, got 32; {others}"):
        NETWORKS["rot_mnist"].nearest_size(32, P4)
    with assert_refused("size must be at most 32, the pixels that lie_all_cnn takes, got 33; take smaller images"):
        NETWORKS["lie_all_cnn"].nearest_size(33, SE2)


@every_case
@pytest.mark.default("rot_mnist-response_channel", "densenet-None", "lie_resnet-sge")
def test_it_can_be_tabulated_and_its_graph_hashed(name, attention):
    def tabulate():
        # Traced, or the table would be compiled module by module.
        network = make(name, attention)
        image = jnp.zeros(image_of(name).shape, jnp.float32)
        assert type(network).__name__ in nnx.tabulate(network, image, console_kwargs=dict(width=200))

    jax.eval_shape(tabulate)
    first, second = (nnx.split(nnx.eval_shape(lambda: make(name, attention)))[0] for _ in range(2))
    assert first == second and hash(first) == hash(second)


def test_a_table_is_made_outside_of_a_trace():
    network = networks.random_network_of("rot_mnist", P4, "bam", features=2)
    assert "BottleneckAttention" in nnx.tabulate(network, jnp.zeros([1, 28, 28, 1, 1]), console_kwargs=dict(width=200))


@every_case
def test_it_has_a_map_a_layer_that_attends(name, attention):
    network = nnx.eval_shape(lambda: make(name, attention))
    network.eval()
    graphdef, state = nnx.split(network)

    def maps(state, image):
        network = nnx.merge(graphdef, state)
        return network.feature_maps(image), network.attention_maps(image) if attention else None

    features, attentions = jax.eval_shape(maps, state, image_of(name))
    assert features[-1].shape == (2, 3)
    assert features[0].shape == image_of(name).shape
    assert network.group == (SE2 if NETWORKS[name].lie else P4)
    if attention is None:
        assert network.attending_layers == []
        return
    assert len(attentions) == len(features) - 1
    assert [i for i, alpha in enumerate(attentions) if alpha is not None] == network.attending_layers != []


@every_case
def test_its_settings_make_it_again(name, attention):
    network = nnx.eval_shape(lambda: make(name, attention, sampling=Sampling("cubic", disc_mask=True)))
    settings = json.loads(json.dumps(network.settings))
    assert settings["sampling"] == {"kind": "cubic", "disc_mask": True, "tolerance": 0.01, "lowpass": None}
    assert settings["attention"] == attention
    settings |= dict(group=network.group, sampling=Sampling(**settings["sampling"]))
    again = nnx.eval_shape(lambda: NETWORKS[name].network(**settings, rngs=nnx.Rngs(0)))
    assert nnx.split(again)[0] == nnx.split(network)[0]


def samplings(module):
    """The samplings of all filters in a module, by the modules' paths."""
    found = {}
    for path, node in nnx.iter_modules(module):
        settings = {**vars(node), **dict(getattr(node, "_options", ()))}
        if "sampling" in settings:
            found[path] = settings["sampling"]
    return found


@every_case
def test_sampling_reaches_every_filter(name, attention):
    cubic = Sampling("cubic")
    network = nnx.eval_shape(lambda: make(name, attention, sampling=cubic))
    found = samplings(network)
    assert set(found.values()) == {cubic} or (not found and NETWORKS[name].lie)
    if not NETWORKS[name].lie:
        assert len(found) > 6
    if attention in ("input", "bam"):
        assert any(path[-1] == "attention" for path in found)


def test_separable_filters_are_sampled_too():
    network = nnx.eval_shape(lambda: make("rot_mnist", kind="separable", sampling=Sampling("cubic")))
    assert set(samplings(network).values()) == {Sampling("cubic")}


def test_the_former_name_of_kind_warns():
    with pytest.warns(DeprecationWarning, match="separable is deprecated"):
        network = RotMNISTNet(P4, separable="gc", features=2, rngs=nnx.Rngs(0))
    assert network.settings["kind"] == "separable"


def test_numbers_of_numpy_are_numbers():
    with without_annotations():
        options = dict(features=np.int64(2), attention_options=dict(reduction=np.int64(2)), random_grids=np.True_)
        lie = nnx.eval_shape(lambda: make("lie_all_cnn", "se", **options))
        finite = nnx.eval_shape(lambda: make("rot_mnist", features=np.int64(2), classes=np.int32(3), haar=np.False_))
    assert json.loads(json.dumps(finite.settings))["features"] == 2
    assert json.loads(json.dumps(lie.settings))["attention_options"] == {"reduction": 2}


class TwoMeans(Network):
    """A network registered outside of the package.

    Args:
      group: of nothing.
      slope: of the mean, in logits a unit,
        at most 3.
    """

    def __init__(
        self, group, attention=None, *, attention_options=None, slope: float = 2.0, classes=10, dtype=None, rngs, **_
    ):
        super().__init__(
            group, attention, attention_options=attention_options, dtype=dtype, slope=slope, classes=classes
        )
        self.slope = slope
        self.bias = nnx.Param(jnp.arange(classes, dtype=jnp.float32))

    def _features(self, image):
        yield image
        yield self.slope * jnp.mean(image, axis=(-4, -3, -2)) + self.bias[...]

    def _attentions(self):
        return [None]


@pytest.fixture
def two_means():
    register("two_means", size=8)(TwoMeans)
    yield NETWORKS["two_means"]
    del NETWORKS["two_means"]


def test_a_network_from_outside_is_saved_and_loaded_by_its_name(two_means, tmp_path):
    assert two_means.options()["slope"] == (float, 2.0, "of the mean, in logits a unit, at most 3.")
    network = TwoMeans(P4, slope=1.5, classes=3, rngs=nnx.Rngs(0))
    save_network(tmp_path / "network", network)
    description = json.loads((tmp_path / "network/network.json").read_text())
    assert description["network"] == "two_means" and description["format"] == 2
    loaded = load_network(tmp_path / "network")
    image = jnp.ones([2, 8, 8, 1, 1], jnp.float32)
    assert type(loaded) is TwoMeans
    np.testing.assert_array_equal(loaded(image), network(image))
    with assert_refused("name must be that of no other network; 'two_means' is TwoMeans"):
        register("two_means")(type("Other", (Network,), {}))
