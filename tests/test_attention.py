"""Input attention: against loops, gradients of a whole stack, and what is refused."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from compilation import optimised
from helpers import (
    EXACT_GROUPS,
    INTERPOLATED_GROUPS,
    assert_close,
    assert_refused,
    channel_weights,
    random,
)

from attgconv_jax import (
    ChannelWeights,
    InputWeights,
    Sampling,
    alpha_f,
    attend,
    channel_attention,
    co_attention,
    cyclic,
    dihedral,
    group_conv,
    input_attention,
    input_co_attention,
    max_pool,
    project_max,
    spatial_attention,
)

every_group = pytest.mark.parametrize("group", EXACT_GROUPS + INTERPOLATED_GROUPS, ids=str)
on_images_and_feature_maps = pytest.mark.parametrize("lifting", [True, False], ids=["image", "feature_map"])


def compiled(function, **settings):
    return jax.jit(functools.partial(function, **settings))


def kernel_of(group):
    return None if group in EXACT_GROUPS else oracles.hat


def feature_map(group, lifting, shape=(5, 5), c=3, batch=(2,), seed=0):
    return random(*batch, *shape, 1 if lifting else group.order, c, seed=seed)


@on_images_and_feature_maps
@every_group
def test_channel_attention_is_the_formula(group, lifting):
    f = feature_map(group, lifting)
    weights = channel_weights(3, f.shape[-2])
    alpha = compiled(channel_attention, group=group)(f, weights)
    assert alpha.shape == (2, 1, 1, f.shape[-2], 3)
    assert_close(alpha, oracles.channel_attention(np.asarray(f), *map(np.asarray, weights), group))


@on_images_and_feature_maps
@pytest.mark.parametrize(("k", "dilation", "haar"), [(3, 1, False), (3, 2, True)])
@every_group
def test_spatial_attention_is_the_formula(group, k, dilation, haar, lifting):
    f = feature_map(group, lifting)
    w = random(k, k, f.shape[-2], 2, 1, seed=1)
    settings = dict(dilation=dilation, haar=haar, sampling=Sampling("bilinear"))
    alpha = compiled(spatial_attention, group=group, **settings)(f, w)
    assert alpha.shape == (2, 5, 5, f.shape[-2], 1)
    expected = oracles.spatial_attention(np.asarray(f), np.asarray(w), group, dilation, haar, kernel_of(group))
    assert_close(alpha, expected)


@on_images_and_feature_maps
@every_group
def test_co_attention_is_the_formula(group, lifting):
    f = feature_map(group, lifting, shape=(3, 4))
    w = random(1, 1, f.shape[-2], 3, 1, seed=1)

    @jax.jit
    def attend(f, w):
        return [(co_attention(f, w, group, haar=h), input_co_attention(f, w, group, haar=h)) for h in (False, True)]

    for haar, (alpha, suppressed) in zip((False, True), attend(f, w), strict=True):
        expected = oracles.co_attention(np.asarray(f), np.asarray(w), group, haar)
        assert_close(alpha, expected)
        assert_close(suppressed, (1 - expected) * np.asarray(f))


@on_images_and_feature_maps
@pytest.mark.parametrize("factors", [("channel", "spatial"), ("channel",), ("spatial",)], ids="+".join)
@every_group
def test_input_attention_is_the_formula(group, factors, lifting):
    f = feature_map(group, lifting)
    channel = channel_weights(3, f.shape[-2]) if "channel" in factors else None
    spatial = random(3, 3, f.shape[-2], 2, 1, seed=1) if "spatial" in factors else None
    settings = dict(dilation=2, haar=True)
    out = compiled(input_attention, group=group, **settings, sampling=Sampling("bilinear"))(f, channel, spatial)
    plain = jax.tree.map(np.asarray, (channel, spatial))
    expected = oracles.input_attention(np.asarray(f), *plain, group, **settings, kernel=kernel_of(group))
    assert_close(out, expected)


@pytest.mark.parametrize("factors", [("channel", "spatial"), ("channel",), ("spatial",)], ids="+".join)
def test_attention_map_is_what_input_attention_suppresses(factors):
    f = feature_map(cyclic(4), False)
    channel = channel_weights(3, 4) if "channel" in factors else None
    spatial = random(3, 3, 4, 2, 1, seed=1) if "spatial" in factors else None
    alpha = alpha_f(f, InputWeights(channel, spatial), cyclic(4))
    assert alpha.shape == (2, *((5, 5) if "spatial" in factors else (1, 1)), 4, 3 if "channel" in factors else 1)
    assert np.all((alpha > 0) & (alpha <= 1))
    assert_close((1 - alpha) * f, input_attention(f, channel, spatial, cyclic(4)))


def test_attention_map_of_no_weights_is_refused():
    with assert_refused("channel weights or a spatial filter"):
        alpha_f(feature_map(cyclic(4), False), InputWeights(None, None), cyclic(4))


@pytest.mark.parametrize("interpolation", ["bilinear", "cubic"])
def test_spatial_attention_interpolates_and_masks_as_it_is_told(interpolation):
    group = cyclic(8)
    f = feature_map(group, False)
    w = random(5, 5, 8, 2, 1, seed=1)
    kernel = {"bilinear": oracles.hat, "cubic": oracles.keys}[interpolation]
    expected = oracles.spatial_attention(np.asarray(f), np.asarray(w), group, kernel=kernel, masked=True)
    settings = dict(sampling=Sampling(interpolation, True))
    assert_close(compiled(spatial_attention, group=group, **settings)(f, w), expected)
    assert_close(compiled(input_attention, group=group, channel=None, **settings)(f, spatial=w), (1 - expected) * f)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling("rings")], ids=lambda sampling: str(sampling.kind))
def test_spatial_attention_turns_its_filter_as_convolutions_do(sampling):
    group, w = cyclic(8), random(5, 5, 8, 2, 1, seed=1)
    f = feature_map(group, False)
    statistics = jnp.stack([jnp.mean(f, axis=-1), jnp.max(f, axis=-1)], axis=-1)
    logits = compiled(group_conv, group=group, padding=2, sampling=sampling)(statistics, w)
    alpha = compiled(spatial_attention, group=group, sampling=sampling)(f, w)
    assert_close(alpha, jax.nn.sigmoid(logits))


def test_without_any_weights_nothing_is_suppressed():
    f = feature_map(cyclic(4), False)
    assert input_attention(f, None, None, cyclic(4)) is f


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("attention", ["channel+spatial", "co"])
def test_any_number_of_batch_axes_is_kept(attention, batch):
    group, shape = cyclic(4), (4, 5)
    f = feature_map(group, False, shape, batch=batch)
    if attention == "co":
        function = compiled(input_co_attention, group=group, w=random(1, 1, 4, 3, 1))
    else:
        function = compiled(input_attention, group=group, channel=channel_weights(3, 4), spatial=random(3, 3, 4, 2, 1))
    flat = function(f.reshape(-1, *shape, 4, 3))
    assert_close(function(f), flat.reshape(f.shape), 1e-15)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.02), ("float32", 1e-5)])
def test_lower_precision_is_close_to_float64(dtype, tolerance):
    group = dihedral(4)
    arguments = feature_map(group, False), channel_weights(3, 8), random(3, 3, 8, 2, 1)
    out = compiled(input_attention, group=group)(*jax.tree.map(lambda x: x.astype(dtype), arguments))
    assert out.dtype == dtype
    assert_close(out, input_attention(*arguments, group), tolerance)


def attentive_stack(parameters, f, group):
    """Two layers of attention and convolution. The normalisation is what makes XLA compute operands of maxima twice."""
    for layer in parameters:
        attended = input_attention(f, layer["channel"], layer["spatial"], group)
        f = group_conv(attended, layer["w"], group, padding=1)
        f = (f - jnp.mean(f, (0, 1, 2, 3))) * jax.lax.rsqrt(jnp.var(f, (0, 1, 2, 3)) + 1e-5)
        f = jax.nn.relu(f)
    return project_max(max_pool(f, group))


def stack_and_arrays():
    """The sum of what an attentive stack makes of a feature map, and its arrays."""
    group, c, h = cyclic(4), 2, 4
    parameters = [
        {
            "w": 0.2 * random(3, 3, h, c, c, seed=seed),
            "channel": channel_weights(c, h, seed=seed),
            "spatial": 0.3 * random(3, 3, h, 2, 1, seed=seed),
        }
        for seed in (0, 1)
    ]

    def loss(parameters, f):
        return jnp.sum(jnp.sin(attentive_stack(parameters, f, group)))

    return loss, (parameters, random(2, 6, 6, h, c))


def test_compiled_gradient_of_an_attentive_stack_is_that_of_finite_differences():
    loss, arrays = stack_and_arrays()
    along = jax.tree.map(lambda x: random(*x.shape, seed=9), arrays)

    def value(step):
        return optimised(loss)(*jax.tree.map(lambda x, d: x + step * d, arrays, along))

    gradients = optimised(jax.grad(loss, argnums=(0, 1)))(*arrays)
    slope = (value(1e-5) - value(-1e-5)) / 2e-5
    assert_close(sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradients, along))), slope, 1e-6)


@pytest.mark.slow
def test_compiled_gradient_of_an_attentive_stack_is_the_eager_one():
    loss, arrays = stack_and_arrays()
    gradient = jax.grad(loss, argnums=(0, 1))
    for actual, expected in zip(
        jax.tree.leaves(optimised(gradient)(*arrays)), jax.tree.leaves(gradient(*arrays)), strict=True
    ):
        assert np.any(expected)
        assert_close(actual, expected, 1e-12)


@pytest.mark.parametrize(
    ("w1", "w2"),
    [
        ((2, 3, 1), (3, 2, 1)),
        ((2, 3, 4), (3, 2, 8)),
        ((2, 4, 4), (4, 2, 4)),
        ((2, 3, 4), (3, 5, 4)),
        ((0, 3, 4), (3, 0, 4)),
        ((2, 3), (3, 2)),
    ],
)
def test_channel_weights_that_do_not_fit_are_refused_with_those_that_do(w1, w2):
    weights = ChannelWeights(random(*w1), random(*w2))
    for function in (channel_attention, lambda *arguments: input_attention(*arguments[:2], None, arguments[2])):
        with assert_refused("4 group elements and 3 channels", "[3, c_hid, 4]", str(w2)):
            function(feature_map(cyclic(4), False), weights, cyclic(4))


@pytest.mark.parametrize(
    "shape", [(2, 2, 4, 2, 1), (3, 3, 1, 2, 1), (3, 3, 4, 3, 1), (3, 3, 4, 2, 2), (3, 3, 4, 2)], ids=str
)
def test_spatial_filters_that_do_not_fit_are_refused_with_those_that_do(shape):
    for function in (spatial_attention, lambda f, w, group: input_attention(f, None, w, group)):
        with assert_refused("4 group elements", "[k, k, 4, 2, 1]", "odd size", str(shape)):
            function(feature_map(cyclic(4), False), random(*shape), cyclic(4))


@pytest.mark.parametrize("shape", [(3, 3, 4, 3, 1), (1, 1, 1, 3, 1), (1, 1, 4, 2, 1), (1, 1, 4, 3, 2)], ids=str)
@pytest.mark.parametrize("function", [co_attention, input_co_attention])
def test_co_attention_filters_that_do_not_fit_are_refused_with_those_that_do(function, shape):
    with assert_refused("4 group elements and 3 channels", "[1, 1, 4, 3, 1]", str(shape)):
        function(feature_map(cyclic(4), False), random(*shape), cyclic(4))


@pytest.mark.parametrize(
    "attend",
    [
        lambda f, group: channel_attention(f, channel_weights(3, 4), group),
        lambda f, group: spatial_attention(f, random(3, 3, 4, 2, 1), group),
        lambda f, group: co_attention(f, random(1, 1, 4, 3, 1), group),
        lambda f, group: input_attention(f, channel_weights(3, 4), random(3, 3, 4, 2, 1), group),
        lambda f, group: input_co_attention(f, random(1, 1, 4, 3, 1), group),
    ],
    ids=["channel", "spatial", "co", "input", "input co"],
)
def test_feature_map_of_another_group_is_refused(attend):
    f = feature_map(cyclic(4), False)
    with assert_refused("f has 4 group elements", "dihedral(4) has 8", "an image has 1"):
        attend(f, dihedral(4))
    with assert_refused("[..., x, y, h, c]", "length 1"):
        attend(f[0, 0], cyclic(4))


@pytest.mark.parametrize("dilation", [0, -1, 1.5, True])
def test_bad_dilation_is_refused(dilation):
    with assert_refused("dilation must be an integer of at least 1", repr(dilation)):
        spatial_attention(feature_map(cyclic(4), False), random(3, 3, 4, 2, 1), cyclic(4), dilation=dilation)


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        (("bfloat16", "float32"), "bfloat16"),
        (("float32", "float32"), "float32"),
        (("float32", "float64"), "float64"),
    ],
    ids=str,
)
def test_attended_feature_maps_have_the_type_of_the_map_unless_that_holds_less(types, expected):
    f, alpha = jnp.full([2, 2, 1, 1], 3).astype(types[0]), jnp.full([1, 1, 1, 1], 0.5).astype(types[1])
    attended = attend(f, alpha)
    assert attended.dtype == expected
    assert float(attended[0, 0, 0, 0]) == 1.5


def test_gradients_of_statistics_are_made_once_and_not_at_every_position():
    group = dihedral(4)
    f = jnp.ones([2, 5, 5, 8, 3], jnp.float32)
    weights = ChannelWeights(jnp.ones([2, 3, 8], jnp.float32), jnp.ones([3, 2, 8], jnp.float32))
    gradient = optimised(jax.grad(lambda f: jnp.sum(jnp.sin(channel_attention(f, weights, group) * f))))
    computations = re.findall(r"^%?\S+ \(.*?^}", gradient.lower(f).compile().as_text(), re.MULTILINE | re.DOTALL)
    over_positions = [text for text in computations if "ROOT" in text and "f32[2,5,5,8,3]" in text.split("ROOT")[1]]
    assert over_positions
    # Of eight group elements it would add eight arrays.
    assert max(len(re.findall(r" add\(", text)) for text in over_positions) < 4
