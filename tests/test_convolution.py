"""Group convolution: against loops and the reference, transformations of JAX, and what is refused with which advice."""

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
    check_reference_layer,
    filter_to_ours,
    maps_to_ours,
    maps_to_reference,
    random,
    relative_error,
)

from attgconv_jax import Sampling, cyclic, dihedral, group_conv, trivial

on_images_and_feature_maps = pytest.mark.parametrize("lifting", [True, False], ids=["image", "feature_map"])

GEOMETRIES = {
    "plain": ((5, 6), 3, {}),
    "strided": ((5, 7), 3, dict(stride=2, padding=1, haar=True)),
    "dilated": ((6, 5), 2, dict(dilation=2, padding=2)),
    "pixel": ((4, 7), 1, dict(stride=3, haar=True)),
    "wide": ((4, 3), 5, dict(padding="SAME")),
    "uneven": ((6, 7), 2, dict(padding="SAME", dilation=3, stride=2)),
}


def arrays_of(group, shape, k, lifting, c_in=2, c_out=3, batch=(2,)):
    h = 1 if lifting else group.order
    return random(*batch, *shape, h, c_in), random(k, k, h, c_in, c_out, seed=1)


def compiled_conv(group, **settings):
    return jax.jit(functools.partial(group_conv, group=group, **settings))


@on_images_and_feature_maps
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("group", EXACT_GROUPS, ids=str)
def test_group_conv_is_the_loop_over_pixels(group, geometry, lifting):
    shape, k, settings = GEOMETRIES[geometry]
    f, w = arrays_of(group, shape, k, lifting)
    out = compiled_conv(group, exact=False, **settings)(f, w)
    assert_close(out, oracles.group_conv(np.asarray(f), np.asarray(w), group, **settings))


@on_images_and_feature_maps
@pytest.mark.parametrize("interpolation", ["bilinear", "cubic"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("group", INTERPOLATED_GROUPS, ids=str)
def test_group_conv_interpolates_filters_as_the_loop_does(group, masked, interpolation, lifting):
    f, w = arrays_of(group, (5, 5), 3, lifting)
    out = compiled_conv(group, padding=1, haar=True, sampling=Sampling(interpolation, masked))(f, w)
    kernel = {"bilinear": oracles.hat, "cubic": oracles.keys}[interpolation]
    arrays = np.asarray(f), np.asarray(w)
    assert_close(out, oracles.group_conv(*arrays, group, padding=1, haar=True, kernel=kernel, masked=masked))


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)
def test_any_number_of_batch_axes_is_kept(batch):
    f, w = arrays_of(cyclic(4), (5, 6), 3, False, batch=batch)
    out = compiled_conv(cyclic(4))(f, w)
    assert out.shape == (*batch, 3, 4, 4, 3)
    flat = oracles.group_conv(np.asarray(f).reshape(-1, 5, 6, 4, 2), np.asarray(w), cyclic(4))
    assert_close(out, flat.reshape(out.shape))


@pytest.mark.parametrize("group", [cyclic(4), dihedral(4), cyclic(8)], ids=str)
def test_convolution_of_a_lifted_constant_is_the_lifting_convolution(group):
    image, _ = arrays_of(group, (5, 5), 3, True)
    _, w = arrays_of(group, (5, 5), 3, False)
    f = jnp.broadcast_to(image, (*image.shape[:3], group.order, 2))
    assert_close(group_conv(f, w, group), group_conv(image, jnp.sum(w, axis=2, keepdims=True), group))


@pytest.mark.parametrize("group", [trivial(), cyclic(4), dihedral(4), dihedral(1)], ids=str)
def test_haar_weight_multiplies_sums_over_a_group_and_no_others(group):
    f, w = arrays_of(group, (4, 4), 3, False)
    weight = group.haar_weight if group.order > 1 else 1
    assert_close(group_conv(f, w, group, haar=True), weight * group_conv(f, w, group))
    image, lift = arrays_of(group, (4, 4), 3, True)
    np.testing.assert_array_equal(group_conv(image, lift, group, haar=True), group_conv(image, lift, group))


@pytest.mark.parametrize("implementation", ["rows", "fourier", "xla", None])
def test_every_implementation_gives_the_same(implementation):
    f, w = arrays_of(dihedral(2), (5, 5), 3, False)
    assert_close(
        group_conv(f, w, dihedral(2), implementation=implementation),
        oracles.group_conv(np.asarray(f), np.asarray(w), dihedral(2)),
    )


@pytest.mark.parametrize("group", [cyclic(4), cyclic(8)], ids=str)
def test_compiled_gradients_are_the_eager_ones(group):
    f, w = arrays_of(group, (5, 5), 3, False)
    gradients = jax.grad(lambda f, w: jnp.sum(jnp.sin(group_conv(f, w, group, padding=1))), argnums=(0, 1))
    for compiled, eager in zip(optimised(gradients)(f, w), gradients(f, w), strict=True):
        assert_close(compiled, eager, 1e-13)


@on_images_and_feature_maps
def test_gradients_are_finite_differences(lifting):
    f, w = arrays_of(dihedral(4), (4, 5), 3, lifting)
    loss = jax.jit(lambda f, w: jnp.sum(jnp.sin(group_conv(f, w, dihedral(4), padding=1))))
    d_f, d_w = jax.grad(loss, argnums=(0, 1))(f, w)
    along_f, along_w = random(*f.shape, seed=2), random(*w.shape, seed=3)
    step = 1e-5
    slope = (loss(f + step * along_f, w + step * along_w) - loss(f - step * along_f, w - step * along_w)) / (2 * step)
    assert_close(jnp.vdot(d_f, along_f) + jnp.vdot(d_w, along_w), slope, 1e-7)


def test_mapped_images_and_filters_are_the_loop():
    f, w = arrays_of(cyclic(4), (5, 5), 3, False)
    filters = jnp.stack([w, 2 * w[::-1], -w])
    mapped = jax.vmap(jax.vmap(compiled_conv(cyclic(4)), in_axes=(None, 0)), in_axes=(0, None))(f, filters)
    for i in range(2):
        for j in range(3):
            assert_close(mapped[i, j], group_conv(f[i], filters[j], cyclic(4)))


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.01), ("float32", 1e-5)])
@pytest.mark.parametrize("group", [dihedral(4), cyclic(8)], ids=str)
def test_lower_precision_is_close_to_float64(group, dtype, tolerance):
    f, w = arrays_of(group, (5, 5), 3, False)
    out = compiled_conv(group, haar=True)(f.astype(dtype), w.astype(dtype))
    assert out.dtype == dtype
    assert_close(out, group_conv(f, w, group, haar=True), tolerance)


SETTINGS = ["k1s1p0_7", "k3s1p0_8", "k3s1p1_9", "k3s1p2d2_9", "k3s2p1_8", "k3s2p1_9", "k4s1p0_8", "k5s1p2_9"]
REFERENCE_LAYERS = [
    (group, f"{group}_{layer}_{settings}")
    for group in ("se2", "e2")
    for layer in ("ConvRnRn", "ConvRnG", "ConvGG")
    for settings in ([*SETTINGS, "wscale"] if layer == "ConvGG" else SETTINGS)
]


@pytest.mark.parametrize(("name", "file"), REFERENCE_LAYERS, ids=[file for _, file in REFERENCE_LAYERS])
def test_layer_of_the_reference_is_reproduced_with_its_gradients(reference, name, file):
    data = reference(f"layers/{file}")
    plane = data.config["layer"] == "ConvRnRn"
    group = trivial() if plane else {"se2": cyclic(4), "e2": dihedral(4)}[name]

    def layer(f, weights):
        out = group_conv(
            maps_to_ours(f),
            filter_to_ours(weights["weight"]),
            group,
            stride=data.config.get("stride", 1),
            padding=data.config.get("padding", 1),
            dilation=data.config.get("dilation", 1),
            haar=True,
            # The reference strides over an even size, off centre.
            exact=not file.endswith("s2p1_8"),
        )
        return maps_to_reference(out, image=plane)

    check_reference_layer(data, layer, jax.jit)


@pytest.mark.parametrize(
    ("f_shape", "w_shape", "parts"),
    [
        ((5, 5, 2), (3, 3, 1, 2, 3), ("f must be a feature map [..., x, y, h, c]", "(5, 5, 2)", "length 1")),
        ((2, 5, 5, 3, 2), (3, 3, 4, 2, 3), ("f has 3 group elements", "cyclic(4) has 4", "an image has 1")),
        ((2, 5, 5, 4, 2), (3, 3, 1, 2, 3), ("f has 4 group elements", "w takes 1 and 2")),
        ((2, 5, 5, 4, 2), (3, 3, 4, 5, 3), ("2 channels", "w takes 4 and 5")),
        ((2, 5, 5, 4, 2), (3, 3, 3, 2, 3), ("w has 3 input group elements", "1 (on images) or 4 (on feature maps)")),
        ((2, 5, 5, 4, 2), (3, 2, 4, 2, 3), ("w must be square", "3x2")),
        ((2, 5, 5, 4, 2), (3, 3, 4, 2), ("w must be [k, k, h_in, c_in, c_out]", "(3, 3, 4, 2)")),
        ((2, 5, 5, 4, 0), (3, 3, 4, 0, 3), ("f has an empty axis", "at least 1")),
        ((2, 5, 5, 4, 2), (3, 3, 4, 2, 0), ("w has an empty axis", "at least 1")),
    ],
)
def test_shapes_that_do_not_fit_are_refused_with_those_that_do(f_shape, w_shape, parts):
    with assert_refused(*parts):
        group_conv(random(*f_shape), random(*w_shape), cyclic(4))


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "complex64"])
def test_types_that_are_not_floating_are_refused(dtype):
    f, w = arrays_of(cyclic(4), (5, 5), 3, False)
    with assert_refused("f must be floating", dtype, "cast it"):
        group_conv(f.astype(dtype), w, cyclic(4))
    with assert_refused("w must be floating", dtype, "cast it"):
        group_conv(f, w.astype(dtype), cyclic(4))


def test_two_types_are_refused_instead_of_cast():
    f, w = arrays_of(cyclic(4), (5, 5), 3, False)
    with assert_refused("one dtype", "float64", "float32", "cast one"):
        group_conv(f, w.astype(jnp.float32), cyclic(4))


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        *[({name: value}, (f"{name} must be an integer of at least 1", repr(value)))
          for name in ("stride", "dilation") for value in (0, -1, 1.5, True, "2")],
        *[({"padding": value}, ('padding must be an integer of at least 0, "SAME" or "VALID"', repr(value)))
          for value in (-1, 1.5, True, "FULL", (1, 1))],
        ({"sampling": "nearest"}, ('Sampling("least_error")', "FilterBasis", "nearest")),
        ({"implementation": "cudnn"}, ('None or one of "rows", "fourier", "xla"',)),
    ],
    ids=lambda case: str(case) if isinstance(case, dict) else "",
)  # fmt: skip
def test_bad_settings_are_refused_with_good_ones(settings, parts):
    group = cyclic(8)
    with assert_refused(*parts):
        group_conv(*arrays_of(group, (5, 5), 3, True), group, **settings)


def accepts(size, k, group=None, **settings):
    group = group or cyclic(4)
    arrays = arrays_of(group, size if isinstance(size, tuple) else (size, size), k, True)
    try:
        jax.eval_shape(functools.partial(group_conv, group=group, **settings), *arrays)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("settings", [{}, {"padding": 1}, {"dilation": 2}, {"dilation": 3, "padding": 2}], ids=str)
def test_window_larger_than_the_image_is_refused_with_the_smallest_that_fits(settings):
    with assert_refused("does not fit", "2x1 pixels", "at least") as caught:
        group_conv(*arrays_of(trivial(), (2, 1), 5, True), trivial(), **settings)
    (smallest,) = map(int, re.findall(r"at least (\d+) pixels", str(caught.value)))
    assert accepts(smallest, 5, trivial(), **settings)
    assert not accepts(smallest - 1, 5, trivial(), **settings)


@pytest.mark.parametrize(
    ("size", "k", "settings"),
    [
        (8, 3, {"stride": 2}),
        (8, 3, {"stride": 2, "padding": 1}),
        (8, 3, {"stride": 3, "padding": "SAME"}),
        (9, 2, {"stride": 2}),
        (6, 3, {"stride": 4, "dilation": 2}),
        (3, 3, {"stride": 7, "padding": 2}),
        (9, 2, {"stride": 2, "padding": "SAME"}),
    ],
)
def test_asymmetric_grid_is_refused_with_sizes_that_work(size, k, settings):
    with assert_refused(f"{size} pixels along x", f"window {k}", "Sizes that work: ", "exact=False") as caught:
        group_conv(*arrays_of(cyclic(4), (size, size), k, True), cyclic(4), **settings)
    advised = [int(n) for n in re.search(r"Sizes that work: ([\d, ]+);", str(caught.value))[1].split(", ")]
    assert advised
    assert all(accepts(n, k, **settings) for n in advised)
    assert not accepts(size, k, **settings)
    assert accepts(size, k, exact=False, **settings)


def test_asymmetric_grid_names_the_axis_that_breaks_it():
    with assert_refused("8 pixels along y"):
        group_conv(*arrays_of(cyclic(4), (9, 8), 3, True), cyclic(4), stride=2)


def test_even_filter_with_same_padding_is_refused_with_other_choices():
    with assert_refused("window 2", "padding SAME", "No size works", "odd size"):
        group_conv(*arrays_of(cyclic(4), (6, 6), 2, True), cyclic(4), padding="SAME")


@pytest.mark.parametrize("group", [cyclic(8), dihedral(3)], ids=str)
def test_interpolated_groups_obey_the_same_rule(group):
    assert accepts(9, 3, group, stride=2)
    assert not accepts(8, 3, group, stride=2)


def test_refused_grid_computes_what_it_says_when_exactness_is_given_up():
    f, w = arrays_of(cyclic(4), (6, 6), 3, False)
    out = group_conv(f, w, cyclic(4), stride=2, exact=False)
    assert relative_error(out, oracles.group_conv(np.asarray(f), np.asarray(w), cyclic(4), stride=2)) < 1e-12
