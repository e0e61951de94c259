"""The implementation of convolutions is chosen by name, from the function to the network that is saved."""

import functools
import json

import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest
from flax import nnx
from helpers import assert_refused

from attgconv_jax import cyclic, group_conv
from attgconv_jax.kernels import computing
from attgconv_jax.lie import rotations
from attgconv_jax.models import NETWORKS, load_network, save_network
from attgconv_jax.nn import (
    AttentiveGroupConv,
    GroupConv,
    LieConv,
    ResponseAttentiveGroupConv,
    SelectiveKernelGroupConv,
    SeparableGroupConv,
)

P4, SIZE = cyclic(4), 12
MODULES = {
    "conv": functools.partial(GroupConv, 2, 2, 3, P4),
    "attentive": functools.partial(AttentiveGroupConv, 2, 2, 3, P4, attention="ge"),
    "response": functools.partial(ResponseAttentiveGroupConv, 2, 2, 3, P4, channel=False, attention_kernel_size=3),
    "gseparable": functools.partial(SeparableGroupConv, 2, 2, 3, P4, kind="gseparable"),
    "sk": functools.partial(SelectiveKernelGroupConv, 2, 2, 3, P4, branches=2),
    "Lie": functools.partial(LieConv, 2, 2, 3, rotations(4), kind="nonseparable"),
    "Lie dseparable": functools.partial(LieConv, 2, 2, 3, rotations(4), kind="dseparable"),
}
DENSE = 'implementation must be None or one of "rows", "fourier", "xla", got '
DEPTHWISE = 'implementation must be None or one of "shifts", "xla", got '


def with_nan(h=4, c=2):
    """Two images; the first has a NaN in a corner."""
    f = np.random.default_rng(0).standard_normal((2, SIZE, SIZE, h, c)).astype(np.float32)
    f[0, 0, 0] = np.nan
    return jnp.asarray(f)


def nan_share(y):
    """The share of NaN in the first image; the second must have none."""
    assert not jnp.isnan(y[1]).any()
    return float(jnp.isnan(y[0]).mean())


@pytest.mark.parametrize("implementation", ["rows", "fourier", "xla"])
def test_what_one_pixel_does_far_away(implementation):
    w = np.random.default_rng(1).standard_normal((3, 3, 4, 2, 2)).astype(np.float32)
    conv = functools.partial(group_conv, w=jnp.asarray(w), group=P4, padding=1, implementation=implementation)
    assert nan_share(conv(with_nan())) == pytest.approx(1 if implementation == "fourier" else 4 / SIZE**2)
    f = np.nan_to_num(np.asarray(with_nan()))
    f[0, 0, 0] = 1e5
    exact = group_conv(jnp.asarray(f, jnp.float64), jnp.asarray(w, jnp.float64), P4, padding=1, implementation="xla")
    away, exact = conv(jnp.asarray(f))[0, 3:, 3:], exact[0, 3:, 3:]
    error = jnp.abs(away - exact).max() / jnp.abs(exact).max()
    if implementation == "fourier":
        assert 1e-5 < error < 1e-2
    else:
        assert error < 1e-6


@pytest.mark.default("conv", "Lie dseparable")
@pytest.mark.parametrize("name", MODULES)
def test_a_module_convolves_as_it_is_told(name):
    shares = {}
    for implementation in ("rows", "fourier"):
        module = MODULES[name](implementation=implementation, param_dtype=jnp.float32, rngs=nnx.Rngs(0))
        module.eval()
        # What attends to means over all pixels spreads NaN in any case.
        convolve = module.conv if name == "attentive" else module.convs[1] if name == "sk" else module
        shares[implementation] = nan_share(jax.jit(convolve)(with_nan()))
    assert shares["rows"] < 0.7 < shares["fourier"] == 1


def test_what_a_context_chooses_holds_unless_a_name_is_given():
    conv = functools.partial(group_conv, w=jnp.ones([3, 3, 4, 2, 2], jnp.float32), group=P4, padding=1)
    with computing(implementation="fourier"):
        assert nan_share(conv(with_nan())) == 1
        assert nan_share(conv(with_nan(), implementation="rows")) < 0.1
        with computing(implementation="rows"):
            assert nan_share(conv(with_nan())) < 0.1
        # There is no depthwise one of this name.
        separable = LieConv(2, 2, 3, rotations(4), param_dtype=jnp.float32, rngs=nnx.Rngs(0))
        assert nan_share(separable(with_nan())) < 0.1
    assert nan_share(conv(with_nan())) < 0.1


def test_a_network_convolves_as_it_is_told_and_comes_back(tmp_path):
    image = jnp.ones([1, 28, 28, 1, 1], jnp.float32).at[0, 0, 0].set(jnp.nan)
    network = networks.random_network(P4, features=1, implementation="rows", param_dtype=jnp.float32)
    network.precision = "high"
    save_network(tmp_path / "network", network)
    network = load_network(tmp_path / "network")
    assert (network.implementation, network.precision) == ("rows", "high")

    def lifted(network):
        return float(jnp.isnan(jax.jit(lambda image: network.feature_maps(image)[1])(image)).mean())

    assert lifted(network) < 0.1
    network.implementation = "fourier"
    assert lifted(network) == 1


def test_modules_of_ones_own_that_were_saved_before_come_back(tmp_path):
    module = nnx.Sequential(GroupConv(2, 2, 3, P4, rngs=nnx.Rngs(0)), nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
    save_network(tmp_path / "module", module)
    file = tmp_path / "module/network.json"
    description = json.loads(file.read_text())
    assert not any(name.endswith(("implementation", "precision")) for name in description["structure"])
    description["structure"] |= {"layers.1.precision": "None"}
    file.write_text(json.dumps(description))
    load_network(file.parent, like=module)
    module.layers[0].precision = "highest"
    with assert_refused("holds: layers.0.precision ('highest') is new"):
        load_network(file.parent, like=module)


REFUSALS = {
    **{name: (MODULES[name], DENSE) for name in ("conv", "attentive", "sk", "gseparable", "Lie", "Lie dseparable")},
    "separable": (functools.partial(SeparableGroupConv, 2, 2, 3, P4), DEPTHWISE),
    "Lie separable": (functools.partial(LieConv, 2, 2, 3, rotations(4)), DEPTHWISE),
    "response": (MODULES["response"], 'None or one of "xla", "tiles", "blocks", "reference", "rows", "fourier", got '),
    "network": (
        functools.partial(NETWORKS["rot_mnist"].network, P4, features=1),
        'implementation must be None or one of "rows", "fourier", "shifts", "xla", got ',
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSALS.values(), ids=REFUSALS)
def test_unknown_implementations_are_refused(make, message):
    with assert_refused(f"{message}'cudnn'"):
        make(implementation="cudnn", rngs=nnx.Rngs(0))
