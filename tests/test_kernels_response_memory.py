"""What response attention holds in tiles: never the responses of an image, nothing for taps that meet only zeros."""

import functools
import math

import jax
import jax.extend
import jax.numpy as jnp
import pytest
from compilation import optimised
from test_kernels_response import problem, value_and_gradients

from attgconv_jax.kernels import ChannelBank, response_attention
from attgconv_jax.kernels.taps import Window


def largest_array(function, *arguments):
    """Elements of the largest array in the function's program, inner programs included."""

    def sizes(jaxpr):
        for equation in jaxpr.eqns:
            yield from (math.prod(v.aval.shape) for v in equation.outvars)
            for inner in jax.extend.core.jaxprs_in_params(equation.params):
                yield from sizes(inner)

    return max(sizes(jax.make_jaxpr(function)(*arguments).jaxpr))


def cifar_layers(order, n):
    """Size, taps, channels in and out, input group elements and hidden channels of c1 to c9 at 32x32 pixels."""
    yield 32, 3, 3, n, 1, 3
    yield from ((32, 3, n, n, order, n // 16) for _ in range(2))
    yield 16, 3, n, 2 * n, order, n // 16
    yield from ((16, 3, 2 * n, 2 * n, order, n // 8) for _ in range(2))
    yield 8, 3, 2 * n, 2 * n, order, n // 8
    yield 8, 1, 2 * n, 2 * n, order, n // 8
    yield 8, 1, 2 * n, 10, order, n // 8


@pytest.mark.parametrize(("order", "n"), [(4, 48), (8, 32)], ids=["p4", "p4m"])
@pytest.mark.parametrize("implementation", ["tiles", "reference"])
@pytest.mark.default("tiles-p4")
def test_no_array_is_as_large_as_the_responses_of_one_image(implementation, order, n):
    layers = dict(enumerate(cifar_layers(order, n), 1))
    for i in sorted({1, 2, 4, 5, 7, 8, 9} if implementation == "tiles" else {2, 5, 8}):
        x, k, c, o, h, hidden = layers[i]
        m = order * o
        shapes = (128, x, x, h, c), (k, k, h, c, m), ((h, m, hidden, c), (h, m, c, hidden)), (7, 7, 2, h, m)
        f, bank, channel, spatial = jax.tree.map(
            lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32), shapes, is_leaf=lambda s: isinstance(s[0], int)
        )
        layer = functools.partial(
            response_attention, windows=(Window(k, 1, k // 2, k // 2),) * 2, implementation=implementation
        )

        def with_gradients(*arrays, layer=layer):
            out, pull_back = jax.vjp(layer, *arrays)
            return pull_back(out)

        largest = largest_array(with_gradients, f, bank, ChannelBank(*channel), spatial)
        responses = h * c * m * x * x
        if i in (1, 9):
            # Here the batch's own input and output are larger than one image's responses.
            assert responses < 128 * x * x * max(h * c, m)
            assert largest <= 2 * 128 * x * x * max(h * c, m), i
        elif implementation == "tiles":
            assert largest < responses, i
        else:
            assert largest >= 128 * responses, i


def test_no_array_is_as_large_as_the_responses_in_the_rot_mnist_network_either():
    f, *weights = problem((128, 26, 26), c=10, m=40, h=4, hidden=5, k_a=7)
    run = functools.partial(value_and_gradients, "tiles", windows=(Window(3),) * 2, compiled=lambda function: function)
    # 47 million numbers a map of the batch; the responses are ten times as many.
    assert largest_array(run, (f, *weights)) < 128 * 4 * 10 * 40 * 24 * 24 / 9


@pytest.mark.parametrize(
    ("factors", "maps", "statistics"), [("channel", 0, 3), ("spatial", 4, 0), ("channel+spatial", 4, 3)]
)
def test_what_is_left_for_the_gradient_is_what_the_docstring_says(factors, maps, statistics):
    batch, x, h, c, m = 8, 20, 2, 3, 4
    arrays = problem((batch, x, x), c=c, m=m, h=h, factors=factors)
    layer = functools.partial(response_attention, windows=(Window(3),) * 2)
    left = jax.tree.leaves(jax.eval_shape(lambda *arrays: jax.vjp(layer, *arrays)[1], *arrays))
    inputs = sum(array.size for array in jax.tree.leaves(arrays))
    assert sum(array.size for array in left) == inputs + batch * h * m * (maps * (x - 2) ** 2 + statistics * c)


def test_taps_beyond_the_responses_take_no_memory():
    f, bank, _, spatial = problem((2, 9, 9), k_a=7)

    def temporaries(dilation):
        def loss(f):
            return jnp.sum(response_attention(f, bank, None, spatial, (Window(3),) * 2, dilation=dilation))

        return optimised(jax.grad(loss)).lower(f).compile().memory_analysis().temp_size_in_bytes

    assert temporaries(30) <= temporaries(1)
