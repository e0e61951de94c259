"""Outside of `jit` nothing is compiled after the first call: a loop over chunks of images is no new program."""

import json

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from attgconv_jax import maximum
from attgconv_jax.attention import group_self_attention, non_local_block
from attgconv_jax.nn import GroupPool
from experiments.bench import eager

# Whose loops are those of others.
LIKE_OTHERS = {"response, channels", "response, positions", "attentive", "lie nonseparable", "lie attention"}


@pytest.mark.default("separable", "non_local", "self")
@pytest.mark.parametrize("name", [name for name in eager.LAYERS if name not in LIKE_OTHERS])
def test_module_is_compiled_once(name, monkeypatch):
    make, h = eager.LAYERS[name]
    module = make(nnx.Rngs(0))
    module.eval()
    graph, parameters, rest = nnx.split(module, nnx.Param, ...)
    for part in (non_local_block, group_self_attention):
        # Scores of one image at a time.
        monkeypatch.setattr(part, "SCORES", 1)
    batch, size = (4, 8) if name in ("non_local", "self") else (64, 24)
    f = jnp.ones([batch, size, size, h, 4], jnp.float32)

    def loss(parameters, f):
        return jnp.sum(nnx.merge(graph, parameters, rest, copy=True)(f) ** 2)

    def call():
        with eager.compilations() as programs:
            jax.block_until_ready((module(f), jax.grad(loss, argnums=(0, 1))(parameters, f)))
        return len(programs)

    assert [call() for _ in range(3)][1:] == [0, 0]


def test_compilations_are_counted():
    with eager.compilations() as programs:
        jax.jit(lambda x: maximum(x, 0) * 3.14159)(jnp.ones([7, 3]))
    count = len(programs)
    assert count >= 1
    jax.jit(lambda x: maximum(x, 0) * 2.71828)(jnp.ones([7, 3]))
    assert len(programs) == count


@pytest.mark.slow
def test_what_modules_cost_outside_of_jit_is_measured(tmp_path, monkeypatch, capsys):
    def anew(f):
        return jax.jit(lambda f: 2 * f)(f)

    def make(rngs):
        return nnx.Sequential(anew, nnx.Linear(4, 4, rngs=rngs))

    monkeypatch.setattr(eager, "LAYERS", {"group pool": (lambda rngs: GroupPool("mean"), 4), "anew": (make, 4)})
    monkeypatch.setattr(eager, "NETWORKS", {})
    eager.main(eager.Arguments(batch_size=1, calls=2, out=tmp_path / "eager.json"))
    rows = json.loads((tmp_path / "eager.json").read_text())["networks"]
    once, always = rows["group pool"], rows["anew"]
    assert min(once["first"], once["gradient_first"], once["call_ms"], once["gradient_ms"]) > 0
    assert (once["again"], once["gradient_again"]) == (0, 0)
    assert min(always["again"], always["gradient_again"]) >= eager.AGAIN
    assert "| group pool |" in capsys.readouterr().out
