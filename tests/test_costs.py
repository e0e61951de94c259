"""What is said about memory and growth: the measures themselves, on small networks."""

import json
import pathlib

import jax
import jax.numpy as jnp
import optax
import pytest
from helpers import assert_refused

from attgconv_jax import cyclic
from attgconv_jax.models import RotMNISTNet
from experiments.bench import batches, memory, scaling
from experiments.bench.steps import Case


def case(features=2):
    def make(rngs):
        return RotMNISTNet(cyclic(2), features=features, rngs=rngs)

    return Case(make, 28, 1, optax.sgd(0.1))


resident_known = pytest.mark.skipif(
    not pathlib.Path("/proc/self/clear_refs").exists(), reason="resident memory is read from Linux' /proc"
)


@pytest.mark.slow
@resident_known
def test_memory_freed_before_a_step_does_not_hide_what_the_step_takes():
    # The allocator keeps memory of freed blocks as large as those it has seen freed, and below blocks in use.
    jnp.ones(7_000_000, jnp.float32).block_until_ready()
    blocks = jax.block_until_ready(jax.jit(lambda x: [x + i for i in range(40)])(jnp.ones(5_000_000, jnp.float32)))
    in_use = blocks[20]
    del blocks
    figures = memory.step_memory(case(features=8), 128)
    assert figures["resident_mb"] == pytest.approx(figures["planned_mb"], rel=0.5, abs=10)
    del in_use


@pytest.mark.slow
@resident_known
def test_memory_grows_with_the_batch_as_planned_and_as_resident():
    few, many = (memory.step_memory(case(features=8), batch) for batch in (8, 128))
    assert many["planned_mb"] > 8 * few["planned_mb"]
    assert many["step_s"] > 0
    # The plan leaves out the few megabytes of the program itself and of XLA's threads.
    assert many["planned_mb"] == pytest.approx(many["resident_mb"], rel=0.5, abs=10)


@pytest.mark.slow
@resident_known
def test_memory_is_a_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(memory.CASES, "small", case())
    out = tmp_path / "memory.json"
    memory.main(memory.Arguments(networks=("small",), batch_size=4, out=out))
    figures = json.loads(out.read_text())["networks"]["small"]
    assert f"| small | {figures['planned_mb']:.0f} | {figures['resident_mb']:.0f} |" in capsys.readouterr().out


@pytest.mark.slow
def test_the_plan_is_read_without_running_the_step(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(memory.CASES, "small", case())
    monkeypatch.setattr(memory, "_forget_peak", lambda: pytest.fail("the step is about to run"))
    out = tmp_path / "memory.json"
    memory.main(memory.Arguments(networks=("small",), plan_only=True, batch_size=4, out=out))
    figures = json.loads(out.read_text())["networks"]["small"]
    assert figures["planned_mb"] > 0.1
    assert figures["resident_mb"] is None
    assert f"| small | {figures['planned_mb']:.0f} |  |  |" in capsys.readouterr().out


def test_exponents_are_slopes_of_the_logarithms():
    assert scaling.exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
    assert scaling.exponent([5, 10, 20], [7, 7, 7]) == pytest.approx(0, abs=1e-12)


@pytest.mark.slow
def test_growth_is_measured_fitted_and_drawn(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scaling, "KINDS", ("plain", "channel"))
    monkeypatch.setattr(scaling, "GROUPS", (cyclic(1), cyclic(2)))
    monkeypatch.setattr(scaling, "CHANNELS", (2, 4))
    monkeypatch.setattr(scaling, "SIZE", 8)
    out = tmp_path / "scaling.json"
    scaling.main(scaling.Arguments(batch_size=2, repeats=1, out=out))
    results = json.loads(out.read_text())
    assert results["group order"]["plain"]["x"] == [1, 2]
    curve = results["channels"]["channel"]
    assert len(curve["ms"]) == len(curve["mb"]) == 2
    assert curve["mb_exponent"] == pytest.approx(scaling.exponent(curve["x"], curve["mb"]))
    assert "channels, channel: exponents ms" in capsys.readouterr().out
    assert (tmp_path / "scaling.png").stat().st_size > 10_000


def test_a_batch_of_one_size_has_no_growth():
    with assert_refused("batch_sizes must be two or more different numbers of at least 1, got (4, 4)"):
        batches.Arguments(batch_sizes=(4, 4))


def test_growth_with_the_batch_is_fitted_where_it_was_measured():
    sizes = {"step_ms": lambda n: n**2, "planned_mb": lambda n: 3 * n}
    rows = [
        {"network": "p4", "images": n, "resident_mb": None, **{of: f(n) for of, f in sizes.items()}} for n in (1, 4)
    ]
    assert batches.exponents(rows, "p4") == {"step_ms": pytest.approx(2), "planned_mb": pytest.approx(1)}
    drawn = [len(axis.lines) for axis in batches.figure(rows).axes]
    assert drawn == [2, 2, 0]


@pytest.mark.slow
def test_growth_with_the_batch_is_measured_and_drawn(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(memory.CASES, "p4", case())
    out = tmp_path / "batches.json"
    batches.main(batches.Arguments(networks=("p4",), batch_sizes=(2, 32), repeats=1, out=out))
    figures = json.loads(out.read_text())
    few, many = figures["rows"]
    assert (few["images"], many["images"]) == (2, 32)
    assert many["planned_mb"] > few["planned_mb"]
    assert many["step_ms"] > 0
    assert figures["exponents"]["p4"]["planned_mb"] < 1.1
    assert "p4: exponents step (ms)" in capsys.readouterr().out
    assert out.with_suffix(".png").stat().st_size > 10_000
