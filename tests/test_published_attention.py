"""Attention with the options of published code: outputs and gradients of the published modules, and equivariance.

`fixtures/operators.npz` was written by `fixtures/operators.py.txt`, which says what its arrays are.
"""

import functools
import pathlib
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from documents import ROOT
from flax import nnx
from helpers import assert_close, assert_refused, random
from networks import with_random_arrays
from operator_oracles import ORACLES, weights_of

from attgconv_jax import OPERATORS, cyclic, dihedral, equivariance_error, gather_excite, trivial
from attgconv_jax.attention.ge import GatherExciteWeights, _is_symmetric
from attgconv_jax.models import RotMNISTNet
from attgconv_jax.nn import ATTENTIONS, SelectiveKernelGroupConv

PUBLISHED = np.load(pathlib.Path(__file__).parent / "fixtures/operators.npz")


class Case(NamedTuple):
    """A module of ours, and for every array of it the published one's names of it, what is made of them, and how.

    Everything is linear, so that gradients go the same way.
    """

    make: Any
    options: dict
    arrays: dict


def linear(w):
    """`[o, i, 1, 1]` or `[o, i]` to `[o, i, h]`."""
    return w.reshape(*w.shape[:2], 1)


def spatial(w):
    """`[o, i, k, k]` to `[k, k, h, i, o]`."""
    return w.transpose(2, 3, 1, 0)[:, :, None]


def plain(w):
    return w.reshape(w.shape[0], -1)


def flat(w):
    return w.reshape(-1)


def from_heads(w):
    """Two heads count fastest there, slowest here."""
    return w.reshape(-1, 2, *w.shape[1:]).swapaxes(0, 1).reshape(-1, *w.shape[1:])


def network(w1, w2, to="", bias=True):
    """Of two linear layers."""
    arrays = {f"{to}w1": (f"{w1}.weight", linear), f"{to}w2": (f"{w2}.weight", linear)}
    return arrays | ({f"{to}b1": (f"{w1}.bias", flat), f"{to}b2": (f"{w2}.bias", flat)} if bias else {})


def norm(ours, theirs):
    names = dict(scale="weight", bias="bias", mean="running_mean", var="running_var")
    return {f"{ours}.{a}": (f"{theirs}.{b}", flat) for a, b in names.items()}


def named(prefix, arrays):
    return {f"{prefix}{ours}": value for ours, value in arrays.items()}


def operator(name, features, options, arrays, norms=()):
    """Of `ATTENTIONS`; the names of weights are those of their tuple."""
    held = {key: value for part in norms for key, value in part.items()}
    return Case(
        lambda: ATTENTIONS[name](features, trivial(), **options, param_dtype=jnp.float64, rngs=nnx.Rngs(0)),
        options,
        named("weights.", arrays) | named("norms.", held),
    )


def non_local(query, key, value, out, features=6, hidden=4, norms=(), **options):
    names = dict(query=query, key=key, value=value, out=out)
    arrays = {ours: (f"{theirs}.weight", linear) for ours, theirs in names.items()}
    arrays |= {f"{ours}_bias": (f"{theirs}.bias", flat) for ours, theirs in names.items()}
    return operator("non_local", features, dict(use_bias=True, hidden_features=hidden) | options, arrays, norms)


def global_context(key, w1, layer_norm, w2, **options):
    arrays = {"key": (f"{key}.weight", linear), "key_bias": (f"{key}.bias", flat), **network(w1, w2)}
    arrays |= {"scale": (f"{layer_norm}.weight", flat), "shift": (f"{layer_norm}.bias", flat)}
    return operator("gc", 6, dict(hidden_features=4, use_key_bias=True) | options, arrays)


def selective_kernel(in_features, out_features, options, branches, w1, of_norm, w2):
    arrays = {}
    for i, (conv, of_branch) in enumerate(branches):
        arrays |= {f"convs.{i}.w": (f"{conv}.weight", spatial)} | norm(f"conv_norms.{i}", of_branch)
    arrays |= {"w1": (f"{w1}.weight", linear), "w2": (f"{w2}.weight", lambda w: w.reshape(2, -1, w.shape[1], 1))}
    return Case(
        lambda: SelectiveKernelGroupConv(
            in_features, out_features, 3, trivial(), padding=1, **options, param_dtype=jnp.float64, rngs=nnx.Rngs(0)
        ),
        options,
        arrays | norm("norm", of_norm),
    )


def paths(conv, of_norm):
    return [(f"paths.{i}.{conv}", f"paths.{i}.{of_norm}") for i in range(2)]


GATE_C, GATE_S = "channel_att.gate_c.gate_c", "spatial_att.gate_s.gate_s"
OF_BAM = ("reduce0", "di_0", "di_1")
EXCITE = network("mlp.fc1", "mlp.fc2", "excite.")
SELF = {
    **{part: (f"layer.{part}.weight", lambda w: plain(from_heads(w))) for part in ("query", "key", "value")},
    **{f"{part}_bias": (f"layer.{part}.bias", from_heads) for part in ("query", "key", "value")},
    "out": ("layer.wout.weight", lambda w: from_heads(plain(w).T).T),
    "out_bias": ("layer.wout.bias", flat),
}
CASES = {
    "timm CbamModule": operator(
        "cbam",
        6,
        dict(hidden_features=3, kernel_size=3, use_bias=False, spatial_norm="batch"),
        {
            **network("channel.fc1", "channel.fc2", "channel.", bias=False),
            "spatial": ("spatial.conv.conv.weight", spatial),
        },
        [norm("spatial_norm", "spatial.conv.bn")],
    ),
    "PytorchInsight CBAM": operator(
        "cbam",
        6,
        dict(hidden_features=3, kernel_size=7, spatial_norm="batch"),
        {
            **network("ChannelGate.mlp.1", "ChannelGate.mlp.3", "channel."),
            # The maximum comes first there.
            "spatial": ("SpatialGate.spatial.conv.weight", lambda w: spatial(w[:, ::-1])),
        },
        [norm("spatial_norm", "SpatialGate.spatial.bn")],
    ),
    "PytorchInsight BAM": operator(
        "bam",
        16,
        dict(reduction=4, dilation=2, combine="product", hidden_norms="batch", channel_norm=None, spatial_norm=None),
        {
            **network(f"{GATE_C}_fc_0", f"{GATE_C}_fc_final", "channel."),
            "reduce": (f"{GATE_S}_conv_reduce0.weight", spatial),
            **{f"dilated.{i}": (f"{GATE_S}_conv_di_{i}.weight", spatial) for i in range(2)},
            "expand": (f"{GATE_S}_conv_final.weight", spatial),
            **{f"biases.{i}": (f"{GATE_S}_conv_{of}.bias", flat) for i, of in enumerate((*OF_BAM, "final"))},
        },
        [
            norm("hidden_norms.0", f"{GATE_C}_bn_1"),
            *(norm(f"hidden_norms.{i}", f"{GATE_S}_bn_{of}") for i, of in enumerate(OF_BAM, 1)),
        ],
    ),
    "timm NonLocalAttn": non_local(*"tpgz", scale=6**-0.5, norm="batch", norms=[norm("norm", "norm")]),
    "timm NonLocalAttn, unscaled": non_local(*"tpgz", norm="batch", norms=[norm("norm", "norm")]),
    "NONLocalBlock2D": non_local("theta", "phi", "g", "W"),
    "NONLocalBlock2D, normed": non_local(
        "theta", "phi", "g", "W.0", hidden=3, norm="batch", norms=[norm("norm", "W.1")]
    ),
    "timm GlobalContext, scaling": global_context(
        "conv_attn", "mlp_scale.fc1", "mlp_scale.norm", "mlp_scale.fc2", combination="scale", epsilon=1e-6
    ),
    "timm GlobalContext, adding": global_context(
        "conv_attn", "mlp_add.fc1", "mlp_add.norm", "mlp_add.fc2", epsilon=1e-6
    ),
    "PytorchInsight ContextBlock2d": global_context(
        "conv_mask", "channel_add_conv.0", "channel_add_conv.1", "channel_add_conv.3"
    ),
    "timm GatherExcite": operator("ge", 6, dict(hidden_features=3), EXCITE),
    "timm GatherExcite, extent 2": operator("ge", 6, dict(hidden_features=3, extent=2, overlap=True), EXCITE),
    "timm GatherExcite, extent 4": operator("ge", 6, dict(hidden_features=3, extent=4, overlap=True), EXCITE),
    "SRMLayer": operator("srm", 6, dict(unbiased=True), {"": ("cfc", linear)}, [norm("norm", "bn")]),
    "g_selfatt": operator(
        "self", 5, dict(hidden_features=12, heads=2, kernel_size=3, use_bias=True, scale=5**-0.5), SELF
    ),
    "timm EcaModule, 4 channels": operator("eca", 4, dict(min_kernel_size=3), {"": ("conv.weight", lambda w: w[0].T)}),
    "timm EcaModule, 128 channels": operator(
        "eca", 128, dict(min_kernel_size=3), {"": ("conv.weight", lambda w: w[0].T)}
    ),
    "torchvision SqueezeExcitation": operator("se", 15, dict(hidden_features=4), network("fc1", "fc2")),
    "timm SelectiveKernel, groups": selective_kernel(
        8,
        8,
        dict(hidden_features=4, channel_groups=4, first_groups=4),
        paths("conv", "bn"),
        "attn.fc_reduce",
        "attn.bn",
        "attn.fc_select",
    ),
    "timm SelectiveKernel, split": selective_kernel(
        8,
        6,
        dict(hidden_features=4, split_input=True, stride=2),
        paths("conv", "bn"),
        "attn.fc_reduce",
        "attn.bn",
        "attn.fc_select",
    ),
    "PytorchInsight SK": selective_kernel(
        16,
        16,
        dict(reduction=16, channel_groups=4, dilated=False),
        [("block.conv2", "block.bn2"), ("block.conv2g", "block.bn2g")],
        "block.conv_fc1",
        "block.bn_fc1",
        "block.conv_fc2",
    ),
}


def under(prefix):
    return {name.removeprefix(prefix): PUBLISHED[name] for name in PUBLISHED.files if name.startswith(prefix)}


def parts(state):
    """Variables by name."""
    return {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(state)}


def loaded(name):
    """Our module with the published arrays, all of them."""
    made, _, arrays = CASES[name]
    module = made()
    arrays = {ours.removesuffix("."): value for ours, value in arrays.items()}
    state = under(f"{name}/state/")
    variables = parts(nnx.state(module, nnx.Any(nnx.Param, nnx.BatchStat)))
    position = state.pop("position", None)
    if position is not None:
        arrays["weights.position"] = ("position", None)
        variables["weights.position"].set_value(positions(position))
    assert variables.keys() == arrays.keys()
    assert state.keys() == {theirs for theirs, _ in arrays.values()} - {"position"}
    for ours, (theirs, to_ours) in arrays.items():
        if to_ours is not None:
            array = to_ours(state[theirs].astype(np.float64))
            assert array.shape == variables[ours].shape, ours
            variables[ours].set_value(jnp.asarray(array))
    return module


def positions(array):
    """One vector for both heads."""
    return jnp.asarray(np.tile(array, (1, 1, 2))[:, :, None], jnp.float64)


def to_map(array):
    """`[b, c, x, y]` to `[b, x, y, h, c]`."""
    return jnp.asarray(array.transpose(0, 2, 3, 1)[:, :, :, None], jnp.float64)


def sizes(name):
    return sorted({key.split("/")[1] for key in PUBLISHED.files if key.startswith(f"{name}/")} - {"state"})


def test_every_published_module_is_compared():
    assert {key.split("/")[0] for key in PUBLISHED.files} == CASES.keys()
    assert all(len(sizes(name)) > 1 or "128" in name for name in CASES)


@pytest.mark.parametrize("name", CASES)
def test_module_with_published_weights_is_the_published_module(name):
    module = loaded(name)
    graph, params, statistics = nnx.split(module, nnx.Param, ...)

    @jax.jit
    def in_evaluation(f):
        copy = nnx.merge(graph, params, statistics, copy=True)
        copy.eval()
        return copy(f)

    @jax.jit
    def in_training(f, params, cotangent):
        def run(f, params):
            copy = nnx.merge(graph, params, statistics, copy=True)
            copy.train()
            return copy(f)

        output, vjp = jax.vjp(run, f, params)
        return output, *vjp(cotangent)

    for size in sizes(name):
        theirs = under(f"{name}/{size}/")
        f = to_map(theirs["input"])
        assert_close(in_evaluation(f), to_map(theirs["eval"]), 1e-10)
        cotangent = np.cos(np.arange(theirs["output"].size)).reshape(theirs["output"].shape)
        output, of_input, of_params = in_training(f, params, to_map(cotangent))
        assert_close(output, to_map(theirs["output"]), 1e-10)
        assert_close(of_input, to_map(theirs["grad/input"]), 1e-10)
        gradients = {ours: variable[...] for ours, variable in parts(of_params).items()}
        largest = max(np.max(np.abs(gradient)) for gradient in gradients.values())
        arrays = {ours.removesuffix("."): value for ours, value in CASES[name].arrays.items()}
        for ours, (of_theirs, to_ours) in arrays.items():
            if ours in gradients:
                # Some are zero but for rounding: of what a softmax or a norm takes away.
                expected = to_ours(theirs[f"grad/{of_theirs}"])
                np.testing.assert_allclose(gradients[ours], expected, rtol=1e-10, atol=1e-11 * largest)
        if "grad/position" in theirs:
            of_heads = sum(np.split(np.asarray(gradients["weights.position"]), 2, axis=-1))[:, :, 0]
            of_pixels, of_element = np.split(theirs["grad/position"], [4], axis=-1)
            assert_close(of_heads[..., :4], of_pixels, 1e-10)
            # One vector for all pixels, which stands at each, and which the softmax takes away.
            for gradient in (of_heads[..., 4:].sum((0, 1)), of_element[0, 0]):
                assert np.max(np.abs(gradient)) < 1e-11 * largest


# Of modules on groups: by what they are, the operator, its options and the pixels of a map.
ON_GROUPS = {
    "cbam": ("cbam", dict(reduction=2, kernel_size=3, use_bias=False, spatial_norm="batch"), 4),
    "cbam, biased": ("cbam", dict(reduction=2, kernel_size=3, use_spatial_bias=True), 4),
    "bam": (
        "bam",
        dict(reduction=2, dilation=2, combine="product", hidden_norms="batch", channel_norm=None, spatial_norm=None),
        4,
    ),
    "non_local": ("non_local", dict(use_bias=True, scale=0.5, norm="batch", hidden_features=3), 4),
    "gc": ("gc", dict(hidden_features=3, combination="scale", use_key_bias=True), 4),
    "ge": ("ge", dict(hidden_features=3, extent=4, overlap=True), 9),
    "srm": ("srm", dict(unbiased=True), 4),
    "self": ("self", dict(hidden_features=6, heads=2, kernel_size=3, use_bias=True, scale=0.5), 4),
    "coordinate": ("coordinate", dict(hidden_features=3, norm=None), 4),
}


def on_group(name, group, **options):
    of, given, pixels = ON_GROUPS[name]

    def build():
        options_ = dict(param_dtype=jnp.float64, rngs=nnx.Rngs(0))
        return ATTENTIONS[of](4, group, **given, **options, **options_)

    return with_random_arrays(build), pixels


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("group", [cyclic(4), dihedral(4)], ids=str)
@pytest.mark.parametrize("name", ON_GROUPS)
def test_module_with_options_of_published_code_commutes_with_the_group(name, group, training):
    module, pixels = on_group(name, group)
    module.train() if training else module.eval()
    f = random(2, pixels, pixels, group.order, 4)
    graph, arrays = nnx.split(module)
    # Of the same batch throughout: in training mode, too, it is one function.
    run = functools.partial(jax.jit(lambda arrays, f: nnx.merge(graph, arrays)(f)), arrays)
    assert not np.allclose(run(f), f)
    assert equivariance_error(run, f, group) < 1e-10


@pytest.mark.parametrize("group", [cyclic(4), dihedral(4)], ids=str)
@pytest.mark.parametrize(
    "options", [dict(channel_groups=2, first_groups=2, dilated=False), dict(split_input=True, hidden_features=3)]
)
def test_selective_kernel_convolution_with_options_of_published_code_commutes_with_the_group(group, options):
    shared = dict(padding=1, param_dtype=jnp.float64)
    module = with_random_arrays(lambda: SelectiveKernelGroupConv(4, 6, 3, group, **options, **shared, rngs=nnx.Rngs(0)))
    assert equivariance_error(jax.jit(module), random(2, 5, 5, group.order, 4), group) < 1e-10


@pytest.mark.parametrize("group", [cyclic(2), cyclic(4), dihedral(1), dihedral(4)], ids=str)
def test_overlapping_windows_raise_where_the_group_does_not_map_them_to_themselves(group):
    for extent, length in [(extent, length) for extent in range(1, 6) for length in range(1, 18)]:
        f = random(1, length, length, group.order, 1)

        def run(f, exact=True, extent=extent):
            weights = GatherExciteWeights()
            return gather_excite(f, weights, group, extent=extent, overlap=True, exact=exact) * f

        if _is_symmetric(length, extent):
            jax.eval_shape(run, f)
        else:
            with assert_refused("does not map overlapping windows", "Sizes that work: up to"):
                jax.eval_shape(run, f)
            jax.eval_shape(functools.partial(run, exact=False), f)


@pytest.mark.parametrize("over_group", [False, True])
def test_overlapping_windows_on_a_group_are_the_formula(over_group):
    group, options = dihedral(4), dict(extent=4, overlap=True, over_group=over_group)
    f, weights = random(2, 9, 9, 8, 4), weights_of("ge over group" if over_group else "ge", 4, 8, 8)
    alpha = jax.jit(functools.partial(gather_excite, group=group, **options))(f, weights)
    assert_close(alpha, ORACLES["ge"](*jax.tree.map(np.asarray, (f, weights)), group, **options), 1e-10)


def test_asymmetric_overlapping_windows_do_not_commute():
    f = random(1, 8, 8, 4, 2)
    options = dict(extent=4, overlap=True, exact=False)
    run = jax.jit(lambda f: gather_excite(f, GatherExciteWeights(), cyclic(4), **options) * f)
    assert equivariance_error(run, f, cyclic(4)) > 1e-3


def test_norms_of_an_operator_are_options_of_their_names():
    module = ATTENTIONS["bam"](8, cyclic(4), reduction=2, channel_norm=None, hidden_norms="batch", rngs=nnx.Rngs(0))
    assert {*module.norms} == {"spatial_norm", "hidden_norms"}
    assert [norm.scale.shape for norm in module.norms["hidden_norms"]] == [(4,)] * 4
    assert not hasattr(ATTENTIONS["cbam"](8, cyclic(4), rngs=nnx.Rngs(0)), "norms")
    assert OPERATORS["cbam"].options["spatial_norm"].default is None
    assert OPERATORS["srm"].options["norm"].default == "batch"


@pytest.mark.parametrize("name", ["non_local", "self"])
def test_a_scale_of_numpy_does_not_widen_what_is_computed(name):
    module = ATTENTIONS[name](4, trivial(), scale=np.float64(4) ** -0.5, rngs=nnx.Rngs(0))
    # Numbers of Python have no axes.
    assert "f64[1" not in str(jax.make_jaxpr(module)(jnp.ones([1, 3, 3, 1, 4], jnp.float32)))


def test_networks_give_no_reduction_to_gather_excite_without_a_network():
    made = functools.partial(RotMNISTNet, cyclic(4), "ge", features=4, attention_options={"excite": False})
    network = nnx.eval_shape(lambda: made(rngs=nnx.Rngs(0)))
    assert network.attending_layers and "excite" not in str(nnx.to_pure_dict(nnx.state(network)))


def test_non_local_attention_with_a_norm_begins_as_nothing_and_learns():
    module = ATTENTIONS["non_local"](4, cyclic(4), norm="batch", use_bias=True, rngs=nnx.Rngs(0))
    f = random(2, 3, 3, 4, 4).astype(jnp.float32)
    assert_close(module(f), f, 0)

    def loss(module):
        return jnp.sum(module(f) ** 3)

    assert np.max(np.abs(nnx.grad(loss)(module)["norms"]["norm"]["scale"][...])) > 1e-3


def test_options_in_the_guide_make_modules_of_published_sizes():
    guide = (ROOT / "attgconv_jax/attention/README.md").read_text().split("published module |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \| (.+) \|$", guide, re.MULTILINE)
    assert len(rows) == guide.count("\n") - 1

    def hidden(name, options):
        options = eval(f"dict({options})", {"features": 64})
        make, sizes = ATTENTIONS.get(name), (64, trivial())
        if name == "sk":
            make, sizes = SelectiveKernelGroupConv, (64, 64, 3, trivial())
        module = nnx.eval_shape(lambda: make(*sizes, rngs=nnx.Rngs(0), **options))
        weights = getattr(module, "weights", module)
        return len(getattr(weights, "query", getattr(weights, "w1", ())))

    found = {(name, source.split()[0].rstrip(":;,")): hidden(name, options) for name, options, source in rows}
    wanted = {("non_local", "timm"): 8, ("gc", "timm"): 8, ("sk", "PytorchInsight"): 4, ("sk", "timm's"): 32}
    assert wanted.items() <= found.items() and ("non_local", "AlexHex7's") in found


REFUSALS = {
    "hidden channels said twice": (
        lambda: ATTENTIONS["se"](8, cyclic(4), reduction=2, hidden_features=3, rngs=nnx.Rngs(0)),
        "hidden_features and reduction both say how many hidden channels there are, got 3 and 2; give one",
    ),
    "an unknown norm": (
        lambda: ATTENTIONS["cbam"](8, cyclic(4), spatial_norm="instance", rngs=nnx.Rngs(0)),
        'spatial_norm must be one of "batch", "layer", "group", None, or a function that makes a norm',
    ),
    "one hidden channel before a layer norm": (
        lambda: ATTENTIONS["gc"](8, cyclic(4), hidden_features=1, rngs=nnx.Rngs(0)),
        "hidden_features must be an integer of at least 2, got 1",
    ),
    "too few hidden norms": (
        lambda: OPERATORS["bam"].apply(
            random(1, 4, 4, 4, 8),
            OPERATORS["bam"].init(jax.random.key(0), 8, cyclic(4), dtype=jnp.float64),
            cyclic(4),
            hidden_norms=(abs,),
        ),
        "hidden_norms must be 4, one for each layer before a relu, got 1",
    ),
    "overlapping windows of no extent": (
        lambda: gather_excite(random(1, 4, 4, 4, 2), GatherExciteWeights(), cyclic(4), overlap=True),
        "overlap=True is of windows, and extent=None is the whole map: give their extent",
    ),
    "overlapping windows of no extent in a module": (
        lambda: ATTENTIONS["ge"](8, cyclic(4), overlap=True, rngs=nnx.Rngs(0)),
        "overlap=True is of windows, and extent=None is the whole map: give their extent",
    ),
    "exact=False of windows side by side": (
        lambda: ATTENTIONS["ge"](8, cyclic(4), extent=2, exact=False, rngs=nnx.Rngs(0)),
        "exact=False is of overlapping windows, got overlap=False: leave out exact or overlap windows",
    ),
    "hidden channels of no network": (
        lambda: ATTENTIONS["ge"](8, cyclic(4), excite=False, hidden_features=5, rngs=nnx.Rngs(0)),
        "hidden_features is of the network that excites, got 5 with excite=False: leave one out",
    ),
    "a reduction of no network": (
        lambda: ATTENTIONS["ge"](8, cyclic(4), excite=False, reduction=4, rngs=nnx.Rngs(0)),
        "reduction is of the network that excites, got 4 with excite=False: leave one out",
    ),
    "the least size of a filter whose size is given": (
        lambda: ATTENTIONS["eca"](8, cyclic(4), kernel_size=1, min_kernel_size=5, rngs=nnx.Rngs(0)),
        "min_kernel_size is of kernel_size=None, got 5 and kernel_size=1: give one",
    ),
    "a learnt gather in overlapping windows": (
        lambda: ATTENTIONS["ge"](8, cyclic(4), extent=2, gather_size=2, overlap=True, rngs=nnx.Rngs(0)),
        "overlap is of means: a learnt gather weighs what it gathers itself; leave out one",
    ),
    "the deviation of one pixel": (
        lambda: OPERATORS["srm"].apply(random(1, 1, 1, 4, 2), random(2, 2, 4), cyclic(4), unbiased=True),
        "unbiased has no variance over one position",
    ),
    "channels that do not split": (
        lambda: SelectiveKernelGroupConv(5, 4, 3, cyclic(4), split_input=True, rngs=nnx.Rngs(0)),
        "branches must divide the 5 input channels, which split_input splits: one of 1, 5; got 2",
    ),
    "a negative scale": (
        lambda: ATTENTIONS["non_local"](8, cyclic(4), scale=-1.0, rngs=nnx.Rngs(0)),
        "scale must be a positive finite number, got -1.0",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_work_is_refused_by_saying_what_would(case):
    call, message = REFUSALS[case]
    with assert_refused(message):
        call()
