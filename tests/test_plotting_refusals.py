"""What figures and `equivariance_error` say of networks that they cannot draw or measure: one line each."""

import functools
import sys

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from helpers import assert_refused, random
from test_plotting_any import IMAGES, P4, lifting, readme

from attgconv_jax import cyclic, dihedral, equivariance_error, plotting
from attgconv_jax.lie import rotations
from attgconv_jax.nn import Dropout, GroupConv, GroupPool, LieConv


class Called(nnx.Module):
    """A lifting, and a function of it and the images."""

    def __init__(self, function, **modules):
        self.lift, self.function = lifting(), function
        for name, module in modules.items():
            setattr(self, name, module)

    def __call__(self, images):
        return self.function(self, images)


class NoMap(nnx.Module):
    def attention_maps(self, f):
        return jnp.mean(f, axis=(-4, -3, -2))

    def __call__(self, f):
        return f


def two_groups():
    second = GroupConv(2, 2, 3, cyclic(2), lifting=True, rngs=nnx.Rngs(0))
    return nnx.Sequential(lifting(), GroupPool(), second)


def lie():
    return LieConv(1, 2, 3, rotations(4), lifting=True, coordinates="paper", rngs=nnx.Rngs(0))


ERRORS = (
    "networks must be a network, its errors [(layer, error), ...] from layer_errors, or a dictionary of either by name"
)
# After a space at the end something follows that is tested elsewhere, or what Flax says.
CASES = {
    "no layer of ours": (
        lambda: plotting.layer_errors(nnx.Sequential(nnx.Conv(1, 2, (3, 3), rngs=nnx.Rngs(0))), IMAGES),
        "network must have group convolutions or attention of attgconv_jax.nn among its modules, or modules with a "
        "method attention_maps; found Conv, Sequential",
    ),
    "no module": (
        lambda: plotting.attention_figure(lambda f: f, IMAGES, P4),
        "network must be an nnx.Module, got function",
    ),
    "no attention": (
        lambda: plotting.attention_figure(nnx.Sequential(lifting()), IMAGES),
        "the network has no attention: none of its layers, layers.0, is such as AttentiveGroupConv",
    ),
    "a layer without attention": (
        lambda: plotting.attention_figure(readme(), IMAGES, layer=0),
        "layer must be one of those with attention, 1 (layers.2); got 0",
    ),
    "no such layer": (
        lambda: plotting.turning_animation(readme(), IMAGES[0], "x.gif", layer="layers.3"),
        "layer must be one of those with attention, 1 (layers.2); got 'layers.3'",
    ),
    "attention on inputs": (
        lambda: plotting.response_figure(readme(), IMAGES[0]),
        "the network attends to inputs, not to responses: its attention is AttentiveGroupConv",
    ),
    "attention that is no map": (
        lambda: plotting.attention_figure(nnx.Sequential(lifting(), NoMap()), IMAGES),
        "attention_maps of layers.1 must be [batch, x, y, h, c] of 8 images, got (8, 2)",
    ),
    "several groups": (
        lambda: plotting.layer_errors(two_groups(), IMAGES),
        "layer_errors needs to know how the group acts on the network's feature maps: group must be given: layers have "
        "cyclic(4) and cyclic(2)",
    ),
    "a map on another group": (
        lambda: plotting.layer_errors(two_groups(), IMAGES, P4),
        "layers.2 must give [batch, x, y, h, c] with h = 1 or, for cyclic(4), 4, got shape (2, 3, 3, 2, 2): it cannot "
        "be told how the group acts on it",
    ),
    "another group": (
        lambda: plotting.equivariance_figure(readme(), IMAGES, dihedral(4)),
        "layer_errors needs to know how the group acts on the network's feature maps: group must be cyclic(4), got "
        "dihedral(4)",
    ),
    "no finite group": (
        lambda: plotting.layer_errors(lie(), IMAGES),
        "layer_errors needs to know how the group acts on the network's feature maps: rotations(4) acts there as no "
        "finite group",
    ),
    "a layer inside jax.jit": (
        lambda: plotting.layer_errors(Called(lambda self, x: jax.jit(self.lift.__call__)(x)), IMAGES),
        "network must call its layers where what leaves them can be recorded: in Python, or in nnx.jit, nnx.remat, "
        "nnx.scan or nnx.vmap, but not in jax.jit or nnx.cond; got TraceContextError: ",
    ),
    "no layer called": (
        lambda: plotting.layer_errors(Called(lambda self, x: x), IMAGES),
        "network must call its layers, lift; it called none",
    ),
    "no such filter": (
        lambda: plotting.layer_filters_figure(readme(), path="layers.1"),
        "path must be that of a group convolution, one of layers.0, layers.2; got 'layers.1'",
    ),
    "no filter": (
        lambda: plotting.layer_filters_figure(lie()),
        "layer must be a group convolution, with a filter `w` and a `group`, got LieConv; or a network that has one",
    ),
    "a bank without its group": (
        lambda: plotting.filter_bank_figure(random(3, 3, 1, 1, 4, 1)),
        "group must be given of a bank that is an array; a network has convolutions by path, and their group",
    ),
    "a bank of another group": (
        lambda: plotting.filter_bank_figure(random(3, 3, 1, 1, 4, 1), cyclic(2)),
        "bank must be [k, k, h_in, c_in, h, c_out] with h = 2 for cyclic(2), got (3, 3, 1, 1, 4, 1)",
    ),
    "a filter for a bank": (
        lambda: plotting.filter_bank_figure(random(3, 3, 1, 1), cyclic(4)),
        "bank must be [k, k, h_in, c_in, h, c_out] with h = 4 for cyclic(4), got (3, 3, 1, 1)",
    ),
    "a class for a network": (
        lambda: plotting.attention_figure(Called, IMAGES),
        "network must be an nnx.Module, got the class Called: make one first",
    ),
    "no images": (
        lambda: plotting.attention_figure(readme(), None),
        "images must be an array [image, x, y, 1, c], got NoneType",
    ),
    "images and network the other way around": (
        lambda: plotting.attention_figure(IMAGES, readme()),
        "images must be an array [image, x, y, 1, c], got Sequential",
    ),
    "bytes": (
        lambda: plotting.attention_figure(readme(), IMAGES.astype(jnp.uint8)),
        "images must be floating, got uint8; cast and standardise them",
    ),
    "images that are not finite": (
        lambda: plotting.layer_errors(readme(), IMAGES * jnp.nan),
        "images must be finite, got NaN or infinity",
    ),
    "a list of images": (
        lambda: plotting.layer_errors(readme(), IMAGES.tolist()),
        "images must be an array [..., x, y, 1, c], got list",
    ),
    "a group by its name": (
        lambda: plotting.attention_figure(readme(), IMAGES, "p4"),
        "group must be a finite Group such as attgconv_jax.cyclic(4), got 'p4'; what Lie groups have is in ",
    ),
    "a Lie group": (
        lambda: plotting.filter_bank_figure(random(3, 3, 1, 1, 4, 1), rotations(4)),
        "group must be a finite Group such as attgconv_jax.cyclic(4), got rotations(4); what Lie groups have is in ",
    ),
    "a word for turned_back": (
        lambda: plotting.attention_figure(readme(), IMAGES, turned_back="yes"),
        "turned_back must be True or False, got 'yes'",
    ),
    "numbers for errors": (lambda: plotting.equivariance_figure([1e-7, 1e-6]), f"{ERRORS}, got 1e-07"),
    "errors without their networks": (lambda: plotting.equivariance_figure({"layer 1": 1e-7}), f"{ERRORS}, got 1e-07"),
    "networks in a list": (lambda: plotting.equivariance_figure([readme()], IMAGES), f"{ERRORS}, got Sequential"),
    "a class for errors": (lambda: plotting.equivariance_figure(Called, IMAGES), f"{ERRORS}, got Called"),
    "a path for errors": (lambda: plotting.equivariance_figure("runs/mine"), f"{ERRORS}, got 'runs/mine'"),
    "a list for a bank": (
        lambda: plotting.filter_bank_figure([[0.0]], cyclic(4)),
        "bank must be an array [k, k, h_in, c_in, h, c_out], got list",
    ),
    "a bank of complex numbers": (
        lambda: plotting.filter_bank_figure(1j * random(3, 3, 1, 1, 4, 1), cyclic(4)),
        "bank must hold real numbers, got complex128",
    ),
    "a bank on no group": (
        lambda: plotting.filter_bank_figure(random(3, 3, 2, 1, 4, 1), cyclic(4)),
        "bank must be of square filters on an image or on cyclic(4), h_in = 1 or 4, and not empty, got "
        "(3, 3, 2, 1, 4, 1)",
    ),
    "a speed in words": (
        lambda: plotting.turning_animation(readme(), IMAGES[0], "x.gif", frames_per_second="fast"),
        "frames_per_second must be in (0, 50], got 'fast'",
    ),
    "a network under another group": (
        lambda: plotting.filter_bank_figure(readme(), cyclic(2)),
        "group must be cyclic(4), that of the convolution, or left out, got cyclic(2)",
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.default(*CASES)
def test_what_cannot_be_drawn_is_refused_in_one_line(case):
    call, message = CASES[case]
    with assert_refused() as caught:
        call()
    raised = str(caught.value)
    assert raised.startswith(message) if message.endswith(" ") else raised == message
    assert "\n" not in raised


def test_an_error_of_the_networks_own_stays_as_it_is():
    with pytest.raises(TypeError, match="cannot reshape"):
        plotting.layer_errors(Called(lambda self, x: self.lift(x).reshape(2, 7)), IMAGES)


def test_without_matplotlib_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"plotting needs matplotlib: install attgconv_jax\[plotting\]"):
        plotting.layer_filters_figure(readme())


IN_TRAINING = {
    "BatchNorm": lambda: nnx.BatchNorm(2, rngs=nnx.Rngs(0)),
    "Dropout": lambda: nnx.Dropout(0.5, rngs=nnx.Rngs(0)),
    "our own Dropout": lambda: Dropout(0.5, rngs=nnx.Rngs(0)),
}


def called(g, f):
    return g(f)


def after(f, g):
    return g(f)


SEEN = {
    "itself": lambda network: network,
    "nnx.jit": nnx.jit,
    "jax.jit": jax.jit,
    "partial": functools.partial,
    "method": lambda network: network.__call__,
    "an argument of partial": lambda network: functools.partial(called, network),
    "a keyword of partial": lambda network: functools.partial(after, g=network),
    "a function around it": lambda network: lambda x: 2 * network(x),
}


@pytest.mark.parametrize("kind", IN_TRAINING)
@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.default(*[f"{seen}-{kind}" for seen, kind in zip(SEEN, [*IN_TRAINING] * 3, strict=False)])
def test_the_error_of_a_network_in_training_mode_is_not_measured(kind, seen):
    network = nnx.Sequential(lifting(), IN_TRAINING[kind]())
    with assert_refused() as caught:
        equivariance_error(SEEN[seen](network), IMAGES, P4)
    assert str(caught.value) == (
        f"function must be in evaluation mode, but layers.1 ({kind.split()[-1]}) is in training mode, where batch norm "
        "and dropout make it another function at every call: call its eval() first"
    )
    network.eval()
    assert equivariance_error(SEEN[seen](network), IMAGES, P4) < 1e-6


def test_modules_that_training_does_not_change_are_measured_in_training_mode():
    network = nnx.Sequential(lifting(), nnx.Dropout(0.0, rngs=nnx.Rngs(0)), Dropout(0.0, rngs=nnx.Rngs(0)))
    assert equivariance_error(nnx.jit(network), IMAGES, P4) < 1e-12
    layer = LieConv(1, 2, 3, rotations(4), lifting=True, rngs=nnx.Rngs(0))
    assert not layer.deterministic
    assert equivariance_error(nnx.jit(layer), IMAGES, P4) < 1e-6
