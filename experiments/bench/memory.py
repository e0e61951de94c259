"""Memory of a training step, planned and resident: `python -m experiments.bench.memory`.

Of the networks for rotated MNIST and of the All-CNNs for CIFAR-10: as XLA plans it, and by how much the process grows
when one step runs. With `--plan-only` no step runs; that of All-CNN alpha-p4m takes minutes on a CPU.
"""

import contextlib
import ctypes
import dataclasses
import functools
import gc
import pathlib
import time

import jax
import optax

from experiments.bench import common
from experiments.bench.networks import NETWORKS
from experiments.bench.steps import Case, bare_step
from experiments.report.markdown import Column
from experiments.run.model_configuration import model
from experiments.run.runtime import command


def _rot_mnist(name):
    return Case(functools.partial(NETWORKS[name].build, 1, 10), 28, 1, optax.adam(1e-3))


def _all_cnn(name):
    config = model("all_cnn", NETWORKS[name].group, NETWORKS[name].attention)
    return Case(functools.partial(config.build, 3, 10), 32, 3, optax.sgd(0.05, momentum=0.9))


_ROT_MNIST = ("p4", "alpha_F-p4", "alpha_CH-p4", "alpha_SP-p4", "alpha-p4", "alpha-p4m")
_ALL_CNN = ("p4", "alpha_F-p4", "alpha-p4", "p4m", "alpha_F-p4m", "alpha-p4m")
CASES = {name: _rot_mnist(name) for name in _ROT_MNIST} | {f"All-CNN {name}": _all_cnn(name) for name in _ALL_CNN}

COLUMNS: dict[str, Column] = {
    "network": ("name", ""),
    "planned (MB)": ("planned_mb", ".0f"),
    "resident (MB)": ("resident_mb", ".0f"),
    "one step (s)": ("step_s", ".1f"),
}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures the memory of one training step."""

    networks: common.Networks = ()
    batch_size: common.BatchSize = 128
    plan_only: bool = False
    """Whether to read XLA's plan without running a step."""


def main(arguments: Arguments) -> None:
    """Measures the networks, prints a table and saves the figures."""
    settings = dict(batch_size=arguments.batch_size, run=not arguments.plan_only)
    common.measure_networks("memory", arguments, COLUMNS, CASES, lambda case: step_memory(case, **settings))


def step_memory(case: Case, batch_size: int, *, run: bool = True, repeats: int = 0) -> dict[str, float | None]:
    """Memory of one training step in megabytes, and the seconds of that step; None for what is not measured.

    `planned_mb`; `resident_mb`, arguments and what the process grew by at most while the step ran, where the system
    tells (Linux) and the device is the CPU; `step_s`, of that step or, with `repeats`, the median of so many others.
    Without `run`, only XLA's plan is read.
    """
    step = bare_step(case, batch_size)
    step.compile()
    figures = {"planned_mb": common.planned_mb(step.compiled), "resident_mb": None, "step_s": None}
    if not run:
        return figures
    step.prepare()
    before = _forget_peak()
    started = time.perf_counter()
    jax.block_until_ready(step())
    figures["step_s"] = time.perf_counter() - started
    if before is not None and jax.default_backend() == "cpu":
        argument_bytes = step.compiled.memory_analysis().argument_size_in_bytes
        figures["resident_mb"] = (_status("VmHWM") - before + argument_bytes) / 1e6
    if repeats:
        figures["step_s"] = common.median_seconds(step, repeats)
    return figures


def resident_bytes() -> int | None:
    """The process' resident bytes once freed memory is the system's again; None where the system does not tell.

    A step that takes of freed memory would not show in the resident size.
    """
    gc.collect()
    # Of the C library of Linux alone.
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        return _status("VmRSS")
    except OSError:
        return None


def _forget_peak():
    """`resident_bytes`; the process' peak is counted from here on. None where the system reports no peak."""
    before = resident_bytes()
    try:
        # Linux: proc(5), clear_refs: 5 resets the peak resident size.
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return before


def _status(name):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


cli = command(main, Arguments)
