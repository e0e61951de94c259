"""Separable group convolutions: ordinary ones whose filter is the product of the factors, and networks of them."""

import functools
import json

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import networks
import numpy as np
import oracles
import pytest
from flax import nnx
from helpers import EXACT_GROUPS, assert_close, assert_refused, random
from test_geometry import fits, is_accepted, pixels_read
from test_models import count, invariance_error

from attgconv_jax import (
    Sampling,
    cyclic,
    dihedral,
    equivariance_error,
    group_conv,
    separable_group_conv,
    trivial,
)
from attgconv_jax.models import RotMNISTNet, load_network, save_network
from attgconv_jax.nn import AttentiveGroupConv, GroupConv, SeparableGroupConv
from attgconv_jax.separable import SEPARABLE

P4, P4M = cyclic(4), dihedral(4)
both_kinds = pytest.mark.parametrize("kind", SEPARABLE)


def factors(kind, group, k, c_in=2, c_out=3):
    pairs = c_in if kind == "gseparable" else 1
    return random(1, 1, group.order, c_in, c_out, seed=1), random(k, k, 1, pairs, c_out, seed=2)


def product(kind, group_filter, spatial_filter):
    """`w[u, h', c, o]`, written down for each kind apart."""
    subscripts = {"gseparable": "hco,klco->klhco", "separable": "hco,klo->klhco"}[kind]
    return jnp.einsum(
        subscripts, group_filter[0, 0], spatial_filter[:, :, 0, 0 if kind == "separable" else slice(None)]
    )


SETTINGS = {
    "plain": (3, (5, 6), {}),
    "strided": (3, (5, 7), dict(stride=2, padding=1, haar=True)),
    "dilated": (2, (6, 6), dict(dilation=2, padding=2)),
}


@both_kinds
@pytest.mark.parametrize(
    ("group", "settings"),
    [(cyclic(2), "dilated"), (P4, "plain"), (P4, "strided"), (dihedral(1), "strided"), (P4M, "dilated")],
    ids=str,
)
def test_values_and_gradients_are_those_of_the_product_filter(group, settings, kind):
    k, shape, options = SETTINGS[settings]
    f, parts = random(2, *shape, group.order, 2), factors(kind, group, k)

    def ordinary(f, *parts):
        return group_conv(f, product(kind, *parts), group, **options)

    def run(conv, *arrays):
        y, pullback = jax.vjp(conv, *arrays)
        return y, *pullback(random(*y.shape, seed=3))

    separable = functools.partial(SEPARABLE[kind], group=group, **options)
    outputs = jax.jit(lambda *arrays: (run(separable, *arrays), run(ordinary, *arrays)))(f, *parts)
    for actual, expected in zip(*outputs, strict=True):
        assert_close(actual, expected, 1e-10)


@both_kinds
@pytest.mark.parametrize("masked", [False, True])
def test_other_angles_are_interpolated_as_the_product_filter_is(kind, masked):
    group = cyclic(8)
    f, parts = random(2, 5, 5, 8, 2), factors(kind, group, 3)
    options = dict(group=group, sampling=Sampling("cubic", masked))
    y = jax.jit(functools.partial(SEPARABLE[kind], **options))(f, *parts)
    arrays = np.asarray(f), np.asarray(product(kind, *parts))
    assert_close(y, oracles.group_conv(*arrays, group, kernel=oracles.keys, masked=masked))


def test_on_the_trivial_group_gc_is_the_depthwise_separable_convolution():
    f, (w, v) = random(2, 5, 6, 1, 2), factors("separable", trivial(), 3)
    z = np.asarray(f)[..., 0, :] @ np.asarray(w)[0, 0, 0]
    expected = oracles.depthwise_conv(z, np.asarray(v)[:, :, 0, 0], (1, 1), ((1, 1), (1, 1)), (1, 1))
    y = jax.jit(functools.partial(separable_group_conv, group=trivial(), padding=1))(f, w, v)
    assert_close(y[..., 0, :], expected)


@pytest.mark.parametrize("implementation", ["shifts", "xla"])
@pytest.mark.parametrize("batch", [(), (2, 3)], ids=str)
def test_any_number_of_batch_axes_is_kept_by_every_implementation(batch, implementation):
    f, parts = random(*batch, 5, 6, 4, 2), factors("separable", P4, 3)
    conv = functools.partial(separable_group_conv, group=P4)
    expected = jax.jit(conv)(f.reshape(-1, 5, 6, 4, 2), *parts).reshape(*batch, 3, 4, 4, 3)
    assert_close(jax.jit(functools.partial(conv, implementation=implementation))(f, *parts), expected)


@hypothesis.settings(max_examples=25)
@hypothesis.given(
    kind=st.sampled_from(list(SEPARABLE)),
    group=st.sampled_from(EXACT_GROUPS),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    k=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.sampled_from([0, 1, 2, "SAME", "VALID"]),
    dilation=st.integers(1, 2),
)
def test_commutes_with_the_group_exactly_where_it_is_accepted(kind, group, shape, k, stride, padding, dilation):
    settings = k, stride, padding, dilation
    hypothesis.assume(all(fits(n, *settings) for n in shape))
    readings = [pixels_read(n, *settings) for n in shape]
    # Where nothing but padding is read all is zero, and commutes.
    hypothesis.assume(all(any(pixel is not None for taps in reading for pixel in taps) for reading in readings))
    f, parts = random(2, *shape, group.order, 2), factors(kind, group, k)

    def layer(f, exact):
        options = dict(stride=stride, padding=padding, dilation=dilation, exact=exact, haar=True)
        return SEPARABLE[kind](f, *parts, group, **options)

    if is_accepted(group, shape, *settings):
        assert equivariance_error(jax.jit(functools.partial(layer, exact=True)), f, group) < 1e-10
    else:
        with assert_refused("does not map the sampling grid to itself"):
            jax.eval_shape(functools.partial(layer, exact=True), f)
        assert equivariance_error(jax.jit(functools.partial(layer, exact=False)), f, group) > 1e-3


def module(*sizes, **options):
    make = functools.partial(SeparableGroupConv, *sizes, param_dtype=jnp.float64, **options)
    return networks.with_random_arrays(lambda: make(rngs=nnx.Rngs(0)))


@both_kinds
def test_module_is_the_function_of_its_filters(kind):
    options = dict(stride=2, padding=2, dilation=2, haar=True)
    layer, f = module(2, 3, 3, P4M, kind=kind, use_bias=True, **options), random(2, 5, 7, 8, 2)
    parts = layer.group_filter[...], layer.spatial_filter[...]
    assert [part.shape for part in parts] == [(1, 1, 8, 2, 3), (3, 3, 1, 2 if kind == "gseparable" else 1, 3)]
    function = functools.partial(SEPARABLE[kind], group=P4M, **options)
    assert_close(jax.jit(layer)(f), jax.jit(function)(f, *parts) + layer.bias[...])
    np.testing.assert_array_equal(layer.w, product(kind, *parts))


@pytest.mark.parametrize(
    "options", [dict(sampling=Sampling("cubic")), dict(sampling=Sampling("bilinear", True))], ids=str
)
def test_module_passes_on_how_filters_turn(options):
    layer, f = module(2, 3, 3, cyclic(8), **options), random(1, 5, 5, 8, 2)
    expected = jax.jit(functools.partial(group_conv, group=cyclic(8), **options))(f, layer.w)
    assert_close(jax.jit(layer)(f), expected)


def test_module_computes_in_its_dtype_and_gives_up_exactness_when_told():
    layer = module(2, 3, 2, P4, stride=2, exact=False, dtype=jnp.bfloat16)
    assert jax.eval_shape(layer, random(1, 5, 5, 4, 2)).dtype == jnp.bfloat16
    assert layer.group_filter.dtype == layer.spatial_filter.dtype == jnp.float64


def wide(key, shape, dtype=jnp.float32):
    """Of one variance whatever the shape."""
    return jax.random.uniform(key, shape, dtype, -3, 3)


@pytest.mark.parametrize(
    ("kernel_init", "kind", "expected"),
    [
        ("he_normal", "separable", 2 / (9 * 2 * 32)),
        ("paper_uniform", "gseparable", 1 / (3 * 9 * 32)),
        (wide, "separable", 3),
    ],
)
def test_product_filter_has_the_variance_of_the_ordinary_one(kernel_init, kind, expected):
    def draw():
        layer = SeparableGroupConv(32, 1024, 3, cyclic(2), kind=kind, kernel_init=kernel_init, rngs=nnx.Rngs(0))
        return layer.w, layer.group_filter[...]

    w, group_filter = map(np.asarray, jax.jit(draw)())
    # Of gc there are 9 times 1,024 spatial weights: a deviation of 1.5 %.
    np.testing.assert_allclose(np.var(w), expected, rtol=0.05)
    assert abs(np.mean(w)) < 0.02 * expected**0.5
    # Each factor has the variance of a convolution of its own: 1x1, and depthwise.
    np.testing.assert_allclose(np.var(group_filter), 9 * expected, rtol=0.05)


@both_kinds
def test_attention_comes_before_the_separable_convolution(kind):
    make = functools.partial(AttentiveGroupConv, 2, 3, 3, P4, attention="co", kind=kind, haar=True)
    layer = networks.with_random_arrays(lambda: make(param_dtype=jnp.float64, rngs=nnx.Rngs(0)))
    assert isinstance(layer.conv, SeparableGroupConv)
    f = random(2, 5, 5, 4, 2)
    expected = jax.jit(lambda f: group_conv(layer.attention(f), layer.conv.w, P4, haar=True))(f)
    assert_close(jax.jit(layer)(f), expected)


# With a linear layer, its batch norm and biases (200 parameters more) these are the 8.91k and 3.42k of the paper.
@pytest.mark.parametrize(
    ("group", "kind", "features", "expected"),
    [
        (P4, "gseparable", 10, 8_710),
        (P4, "separable", 10, 3_220),
        (P4, "gseparable", 18, 25_038),
        (P4, "separable", 33, 25_438),
        (P4M, "gseparable", 16, 25_936),
        (P4M, "separable", 23, 24_678),
    ],
    ids=str,
)
def test_parameter_counts(group, kind, features, expected):
    network = nnx.eval_shape(lambda: RotMNISTNet(group, kind=kind, features=features, rngs=nnx.Rngs(0)))
    assert count(network) == expected
    assert isinstance(network.convolutions[0], GroupConv)
    assert all(layer.kind == kind for layer in list(network.convolutions)[1:])
    assert network.attending_layers == []


@pytest.mark.parametrize(
    ("group", "kind", "attention"),
    [(P4, "gseparable", None), (P4, "separable", "input"), (P4M, "gseparable", "sge"), (P4M, "separable", None)],
    ids=str,
)
def test_logits_are_invariant_in_float32(group, kind, attention):
    options = dict(groups=2) if attention == "sge" else None
    network = networks.random_network(
        group, attention, kind=kind, features=4, attention_options=options, param_dtype=jnp.float32
    )
    image = random(2, 28, 28, 1, 1).astype(jnp.float32)
    assert invariance_error(jax.jit(network), image, group) < 1e-5


def test_attention_on_the_input_goes_with_either_form():
    network = networks.random_network(P4, "se", kind="gseparable", features=4)
    assert isinstance(network.convolutions[0], GroupConv)
    assert [layer.conv.kind for layer in list(network.convolutions)[1:]] == ["gseparable"] * 6
    assert network.attending_layers == list(range(1, 7))


@pytest.mark.parametrize(("kind", "attention"), [("gseparable", "co"), ("separable", None)])
def test_a_network_comes_back_bit_for_bit(tmp_path, kind, attention):
    network = networks.random_network(P4, attention, kind=kind, features=3)
    save_network(tmp_path / "network", network)
    loaded = load_network(tmp_path / "network")
    assert loaded.settings == network.settings
    assert loaded.settings["kind"] == kind
    arrays, expected = networks.leaves(loaded), networks.leaves(network)
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name])


def test_a_file_from_before_there_were_separable_networks_loads(tmp_path):
    network = networks.random_network(cyclic(2), features=2)
    save_network(tmp_path / "network", network)
    file = tmp_path / "network/network.json"
    description = json.loads(file.read_text())
    del description["settings"]["kind"]
    file.write_text(json.dumps(description))
    loaded = load_network(tmp_path / "network")
    assert loaded.settings == network.settings
    np.testing.assert_array_equal(loaded.convolutions[1].w[...], network.convolutions[1].w[...])


def refused_arrays(
    f=(1, 5, 5, 4, 2), w=(1, 1, 4, 2, 3), v=(3, 3, 1, 1, 3), kind="separable", dtypes=("float64",) * 3, **options
):
    arrays = (random(*shape).astype(dtype) for shape, dtype in zip((f, w, v), dtypes, strict=True))
    return lambda: SEPARABLE[kind](*arrays, P4, **options)


ERRORS = {
    "image": (refused_arrays(f=(1, 5, 5, 1, 2)), "a feature map with 4 group elements, got shape (1, 5, 5, 1, 2)"),
    "other channels": (refused_arrays(f=(1, 5, 5, 4, 3)), "group_filter must be [1, 1, 4, 3, 3] to fit f, got shape"),
    "filter of an image": (refused_arrays(w=(1, 1, 1, 2, 3)), "group_filter must be [1, 1, 4, 2, 3] to fit f, got"),
    "whole filter": (refused_arrays(w=(3, 3, 4, 2, 3)), "group_filter must be [1, 1, 4, 2, 3] to fit f, got shape (3,"),
    "four axes": (refused_arrays(w=(1, 4, 2, 3)), "group_filter must be [k, k, h_in, c_in, c_out]"),
    "not square": (refused_arrays(v=(3, 5, 1, 1, 3)), "spatial_filter must be square, got a 3x5 filter"),
    "gc of pairs": (refused_arrays(v=(3, 3, 1, 2, 3)), "spatial_filter must be [k, k, 1, 1, 3] to be separable"),
    "g of outputs": (refused_arrays(kind="gseparable"), "spatial_filter must be [k, k, 1, 2, 3] to be gseparable"),
    "other outputs": (refused_arrays(v=(3, 3, 1, 1, 4)), "got shape (3, 3, 1, 1, 4)"),
    "group dtype": (
        refused_arrays(dtypes=("float32", "float64", "float32")),
        "f and group_filter must have one dtype, got float32 and float64; cast one of them",
    ),
    "spatial dtype": (
        refused_arrays(v=(3, 3, 1, 2, 3), kind="gseparable", dtypes=("float64", "float64", "float32")),
        "f and spatial_filter must have one dtype, got float64 and float32; cast one of them",
    ),
    "grid": (refused_arrays(f=(1, 6, 6, 4, 2), stride=2), "Sizes that work: 5, 7; or pass exact=False"),
    "too small": (refused_arrays(f=(1, 2, 2, 4, 2)), "does not fit an image of 2x2 pixels"),
    "module of an unknown kind": (
        lambda: SeparableGroupConv(2, 3, 3, P4, kind="depthwise", rngs=nnx.Rngs(0)),
        'kind must be one of "gseparable", "separable", got \'depthwise\'',
    ),
    "module of no channels": (
        lambda: SeparableGroupConv(0, 3, 3, P4, rngs=nnx.Rngs(0)),
        "in_features must be an integer of at least 1, got 0",
    ),
    "module of no stride": (lambda: SeparableGroupConv(2, 3, 3, P4, stride=0, rngs=nnx.Rngs(0)), "stride must be"),
    "module of an unknown interpolation": (
        lambda: SeparableGroupConv(2, 3, 3, P4, sampling=Sampling("nearest"), rngs=nnx.Rngs(0)),
        'kind must be one of "least_error", "rings", "bilinear", "cubic", got \'nearest\'',
    ),
    "separable lifting": (
        lambda: AttentiveGroupConv(2, 3, 3, P4, lifting=True, kind="gseparable", rngs=nnx.Rngs(0)),
        'kind must be "nonseparable" with lifting: an image has no group axis; got \'gseparable\'',
    ),
    "network of an unknown kind": (
        lambda: RotMNISTNet(P4, kind="group", rngs=nnx.Rngs(0)),
        'kind must be one of "nonseparable", "gseparable", "separable", got \'group\'',
    ),
    "attention on responses": (
        lambda: RotMNISTNet(P4, "response_channel", kind="separable", rngs=nnx.Rngs(0)),
        'kind must be "nonseparable" with attention on responses, which is of whole filters, got \'separable\' with',
    ),
    "selective kernels": (
        lambda: RotMNISTNet(P4, "sk", kind="gseparable", rngs=nnx.Rngs(0)),
        'kind must be "nonseparable" with attention on responses',
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_what_does_not_fit_is_refused_in_one_line(case):
    call, message = ERRORS[case]
    with assert_refused(message) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1
