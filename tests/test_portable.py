"""The portable way through the kernels, and kernels of a symbolic batch."""

import threading

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close, random, response_weights
from networks import random_network, random_network_of

from attgconv_jax import cyclic, dihedral, maximum, response_attentive_group_conv, trivial
from attgconv_jax.attention import OPERATORS
from attgconv_jax.kernels import by_images, channelwise_conv, conv, depthwise_conv, portable
from attgconv_jax.kernels.portability import is_portable
from attgconv_jax.kernels.taps import Window
from attgconv_jax.lie import rotations, similarities

WINDOWS = (Window(3, low=1, high=1), Window(3, low=1, high=1))


def chooses_platform(function, *arguments):
    return "platform_index" in str(jax.make_jaxpr(function)(*arguments))


@pytest.mark.parametrize("first", ["portable", "ordinary"])
def test_what_was_traced_outside_is_not_taken_inside_nor_the_reverse(first):
    f, w = random(2, 5, 5, 3), random(3, 3, 3, 4)
    function = jax.jit(lambda f, w: conv(f, w, WINDOWS))
    for way in [first, "portable", "ordinary", "portable"]:
        if way == "portable":
            with portable():
                assert is_portable() and not chooses_platform(function, f, w)
                inside = function(f, w)
        else:
            assert not is_portable() and chooses_platform(function, f, w)
            outside = function(f, w)
    assert_close(inside, outside)


def test_other_threads_and_failures_leave_the_ordinary_way():
    found = []
    with portable(), portable():
        thread = threading.Thread(target=lambda: found.append(is_portable()))
        thread.start()
        thread.join()
        found.append(is_portable())
    with pytest.raises(ZeroDivisionError), portable():
        _ = 1 / 0
    assert found == [False, True] and not is_portable()


def _kernels():
    f, five = random(2, 5, 5, 3), random(2, 5, 5, 2, 3)
    w, v = random(3, 3, 2, 3, 2), random(3, 3, 2, 2, 3)
    response = response_weights(3, 3, 2, 1)
    image = random(2, 7, 7, 1, 3)
    return {
        "conv": (lambda f: conv(f, w[:, :, 0], WINDOWS), f),
        "depthwise": (lambda f: depthwise_conv(f, w[:, :, 0, :, 0], WINDOWS), f),
        "channelwise": (lambda f: channelwise_conv(f, v, WINDOWS), five),
        "by images": (lambda f: by_images(jnp.sin, 10, f), f),
        "maximum": (lambda f: maximum(f, 1), f),
        "response": (
            lambda f: response_attentive_group_conv(f, random(3, 3, 1, 3, 2), *response, trivial(), padding=1),
            image,
        ),
    }


@pytest.mark.parametrize("name", _kernels())
def test_every_kernel_is_plain_inside_and_gives_the_same(name):
    function, f = _kernels()[name]
    wanted = jax.jit(function)(f)
    with portable():
        text = str(jax.make_jaxpr(function)(f))
        assert_close(jax.jit(function)(f), wanted)
    # The variadic reduce has two operands; `while` and `scan` are loops over images.
    assert not any(f"{word}[" in text for word in ("platform_index", "scan", "while", "reduce", "cond"))


def test_convolution_of_a_symbolic_batch_is_the_plain_one():
    (batch,) = jax.export.symbolic_shape("batch")
    f, w = jax.ShapeDtypeStruct((batch, 5, 5, 3), jnp.float64), random(3, 3, 3, 2)
    text = str(jax.make_jaxpr(lambda f: conv(f, w, WINDOWS))(f))
    assert "conv_general_dilated[" in text and "scan[" not in text and "platform_index" not in text


@pytest.mark.parametrize(
    "function, shape",
    [
        (lambda f: conv(f, random(3, 3, 3, 2), WINDOWS, "rows"), (5, 5, 3)),
        (lambda f: conv(f, random(1, 1, 3, 2), (Window(1), Window(1)), "rows"), (5, 5, 3)),
        (lambda f: conv(f, random(3, 3, 3, 2), WINDOWS, "fourier"), (5, 5, 3)),
        (lambda f: depthwise_conv(f, random(3, 3, 3), WINDOWS, "shifts"), (5, 5, 3)),
    ],
    ids=["rows", "1x1", "fourier", "shifts"],
)
def test_implementations_for_cpus_take_a_symbolic_batch(function, shape):
    (batch,) = jax.export.symbolic_shape("batch")
    exported = jax.export.export(jax.jit(function))(jax.ShapeDtypeStruct((batch, *shape), jnp.float64))
    f = random(3, *shape)
    assert_close(exported.call(f), function(f))


SMALL = {"hidden_features": 8}
LIE = dict(features=(2, 4), kernel_size=3, head_features=4, network_options=SMALL)
CASES = {
    # Factors of an operator alone are less of the same.
    **{
        f"rot_mnist {name}": ("rot_mnist", cyclic(4), name, dict(features=8))
        for name in OPERATORS
        if not name.endswith(("_channel", "_spatial"))
    },
    **{f"rot_mnist {g}": ("rot_mnist", g, None, dict(features=2)) for g in (trivial(), dihedral(4), cyclic(8))},
    "all_cnn": ("all_cnn", cyclic(4), "input", dict(features=2)),
    "resnet 18": ("resnet", dihedral(4), "sge", dict(features=2, depth=18)),
    "resnet 50": ("resnet", cyclic(4), "sk", dict(features=4, depth=50)),
    **{
        f"lie_resnet {kind}": ("lie_resnet", rotations(4), None, dict(kind=kind, **LIE))
        for kind in ("nonseparable", "gseparable", "separable", "dseparable", "dgseparable")
    },
    "lie_resnet paper": ("lie_resnet", rotations(8), "input", dict(coordinates="paper", **LIE)),
    "lie_resnet scales": (
        "lie_resnet",
        similarities(4, 2, 1.74),
        "non_local",
        dict(kind="separable+2d", **LIE | {"kernel_size": 5}),
    ),
    "lie_all_cnn": ("lie_all_cnn", rotations(4), "self", dict(features=2, network_options=SMALL)),
}


@pytest.mark.default("rot_mnist non_local", "resnet 18", "lie_resnet dseparable")
@pytest.mark.parametrize("case", CASES)
def test_networks_take_a_symbolic_batch_on_every_platform(case):
    name, group, attention, settings = CASES[case]
    network = random_network_of(name, group, attention, **settings)
    size = {"rot_mnist": 28, "lie_resnet": 28, "resnet": 33}.get(name, 32)
    channels = network.settings["in_features"]
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, size, size, 1, channels), jnp.float64)
    exported = jax.export.export(jax.jit(network.__call__), platforms=("cpu", "cuda", "tpu"))(images)
    assert str(exported.out_avals[0]) == f"float64[batch,{network.settings['classes']}]"


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["non_local", "self", "response"])
def test_values_of_a_symbolic_batch_are_those_of_a_number(attention):
    network = random_network(cyclic(4), attention, features=2)
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, 28, 28, 1, 1), jnp.float64)
    exported = jax.export.export(jax.jit(network.__call__))(images)
    f = np.asarray(random(3, 28, 28, 1, 1))
    assert_close(exported.call(f), jax.jit(network.__call__)(f), 1e-9)
