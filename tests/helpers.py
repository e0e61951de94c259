"""What several test files need: random arrays, errors, refusals, jaxprs, and the reference's axes in ours."""

import collections
import contextlib
import re

import jax
import jax.extend
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from compilation import optimised

from attgconv_jax import ChannelWeights, ResponseChannelWeights, cyclic, dihedral, trivial

EXACT_GROUPS = [trivial(), cyclic(2), cyclic(4), dihedral(1), dihedral(2), dihedral(4)]
INTERPOLATED_GROUPS = [cyclic(8), dihedral(3)]

# Of the reference's layers, by its files' names: factors, stride, padding, size.
LAYER_SETTINGS = ("none_s1p0_9", "ch_s1p0_9", "sp_s1p0_9", "chsp_s1p0_9", "chsp_s1p1_8", "chsp_s2p1_9")


def random(*shape, seed=0):
    """Standard normal numbers in float64, the same for the same shape and seed."""
    return jnp.asarray(np.random.default_rng([seed, *shape]).standard_normal(shape))


def channel_weights(c, h, hidden=2, seed=0):
    return ChannelWeights(random(hidden, c, h, seed=seed + 100), random(c, hidden, h, seed=seed + 200))


def response_weights(k, c, o, h, attention="channel+spatial", hidden=2, seed=0):
    """Weights of response attention: of its channel and spatial factors, None where the name leaves one out."""
    channel = spatial = None
    if "channel" in attention:
        shapes = (o, hidden, c, h), (o, c, hidden, h)
        channel = ResponseChannelWeights(*(random(*shape, seed=seed + 300 + i) for i, shape in enumerate(shapes)))
    if "spatial" in attention:
        spatial = random(k, k, h, 2, o, seed=seed + 400)
    return channel, spatial


def relative_error(actual, expected):
    """The largest difference in units of the largest expected number."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    return np.max(np.abs(actual - expected)) / max(np.max(np.abs(expected)), np.finfo(np.float64).tiny)


def assert_close(actual, expected, tolerance=1e-12):
    error = relative_error(actual, expected)
    assert error <= tolerance, f"relative error {error}"


@contextlib.contextmanager
def without_annotations():
    """Inside, the annotations' run-time checks are off: users do not have them."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@contextlib.contextmanager
def assert_refused(*parts):
    """Asserts a `ValueError` whose message holds every part; the annotations' own checks would come first."""
    with without_annotations(), pytest.raises(ValueError) as caught:
        yield caught
    for part in parts:
        assert re.search(re.escape(part), str(caught.value)), f"{part!r} is not in: {caught.value}"


def primitives(function, *args):
    """How often each primitive stands in the function's jaxpr, inner jaxprs included."""
    counts = collections.Counter()

    def visit(jaxpr):
        for equation in jaxpr.eqns:
            counts[equation.primitive.name] += 1
            for inner in jax.extend.core.jaxprs_in_params(equation.params):
                visit(inner)

    visit(jax.make_jaxpr(function)(*args).jaxpr)
    return counts


def maps_to_ours(array):
    """`[b, c, (h,) x, y] -> [b, x, y, h, c]`."""
    array = array if array.ndim == 5 else array[:, :, None]
    return array.transpose(0, 3, 4, 2, 1)


def maps_to_reference(array, image=False):
    """`[b, x, y, h, c] -> [b, c, h, x, y]`, an image without `h`."""
    array = array.transpose(0, 4, 3, 1, 2)
    return array[:, :, 0] if image else array


def filter_to_ours(array):
    """`[o, c, (h,) k, k] -> [k, k, h, c, o]`."""
    array = array if array.ndim == 5 else array[:, :, None]
    return array.transpose(3, 4, 2, 1, 0)


def channel_to_ours(w1, w2):
    """`[c_out, c_in, (h)] -> [c_out, c_in, h]`."""
    return ChannelWeights(*(w if w.ndim == 3 else w[:, :, None] for w in (w1, w2)))


def group_of(file):
    """The group that a file of the reference's is of."""
    return {"se2": cyclic(4), "e2": dihedral(4)}[file.split("_")[0]]


def eager(function):
    """In the place of `jax.jit`."""
    return function


def check_reference_layer(data, layer, compiled=optimised):
    """Asserts that `layer(input, weights)`, all in the reference's axes, has its output and all its gradients."""

    def run(image, weights, cotangent):
        out, pullback = jax.vjp(layer, image, weights)
        return out, *pullback(cotangent)

    arrays = jax.tree.map(jnp.asarray, (data["input"], data.under("state"), data["cotangent"]))
    out, d_input, d_weights = compiled(run)(*arrays)
    assert_close(out, data["output64"], 1e-10)
    actual, expected = {"input": d_input, **d_weights}, data.under("grad64")
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        assert_close(actual[name], gradient, 1e-10)
