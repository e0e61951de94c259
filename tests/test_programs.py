"""Counts of compiled programs: of texts whose counts are known, and of the recorded networks where compilers are."""

import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from helpers import assert_refused
from jax import lax

from experiments.bench import hlo, programs
from experiments.bench.steps import Case

TEXT = """
HloModule a, entry_computation_layout={(f32[4,8]{1,0})->f32[4,8]{1,0}}

%body (state: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %state = (s32[], /*index=1*/f32[4,8]{1,0:T(8,128)}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %x = f32[4,8]{1,0} get-tuple-element(%state), index=1
  %double = f32[4,8]{1,0} fusion(%x), kind=kLoop, calls=%fused, backend_config={"estimated_cycles":"50"}
  ROOT %next = (s32[], f32[4,8]{1,0}) tuple(%i, %double)
}

%add (a: bf16[2], b: bf16[2]) -> bf16[2] {
  %a = bf16[2]{0} parameter(0)
  %b = bf16[2]{0} parameter(1)
  ROOT %sum = bf16[2]{0} add(%a, %b)
}

ENTRY %main (x: f32[4,8], h: bf16[2]) -> f32[4,8] {
  %x = f32[4,8]{1,0} parameter(0)
  %h = bf16[2]{0} parameter(1)
  %called = bf16[2]{0} call(%h, %h), to_apply=%add
  %i = s32[] constant(0)
  %state = (s32[], f32[4,8]{1,0}) tuple(%i, %x)
  %loop = (s32[], f32[4,8]{1,0}) while(%state), condition=%c, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %slice = f32[1,8]{1,0} dynamic-slice(%x, %i, %i), dynamic_slice_sizes={1,8}
  %slice_fusion.1 = f32[1,8]{1,0} fusion(%x, %i), kind=kLoop, calls=%fused
  %loop_dynamic-slice_fusion = f32[1,8]{1,0} fusion(%x, %i), kind=kLoop, calls=%fused
  %loop_dynamic_update_slice_fusion.2 = f32[4,8]{1,0} fusion(%x, %slice), kind=kLoop, calls=%fused
  %copy = f32[4,8]{1,0} copy-start(%x)
  %copied = f32[4,8]{1,0} copy-done(%copy)
  ROOT %y = f32[4,8]{1,0} get-tuple-element(%loop), index=1
}
"""


def test_a_text_is_counted():
    counts = hlo.count(TEXT)
    # The loop's body five times; the call's sum; four slices and updates; a copy, whose end is no launch.
    assert counts.launches == 5 + 1 + 4 + 1
    assert counts.loops == 1
    assert counts.cycles == 250
    slices = (32 + 32) + (128 + 4 + 32) + (64 + 32) + 0
    assert counts.bytes == 5 * (128 + 128) + 3 * 4 + slices + (128 + 128)


def test_a_compiled_loop_counts_as_often_as_it_runs():
    def program(trips):
        run = jax.jit(lambda x: lax.fori_loop(0, trips, lambda i, x: x @ x, x))
        return hlo.count(run.lower(jax.ShapeDtypeStruct((64, 64), jnp.float32)).compile().as_text())

    few, many = program(3), program(30)
    assert few.loops == many.loops == 1
    kernels = (many.launches - few.launches) / 27
    assert kernels >= 1
    assert kernels == int(kernels)
    assert many.bytes - few.bytes >= 27 * 3 * 4 * 64 * 64


def test_an_unclosed_line_is_refused():
    with assert_refused("no parenthesis closes the first of '(f32[4], f32[4'"):
        hlo.count("ENTRY %main () -> f32[4] {\n  %x = (f32[4], f32[4\n}")


def test_a_missing_compiler_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(programs.WHEELS, "tpu", "no_such_package.at_all")
    with assert_refused("the compiler for TPU v5e is not installed (no_such_package.at_all)", "say how"):
        programs.main(programs.Arguments(networks=("p4",), platforms=("tpu",)))


def test_a_program_for_a_cpu_is_timed_and_its_temporary_arrays_are_planned(tmp_path, monkeypatch):
    def make(rngs):
        return nnx.Sequential(lambda f: f.reshape(-1, 48), nnx.Linear(48, 10, rngs=rngs))

    monkeypatch.setattr(programs, "CASES", {"small": (Case(make, 4, 3, optax.sgd(0.1)), 2)})
    # Its settings are those of a whole process.
    monkeypatch.setattr(programs, "_compile_only", lambda: None)
    programs.main(programs.Arguments(platforms=("cpu",), programs=("training",), out=tmp_path / "cpu.json"))
    (row,) = json.loads((tmp_path / "cpu.json").read_text())["rows"]
    assert (row["network"], row["device"], row["launches"], row["moved_gb"]) == ("small", "CPU", None, None)
    assert min(row["trace_s"], row["compile_s"], row["temporary_mb"]) > 0


def _compiler(platform):
    try:
        programs.require_compiler(platform)
    except ValueError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(not _compiler("cuda"), reason="the compiler for CUDA is not installed")
def test_programs_cost_what_is_recorded(tmp_path):
    root = pathlib.Path(__file__).parents[1]
    recorded = json.loads((root / "experiments/results/programs.json").read_text())["rows"]
    networks = "p4", "SGE-p4", "alpha_F-p4", "alpha-p4"
    options = ["--networks", *networks, "--platforms", "cuda", "--programs", "training"]
    command = [sys.executable, "-m", "experiments.bench.programs", *options, "--out", str(tmp_path / "now.json")]
    subprocess.run(command, cwd=root, check=True)
    wanted = {row["network"]: row for row in recorded if (row["device"], row["program"]) == ("H100", "training")}
    for row in json.loads((tmp_path / "now.json").read_text())["rows"]:
        for figure in ("launches", "moved_gb", "temporary_mb"):
            assert row[figure] == pytest.approx(wanted[row["network"]][figure], rel=0.1), (row["network"], figure)
