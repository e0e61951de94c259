"""Convolutions on Lie groups: every kind is the convolution with the product of its factors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, assert_refused, random

from attgconv_jax import cyclic
from attgconv_jax.lie import (
    KINDS,
    LieWeights,
    apply_kernels,
    b_spline,
    depthwise_conv,
    dgseparable_conv,
    dseparable_conv,
    lie_conv,
    lie_kernels,
    max_pool,
    nonseparable_conv,
    rotations,
    scalings,
    separable_conv,
    similarities,
)
from attgconv_jax.lie.kinds import LIFTING

EVERY = {"lifting": LIFTING, **KINDS}
A, S, C_IN, C_OUT, K = 2, 3, 3, 4, 5
H = A * S
KERNELS = {
    "lifting": [(K, K, 1, C_IN, H, C_OUT)],
    "nonseparable": [(K, K, H, C_IN, H, C_OUT)],
    "gseparable": [(H, C_IN, H, C_OUT), (K, K, C_IN, H, C_OUT)],
    "separable": [(H, C_IN, H, C_OUT), (K, K, H, C_OUT)],
    "dseparable": [(C_IN, C_OUT), (K, K, H, H, C_OUT)],
    "dgseparable": [(C_IN, C_OUT), (H, H, C_OUT), (K, K, H, C_OUT)],
    "separable+2d": [(A, C_IN, A, C_OUT), (S, S, C_OUT), (K, K, H, C_OUT)],
    "gseparable+2d": [(A, C_IN, A, C_OUT), (S, C_IN, S, C_OUT), (K, K, C_IN, H, C_OUT)],
}
# Axes: plane kl, input element h or (a s), output element g or (b t), channels i and j.
BANKS = {
    "lifting": "klhigj->klhigj",
    "nonseparable": "klhigj->klhigj",
    "gseparable": "higj,kligj->klhigj",
    "separable": "higj,klgj->klhigj",
    "dseparable": "ij,klhgj->klhigj",
    "dgseparable": "ij,hgj,klgj->klhigj",
    "separable+2d": "aibj,stj,klbtj->klasibtj",
    "gseparable+2d": "aibj,sitj,klibtj->klasibtj",
}


def bank_of(kind, kernels):
    """`k_ij(x, h)` as one array, with NumPy."""
    kernels = [np.asarray(kernel) for kernel in kernels]
    if kind.endswith("+2d"):
        kernels[-1] = kernels[-1].reshape(*kernels[-1].shape[:-2], A, S, C_OUT)
    return np.einsum(BANKS[kind], *kernels).reshape(K, K, -1, C_IN, H, C_OUT)


def name_of(kind):
    """As the functions take it."""
    return None if kind == "lifting" else kind


def correlate(f, bank, stride, pad):
    """Pixel by pixel."""
    f = np.pad(np.asarray(f), [(0, 0), (pad, pad), (pad, pad), (0, 0), (0, 0)])
    counts = [(length - K) // stride + 1 for length in f.shape[1:3]]
    out = np.empty((f.shape[0], *counts, *bank.shape[-2:]))
    for x, y in np.ndindex(*counts):
        patch = f[:, x * stride : x * stride + K, y * stride : y * stride + K]
        out[:, x, y] = np.einsum("bklhi,klhigj->bgj", patch, bank)
    return out


@pytest.mark.parametrize(("stride", "padding"), [(1, "SAME"), (1, "VALID"), (2, 2)])
@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.default("separable-1-SAME", "nonseparable-2-2", "dseparable-1-SAME", "gseparable+2d-1-VALID")
def test_every_kind_is_the_convolution_with_the_product_of_its_factors(kind, stride, padding):
    kernels = [random(*shape, seed=i) for i, shape in enumerate(KERNELS[kind])]
    f = random(2, 9, 7, 1 if kind == "lifting" else H, C_IN, seed=9)

    def value(f, kernels):
        return apply_kernels(f, tuple(kernels), name_of(kind) or "nonseparable", stride=stride, padding=padding)

    cotangent = random(*np.shape(value(f, kernels)), seed=10)

    expected = correlate(f, bank_of(kind, kernels), stride, {"SAME": 2, "VALID": 0}.get(padding, padding))
    for compiled in (value, jax.jit(value)):
        output, vjp = jax.vjp(compiled, f, kernels)
        assert_close(output, expected, 1e-12)
        tangents = [random(*shape, seed=20 + i) for i, shape in enumerate([f.shape, *KERNELS[kind]])]
        step = 1e-6
        moved = [
            value(
                f + sign * step * tangents[0], [k + sign * step * t for k, t in zip(kernels, tangents[1:], strict=True)]
            )
            for sign in (1, -1)
        ]
        slope = np.sum((moved[0] - moved[1]) * cotangent) / (2 * step)
        d_f, d_kernels = vjp(cotangent)
        inner = sum(np.sum(a * b) for a, b in zip([d_f, *d_kernels], tangents, strict=True))
        np.testing.assert_allclose(inner, slope, rtol=1e-6)


def test_all_kinds_are_tested():
    assert set(KERNELS) == set(EVERY)
    assert all(f'"{kind}"' in lie_conv.__doc__ for kind in KINDS)


def coefficients(kind, group, seed=0):
    """B-spline weights of a layer with 3 input and 4 output channels; splines make no assumption on a grid."""
    counts = {
        "plane": (4, 4),
        "group": (5,) * group.dimension,
        "rotations": (5,),
        "scales": (4,),
        "plane and group": (4, 4) + (5,) * group.dimension,
    }
    factors = [
        random(*counts[factor.domain], C_OUT * (C_IN if factor.pairs else 1), seed=seed + i)
        for i, factor in enumerate(EVERY[kind].factors)
    ]
    return LieWeights(tuple(factors), random(C_IN, C_OUT, seed=7) if EVERY[kind].projection else None)


def networks(kind, group):
    turns = (True,) * (group.angles is not None) + (False,) * (group.scales is not None)
    periodic = {
        "plane": (),
        "group": turns,
        "rotations": (True,),
        "scales": (),
        "plane and group": (False, False, *turns),
    }
    return [functools.partial(b_spline, periodic=periodic[factor.domain]) for factor in EVERY[kind].factors]


def conv_of(kind, group, in_grid=None, out_grid=None):
    weights = coefficients(kind, group)
    in_grid = None if kind == "lifting" else group.grid() if in_grid is None else in_grid
    out_grid = group.grid() if out_grid is None else out_grid
    options = dict(network=networks(kind, group), coordinates="angle")
    return jax.jit(lambda f: lie_conv(f, weights, group, in_grid, out_grid, K, name_of(kind), **options))


def kinds_of(group):
    both = group.angles is not None and group.scales is not None
    return [kind for kind in EVERY if both or not kind.endswith("+2d")]


def turned(f, group, quarters):
    """`rot90`, and the feature map's elements a quarter turn on."""
    f = np.rot90(np.asarray(f), quarters, axes=(1, 2))
    return f if f.shape[3] == 1 else np.roll(f, quarters * group.order // 4, axis=3)


TURNING = [rotations(4), rotations(8), similarities(4, 2, 1.5)]


@pytest.mark.parametrize(("group", "kind"), [(group, kind) for group in TURNING for kind in kinds_of(group)], ids=str)
def test_quarter_turns_and_translations_commute_with_every_kind(group, kind):
    f = random(2, 9, 9, 1 if kind == "lifting" else group.order, C_IN, seed=3)
    conv = conv_of(kind, group)
    output = conv(f)
    assert np.max(np.abs(output)) > 1e-3
    for quarters in (1, 2, 3):
        assert_close(conv(jnp.asarray(turned(f, group, quarters))), turned(output, group, quarters), 1e-10)
    inside = jnp.zeros_like(f).at[:, 3:6, 3:6].set(f[:, 3:6, 3:6])
    moved = jnp.roll(inside, (1, -1), axis=(1, 2))
    assert_close(conv(moved), jnp.roll(conv(inside), (1, -1), axis=(1, 2)), 1e-10)


@pytest.mark.parametrize("kind", kinds_of(rotations(8)))
def test_a_grid_that_begins_elsewhere_gives_the_turned_layer(kind):
    """Kernels see relative elements: a quarter turn of both grids is a quarter turn of the input."""
    group = rotations(8)
    f = random(2, 9, 9, 1 if kind == "lifting" else group.order, C_IN, seed=3)
    quarter = group.exp(jnp.array([np.pi / 2]))
    grid = group.product(quarter, group.grid())
    begun = conv_of(kind, group, grid, grid)(jnp.asarray(np.rot90(f, 1, axes=(1, 2))))
    assert_close(begun, np.rot90(conv_of(kind, group)(f), 1, axes=(1, 2)), 1e-10)


@pytest.mark.parametrize(
    ("group", "kind"),
    [
        (group, kind)
        for group in (rotations(8), similarities(8, 2, 1.5))
        for kind in kinds_of(group)
        if kind != "lifting"
    ],
    ids=str,
)
def test_grids_of_different_density_meet(group, kind):
    """Eight angles in, the four of them that are quarter turns out: those outputs alone."""
    f = random(2, 9, 9, group.order, C_IN, seed=3)
    kept = [h for h in range(group.order) if h // (group.scales or 1) % 2 == 0]
    every_other = conv_of(kind, group, None, group.grid()[np.array(kept)])(f)
    assert_close(every_other, conv_of(kind, group)(f)[..., kept, :], 1e-12)


@pytest.mark.parametrize("kept", [slice(None, None, 2), slice(0, 3), [0, 1, 2, 4]], ids=str)
def test_a_grid_that_is_no_product_cannot_be_factored(kept):
    group = similarities(4, 2, 1.5)
    grid = group.grid()[jnp.arange(8)[kept] if isinstance(kept, slice) else jnp.array(kept)]
    with assert_refused("out_grid must hold all pairs of some angles and 2 scales, scales fastest", "other elements"):
        conv_of("separable+2d", group, None, grid)(random(1, 9, 9, 8, C_IN))
    with assert_refused("out_grid must hold all pairs"):
        conv_of("separable+2d", group, None, similarities(2, 4, 1.5).grid())(random(1, 9, 9, 8, C_IN))


@pytest.mark.parametrize("kind", [kind for kind in kinds_of(scalings(3, 1.5)) if kind != "lifting"])
def test_kernels_see_the_ratio_of_scales_alone(kind):
    """What is a function on the group is the same after both grids have been scaled; on the plane it grows."""
    group = scalings(3, 1.5)
    grid = group.product(group.exp(jnp.array([0.1])), group.grid())
    options = dict(network=networks(kind, group), coordinates="angle")
    for factor, before, after in zip(
        KINDS[kind].factors,
        *(
            lie_kernels(coefficients(kind, group), group, grid, grid, K, C_IN, kind, **options)[
                KINDS[kind].projection :
            ]
            for grid in (group.grid(), grid)
        ),
        strict=True,
    ):
        assert (np.max(np.abs(before - after)) < 1e-12) == (factor.domain == "group")


def test_lifting_an_image_in_bfloat16_evaluates_kernels_in_float32():
    group, weights = rotations(4), coefficients("lifting", rotations(4))
    weights = jax.tree.map(lambda w: w.astype(jnp.float32), weights)
    grid = group.grid().astype(jnp.float32)
    kernels = lie_kernels(weights, group, None, grid, K, C_IN, network=b_spline)
    assert kernels[0].dtype == jnp.float32
    f = random(2, 9, 9, 1, C_IN).astype(jnp.bfloat16)
    output = lie_conv(f, weights, group, None, grid, K, network=b_spline)
    assert output.dtype == jnp.bfloat16
    assert_close(output.astype(float), apply_kernels(f.astype(float), kernels, "nonseparable"), 2e-2)


SE2, SCALES = rotations(4), scalings(3, 1.74)
REFUSALS = {
    "exactness in words": (
        lambda: lie_conv(random(1, 9, 9, 4, 3), LieWeights((0, 0)), SE2, SE2.grid(), SE2.grid(), 5, exact="yes"),
        "exact must be True or False, got 'yes'",
    ),
    "no input channels": (
        lambda: lie_kernels(coefficients("lifting", SE2), SE2, None, SE2.grid(), 5, 0),
        "c_in must be an integer of at least 1, got 0",
    ),
    "unknown kind": (
        lambda: lie_conv(random(1, 9, 9, 4, 3), LieWeights(()), SE2, SE2.grid(), SE2.grid(), 5, "separabel"),
        'kind must be one of "nonseparable", "gseparable", "separable", "dseparable"',
        "got 'separabel'",
    ),
    "two factors of a group on one that only turns": (
        lambda: lie_conv(random(1, 9, 9, 4, 3), LieWeights(()), SE2, SE2.grid(), SE2.grid(), 5, "separable+2d"),
        "kind must be separable on rotations(4), which has no rotations or no scales; got 'separable+2d'",
    ),
    "a kind of lifting": (
        lambda: lie_conv(random(1, 9, 9, 4, 3), LieWeights((0, 0)), SE2, None, SE2.grid(), 5, "separable"),
        "kind must be left out where images are lifted (lifting=True, in_grid=None)",
        "got 'separable'",
    ),
    "a kernel without an input grid": (
        lambda: lie_conv(random(1, 9, 9, 4, 3), LieWeights((0, 0)), SE2, None, SE2.grid(), 5),
        "weights must be of 1 kernel networks and no projection for lifting, got 2 and no projection",
    ),
    "too few networks": (
        lambda: lie_conv(random(1, 9, 9, 4, 3), LieWeights((0,)), SE2, SE2.grid(), SE2.grid(), 5),
        "weights must be of 2 kernel networks and no projection for separable, got 1 and no projection",
    ),
    "no projection": (
        lambda: lie_conv(random(1, 9, 9, 4, 3), LieWeights((0,)), SE2, SE2.grid(), SE2.grid(), 5, "dseparable"),
        "weights must be of 1 kernel networks and a projection for dseparable, got 1 and no projection",
    ),
    "values that are no pairs": (
        lambda: lie_conv(
            random(1, 9, 9, 1, 3), LieWeights((random(4, 4, 7),)), SE2, None, SE2.grid(), 5, network=b_spline
        ),
        "network must return a value for every pair of 3 input channels and the output channels of lifting, got 7",
    ),
    "feature map on another grid": (
        lambda: separable_conv(random(1, 9, 9, 8, 3), random(4, 3, 4, 5), random(5, 5, 4, 5)),
        "f has 8 group elements and 3 channels (shape (1, 9, 9, 8, 3)), but to fit "
        "group_kernel and spatial_kernel it must have 4 and 3",
    ),
    "feature map on another grid, to be projected": (
        lambda: dseparable_conv(random(1, 9, 9, 8, 3), random(3, 5), random(5, 5, 4, 4, 5)),
        "f has 8 group elements and 3 channels (shape (1, 9, 9, 8, 3)), "
        "but to fit projection and kernel it must have 4 and 3",
    ),
    "feature map on another grid, to be projected and mixed": (
        lambda: dgseparable_conv(random(1, 9, 9, 8, 3), random(3, 5), random(4, 4, 5), random(5, 5, 4, 5)),
        "f has 8 group elements and 3 channels (shape (1, 9, 9, 8, 3)), "
        "but to fit projection and group_kernel and spatial_kernel it must have 4 and 3",
    ),
    "no feature map": (
        lambda: lie_conv(random(9, 4, 3), coefficients("separable", SE2), SE2, SE2.grid(), SE2.grid(), 5),
        "f must be a feature map [..., x, y, h, c], got shape (9, 4, 3)",
    ),
    "another dtype": (
        lambda: depthwise_conv(random(1, 9, 9, 4, 3).astype(jnp.float32), random(5, 5, 4, 3)),
        "f and kernel must have one dtype, got float32 and float64; cast one of them",
    ),
    "window larger than the image": (
        lambda: nonseparable_conv(random(1, 3, 3, 1, 3), random(5, 5, 1, 3, 4, 2), padding="VALID"),
        "a window of 5 pixels with dilation 1 does not fit an image of 3x3 pixels",
    ),
    "sampling off centre": (
        lambda: lie_conv(
            random(1, 8, 8, 4, 3), LieWeights((0, 0)), SE2, SE2.grid(), SE2.grid(), 5, stride=2, padding=2
        ),
        "does not map the sampling grid to itself",
        "pass exact=False",
    ),
    "one network for two factors": (
        lambda: lie_conv(
            random(1, 9, 9, 4, 3), coefficients("separable", SE2), SE2, SE2.grid(), SE2.grid(), 5, network=[b_spline]
        ),
        "network must be 2 for separable, or one for all, got 1",
    ),
    "a factor that would be broadcast": (
        lambda: separable_conv(random(1, 9, 9, 4, 3), random(4, 3, 4, 5), random(5, 5, 1, 5)),
        "spatial_kernel must be [k, k, 4, 5], got shape (5, 5, 1, 5)",
    ),
    "no output grid": (
        lambda: lie_conv(random(1, 9, 9, 1, 3), LieWeights((0,)), SE2, None, None, 5),
        "out_grid must be an array [n, 1], as rotations(4).grid() is, got NoneType",
    ),
    "convolving on a finite group": (
        lambda: lie_conv(random(1, 9, 9, 1, 3), LieWeights((0,)), cyclic(4), None, SE2.grid(), 5),
        "group must be a LieGroup, as attgconv_jax.lie.rotations(8), got cyclic(4)",
    ),
    "pooling on a finite group": (
        lambda: max_pool(random(1, 8, 8, 4, 3), cyclic(4)),
        "group must be a LieGroup, as attgconv_jax.lie.rotations(8), got cyclic(4)",
    ),
    "a kernel without an axis": (
        lambda: nonseparable_conv(random(1, 9, 9, 4, 3), random(5, 5, 4, 3, 4)),
        "kernel must be [k, k, h_in, c_in, h, c_out], got shape (5, 5, 4, 3, 4)",
    ),
    "no feature map to project": (
        lambda: dseparable_conv(random(3), random(3, 5), random(5, 5, 4, 4, 5)),
        "f must be a feature map [..., x, y, h, c], got shape (3,)",
    ),
    "an oblong kernel": (
        lambda: nonseparable_conv(random(1, 9, 9, 4, 3), random(3, 5, 4, 3, 4, 2)),
        "kernel must be [k, k, h_in, c_in, h, c_out], got shape (3, 5, 4, 3, 4, 2)",
    ),
    "an oblong kernel for every channel": (
        lambda: depthwise_conv(random(1, 9, 9, 4, 3), random(3, 5, 4, 3)),
        "kernel must be [k, k, h, c], got shape (3, 5, 4, 3)",
    ),
    "too few kernels": (
        lambda: apply_kernels(random(1, 9, 9, 4, 3), (random(4, 3, 4, 5),), "separable"),
        "evaluated must be 2 kernels of separable, as lie_kernels makes them, got 1",
    ),
    "filter too small for the scales": (
        lambda: lie_conv(random(1, 9, 9, 1, 3), LieWeights((0,)), SCALES, None, SCALES.grid(), 3),
        "size must be 1 or at least 5, or filters cannot hold kernels of scales up to 1.74",
        "got 3",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_does_not_fit_is_refused(case):
    call, *parts = REFUSALS[case]
    with assert_refused(*parts):
        call()


@pytest.mark.parametrize("function", [lie_conv, lie_kernels, apply_kernels])
def test_the_former_kind_of_lifting_warns(function):
    weights, grid = coefficients("lifting", SE2), SE2.grid()
    f, options = random(1, 9, 9, 1, C_IN), dict(network=b_spline, coordinates="angle")
    kernels = lie_kernels(weights, SE2, None, grid, K, C_IN, **options)
    with pytest.warns(DeprecationWarning, match='kind="lifting" is deprecated'):
        if function is apply_kernels:
            actual = apply_kernels(f, kernels, "lifting")
        else:
            first = (f,) if function is lie_conv else ()
            then = (C_IN,) if function is lie_kernels else ()
            actual = function(*first, weights, SE2, None, grid, K, *then, "lifting", **options)
    expected = kernels if function is lie_kernels else lie_conv(f, weights, SE2, None, grid, K, **options)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)
    with pytest.warns(DeprecationWarning), assert_refused("in_grid must be None where images are lifted"):
        lie_conv(f, weights, SE2, grid, grid, K, "lifting", **options)
