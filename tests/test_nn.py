"""The NNX modules: their parameters and initialisers, and that they are the functions they stand for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_close, assert_refused, random, relative_error
from networks import with_random_arrays

import attgconv_jax
from attgconv_jax import (
    ResponseChannelWeights,
    Sampling,
    cyclic,
    dihedral,
    equivariance_error,
    group_conv,
    response_attentive_group_conv,
)
from attgconv_jax.nn import (
    AttentiveGroupConv,
    CoAttention,
    GroupConv,
    GroupPool,
    InputAttention,
    ResponseAttentiveGroupConv,
    SpatialPool,
)

P4, P4M = cyclic(4), dihedral(4)
both_groups = pytest.mark.parametrize("group", [P4, P4M], ids=str)
both_inputs = pytest.mark.parametrize("lifting", [True, False], ids=["image", "feature_map"])

# Every module with weights, as `(in, group, lifting, **options) -> module` that keeps the size of its input.
LAYERS = {
    "conv": lambda c, group, **options: GroupConv(c, 4, 3, group, padding=1, **options),
    "conv_bias": lambda c, group, **options: GroupConv(c, 4, 3, group, padding=1, use_bias=True, **options),
    "channel": functools.partial(InputAttention, spatial=False),
    "spatial": functools.partial(InputAttention, channel=False, kernel_size=3),
    "channel_spatial": functools.partial(InputAttention, kernel_size=3),
    "co": CoAttention,
    "attentive": lambda c, group, **options: AttentiveGroupConv(c, 4, 3, group, padding=1, **options),
    "response": lambda c, group, **options: ResponseAttentiveGroupConv(
        c, 4, 3, group, attention_kernel_size=3, padding=1, **options
    ),
    "attentive_co": lambda c, group, **options: AttentiveGroupConv(c, 4, 3, group, attention="co", **options),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def make(name, group, lifting=False, c=3, **options):
    return with_random_arrays(lambda: LAYERS[name](c, group, lifting=lifting, rngs=nnx.Rngs(0), **options))


def float64(module, *args, **options):
    return with_random_arrays(lambda: module(*args, param_dtype=jnp.float64, rngs=nnx.Rngs(0), **options))


def ones(key, shape, dtype):
    return jnp.ones(shape, dtype)


def input_of(group, lifting=False, c=3, size=7):
    return random(2, size, size, 1 if lifting else group.order, c)


def abstract(module, *args, **options):
    """The module without the numbers."""
    return nnx.eval_shape(lambda: module(*args, **options, rngs=nnx.Rngs(0)))


def is_parameter(leaf):
    return isinstance(leaf, nnx.Param)


def shapes(module):
    paths, _ = jax.tree_util.tree_flatten_with_path(nnx.to_pure_dict(nnx.state(module, nnx.Param)))
    return {".".join(str(key.key) for key in path): leaf.shape for path, leaf in paths}


@both_groups
@both_inputs
def test_group_conv_has_one_filter_and_maps_to_the_group(group, lifting):
    make = functools.partial(abstract, GroupConv, 3, 5, 3, group, lifting=lifting)
    h = 1 if lifting else group.order
    assert shapes(make()) == {"w": (3, 3, h, 3, 5)}
    assert shapes(make(use_bias=True)) == {"w": (3, 3, h, 3, 5), "bias": (5,)}
    layer = float64(GroupConv, 3, 5, 3, group, lifting=lifting)
    assert jax.eval_shape(layer, input_of(group, lifting)).shape == (2, 5, 5, group.order, 5)


def test_a_bias_starts_at_zero():
    assert not np.any(GroupConv(3, 5, 3, P4, use_bias=True, rngs=nnx.Rngs(0)).bias[...])


@pytest.mark.parametrize(
    "options",
    [
        dict(stride=2),
        dict(padding="SAME"),
        dict(padding=2),
        dict(dilation=2),
        dict(haar=True),
        dict(stride=3, exact=False),
        dict(sampling=Sampling("cubic")),
        dict(sampling=Sampling("bilinear", True)),
    ],
    ids=lambda options: next(iter(options)),
)
def test_group_conv_is_the_function_with_every_option(options):
    group = cyclic(8)
    layer = float64(GroupConv, 3, 4, 3, group, **options)
    f = input_of(group)

    def function(f, w, sampling=layer.basis, **options):
        return jax.jit(functools.partial(group_conv, group=group, sampling=sampling, **options))(f, w)

    expected = function(f, layer.w[...], **options)
    assert_close(jax.jit(layer)(f), expected)
    plain = function(f, layer.w[...], sampling=layer.basis or Sampling("bilinear"))
    assert plain.shape != expected.shape or relative_error(plain, expected) > 1e-3


def test_a_bias_is_added_to_every_channel():
    layer = make("conv_bias", P4, param_dtype=jnp.float64)
    f = input_of(P4)
    assert_close(layer(f), group_conv(f, layer.w[...], P4, padding=1) + layer.bias[...])


def test_a_sampling_grid_off_centre_is_refused_unless_asked_for():
    f = input_of(P4, size=8)
    with assert_refused("does not map the sampling grid to itself", "exact=False"):
        jax.eval_shape(float64(GroupConv, 3, 4, 3, P4, stride=2), f)
    allowed = float64(GroupConv, 3, 4, 3, P4, stride=2, exact=False)
    assert jax.eval_shape(allowed, f).shape == (2, 3, 3, 4, 4)


def in_weights(**of_attention):
    """Shapes of alpha_F's parameters by path."""
    return {f"weights.{'' if name == 'spatial' else 'channel.'}{name}": shape for name, shape in of_attention.items()}


@both_groups
@both_inputs
def test_input_attention_parameters_and_defaults(group, lifting):
    h = 1 if lifting else group.order
    make = functools.partial(abstract, InputAttention, group=group, lifting=lifting)
    assert shapes(make(6)) == in_weights(w1=(3, 6, h), w2=(6, 3, h), spatial=(7, 7, h, 2, 1))
    assert shapes(make(1, spatial=False)) == in_weights(w1=(1, 1, h), w2=(1, 1, h))
    assert shapes(make(6, channel=False, kernel_size=5)) == in_weights(spatial=(5, 5, h, 2, 1))
    assert shapes(make(6, hidden_features=2, spatial=False)) == in_weights(w1=(2, 6, h), w2=(6, 2, h))
    assert shapes(abstract(CoAttention, 6, group, lifting=lifting)) == {"weights": (1, 1, h, 6, 1)}


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(channel=False),
        dict(spatial=False),
        dict(dilation=2),
        dict(haar=True),
        dict(sampling=Sampling("cubic")),
        dict(sampling=Sampling("bilinear", True)),
    ],
    ids=str,
)
def test_input_attention_is_the_function_with_every_option(options):
    group = cyclic(8)
    layer = float64(InputAttention, 3, group, kernel_size=3, **options)
    f = input_of(group)
    channel, spatial = jax.tree.map(lambda weight: weight[...], layer.weights, is_leaf=is_parameter)
    settings = {name: value for name, value in options.items() if name not in ("channel", "spatial")}

    def function(**settings):
        attend = functools.partial(attgconv_jax.input_attention, group=group, **settings)
        return jax.jit(attend)(f, channel, spatial)

    expected = function(**settings)
    attended, alpha = jax.jit(lambda f: (layer(f), layer.attention_maps(f)))(f)
    assert_close(attended, expected)
    assert_close(f - alpha * f, expected)
    if settings:
        assert relative_error(function(), expected) > 1e-6


@pytest.mark.parametrize("haar", [False, True])
def test_co_attention_is_the_function(haar):
    layer = float64(CoAttention, 3, P4M, haar=haar)
    f = input_of(P4M)
    expected = attgconv_jax.input_co_attention(f, layer.weights[...], P4M, haar=haar)
    assert_close(layer(f), expected)
    assert_close(f - layer.attention_maps(f) * f, expected)


@both_inputs
@pytest.mark.parametrize("attention", ["input", "input_channel", "input_spatial", "co"])
def test_attentive_group_conv_attends_then_convolves(attention, lifting):
    layer = float64(AttentiveGroupConv, 4, 5, 3, P4, attention=attention, lifting=lifting, padding=1)
    h = 1 if lifting else 4
    expected = {
        "input": in_weights(w1=(2, 4, h), w2=(4, 2, h), spatial=(7, 7, h, 2, 1)),
        "input_channel": in_weights(w1=(2, 4, h), w2=(4, 2, h)),
        "input_spatial": in_weights(spatial=(7, 7, h, 2, 1)),
        "co": {"weights": (1, 1, h, 4, 1)},
    }[attention]
    expected = {f"attention.{name}": shape for name, shape in expected.items()}
    assert shapes(layer) == {**expected, "conv.w": (3, 3, h, 4, 5)}
    f = input_of(P4, lifting, c=4)
    attended = jax.jit(layer.attention)(f)
    assert relative_error(attended, f) > 1e-2
    assert_close(jax.jit(layer)(f), group_conv(attended, layer.conv.w[...], P4, padding=1))


def test_attentive_group_conv_passes_its_arguments_on():
    layer = AttentiveGroupConv(
        4,
        5,
        3,
        P4,
        attention_options=dict(kernel_size=3, dilation=2, hidden_features=3, kernel_init=ones),
        haar=True,
        dtype=jnp.bfloat16,
        rngs=nnx.Rngs(0),
        padding=1,
        use_bias=True,
        kernel_init=ones,
    )
    assert layer.attention.weights.spatial.shape == (3, 3, 4, 2, 1)
    assert layer.attention.weights.channel.w1.shape == (3, 4, 4)
    assert layer.attention.options["dilation"] == 2
    assert np.all(layer.attention.weights.spatial[...] == 1)
    assert layer.attention.options["haar"]
    assert layer.conv.haar
    assert layer.attention.dtype == layer.conv.dtype == jnp.bfloat16
    assert layer.conv.bias is not None
    assert np.all(layer.conv.w[...] == 1)
    assert layer.conv.padding == 1


@both_groups
@both_inputs
def test_response_attention_parameters_and_defaults(group, lifting):
    h = 1 if lifting else group.order
    make = functools.partial(abstract, ResponseAttentiveGroupConv, group=group, lifting=lifting, kernel_size=3)
    w, channel = {"w": (3, 3, h, 6, 5)}, {"w1": (5, 3, 6, h), "w2": (5, 6, 3, h)}
    assert shapes(make(6, 5)) == {**w, **channel, "spatial": (7, 7, h, 2, 5)}
    assert shapes(make(6, 5, spatial=False)) == {**w, **channel}
    assert shapes(make(6, 5, channel=False, attention_kernel_size=5)) == {**w, "spatial": (5, 5, h, 2, 5)}
    assert shapes(make(1, 5, spatial=False))["w1"] == (5, 1, 1, h)
    assert shapes(make(6, 5, hidden_features=2))["w2"] == (5, 6, 2, h)


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(channel=False),
        dict(spatial=False),
        dict(stride=2),
        dict(padding=1),
        dict(dilation=2),
        dict(attention_dilation=2),
        dict(haar=True),
        dict(stride=3, exact=False),
        dict(sampling=Sampling("cubic")),
        dict(sampling=Sampling("bilinear", True)),
    ],
    ids=str,
)
def test_response_attention_is_the_function_with_every_option(options):
    group = cyclic(8)
    layer = float64(ResponseAttentiveGroupConv, 3, 4, 3, group, attention_kernel_size=3, **options)
    f = input_of(group)
    channel = None if layer.w1 is None else ResponseChannelWeights(layer.w1[...], layer.w2[...])
    spatial = None if layer.spatial is None else layer.spatial[...]
    settings = {name: value for name, value in options.items() if name not in ("channel", "spatial")}

    def function(sampling=layer.basis, **settings):
        settings |= dict(sampling=sampling, attention_sampling=layer.sampling, return_attention=True)
        convolve = functools.partial(response_attentive_group_conv, group=group, **settings)
        return jax.jit(convolve)(f, layer.w[...], channel, spatial)

    expected, maps = function(**settings)
    y, own_maps = jax.jit(lambda f: (layer(f), layer.attention_maps(f)))(f)
    assert_close(y, expected)
    jax.tree.map(assert_close, own_maps, maps)
    if settings:
        plain, _ = function(layer.basis or Sampling("bilinear"))
        assert plain.shape != expected.shape or relative_error(plain, expected) > 1e-6


@both_inputs
@every_layer
def test_bfloat16_computes_in_bfloat16_with_float32_parameters(name, lifting):
    f = input_of(P4, lifting).astype(jnp.float32)
    layer, exact = make(name, P4, lifting, dtype=jnp.bfloat16), make(name, P4, lifting)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(layer, nnx.Param))} == {np.dtype(np.float32)}
    rounded, expected = jax.jit(layer)(f), jax.jit(exact)(f)
    assert rounded.dtype == jnp.bfloat16
    assert expected.dtype == jnp.float32
    assert relative_error(rounded.astype(jnp.float32), expected) < 0.03


@every_layer
def test_float64_is_kept(name):
    layer = make(name, P4, param_dtype=jnp.float64)
    assert jax.eval_shape(layer, input_of(P4)).dtype == jnp.float64


@both_groups
@both_inputs
@every_layer
def test_modules_commute_with_the_group(name, lifting, group):
    layer = make(name, group, lifting, param_dtype=jnp.float64)
    f = input_of(group, lifting)
    keeps_images = isinstance(layer, InputAttention | CoAttention)
    output = "image" if lifting and keeps_images else "feature_map"
    assert equivariance_error(jax.jit(layer), f, group, output) < 1e-10


@both_groups
@pytest.mark.parametrize("reduction", ["max", "mean"])
def test_pooling_modules_are_the_functions_and_commute_with_the_group(reduction, group):
    f = random(2, 8, 8, group.order, 3)
    project = {"max": attgconv_jax.project_max, "mean": attgconv_jax.project_mean}[reduction]
    pool = {"max": attgconv_jax.max_pool, "mean": attgconv_jax.mean_pool}[reduction]
    options = dict(window=3, stride=2, padding=1, exact=False)
    assert_close(jax.jit(GroupPool(reduction))(f), jax.jit(project)(f), 0)
    for settings in ({}, options):
        expected = jax.jit(functools.partial(pool, group=group, **settings))(f)
        assert_close(jax.jit(SpatialPool(group, reduction, **settings))(f), expected, 0)
    assert not shapes(GroupPool(reduction))
    assert not shapes(SpatialPool(group, reduction))
    assert equivariance_error(jax.jit(GroupPool(reduction)), f, group, "image") < 1e-10
    assert equivariance_error(jax.jit(SpatialPool(group, reduction)), f, group) < 1e-10


def test_spatial_pooling_off_centre_is_refused():
    with assert_refused("does not map the sampling grid to itself", "exact=False"):
        SpatialPool(P4)(random(2, 7, 7, 4, 3))


@every_layer
def test_jit_and_split_and_merge_change_nothing(name):
    layer = make(name, P4, param_dtype=jnp.float64)
    f = input_of(P4)
    expected = jax.jit(layer)(f)
    assert_close(nnx.jit(lambda layer, f: layer(f))(layer, f), expected)
    graphdef, state = nnx.split(layer)
    hash(graphdef)
    merged = jax.jit(lambda graphdef, state, f: nnx.merge(graphdef, state)(f), static_argnums=0)
    assert_close(merged(graphdef, state, f), expected)


@every_layer
def test_every_parameter_has_a_gradient(name):
    layer = make(name, P4, param_dtype=jnp.float64)
    f = input_of(P4)
    gradients = nnx.jit(nnx.grad(lambda layer: jnp.sum(jnp.square(layer(f)))))(layer)
    assert jax.tree.structure(nnx.to_pure_dict(gradients)) == jax.tree.structure(
        nnx.to_pure_dict(nnx.state(layer, nnx.Param))
    )
    for gradient in jax.tree.leaves(gradients):
        assert np.all(np.isfinite(gradient))
        assert np.any(gradient)


def test_several_seeds_are_initialised_at_once():
    def filters(key):
        return nnx.state(GroupConv(2, 3, 3, P4, rngs=nnx.Rngs(key)), nnx.Param)

    (together,) = jax.tree.leaves(jax.vmap(filters)(jax.random.split(jax.random.key(0), 3)))
    assert together.shape == (3, 3, 3, 4, 2, 3)
    assert np.std(together, axis=0).min() > 0
