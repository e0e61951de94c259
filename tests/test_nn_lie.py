"""Modules on Lie groups: what they hold, keep, refuse and learn; attention on grids; the separable paper's network."""

import math
from unittest import mock

import jax
import jax.numpy as jnp
import networks
import numpy as np
import optax
import pytest
from compilation import optimised
from flax import nnx
from helpers import assert_close, assert_refused, random, without_annotations

from attgconv_jax import cyclic
from attgconv_jax.lie import KINDS, lie_conv, lie_weights, max_pool, rotations, scalings, similarities
from attgconv_jax.lie.kernel_networks import NETWORKS, Axes, KernelNetwork
from attgconv_jax.lie.kernel_networks.waves import fourier_weights
from attgconv_jax.models import LieResNet
from attgconv_jax.nn import ATTENTIONS, LieAttention, LieConv
from attgconv_jax.nn import lie as nn_lie
from attgconv_jax.nn.lie import Frequencies

SE2, SCALES, SIM2 = rotations(4), scalings(3, 1.5), similarities(4, 2, 1.5)
EACH = [(group, kind) for group in (SE2, SCALES, SIM2) for kind in KINDS if group is SIM2 or not kind.endswith("+2d")]
every_layer = pytest.mark.parametrize(("group", "kind"), EACH, ids=str)
every_network = pytest.mark.parametrize("network", NETWORKS)


def layer(group, kind=None, **options):
    options = dict(param_dtype=jnp.float64, rngs=nnx.Rngs(0)) | options
    return LieConv(3, 4, 5, group, kind=kind, **options)


def feature_map(group, seed=1):
    return random(2, 7, 7, group.order, 3, seed=seed)


@every_layer
def test_a_layer_is_the_function_with_its_weights(group, kind):
    conv = layer(group, kind)
    weights = jax.tree.map(lambda v: v[...], conv.weights, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
    grid = group.grid()
    expected = lie_conv(feature_map(group), weights, group, grid, grid, 5, kind)
    assert expected.shape == (2, 7, 7, group.order, 4)
    assert_close(conv(feature_map(group)), expected)
    drawn = lie_weights(jax.random.key(0), 3, 4, 5, group, kind, dtype=jnp.float64)
    jax.tree.map(np.testing.assert_array_equal, drawn, weights)


@every_network
@pytest.mark.parametrize("axes", [Axes(plane=True), Axes(plane=True, angle=2, scale=True), Axes(scale=True)], ids=str)
def test_a_fresh_kernel_has_the_variance_of_one_product_among_many(network, axes):
    """So that a convolution keeps the size of its input. Splines are looked at between their outer centres."""
    if network == "b_spline" and axes.angle:
        axes = axes._replace(angle=1)
    x = random(400, axes.count, seed=3)
    x = x / np.max(np.abs(x)) * (0.6 if network == "b_spline" else 1)
    weights = NETWORKS[network].init(jax.random.key(0), axes, 300, 50, jnp.float64)
    values = NETWORKS[network].on(axes, {})(x, weights)
    assert values.shape == (400, 300)
    np.testing.assert_allclose(50 * np.mean(values**2), 1, atol=0.4)


def test_a_siren_begins_as_in_the_paper():
    weights = NETWORKS["siren"].init(jax.random.key(0), Axes(plane=True), 500, 49 * 3, jnp.float64)
    first, hidden = weights.hidden
    for array, bound in (
        (first.w, 1 / 2),
        (first.b, 1 / math.sqrt(2)),
        (hidden.w, math.sqrt(6 / 64) / 10),
        (weights.out.w, math.sqrt(6 / 64) / math.sqrt(49 * 3)),
    ):
        assert bound * 0.9 < np.max(np.abs(array)) <= bound
    assert not np.any(hidden.b) and not np.any(weights.out.b)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_draws_are_those_of_jax_whatever_their_shape(dtype):
    """The keys and shapes as they were before draws were flat: networks of the same seed stay what they were."""
    conv = layer(SE2, "dseparable", network="fourier", param_dtype=dtype)
    rngs, (weights, projection) = nnx.Rngs(0), conv.weights
    keys = jax.random.split(rngs.params(), 3)
    expected = 3 * jax.random.normal(keys[0], (4, 32), dtype)
    np.testing.assert_array_equal(weights[0].frequencies[...], expected)
    deviations = (1 / 64) ** 0.5, (2 / 64 / 25) ** 0.5
    for layer_, key, shape, deviation in zip(
        (weights[0].hidden[0], weights[0].out), keys[1:], ((64, 64), (64, 4)), deviations, strict=True
    ):
        expected = jax.random.normal(key, shape, dtype) * jnp.asarray(deviation, dtype)
        np.testing.assert_array_equal(layer_.w[...], expected)
    expected = jax.random.uniform(rngs.params(), (3, 4), dtype, -(3**-0.5), 3**-0.5)
    np.testing.assert_array_equal(projection[...], expected)


# Of every factor of `layer(SIM2, "separable+2d")` the last number of the last matrix, before `lie_weights` drew them.
RECORDED = {
    "siren": [0.01727567874534696, 0.10146872436927135, 0.003413492574206501],
    "fourier": [0.037822735558761075, -0.01856108534654548, 0.04231877653014913],
    "multiplicative": [0.20326447934195033, -0.07348561776100959, -0.01551614448497665],
    "b_spline": [-1.2245837012321077, 2.1483691156400457, 0.10106590332156086],
}


@every_network
def test_layers_of_the_same_seed_have_the_numbers_they_had(network):
    factors = layer(SIM2, "separable+2d", network=network).weights.factors
    matrices = [factor if network == "b_spline" else factor.out.w for factor in factors]
    np.testing.assert_allclose([matrix[...].ravel()[-1] for matrix in matrices], RECORDED[network], rtol=1e-14)


def test_numbers_of_numpy_are_numbers():
    options = dict(network_options=dict(hidden_features=np.int64(8), frequency=np.float64(7)), param_dtype=jnp.float32)
    options |= dict(exact=np.True_, stride=np.int8(1), rngs=nnx.Rngs(0))
    with without_annotations():
        conv = LieConv(np.int64(3), np.int32(4), np.int64(5), SE2, **options)
    f = feature_map(SE2).astype(jnp.float32)
    assert conv(f).dtype == jnp.float32
    same = layer(SE2, network_options=dict(hidden_features=8, frequency=7.0), param_dtype=jnp.float32)
    assert nnx.graphdef(conv) == nnx.graphdef(same) and hash(nnx.graphdef(conv)) == hash(nnx.graphdef(same))
    np.testing.assert_array_equal(conv(f), same(f))


def test_a_kernel_network_of_ones_own_is_one_record():
    def weights(key, axes, m, fan, dtype, *, degree: int = 1):
        return jax.random.normal(key, (degree, axes.count, m), dtype)

    def polynomial(x, weights):
        return sum(x**i @ each for i, each in enumerate(weights, 1))

    with mock.patch.dict(NETWORKS, polynomial=KernelNetwork("polynomial", polynomial, weights)):
        conv = layer(SE2, network="polynomial", network_options=dict(degree=2))
        assert [factor.shape for factor in conv.weights.factors] == [(2, 2, 12), (2, 2, 4)]
        f = feature_map(SE2)
        assert_close(conv(jnp.asarray(turned(f, SE2, 1))), turned(conv(f), SE2, 1), 1e-10)
        with assert_refused("network_options of polynomial are degree; got 'width'"):
            layer(SE2, network="polynomial", network_options=dict(width=2))


def test_former_names_warn():
    f, attend = feature_map(SE2), LieAttention("eca", 3, SE2, rngs=nnx.Rngs(0))
    with pytest.warns(DeprecationWarning, match="LieAttention.attention_map is deprecated .* use attention_maps"):
        np.testing.assert_array_equal(attend.attention_map(f), attend.attention_maps(f))
    with pytest.warns(DeprecationWarning, match='kind="lifting" is deprecated .* use lifting=True'):
        former = layer(SE2, "lifting")
    assert nnx.graphdef(former) == nnx.graphdef(layer(SE2, lifting=True))


def test_waves_are_no_parameters_but_are_kept_with_them():
    conv = layer(SE2, network="fourier")
    kinds = {
        type(variable) for variable in jax.tree.leaves(conv.weights, is_leaf=lambda v: isinstance(v, nnx.Variable))
    }
    assert kinds == {nnx.Param, Frequencies}
    assert len(jax.tree.leaves(nnx.state(conv, Frequencies))) == 2


class Counted:
    """How often kernels were evaluated."""

    def __init__(self):
        self.count = 0

    def __call__(self, *args, **options):
        self.count += 1
        return self.evaluate(*args, **options)

    evaluate = staticmethod(nn_lie.evaluate)


@pytest.fixture
def counted():
    counter = Counted()
    with mock.patch.object(nn_lie, "evaluate", counter):
        yield counter


def test_in_evaluation_kernels_are_evaluated_once_until_a_weight_changes(counted):
    conv, f = layer(SE2), feature_map(SE2)
    conv.eval()
    first = conv(f)
    np.testing.assert_array_equal(conv(f), first)
    assert counted.count == 1
    weight = conv.weights.factors[1].out.b
    weight.set_value(weight[...] + 1)
    changed = conv(f)
    assert counted.count == 2
    assert np.max(np.abs(changed - first)) > 1e-3
    other = nnx.clone(conv)
    other.train()
    assert_close(other(f), changed)


def test_a_changed_setting_is_not_answered_from_what_was_kept():
    conv, f = layer(SE2), feature_map(SE2)
    conv.eval()
    smooth = conv(f)
    conv.mask = "hard"
    assert np.max(np.abs(conv(f) - smooth)) > 1e-6
    assert_close(conv(f), layer(SE2, mask="hard")(f))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_random_grids_leave_the_type_to_the_parameters(dtype):
    conv, f = layer(SE2, param_dtype=dtype), feature_map(SE2).astype(dtype)
    own, drawn = conv(f), conv(f, *[SE2.grid(jax.random.key(0))] * 2)
    assert own.dtype == drawn.dtype == dtype


def test_in_training_and_on_other_grids_kernels_are_evaluated_every_time(counted):
    conv, f = layer(SE2), feature_map(SE2)
    conv.train()
    conv(f), conv(f)
    assert counted.count == 2
    conv.eval()
    conv(f), conv(f, SE2.grid(jax.random.key(0)), SE2.grid(jax.random.key(0)))
    assert counted.count == 4


def test_what_a_trace_evaluates_is_not_kept(counted):
    conv, f = layer(SE2), feature_map(SE2)
    conv.eval()
    graphdef, state = nnx.split(conv)

    @jax.jit
    def run(state, f):
        return nnx.merge(graphdef, state)(f)

    assert_close(run(state, f), conv(f), 1e-10)
    doubled = jax.tree.map(lambda x: 2 * x, state)
    assert np.max(np.abs(run(doubled, f) - conv(f))) > 1e-3
    closed_over = layer(SE2)
    closed_over.eval()
    jax.jit(closed_over.__call__)(f)
    before = counted.count
    closed_over(f)
    assert counted.count == before + 1


OTHERS = [name for name in NETWORKS if name != "siren"]


@pytest.mark.parametrize(
    ("group", "kind", "network"),
    [(*case, "siren") for case in EACH]
    + [(SIM2, kind, name) for kind in ("nonseparable", "separable+2d") for name in OTHERS],
    ids=str,
)
def test_every_parameter_of_every_layer_learns(group, kind, network):
    conv = layer(group, kind, network=network)
    graphdef, params, rest = nnx.split(conv, nnx.Param, ...)
    f, wanted = feature_map(group), random(2, 7, 7, group.order, 4, seed=5)

    @jax.jit
    def gradient(params):
        return jax.grad(lambda params: jnp.sum(nnx.merge(graphdef, params, rest)(f) * wanted))(params)

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(params)):
        assert np.all(np.isfinite(leaf)) and np.any(leaf), path


def turned(f, group, quarters):
    f = np.rot90(np.asarray(f), quarters, axes=(1, 2))
    if f.shape[3] == 1 or group.angles is None:
        return f
    return np.roll(f, quarters * group.order // 4, axis=3)


@every_network
@pytest.mark.parametrize("group", [SE2, SIM2], ids=str)
def test_a_layer_with_any_network_commutes_with_quarter_turns(group, network):
    conv = jax.jit(layer(group, network=network).__call__)
    f = feature_map(group)
    assert_close(conv(jnp.asarray(turned(f, group, 1))), turned(conv(f), group, 1), 1e-10)


@pytest.mark.parametrize(
    ("attention", "options"),
    [("input", {}), ("se", {}), ("se", dict(over_group=True)), ("sge", {}), ("eca", {}), ("cbam", {}), ("gc", {})],
    ids=str,
)
@pytest.mark.parametrize("group", [SE2, SCALES, SIM2], ids=str)
def test_attention_acts_at_every_scale_as_on_the_finite_group(group, attention, options):
    attend = LieAttention(attention, 6, group, rngs=nnx.Rngs(0), param_dtype=jnp.float64, **options)
    module = ATTENTIONS[attention](6, cyclic(group.angles or 1), rngs=nnx.Rngs(0), param_dtype=jnp.float64, **options)
    for each in (attend, module):
        each.eval()
    f = random(2, 9, 9, group.order, 6, seed=2)
    scales = group.scales or 1
    for function, own in ((attend, module), (attend.attention_maps, module.attention_maps)):
        whole = np.asarray(function(f))
        assert whole.shape[3] == group.order or group.scales is None
        by_scale = whole.reshape(*whole.shape[:3], -1, scales, whole.shape[-1])
        for s in range(scales):
            expected = own(f.reshape(2, 9, 9, -1, scales, 6)[..., s, :])
            assert_close(by_scale[..., s, :], np.broadcast_to(expected, by_scale[..., s, :].shape))


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("group", [SE2, SIM2], ids=str)
@pytest.mark.default("rotations(4)-input", "rotations(4)-sge", "rotations(4)-ge", "similarities(4, 2, 1.5)-se")
def test_in_the_papers_coordinates_attention_turns_as_the_filters_do(group, attention):
    def turned_clockwise(f):
        by_angle = jnp.rot90(f, axes=(1, 2)).reshape(*f.shape[:3], 4, -1, 6)
        return jnp.roll(by_angle, -1, axis=3).reshape(f.shape)

    conv = LieConv(6, 6, 5, group, coordinates="paper", param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    f = random(2, 9, 9, group.order, 6, seed=2)
    assert_close(conv(turned_clockwise(f)), turned_clockwise(conv(f)), 1e-10)

    def made(coordinates):
        options = dict(coordinates=coordinates, param_dtype=jnp.float64)
        return networks.with_random_arrays(lambda: LieAttention(attention, 6, group, **options, rngs=nnx.Rngs(0)))

    attend = made("paper")
    assert_close(attend(turned_clockwise(f)), turned_clockwise(attend(f)), 1e-10)
    if attention in ("input", "input_spatial", "self", "cbam", "bam"):
        other = made("periodic")
        assert np.max(np.abs(other(turned_clockwise(f)) - turned_clockwise(other(f)))) > 1e-4


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_nothing_is_attended_to_of_no_images(attention):
    f = jnp.zeros((0, 9, 9, SIM2.order, 16))
    attend = LieAttention(attention, 16, SIM2, rngs=nnx.Rngs(0))
    attend.eval()
    assert jax.eval_shape(attend, f).shape == f.shape


def test_no_images_have_no_logits():
    network = LieResNet(SE2, **SMALL, rngs=nnx.Rngs(0))
    network.eval()
    assert jax.eval_shape(network, jnp.zeros((0, 28, 28, 1, 1))).shape == (0, 10)


@pytest.mark.parametrize(
    ("kind", "group", "parameters"),
    [
        ("nonseparable", rotations(8), 716_490),
        ("gseparable", rotations(8), 1_405_322),
        ("separable", rotations(8), 755_370),
        ("dseparable", rotations(8), 77_802),
        ("dgseparable", rotations(8), 116_682),
        ("separable+2d", similarities(16, 3, 1.74), 794_602),
    ],
)
def test_the_papers_networks_have_its_number_of_parameters(kind, group, parameters):
    network = nnx.eval_shape(lambda: LieResNet(group, kind, coordinates="paper", rngs=nnx.Rngs(0)))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(network, nnx.Param))) == parameters


SMALL = dict(features=(3, 3, 4), head_features=8, network_options=dict(hidden_features=8), param_dtype=jnp.float64)


@pytest.mark.parametrize(
    ("group", "attention", "coordinates"),
    [
        (SE2, "sge", "periodic"),
        (SE2, "input", "periodic"),
        (SE2, "input", "paper"),
        (SE2, "bam", "paper"),
        (similarities(4, 2, 1.5), None, "periodic"),
    ],
    ids=str,
)
@pytest.mark.default("rotations(4)-input-paper")
def test_the_logits_of_the_network_are_invariant_under_quarter_turns(group, attention, coordinates):
    options = dict(sge=dict(groups=1), bam=dict(reduction=1)).get(attention)
    options = dict(attention=attention, attention_options=options, coordinates=coordinates)
    network = LieResNet(group, **options, **SMALL, rngs=nnx.Rngs(0))
    network.eval()
    run = jax.jit(network.__call__)
    image = random(2, 28, 28, 1, 1)
    logits = run(image)
    assert np.max(np.abs(logits - logits[::-1])) > 1e-6
    assert_close(run(jnp.rot90(image, axes=(1, 2))), logits, 1e-8)


@pytest.mark.slow
def test_random_grids_are_drawn_in_training_alone():
    network = LieResNet(SE2, random_grids=True, dropout_rate=0.0, **SMALL, rngs=nnx.Rngs(0))
    fixed = LieResNet(SE2, dropout_rate=0.0, **SMALL, rngs=nnx.Rngs(0))
    image = random(2, 28, 28, 1, 1)

    def run(network):
        graphdef, state = nnx.split(network)

        @jax.jit
        def calls(state):
            copy = nnx.merge(graphdef, state)
            return copy(image), copy(image)

        return calls(state)

    first, second = run(network)
    assert np.max(np.abs(first - second)) > 1e-6
    np.testing.assert_array_equal(*run(fixed))
    assert np.max(np.abs(first - run(fixed)[0])) > 1e-6
    network.eval(), fixed.eval()
    np.testing.assert_array_equal(run(network)[0], run(fixed)[0])


def digits():
    """64 embedded digits of 8x8 pixels, some of them turned, standardised."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    images = images[:64].reshape(64, 8, 8, 1, 1) / 8 - 1
    turned = [np.rot90(image, i % 4) for i, image in enumerate(images)]
    return jnp.asarray(np.stack(turned), jnp.float32), jnp.asarray(labels[:64])


class Little(nnx.Module):
    """A lifting and a convolution of some kind, the maximum over all places, and logits."""

    def __init__(self, group, kind, rngs):
        options = dict(network_options=dict(hidden_features=16), rngs=rngs)
        self.lift = LieConv(1, 6, 5, group, lifting=True, **options)
        self.conv = LieConv(6, 12, 5, group, kind=kind, **options)
        self.norms = nnx.List([nnx.BatchNorm(6, rngs=rngs), nnx.BatchNorm(12, rngs=rngs)])
        self.logits = nnx.Linear(12, 10, rngs=rngs)

    def __call__(self, image):
        f = jax.nn.relu(self.norms[0](self.lift(image)))
        f = jax.nn.relu(self.norms[1](self.conv(f)))
        return self.logits(jnp.mean(f, axis=(1, 2, 3)))


@pytest.mark.parametrize(
    ("group", "kind"), [(group, kind) for group, kind in EACH if group is SIM2 or kind == "separable"], ids=str
)
@pytest.mark.slow
def test_training_lowers_the_loss_for_every_kind_and_group(group, kind):
    images, labels = digits()
    graphdef, params, rest = nnx.split(Little(group, kind, nnx.Rngs(0)), nnx.Param, ...)
    optimizer = optax.adam(1e-2)

    def loss(params):
        logits = nnx.merge(graphdef, params, rest, copy=True)(images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(carry, _):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), value

    losses = optimised(lambda carry: jax.lax.scan(step, carry, length=60)[1])((params, optimizer.init(params)))
    assert losses[0] > 2 and losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("group", "kind", "network"),
    [(*case, "siren") for case in EACH] + [(SIM2, "nonseparable", name) for name in OTHERS],
    ids=str,
)
def test_no_rank_is_promoted_silently(group, kind, network):
    """Forward and backward, of the kernels, the convolutions and the pooling."""
    f, image, drawn = feature_map(group), random(2, 7, 7, 1, 3), group.grid()
    of = dict(network=network)
    modules = nnx.eval_shape(lambda: nnx.List([layer(group, kind, **of), layer(group, lifting=True, **of)]))
    graphdef, state = nnx.split(modules)

    def total(state, f, image, drawn):
        conv, lift = nnx.merge(graphdef, state)
        out = conv(f, drawn, group.grid(jax.random.key(0))) + lift(image, None, drawn)
        return jnp.sum(max_pool(out, group, window=3, stride=2)) + jnp.sum(group.distance(drawn, group.inverse(drawn)))

    with jax.numpy_rank_promotion("raise"):
        jax.eval_shape(jax.grad(total, argnums=(0, 1, 2, 3), allow_int=True), state, f, image, drawn)


REFUSALS = {
    "even filter": (
        lambda: LieConv(3, 4, 6, SE2, rngs=nnx.Rngs(0)),
        "kernel_size must be odd, or filters are off centre, got 6",
    ),
    "even filter of weights": (
        lambda: lie_weights(jax.random.key(0), 3, 4, 6, SE2),
        "kernel_size must be odd, or filters are off centre, got 6",
    ),
    "weights of a finite group": (
        lambda: lie_weights(jax.random.key(0), 3, 4, 5, cyclic(4)),
        "group must be a LieGroup, as attgconv_jax.lie.rotations(8), got cyclic(4)",
    ),
    "small filter": (
        lambda: LieConv(3, 4, 3, similarities(4, 3, 1.74), rngs=nnx.Rngs(0)),
        "kernel_size must be 1 or at least 5",
    ),
    "unknown kind": (lambda: layer(SE2, "separabel"), 'kind must be one of "nonseparable"', "got 'separabel'"),
    "a kind of two factors": (lambda: layer(SE2, "separable+2d"), "kind must be separable on rotations(4)"),
    "a kind of lifting": (lambda: layer(SE2, "separable", lifting=True), "kind must be left out where images are"),
    "lifting in words": (lambda: layer(SE2, lifting="yes"), "lifting must be True or False, got 'yes'"),
    "exactness in words": (lambda: layer(SE2, exact="yes"), "exact must be True or False, got 'yes'"),
    "unknown network": (
        lambda: layer(SE2, network="sirene"),
        'network must be one of "siren", "fourier", "multiplicative", "b_spline", got \'sirene\'',
    ),
    "unknown option": (
        lambda: layer(SE2, network_options=dict(width=3)),
        "network_options of siren are hidden_features, hidden_layers, first_frequency, frequency; got 'width'",
    ),
    "an option out of range": (
        lambda: layer(SE2, network_options=dict(frequency=0)),
        "frequency must be a positive finite number, got 0",
    ),
    "an odd number of waves": (
        lambda: layer(SE2, network="fourier", network_options=dict(hidden_features=7)),
        "hidden_features must be even",
    ),
    "an odd number of waves, of the weights alone": (
        lambda: fourier_weights(jax.random.key(0), Axes(plane=True), 3, 9, hidden_features=7),
        "hidden_features must be even, a sine for every cosine, got 7",
    ),
    "centres along an axis that is not there": (
        lambda: layer(SE2, network="b_spline", network_options=dict(scale_centres=9)),
        "scale_centres has no effect on rotations(4); leave it out",
    ),
    "a frequency that no layer has": (
        lambda: layer(SE2, network_options=dict(hidden_layers=0, frequency=3.0)),
        "frequency has no effect without hidden layers; leave it out",
    ),
    "no such degree": (
        lambda: layer(SE2, network="b_spline", network_options=dict(degree=4)),
        "degree must be 0, 1, 2 or 3, got 4",
    ),
    "other channels": (lambda: layer(SE2)(random(2, 7, 7, 4, 5)), "f must have 3 channels, got shape (2, 7, 7, 4, 5)"),
    "grid of another layer": (
        lambda: layer(SE2)(random(2, 7, 7, 8, 3)),
        "f has 8 group elements and 3 channels",
        "it must have 4 and 3",
    ),
    "a lifting with an input grid": (
        lambda: layer(SE2, lifting=True)(random(2, 7, 7, 1, 3), SE2.grid()),
        "in_grid must be None with lifting=True, got shape (4, 1)",
    ),
    "sampling off centre": (
        lambda: layer(SE2, stride=2, padding=2)(random(2, 8, 8, 4, 3)),
        "does not map the sampling grid to itself",
        "Sizes that work: 7, 9",
    ),
    "a finite group": (lambda: layer(cyclic(4)), "group must be a LieGroup, as attgconv_jax.lie.rotations(8)"),
    "attention on a finite group": (
        lambda: LieAttention("se", 3, cyclic(4), rngs=nnx.Rngs(0)),
        "group must be a LieGroup",
    ),
    "a network of liftings": (
        lambda: LieResNet(SE2, "lifting", rngs=nnx.Rngs(0)),
        'kind must be one of "nonseparable"',
    ),
    "a scale too large for the last filter": (
        lambda: LieResNet(scalings(3, 4.0), kernel_size=9, rngs=nnx.Rngs(0)),
        "max_scale must be at most 3: the last filter of scalings(3, 4.0) has 9 pixels, and the feature map only 7",
    ),
    "too few splines for a circle": (
        lambda: layer(SE2, network="b_spline", network_options=dict(angle_centres=2)),
        "angle_centres must be an integer of at least 3, got 2",
    ),
    "attention of another grid": (
        lambda: LieAttention("se", 3, SE2, rngs=nnx.Rngs(0))(random(2, 7, 7, 8, 3)),
        "f must have the 4 elements of rotations(4), got shape (2, 7, 7, 8, 3)",
    ),
    "unknown attention": (
        lambda: LieAttention("response", 3, SE2, rngs=nnx.Rngs(0)),
        'attention must be one of "bam", "cbam", "co"',
        "got 'response'",
    ),
    "too few widths": (
        lambda: LieResNet(SE2, features=(8,), rngs=nnx.Rngs(0)),
        "features must be two or three widths for images of 28 pixels, got (8,)",
    ),
    "one width": (
        lambda: LieResNet(SE2, features=8, rngs=nnx.Rngs(0)),
        "features must be two or three widths for images of 28 pixels, got 8",
    ),
    "half a filter": (
        lambda: LieConv(3, 4, 3.0, SE2, rngs=nnx.Rngs(0)),
        "kernel_size must be an integer of at least 1, got 3.0",
    ),
    "random grids in words": (
        lambda: LieResNet(SE2, random_grids="no", rngs=nnx.Rngs(0)),
        "random_grids must be True or False, got 'no'",
    ),
    "one image alone to train on": (
        lambda: nnx.eval_shape(lambda: LieResNet(SE2, **SMALL, rngs=nnx.Rngs(0)))(random(1, 28, 28, 1, 1)),
        "training takes at least 2 images, or batch norm gives each the same logits, got shape (1, 28, 28, 1, 1)",
        "call its eval() first",
    ),
    "attention without an axis": (
        lambda: LieAttention("se", 4, SE2, reduction=1, rngs=nnx.Rngs(0))(random(5, 4, 4)),
        "f must be a feature map [..., x, y, h, c], got shape (5, 4, 4)",
    ),
    "coordinates of the network's attention": (
        lambda: LieResNet(SE2, attention="se", attention_options=dict(coordinates="paper"), rngs=nnx.Rngs(0)),
        "attention_options cannot hold coordinates: an attention has that of the network",
    ),
    "a grid of integers": (
        lambda: layer(SE2)(feature_map(SE2), jnp.arange(4)[:, None]),
        "elements of rotations(4) are arrays of floating-point numbers, got int64",
    ),
    "a list of elements": (
        lambda: layer(SE2)(feature_map(SE2), [[0.0], [1.0]]),
        "in_grid must be an array [n, 1], as rotations(4).grid() is, got list",
    ),
    "attention in other coordinates": (
        lambda: LieAttention("se", 8, SE2, coordinates="papers", rngs=nnx.Rngs(0)),
        'coordinates must be one of "periodic", "angle", "paper"',
    ),
    "options of no attention": (
        lambda: LieResNet(SE2, attention_options=dict(groups=2), rngs=nnx.Rngs(0)),
        "attention_options need an attention",
    ),
    "image of another size": (
        lambda: LieResNet(SE2, **SMALL, rngs=nnx.Rngs(0))(random(2, 27, 27, 1, 1)),
        "image must be [..., 28, 28, 1, 1], got shape (2, 27, 27, 1, 1)",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_no_layer_can_do_is_refused(case):
    call, *parts = REFUSALS[case]
    with assert_refused(*parts):
        call()


@pytest.mark.parametrize(
    ("group", "k", "expected"),
    [(rotations(8), 5, 14 / 3), (rotations(8), 13, 10.0), (scalings(3, 2.0), 7, 3.5)],
    ids=str,
)
def test_the_first_frequency_goes_by_the_size_of_the_filter_unless_it_is_given(group, k, expected):
    """As if it were given; it moves no weight. Networks, and the paper's coordinates, have the paper's."""

    def lift(network_options=None, coordinates="periodic"):
        options = dict(network_options=network_options, coordinates=coordinates, rngs=nnx.Rngs(0))
        return LieConv(1, 2, k, group, lifting=True, **options)

    def same(one, other):
        return np.allclose(one.kernels()[0], other.kernels()[0], rtol=1e-6)

    assert same(lift(), lift(dict(first_frequency=expected)))
    assert same(lift(), lift(dict(first_frequency=10.0))) == (expected == 10)
    assert same(lift(coordinates="paper"), lift(dict(first_frequency=10.0), "paper"))
    for one, other in zip(
        *(jax.tree.leaves(nnx.state(lift(o))) for o in (None, dict(first_frequency=10.0))), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    with assert_refused("first_frequency must be a positive finite number", "got 0"):
        lift(dict(first_frequency=0))


def test_networks_have_the_first_frequency_of_the_paper_unless_it_is_given():
    for options, expected in ((None, 10.0), (dict(first_frequency=3.0), 3.0), (dict(hidden_features=8), 10.0)):
        network = nnx.eval_shape(lambda o=options: LieResNet(rotations(4), network_options=o, rngs=nnx.Rngs(0)))
        layers = [module for _, module in nnx.iter_modules(network) if isinstance(module, LieConv)]
        assert len(layers) > 3
        assert {dict(layer._options)["first_frequency"] for layer in layers} == {expected}
    assert network.settings["network_options"] == {"hidden_features": 8}
