"""Outside of `jit` nothing is compiled after the first call: a loop over chunks of images is no new program."""

import functools

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from attgconv_jax import cyclic, maximum
from attgconv_jax.attention import OPERATORS, group_self_attention, non_local_block
from attgconv_jax.lie import rotations, similarities
from attgconv_jax.nn import ATTENTIONS, GroupConv, LieConv, ResponseAttentiveGroupConv, SeparableGroupConv

P4 = cyclic(4)
COMPILED = []


def _count(event, duration, **_):
    if event == "/jax/core/compile/backend_compile_duration":
        COMPILED.append(duration)


jax.monitoring.register_event_duration_secs_listener(_count)


def conv(make, group, size=3, **options):
    return make(4, 4, size, group, rngs=nnx.Rngs(0), **options)


# Modules, and images of so many group elements that they are worked on in chunks.
MODULES = {
    "conv": (functools.partial(conv, GroupConv, cyclic(8), padding=1), 8),
    "separable": (functools.partial(conv, SeparableGroupConv, P4, padding=1, kind="separable"), 4),
    "gseparable": (functools.partial(conv, SeparableGroupConv, P4, padding=1, kind="gseparable"), 4),
    "response": (functools.partial(conv, ResponseAttentiveGroupConv, P4, padding=1), 4),
    "lie separable": (functools.partial(conv, LieConv, rotations(4), kind="separable"), 4),
    "lie dseparable": (functools.partial(conv, LieConv, rotations(4), kind="dseparable"), 4),
    "lie gseparable": (functools.partial(conv, LieConv, rotations(4), kind="gseparable"), 4),
    "lie separable+2d": (functools.partial(conv, LieConv, similarities(4, 2, 2.0), kind="separable+2d", size=5), 8),
    **{
        name: (functools.partial(ATTENTIONS[name], 4, P4, rngs=nnx.Rngs(0)), 4)
        for name, operator in OPERATORS.items()
        if operator.site != "response"
    },
}


@pytest.mark.default("separable", "non_local", "self")
@pytest.mark.parametrize("name", MODULES)
def test_module_is_compiled_once(name, monkeypatch):
    make, h = MODULES[name]
    module = make()
    module.eval()
    graph, parameters, rest = nnx.split(module, nnx.Param, ...)
    for part in (non_local_block, group_self_attention):
        # Scores of one image at a time.
        monkeypatch.setattr(part, "SCORES", 1)
    batch, size = (4, 8) if name in ("non_local", "self") else (64, 24)
    f = jnp.ones([batch, size, size, h, 4], jnp.float32)

    def loss(parameters):
        return jnp.sum(nnx.merge(graph, parameters, rest, copy=True)(f) ** 2)

    def call():
        before = len(COMPILED)
        jax.block_until_ready((module(f), jax.grad(loss)(parameters)))
        return len(COMPILED) - before

    assert [call() for _ in range(3)][1:] == [0, 0]


def test_compilations_are_counted():
    before = len(COMPILED)
    jax.jit(lambda x: maximum(x, 0) * 3.14159)(jnp.ones([7, 3]))
    assert len(COMPILED) > before
