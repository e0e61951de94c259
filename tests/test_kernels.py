"""Dense and depthwise convolution: every implementation against loops, with all gradients, and the scan over chunks."""

from unittest import mock

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from helpers import assert_close, assert_refused, primitives, random
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from attgconv_jax.kernels import chunks, conv, depthwise, depthwise_conv
from attgconv_jax.kernels.chunks import scan_chunks
from attgconv_jax.kernels.convolution import _Product
from attgconv_jax.kernels.fourier import fourier_pays
from attgconv_jax.kernels.taps import Window

KINDS = {
    "dense": (conv, oracles.dense_conv),
    "depthwise": (depthwise_conv, oracles.depthwise_conv),
}
IMPLEMENTATIONS = [
    *[("dense", name) for name in ("rows", "fourier", "xla", None)],
    *[("depthwise", name) for name in ("shifts", "xla", None)],
]
every_implementation = pytest.mark.parametrize(("kind", "implementation"), IMPLEMENTATIONS)
every_kind = pytest.mark.parametrize("kind", KINDS)


@st.composite
def windows(draw):
    """A window and a length that it fits, padded otherwise at the start than at the end."""
    size, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    window = Window(size, draw(st.integers(1, 3)), draw(st.integers(0, 3)), draw(st.integers(0, 3)), dilation)
    shortest = max(1, dilation * (size - 1) + 1 - window.low - window.high)
    return window, draw(st.integers(shortest, shortest + 4))


@st.composite
def cases(draw):
    (rows, x), (columns, y) = draw(windows()), draw(windows())
    batch, c_in, c_out = draw(st.integers(1, 5)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    return (batch, x, y, c_in), c_out, (rows, columns)


# Bytes a chunk: one image, a few images, all of them.
chunk_bytes = st.sampled_from([1, 500, 2_000, 6_000_000])


def arrays_of(kind, f_shape, c_out, windows):
    sizes = [window.size for window in windows]
    f = random(*f_shape)
    w = random(*sizes, f_shape[-1], c_out, seed=1) if kind == "dense" else random(*sizes, f_shape[-1], seed=1)
    outputs = [window.outputs(length) for window, length in zip(windows, f_shape[1:3], strict=True)]
    return f, w, random(f_shape[0], *outputs, c_out if kind == "dense" else f_shape[-1], seed=2)


def value_and_gradients(function, windows, implementation):
    """`f, w, d_out -> out, d_f, d_w`."""

    def run(f, w, d_out):
        out, pullback = jax.vjp(lambda f, w: function(f, w, windows, implementation), f, w)
        return out, *pullback(d_out)

    return run


def check_against_loops(kind, implementation, case, compiled):
    function, oracle = KINDS[kind]
    windows = case[2]
    f, w, d_out = arrays_of(kind, *case)
    geometry = [window.stride for window in windows], [w_[2:4] for w_ in windows], [w_.dilation for w_ in windows]
    expected = oracle(np.asarray(f), np.asarray(w), *geometry)
    if implementation == "xla" and all(window.stride > 1 for window in windows):
        # XLA:CPU can abort the process while it compiles this gradient (algebraic_simplifier.cc, jaxlib 0.10.2).
        assert_close(jax.jit(lambda f, w: function(f, w, windows, implementation))(f, w), expected)
        return
    run = value_and_gradients(function, windows, implementation)
    out, d_f, d_w = (jax.jit(run) if compiled else run)(f, w, d_out)
    gradients = oracles.conv_gradients(oracle, *map(np.asarray, (f, w, d_out)), *geometry)
    for actual, wanted in zip((out, d_f, d_w), (expected, *gradients), strict=True):
        if implementation == "fourier":
            # Rounding is that of the whole sum, also where what is left of it is zero.
            np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-12)
        else:
            assert_close(actual, wanted)


@pytest.mark.parametrize(("kind", "implementation"), [case for case in IMPLEMENTATIONS if case[1] is not None])
@hypothesis.settings(max_examples=20)
@hypothesis.given(case=cases(), limit=chunk_bytes)
def test_convolution_and_gradients_are_the_loops(kind, implementation, case, limit):
    with mock.patch.object(chunks, "CHUNK_BYTES", limit):
        check_against_loops(kind, implementation, case, compiled=True)


@pytest.mark.parametrize("rows", [(3, 1, 0, 0), (5, 1, 0, 3), (7, 1, 3, 3), (2, 1, 3, 4, 2), (3, 1, 1, 4)])
def test_gradients_of_rows_that_stay_apart_are_the_loops(rows):
    """Padded by less than the filter reaches over the image, by as much, and by more."""
    windows = Window(*rows), Window(2, 2, 1, 0)
    case = (3, 14, 6, 2), 3, windows
    assert _Product(case[0], (rows[0], 2, 2, 3), windows).split
    with mock.patch.object(chunks, "CHUNK_BYTES", 500):
        check_against_loops("dense", "rows", case, compiled=True)


@pytest.mark.parametrize("block", [2, 64])
@pytest.mark.parametrize("geometry", [(5, 1, 2, 2, 1), (7, 1, 0, 3, 1), (5, 2, 1, 2, 1), (5, 1, 4, 4, 2)])
def test_large_depthwise_filters_and_their_gradients_are_the_loops(geometry, block):
    size, stride, low, high, dilation = geometry
    windows = (Window(size, stride, low, high, dilation),) * 2
    with mock.patch.object(depthwise, "BLOCK", block):
        check_against_loops("depthwise", "shifts", ((2, 9, 8, 3), 3, windows), compiled=True)


def test_large_depthwise_filters_are_xlas_in_every_use():
    """Mapped, differentiated twice, and in few digits."""
    windows = (Window(5, 1, 2, 1), Window(5, 1, 0, 3))
    f, w, d_out = arrays_of("depthwise", (2, 9, 8, 3), 3, windows)

    def everything(implementation):
        run = value_and_gradients(depthwise_conv, windows, implementation)
        mapped = jax.vmap(run)(*(jnp.stack([x, 2 * x]) for x in (f, w, d_out)))
        twice = jax.grad(lambda f, w: sum(jnp.sum(x**2) for x in run(f, w, d_out)), argnums=(0, 1))(f, w)
        single = run(*(x.astype(jnp.float32) for x in (f, w, d_out)))
        return [*mapped, *twice], single, run(*(x.astype(jnp.bfloat16) for x in (f, w, d_out)))

    with mock.patch.object(depthwise, "BLOCK", 2):
        ours = jax.jit(lambda: everything("shifts"))()
    theirs = jax.jit(lambda: everything("xla"))()
    for actual, expected, tolerance in zip(ours, theirs, (1e-12, 1e-5, 2e-2), strict=True):
        for x, y in zip(actual, expected, strict=True):
            assert x.dtype == y.dtype
            assert_close(x.astype(float), y.astype(float), tolerance)


@every_implementation
def test_convolution_and_gradients_are_the_loops_eagerly(kind, implementation):
    windows = (Window(2, 1, 1, 0, 2), Window(3, 2, 0, 1))
    with mock.patch.object(chunks, "CHUNK_BYTES", 1_000):
        check_against_loops(kind, implementation, ((5, 4, 6, 2), 3, windows), compiled=False)


@pytest.mark.parametrize(("kind", "implementation"), [("dense", "rows"), ("depthwise", "shifts")])
def test_products_are_what_runs_on_a_cpu(kind, implementation):
    windows = (Window(3, 1, 1, 1), Window(2, 2, 1, 0))
    arrays = arrays_of(kind, (4, 6, 7, 2), 3, windows)
    cpu = jax.devices("cpu")[0]
    for function in (jax.jit, lambda run: run):
        default, named = (
            function(value_and_gradients(KINDS[kind][0], windows, name))(*jax.device_put(arrays, cpu))
            for name in (None, implementation)
        )
        for actual, expected in zip(default, named, strict=True):
            np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("batch", [1, 5, 7])
@pytest.mark.parametrize(
    ("windows", "shape"),
    [((Window(3),) * 2, (12, 9)), ((Window(3, 2, 1, 1),) * 2, (7, 7)), ((Window(5, 1, 2, 1),) * 2, (6, 5))],
    ids=["split", "strided", "wide"],
)
@every_kind
def test_batch_that_does_not_divide_into_chunks_changes_nothing(kind, windows, shape, batch):
    function, _ = KINDS[kind]
    arrays = arrays_of(kind, (batch, *shape, 2), 2, windows)
    with mock.patch.object(chunks, "CHUNK_BYTES", 12_000):
        chunked = jax.jit(value_and_gradients(function, windows, None))(*arrays)
    whole = jax.jit(value_and_gradients(function, windows, "xla"))(*arrays)
    for actual, expected in zip(chunked, whole, strict=True):
        assert_close(actual, expected)


@pytest.mark.parametrize(
    ("shapes", "stride", "chosen"),
    [
        (((16, 12, 12, 64), (7, 7, 64, 64)), 1, "fourier"),
        (((16, 12, 12, 64), (7, 7, 64, 64)), 2, "rows"),
        (((1, 12, 12, 64), (7, 7, 64, 64)), 1, "rows"),
        (((16, 12, 12, 8), (3, 3, 8, 8)), 1, "rows"),
    ],
)
def test_large_filters_of_many_channels_go_by_frequencies_on_a_cpu(shapes, stride, chosen):
    f, w = (random(*shape, seed=i).astype(jnp.float32) for i, shape in enumerate(shapes))
    k = shapes[1][0]
    windows = (Window(k, stride, k // 2, k // 2),) * 2
    cpu = jax.devices("cpu")[0]
    default, *named = (conv(*jax.device_put((f, w), cpu), windows, name) for name in (None, "rows", "fourier"))
    same = [bool(np.all(default == out)) for out in named]
    assert same == [chosen == "rows", chosen == "fourier"]


@pytest.mark.parametrize(("channels", "pays"), [(512, True), (1536, False)])
def test_frequencies_are_not_chosen_where_their_filter_would_not_fit_in_memory(channels, pays):
    windows = (Window(7, low=3, high=3),) * 2
    assert fourier_pays((64, 28, 28, channels), (7, 7, channels, channels), windows) == pays


@pytest.mark.parametrize("implementation", ["rows", "fourier", "xla", None])
def test_float32_is_close_to_float64(implementation):
    windows = (Window(3, 1, 1, 1),) * 2
    f, w, _ = arrays_of("dense", (3, 9, 8, 4), 5, windows)
    out = conv(f.astype(jnp.float32), w.astype(jnp.float32), windows, implementation)
    assert out.dtype == jnp.float32
    assert_close(out, conv(f, w, windows, implementation), 1e-5)


@every_implementation
def test_bfloat16_is_close_to_float32(kind, implementation):
    windows = (Window(3, 1, 1, 1),) * 2
    arrays = [a.astype(jnp.bfloat16) for a in arrays_of(kind, (4, 8, 8, 4), 6, windows)]

    run = jax.jit(value_and_gradients(KINDS[kind][0], windows, implementation))
    half = run(*arrays)
    single = run(*[a.astype(jnp.float32) for a in arrays])
    for actual, expected in zip(half, single, strict=True):
        assert actual.dtype == jnp.bfloat16
        assert_close(actual, expected, 0.01)


@pytest.mark.parametrize("along", ["rows", "columns"])
@pytest.mark.parametrize(("kind", "implementation"), [case for case in IMPLEMENTATIONS if case[1] != "xla"])
def test_bfloat16_sums_are_kept_in_float32(kind, implementation, along):
    # In bfloat16 adding one to 256 changes nothing: a sum kept in it would stop there. Eagerly, because a compiler
    # may keep what it fuses in float32 anyway.
    windows = (Window(3),) * 2
    taps = jnp.zeros([3, 3]).at[0].set(jnp.array([256.0, 1, 1]))
    taps = (taps if along == "columns" else taps.T).astype(jnp.bfloat16)[:, :, None]
    f, d_out = jnp.ones([4, 9, 9, 1], jnp.bfloat16), jnp.ones([4, 7, 7, 1], jnp.bfloat16)
    w = taps[..., None] if kind == "dense" else taps
    run = value_and_gradients(KINDS[kind][0], windows, implementation)
    with mock.patch.object(chunks, "CHUNK_BYTES", 1):
        out, d_f, _ = run(f, w, d_out)
        _, _, d_w = run(f.at[0].set(256), w, jnp.zeros_like(d_out).at[:, 3, 3].set(1))
    assert np.all(out == 258)
    assert np.all(d_f[:, 2:-2, 2:-2] == 258)
    assert np.all(d_w == 260)


@pytest.mark.parametrize("batched", [(0, None), (None, 0), (0, 0)], ids=["images", "filters", "both"])
@every_implementation
def test_vmap_is_the_loop(kind, implementation, batched):
    windows = (Window(3, 2, 1, 0), Window(2, 1, 0, 2))
    function = KINDS[kind][0]
    f, w, d_out = arrays_of(kind, (2, 6, 5, 2), 3, windows)
    many = [f if axis is None else jnp.stack([f, 2 * f, f[::-1]]) for f, axis in zip((f, w), batched, strict=True)]

    run = value_and_gradients(function, windows, implementation)
    mapped = jax.jit(jax.vmap(run, in_axes=(*batched, None)))(*many, d_out)
    one = jax.jit(run)
    for i in range(3):
        alone = one(*[a if axis is None else a[i] for a, axis in zip(many, batched, strict=True)], d_out)
        for actual, expected in zip(mapped, alone, strict=True):
            assert_close(actual[i], expected)


@every_kind
def test_batch_sharded_over_an_explicit_mesh_is_not_scanned(kind):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Explicit,))
    windows = (Window(3, 1, 1, 1),) * 2
    f, w, d_out = arrays_of(kind, (4, 6, 5, 2), 3, windows)
    run = value_and_gradients(KINDS[kind][0], windows, None)
    with mock.patch.object(chunks, "CHUNK_BYTES", 1):
        expected = jax.jit(run)(f, w, d_out)
        assert primitives(run, f, w, d_out)["scan"] > 0
        with jax.set_mesh(mesh):
            batch, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
            sharded = [jax.device_put(f, batch), jax.device_put(w, whole), jax.device_put(d_out, batch)]
            assert primitives(run, *sharded)["scan"] == 0
            for actual, alone in zip(jax.jit(run)(*sharded), expected, strict=True):
                assert_close(actual, alone)


@every_implementation
def test_gradient_of_a_gradient_is_that_of_the_plain_convolution(kind, implementation):
    windows = (Window(3, 1, 1, 0), Window(2, 2, 1, 1, 2))
    f, w, _ = arrays_of(kind, (3, 5, 6, 2), 2, windows)

    def plain(f, w):
        return lax.conv_general_dilated(
            f,
            w if kind == "dense" else w[:, :, None],
            [window.stride for window in windows],
            [window[2:4] for window in windows],
            rhs_dilation=[window.dilation for window in windows],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=1 if kind == "dense" else 2,
        )

    def second(function):
        gradients = jax.grad(lambda f, w: jnp.sum(jnp.sin(function(f, w))), argnums=(0, 1))
        squares = jax.grad(lambda f, w: sum(jnp.sum(g**2) for g in gradients(f, w)), argnums=(0, 1))
        return jax.jit(squares)(f, w)

    with mock.patch.object(chunks, "CHUNK_BYTES", 1_000):
        ours = second(lambda f, w: KINDS[kind][0](f, w, windows, implementation))
    for actual, expected in zip(ours, second(plain), strict=True):
        assert_close(actual, expected)


def test_gradient_of_the_images_is_computed_only_where_it_is_asked_for():
    windows = (Window(3),) * 2
    f, w, _ = arrays_of("dense", (2, 9, 9, 2), 2, windows)

    def loss(f, w):
        return jnp.sum(conv(f, w, windows, "rows") ** 2)

    assert primitives(loss, f, w)["dot_general"] == 1
    assert primitives(jax.grad(loss, argnums=1), f, w)["dot_general"] == 2
    assert primitives(jax.grad(loss, argnums=(0, 1)), f, w)["dot_general"] == 3


@every_kind
def test_gradient_past_an_unused_convolution_is_zero(kind):
    windows = (Window(2),) * 2
    function = KINDS[kind][0]
    f, w, _ = arrays_of(kind, (2, 4, 4, 2), 2, windows)

    def loss(f, w):
        return jnp.sum(lax.stop_gradient(function(f, w, windows))) + jnp.sum(f) + 2 * jnp.sum(w)

    d_f, d_w = jax.grad(loss, argnums=(0, 1))(f, w)
    assert np.all(d_f == 1)
    assert np.all(d_w == 2)


@every_kind
def test_unknown_implementation_is_refused_with_the_known_ones(kind):
    windows = (Window(2),) * 2
    f, w, _ = arrays_of(kind, (1, 4, 4, 1), 1, windows)
    own = {"dense": '"rows", "fourier"', "depthwise": '"shifts"'}[kind]
    with assert_refused("implementation must be None", own, '"xla"', "'cudnn'"):
        KINDS[kind][0](f, w, windows, "cudnn")


@every_kind
def test_arrays_of_other_ranks_and_types_are_refused(kind):
    windows = (Window(2),) * 2
    function = KINDS[kind][0]
    f, w, _ = arrays_of(kind, (1, 4, 4, 1), 1, windows)
    with assert_refused("images and filter must have 4 and", str(f[0].shape)):
        function(f[0], w, windows)
    with assert_refused("one floating dtype", "float64", "float32"):
        function(f, w.astype(jnp.float32), windows)
    with assert_refused("one floating dtype", "int32"):
        function(f.astype(jnp.int32), w.astype(jnp.int32), windows)


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("batch", [1, 2, 3, 5, 7, 12, 13])
def test_scan_over_chunks_sees_every_image_once(batch, chunk):
    sizes = []

    def step(total, images):
        x, y = images
        sizes.append(len(x))
        return total + jnp.sum(x * y), {"double": 2 * x, "product": x * y}

    x, y = random(batch, 3), random(batch, 3, seed=1)
    total, outputs = scan_chunks(step, jnp.zeros(()), (x, y), chunk)
    assert max(sizes) <= chunk
    np.testing.assert_allclose(total, jnp.sum(x * y), rtol=1e-12)
    np.testing.assert_array_equal(outputs["double"], 2 * x)
    np.testing.assert_array_equal(outputs["product"], x * y)


@every_implementation
@pytest.mark.default("dense-rows", "depthwise-shifts")
def test_forward_mode_is_the_transpose_of_reverse(kind, implementation):
    """Of both arrays and of either alone, in chunks, mapped over tangents."""
    windows = (Window(3, 1, 1, 0), Window(2, 2, 1, 1, 2))
    *arrays, d_out = arrays_of(kind, (3, 5, 6, 2), 2, windows)
    dots = [random(4, *array.shape, seed=5) for array in arrays]
    with mock.patch.object(chunks, "CHUNK_BYTES", 1_000):
        for moving in ((0, 1), (0,), (1,)):

            def of_moving(*moved, moving=moving):
                merged = dict(enumerate(arrays)) | dict(zip(moving, moved, strict=True))
                return KINDS[kind][0](merged[0], merged[1], windows, implementation)

            at, along = [arrays[i] for i in moving], [dots[i] for i in moving]
            tangents = jax.jit(jax.vmap(lambda *along: jax.jvp(of_moving, tuple(at), along)[1]))(*along)  # noqa: B023
            gradients = jax.jit(jax.vjp(of_moving, *at)[1])(d_out)
            products = [jnp.tensordot(d, g, g.ndim) for d, g in zip(along, gradients, strict=True)]
            assert_close(jnp.tensordot(tangents, d_out, d_out.ndim), sum(products))
