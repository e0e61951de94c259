"""Former names work for this release, and warn with the new one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import channel_weights, random

import attgconv_jax
from attgconv_jax import OPERATORS, InputWeights, Sampling, alpha_f, cyclic
from attgconv_jax.models import RotMNISTNet
from attgconv_jax.nn import (
    AttentiveGroupConv,
    GroupConv,
    InputAttention,
    ResponseAttentiveGroupConv,
    SeparableGroupConv,
    SqueezeExcitation,
)

C8 = cyclic(8)
CUBIC = dict(interpolation="cubic", disc_mask=True)
NOW = dict(sampling=Sampling("cubic", disc_mask=True))

MODULES = {
    "GroupConv": (lambda **options: GroupConv(2, 3, 3, C8, rngs=nnx.Rngs(0), **options), CUBIC, NOW),
    "SeparableGroupConv": (lambda **options: SeparableGroupConv(2, 3, 3, C8, rngs=nnx.Rngs(0), **options), CUBIC, NOW),
    "AttentiveGroupConv": (lambda **options: AttentiveGroupConv(2, 3, 3, C8, rngs=nnx.Rngs(0), **options), CUBIC, NOW),
    "ResponseAttentiveGroupConv": (
        lambda **options: ResponseAttentiveGroupConv(2, 3, 3, C8, rngs=nnx.Rngs(0), **options),
        CUBIC,
        NOW,
    ),
    "InputAttention": (lambda **options: InputAttention(2, C8, rngs=nnx.Rngs(0), **options), CUBIC, NOW),
    "form g": (
        lambda **options: SeparableGroupConv(2, 3, 3, C8, rngs=nnx.Rngs(0), **options),
        dict(form="g"),
        dict(kind="gseparable"),
    ),
    "separable gc": (
        lambda **options: AttentiveGroupConv(2, 3, 3, C8, rngs=nnx.Rngs(0), **options),
        dict(separable="gc"),
        dict(kind="separable"),
    ),
    "not separable": (
        lambda **options: AttentiveGroupConv(2, 3, 3, C8, rngs=nnx.Rngs(0), **options),
        dict(separable=None),
        dict(kind="nonseparable"),
    ),
    "separable network": (
        lambda **options: nnx.eval_shape(lambda: RotMNISTNet(C8, features=2, rngs=nnx.Rngs(0), **options)),
        dict(separable="gc"),
        dict(kind="separable"),
    ),
}


@pytest.mark.parametrize("case", MODULES)
def test_former_arguments_of_modules(case):
    make, former, now = MODULES[case]
    with pytest.warns(DeprecationWarning, match=f"{next(iter(former))}.* deprecated .* use {next(iter(now))}"):
        old = make(**former)
    assert nnx.graphdef(old) == nnx.graphdef(make(**now))


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ("gc_separable_group_conv", "separable_group_conv"),
        ("g_separable_group_conv", "gseparable_group_conv"),
    ],
)
def test_former_names_of_functions(former, now):
    with pytest.warns(DeprecationWarning, match=f"{former} is deprecated .* use attgconv_jax.{now}"):
        assert getattr(attgconv_jax, former) is getattr(attgconv_jax, now)


def test_former_name_of_the_map_of_alpha_f():
    f, channel, spatial = random(1, 5, 5, 4, 2), channel_weights(2, 4), random(3, 3, 4, 2, 1)
    with pytest.warns(DeprecationWarning, match="input_attention_map is deprecated .* use alpha_f"):
        former = attgconv_jax.input_attention_map(f, channel, spatial, cyclic(4))
    np.testing.assert_array_equal(former, alpha_f(f, InputWeights(channel, spatial), cyclic(4)))


def test_former_names_of_records_and_maps():
    with pytest.warns(DeprecationWarning, match="use Operator.apply"):
        assert OPERATORS["se"].function is OPERATORS["se"].apply
    with pytest.warns(DeprecationWarning, match="use Operator.site"):
        assert OPERATORS["se"].acts == "residual"
    module, f = SqueezeExcitation(4, cyclic(4), rngs=nnx.Rngs(0)), jnp.ones((1, 3, 3, 4, 4), jnp.float32)
    with pytest.warns(DeprecationWarning, match="use attention_maps"):
        shape = jax.eval_shape(module.attention_map, f).shape
    assert shape == (1, 1, 1, 4, 4)
