"""The modules of attention operators: they are their functions, and know what they cannot be."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_close, assert_refused, random
from networks import with_random_arrays

from attgconv_jax import OPERATORS, attend, cyclic, dihedral, equivariance_error, group_conv, models, nn
from attgconv_jax.models import RotMNISTNet, load_network, save_network
from attgconv_jax.models.layers import attention_options
from attgconv_jax.nn import (
    ATTENTIONS,
    AttentiveGroupConv,
    BottleneckAttention,
    ConvolutionalBlockAttention,
    CoordinateAttention,
    EfficientChannelAttention,
    GatherExcite,
    GlobalContext,
    GroupConv,
    GroupSelfAttention,
    LieAttention,
    NonLocal,
    SelectiveKernelGroupConv,
    SeparableGroupConv,
    SpatialGroupEnhance,
    SqueezeExcitation,
)

P4 = cyclic(4)
C = 4
# Options that keep tests small.
SMALL = {
    "se": dict(reduction=2),
    "ge": dict(reduction=2, extent=3),
    "bam": dict(reduction=2, dilation=2),
    "cbam": dict(reduction=2, kernel_size=3),
    "sge": dict(groups=2),
    "gc": dict(reduction=2),
    "eca": dict(kernel_size=3),
    "coordinate": dict(reduction=2),
    "self": dict(kernel_size=3, heads=2),
}
# The operators of the literature.
OPTIONS = {name: SMALL.get(name, {}) for name in ATTENTIONS if OPERATORS[name].site != "input"}
every_operator = pytest.mark.parametrize("name", OPTIONS)


def make(name, group=P4, *, param_dtype=jnp.float64, **options):
    def build():
        return ATTENTIONS[name](C, group, param_dtype=param_dtype, rngs=nnx.Rngs(0), **OPTIONS[name], **options)

    return with_random_arrays(build)


def test_every_operator_on_an_input_has_a_module():
    assert SMALL.keys() < OPTIONS.keys()
    assert {*ATTENTIONS} - {*OPTIONS} == {"input", "input_channel", "input_spatial", "co"}
    assert {*OPERATORS} - {*ATTENTIONS} == {"sk", "response", "response_channel", "response_spatial"}


@pytest.mark.parametrize("lifting", [True, False], ids=["image", "feature_map"])
@every_operator
def test_module_attends_with_its_own_map_and_commutes_with_the_group(name, lifting):
    module = make(name, dihedral(4), lifting=lifting)
    f = random(2, 6, 6, 1 if lifting else 8, C)
    attended, alpha = jax.jit(lambda f: (module(f), module.attention_maps(f)))(f)
    assert attended.shape == f.shape
    assert all(length in (1, full) for length, full in zip(alpha.shape, f.shape, strict=True))
    assert_close(attended, attend(f, alpha, OPERATORS[name].combination))
    assert not np.allclose(attended, f)
    kind = "image" if lifting else "feature_map"
    assert equivariance_error(jax.jit(module), f, dihedral(4), kind) < 1e-10


@every_operator
def test_module_in_a_convolution_attends_then_convolves(name):
    options = dict(padding=1, attention=name, attention_options=OPTIONS[name], param_dtype=jnp.float64)
    layer = with_random_arrays(lambda: AttentiveGroupConv(C, 3, 3, P4, rngs=nnx.Rngs(0), **options))
    f = random(2, 6, 6, 4, C)
    attended, y, maps = jax.jit(lambda f: (layer.attention(f), layer(f), layer.attention_maps(f)))(f)
    assert_close(y, group_conv(attended, layer.conv.w[...], P4, padding=1))
    assert_close(attended, attend(f, maps, OPERATORS[name].combination))


# A batch norm takes away what the bias before it adds.
WITHOUT_GRADIENT = {
    "coordinate": ["['weights']['b1'].value"],
    "bam": ["['weights']['channel']['b2'].value", "['weights']['biases'][3].value"],
}


@every_operator
def test_every_parameter_of_a_module_learns(name):
    module = ATTENTIONS[name](C, P4, rngs=nnx.Rngs(0), **OPTIONS[name])
    graph, params, rest = nnx.split(module, nnx.Param, ...)
    f, target = (random(4, 6, 6, 4, C, seed=seed).astype(jnp.float32) for seed in (0, 1))

    @jax.jit
    def step(params):
        def loss(params):
            return jnp.mean((nnx.merge(graph, params, rest, copy=True)(f) - target) ** 2)

        return jax.tree.map(lambda leaf, slope: leaf - 0.5 * slope, params, jax.grad(loss)(params))

    # The last layer of some is zero to begin with, and those before it have no gradient until it is not.
    trained = step(step(step(params)))
    for (path, before), after in zip(jax.tree.leaves_with_path(params), jax.tree.leaves(trained), strict=True):
        assert np.all(np.isfinite(after))
        if jax.tree_util.keystr(path) not in WITHOUT_GRADIENT.get(name, ()):
            assert np.max(np.abs(before - after)) > 1e-6, jax.tree_util.keystr(path)


@pytest.mark.parametrize("features", [4, 16, 64])
@every_operator
def test_attention_of_a_module_with_its_defaults_depends_on_the_input(name, features):
    options = {"heads": 1} if name == "self" else {}
    module = with_random_arrays(lambda: ATTENTIONS[name](features, P4, rngs=nnx.Rngs(0), **options))
    maps = jax.jit(module.attention_maps)(random(2, 4, 4, 4, features).astype(jnp.float32))
    assert np.max(np.abs(maps[0] - maps[1])) > 1e-2 * np.max(np.abs(maps))


@every_operator
def test_module_computes_in_the_type_it_is_told(name):
    module = make(name, param_dtype=jnp.float32, dtype=jnp.bfloat16)
    f = random(2, 6, 6, 4, C).astype(jnp.float32)
    assert jax.jit(module)(f).dtype == jnp.bfloat16
    assert make(name, param_dtype=jnp.float32)(f).dtype == jnp.float32


@every_operator
def test_structure_of_a_module_is_hashable_and_its_arrays_go_there_and_back(name):
    module = make(name)
    graph, state = nnx.split(module)
    assert hash(graph) == hash(nnx.split(make(name))[0])
    f = random(2, 6, 6, 4, C)
    assert_close(jax.jit(nnx.merge(graph, state))(f), jax.jit(module)(f), 0)


@pytest.mark.parametrize("name", ["bam", "srm", "coordinate"])
def test_running_statistics_move_in_training_and_rest_in_evaluation(name):
    module, f = make(name), random(2, 6, 6, 4, C)

    def statistics():
        return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(module, nnx.BatchStat))]

    before = statistics()
    module(f)
    assert all(np.array_equal(a, b) for a, b in zip(before, statistics(), strict=True))
    module.train()
    module(f)
    assert all(not np.array_equal(a, b) for a, b in zip(before, statistics(), strict=True))


@pytest.mark.parametrize("group", [P4, dihedral(4)], ids=str)
@pytest.mark.parametrize("name", [*OPTIONS, "sk"])
@pytest.mark.default("sk-dihedral(4)", "gc-cyclic(4)", "eca-dihedral(4)")
def test_logits_of_a_network_with_the_operator_are_invariant_in_float32(name, group):
    def build():
        return RotMNISTNet(group, name, features=4, param_dtype=jnp.float32, rngs=nnx.Rngs(0))

    network = with_random_arrays(build)
    for layer in network.convolutions if name in ("non_local", "self") else ():
        if isinstance(layer, AttentiveGroupConv):
            # What is added grows from layer to layer, and a softmax of large scores makes much of a rounding.
            for weight in (layer.attention.weights.query, layer.attention.weights.out):
                weight.set_value(0.1 * weight[...])
    network = jax.jit(network)
    image = random(2, 28, 28, 1, 1).astype(jnp.float32)
    logits = network(image)
    assert logits.dtype == jnp.float32
    assert np.max(np.abs(logits[0] - logits[1])) > 1e-3 * np.max(np.abs(logits))
    assert equivariance_error(network, image, group, output="invariant") < 1e-5


def test_operators_on_inputs_leave_the_image_alone_and_those_of_positions_large_maps():
    def attending(name):
        return nnx.eval_shape(lambda: RotMNISTNet(P4, name, rngs=nnx.Rngs(0))).attending_layers

    assert attending("sge") == [1, 2, 3, 4, 5, 6]
    assert attending("self") == attending("non_local") == [2, 3, 4, 5, 6]
    assert attending("sk") == [0, 1, 2, 3, 4, 5]
    assert attending("input") == attending("response") == [0, 1, 2, 3, 4, 5, 6]
    assert attending(None) == []


def test_a_network_with_an_operator_comes_back_from_disk(tmp_path):
    def build():
        options = {"reduction": 3, "over_group": True}
        return RotMNISTNet(P4, "bam", attention_options=options, features=(3, 4, 3, 3, 3, 3), rngs=nnx.Rngs(0))

    network = with_random_arrays(build)
    save_network(tmp_path / "network", network)
    loaded = load_network(tmp_path / "network")
    assert loaded.settings["attention_options"] == {"reduction": 3, "over_group": True}
    image = random(2, 28, 28, 1, 1).astype(jnp.float32)
    assert np.array_equal(jax.jit(loaded)(image), jax.jit(network)(image))


def test_selective_kernel_convolution_chooses_between_its_branches():
    options = dict(padding=1, branches=3, channel_groups=2, reduction=2, param_dtype=jnp.float64)
    layer = with_random_arrays(lambda: SelectiveKernelGroupConv(C, 6, 3, P4, rngs=nnx.Rngs(0), **options))
    f = random(2, 7, 7, 4, C)
    shares, y = jax.jit(lambda f: (layer.branch_shares(f), layer(f)))(f)
    assert shares.shape == (3, 2, 1, 1, 4, 6)
    assert_close(jnp.sum(shares, axis=0), jnp.ones(shares.shape[1:]))
    responses = [jax.nn.relu(norm(conv(f))) for conv, norm in zip(layer.convs, layer.conv_norms, strict=True)]
    assert_close(y, sum(share * response for share, response in zip(shares, responses, strict=True)))
    assert [conv.dilation for conv in layer.convs] == [1, 2, 3]
    assert [conv.w.shape for conv in layer.convs] == [(3, 3, 4, 4, 6), (3, 3, 4, 2, 6), (3, 3, 4, 2, 6)]
    assert equivariance_error(jax.jit(layer), f, P4) < 1e-10


@pytest.mark.parametrize("padding", [0, 2, "SAME", "VALID"])
def test_selective_kernel_convolution_has_the_size_of_a_convolution(padding):
    def shape(module):
        def run(f):
            return module(C, 6, 3, P4, padding=padding, rngs=nnx.Rngs(0))(f)

        return jax.eval_shape(run, jax.ShapeDtypeStruct((1, 9, 9, 4, C), jnp.float32)).shape

    assert shape(SelectiveKernelGroupConv) == shape(GroupConv)


def test_group_convolution_in_parts_has_the_parameters_of_a_part():
    layer = GroupConv(4, 6, 3, P4, channel_groups=2, rngs=nnx.Rngs(0))
    assert layer.w.shape == (3, 3, 4, 2, 6)
    assert layer(jnp.ones((1, 5, 5, 4, 4), jnp.float32)).shape == (1, 3, 3, 4, 6)


def test_options_of_an_attention_are_those_of_its_module():
    assert attention_options("sge") == {"groups": int, "grouping": str, "over_group": bool, "epsilon": float}
    assert "channel_groups" in attention_options("sk")
    assert "spatial" not in attention_options("input_channel")
    assert "channel" not in attention_options("response_spatial")


def test_signatures_name_the_options_of_group_convolution():
    names = {*inspect.signature(SeparableGroupConv).parameters}
    assert {*inspect.signature(GroupConv.__init__).parameters} - names == {"self", "lifting", "channel_groups"}
    assert {*inspect.signature(SeparableGroupConv.__init__).parameters} == {"self", *names} > {"self", "kind"}
    of_conv, own = inspect.signature(GroupConv).parameters, {"attention", "attention_options", "kind"}
    assert {*inspect.signature(AttentiveGroupConv).parameters} == {*of_conv} | own
    assert {"precision", "dtype", "coordinates"} < {*inspect.signature(LieAttention).parameters}
    assert "options" not in names


def rngs():
    return nnx.Rngs(0)


REFUSALS = {
    "reduction larger than the channels": (
        lambda: SqueezeExcitation(8, P4, reduction=16, rngs=rngs()),
        "reduction must be at most the 8 channels, got 16",
    ),
    "no reduction": (
        lambda: SqueezeExcitation(8, P4, reduction=0, rngs=rngs()),
        "reduction must be an integer of at least 1, got 0",
    ),
    "no channels": (lambda: SqueezeExcitation(0, P4, rngs=rngs()), "features must be an integer of at least 1"),
    "one hidden channel before a layer norm": (
        lambda: GlobalContext(10, P4, reduction=10, rngs=rngs()),
        "or its layer norm leaves nothing: reduction must be at most half of the 10 channels, got 10",
    ),
    "groups that do not divide": (
        lambda: SpatialGroupEnhance(10, P4, groups=4, rngs=rngs()),
        "groups must divide the 10 channels: one of 1, 2, 5, 10; got 4",
    ),
    "half a group": (
        lambda: SpatialGroupEnhance(10, P4, groups=2.5, rngs=rngs()),
        "groups must be an integer of at least 1, got 2.5",
    ),
    "unknown grouping": (
        lambda: SpatialGroupEnhance(10, P4, grouping="channel", rngs=rngs()),
        'grouping must be one of "element", "joint", got \'channel\'',
    ),
    "even filter of CBAM": (
        lambda: ConvolutionalBlockAttention(10, P4, kernel_size=4, rngs=rngs()),
        "kernel_size must be odd, or attention is off centre, got 4",
    ),
    "even filter of BAM": (lambda: BottleneckAttention(10, P4, kernel_size=2, rngs=rngs()), "kernel_size must be odd"),
    "even filter of ECA": (lambda: EfficientChannelAttention(10, P4, kernel_size=2, rngs=rngs()), "must be odd"),
    "even window": (lambda: GroupSelfAttention(10, P4, kernel_size=4, rngs=rngs()), "kernel_size must be odd"),
    "heads that do not divide": (
        lambda: GroupSelfAttention(10, P4, heads=2, rngs=rngs()),
        "heads must divide the 5 hidden channels: one of 1, 5; got 2",
    ),
    "a gather of another size": (
        lambda: GatherExcite(10, P4, extent=2, gather_size=3, rngs=rngs()),
        "gather_size must be the extent of a window, 2, got 3",
    ),
    "a gather over the group": (
        lambda: GatherExcite(10, P4, gather_size=3, over_group=True, rngs=rngs()),
        "leave out one",
    ),
    "non-local attention of one channel": (
        lambda: NonLocal(1, P4, rngs=rngs()),
        "reduction must be at most the 1 channels, got 2",
    ),
    "coordinate attention on eighth turns": (
        lambda: CoordinateAttention(4, cyclic(8), rngs=rngs()),
        "take a group of right angles",
    ),
    "one branch": (
        lambda: SelectiveKernelGroupConv(4, 4, 3, P4, branches=1, rngs=rngs()),
        "branches must be an integer of at least 2, got 1",
    ),
    "same padding of strided branches": (
        lambda: SelectiveKernelGroupConv(4, 4, 3, P4, stride=2, padding="SAME", rngs=rngs()),
        'padding "SAME" needs stride 1',
    ),
    "even filter of Selective Kernel": (
        lambda: SelectiveKernelGroupConv(4, 4, 2, P4, rngs=rngs()),
        "kernel_size must be odd",
    ),
    "parts that do not divide": (
        lambda: GroupConv(4, 6, 3, P4, channel_groups=4, rngs=rngs()),
        "channel_groups must divide the 4 and 6 channels: one of 1, 2; got 4",
    ),
    "unknown attention of a network": (
        lambda: RotMNISTNet(P4, "sgd", rngs=rngs()),
        f"attention must be None or one of {', '.join(OPERATORS)}, got 'sgd'",
    ),
    "options of no attention": (
        lambda: RotMNISTNet(P4, attention_options={"groups": 2}, rngs=rngs()),
        "attention_options need an attention",
    ),
    "four widths": (
        lambda: RotMNISTNet(P4, features=(4, 4, 4, 4), rngs=rngs()),
        "features must be one number or 6, a layer each, got (4, 4, 4, 4)",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_work_is_refused_by_saying_what_would(case):
    call, message = REFUSALS[case]
    with assert_refused(message):
        call()


@pytest.mark.parametrize("of", [nn, models], ids=["nn", "models"])
def test_help_names_the_arguments_of_every_constructor(of):
    classes = [part for part in (getattr(of, name) for name in of.__all__) if inspect.isclass(part)]
    modules = [part for part in classes if issubclass(part, nnx.Module)]
    assert modules
    for module in modules:
        kinds = {parameter.kind for parameter in inspect.signature(module).parameters.values()}
        assert inspect.Parameter.VAR_POSITIONAL not in kinds, module


@pytest.mark.parametrize("make", [lambda: nn.GroupPool("max"), lambda: ATTENTIONS["se"](C, P4, rngs=rngs())])
def test_instances_have_the_signature_of_their_call(make):
    assert [*inspect.signature(make()).parameters] == ["f"]


def test_help_says_what_the_operator_itself_says_of_an_argument():
    def help_of(name, argument):
        text = inspect.getdoc(ATTENTIONS[name]).split("Options:")[1]
        return " ".join(text.split(f"  {argument}: ")[1].split("\n  ")[0].split())

    half = "of the channel network; None: half of `features`, at least 1."
    assert "of an array `[..., c]`" in help_of("non_local", "norm")
    assert help_of("input", "hidden_features") == half
    for name in set(ATTENTIONS) - {"input", "input_channel", "input_spatial"}:
        assert "half of `features`" not in ATTENTIONS[name].__doc__
    formula = '`global_context` with weights of its own: `f + alpha`, or `alpha f` with `combination="scale"`.'
    assert inspect.getdoc(GlobalContext).startswith(formula)
