"""What the compiled programs cost on an H100 and on a TPU v5e, without either: `python -m experiments.bench.programs`.

XLA's compilers for both run on any machine. For every network this counts, in the compiled training step and the
compiled inference, kernel launches (those in loops as often as they run), gigabytes that kernels read and write, and
planned temporary arrays; for a TPU also the milliseconds that its compiler expects. The same figures come out on every
machine, but for the seconds in which JAX traces and XLA compiles. Caches are not modelled: compare figures of programs,
not with a clock. `--platforms cpu` has temporary arrays and seconds alone, and needs no other compiler.

The compilers are in wheels that take an environment of their own, with Python 3.12:

    uv venv --python 3.12 compilers
    VIRTUAL_ENV=compilers uv pip install -e ".[experiments]" jax==0.12.0.1 libtpu
    VIRTUAL_ENV=compilers uv pip install --no-deps jax-cuda12-plugin==0.12.0.1 jax-cuda12-pjrt==0.12.0.1
    compilers/bin/python -m experiments.bench.programs --networks p4
"""

import dataclasses
import importlib.util
import os
import time
from collections.abc import Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jax.experimental import topologies

from attgconv_jax import cyclic, dihedral, trivial
from attgconv_jax.lie import rotations
from attgconv_jax.models import AllCNN, CIFARResNet, LieResNet, ResNet, RotMNISTNet
from experiments.bench import common, hlo
from experiments.bench.steps import Case, bare_step, inference
from experiments.report.markdown import Column
from experiments.run.checks import chosen
from experiments.run.runtime import command

PLATFORMS = {"cuda": "H100", "tpu": "TPU v5e", "cpu": "CPU"}
WHEELS = {"cuda": "jax_plugins.xla_cuda12", "tpu": "libtpu"}

# What the compiler has to know of the card, of the data sheet of the H100 SXM and CUDA's limits for its architecture.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 device_memory_size: 84942979072 clock_rate_ghz: 1.98
  cuda_compute_capability { major: 9 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
# 197 teraflops of bfloat16 from four matrix units of 128 x 128.
V5E_HERTZ = 1.5e9


def _rot_mnist(group, attention=None, **options):
    return Case(lambda rngs: RotMNISTNet(group, attention, rngs=rngs, **options), 28, 1, optax.adam(1e-3)), 128


def _all_cnn(group):
    options = dict(attention_options=dict(memory_budget=3_700_000_000))
    return Case(lambda rngs: AllCNN(group, attention="response", rngs=rngs, **options), 32, 3, optax.adam(1e-3)), 128


def _momentum(size, batch_size, network, *arguments, gradient_checkpointing=False, **options):
    """Of images in colour, trained as the papers train them."""

    def make(rngs):
        made = network(*arguments, in_features=3, classes=10, rngs=rngs, **options)
        if gradient_checkpointing:
            made.gradient_checkpointing = True
        return made

    return Case(make, size, 3, optax.sgd(0.05, momentum=0.9)), batch_size


def _lie(kind, **options):
    return Case(lambda rngs: LieResNet(rotations(8), kind, rngs=rngs, **options), 28, 1, optax.adam(1e-4)), 64


_BF16 = dict(dtype=jnp.bfloat16)
CASES: dict[str, tuple[Case, int]] = {
    "Z2": _rot_mnist(trivial()),
    "p4": _rot_mnist(cyclic(4)),
    "p4, bfloat16": _rot_mnist(cyclic(4), **_BF16),
    "SGE-p4": _rot_mnist(cyclic(4), "sge"),
    "SGE-p4, bfloat16": _rot_mnist(cyclic(4), "sge", **_BF16),
    "alpha_F-p4": _rot_mnist(cyclic(4), "input"),
    "alpha_F-p4, bfloat16": _rot_mnist(cyclic(4), "input", **_BF16),
    "co-p4": _rot_mnist(cyclic(4), "co"),
    "alpha_CH-p4": _rot_mnist(cyclic(4), "response_channel"),
    "alpha_SP-p4": _rot_mnist(cyclic(4), "response_spatial"),
    "alpha-p4": _rot_mnist(cyclic(4), "response"),
    "p4m": _rot_mnist(dihedral(4)),
    "alpha-p4m": _rot_mnist(dihedral(4), "response"),
    "alpha-p4m, 4 GB": _rot_mnist(dihedral(4), "response", attention_options=dict(memory_budget=4_000_000_000)),
    "All-CNN p4": _momentum(32, 128, AllCNN, cyclic(4)),
    "All-CNN alpha_F-p4": _momentum(32, 128, AllCNN, cyclic(4), "input"),
    "All-CNN alpha_F-p4, checkpointing": _momentum(32, 128, AllCNN, cyclic(4), "input", gradient_checkpointing=True),
    "All-CNN alpha-p4, 3.7 GB": _all_cnn(cyclic(4)),
    "All-CNN alpha-p4m, 3.7 GB": _all_cnn(dihedral(4)),
    "ResNet-44 alpha_F-p4m": _momentum(32, 32, CIFARResNet, dihedral(4), "input"),
    "ResNet-44 alpha_F-p4m, checkpointing": _momentum(
        32, 32, CIFARResNet, dihedral(4), "input", gradient_checkpointing=True
    ),
    "ResNet-18 p4": _momentum(65, 32, ResNet, 18, cyclic(4)),
    "Lie separable": _lie("separable"),
    "Lie separable, bfloat16": _lie("separable", **_BF16),
    "Lie dseparable": _lie("dseparable"),
    "Lie nonseparable": _lie("nonseparable"),
}
"""Networks, and how many images a step takes."""

COLUMNS: dict[str, Column] = {
    "network": ("network", ""),
    "device": ("device", ""),
    "program": ("program", ""),
    "launches": ("launches", ",.0f"),
    "moved (GB)": ("moved_gb", ".2f"),
    "temporary (MB)": ("temporary_mb", ",.0f"),
    "expected (ms)": ("expected_ms", ".2f"),
    "trace (s)": ("trace_s", ".1f"),
    "compile (s)": ("compile_s", ".1f"),
}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Counts what the networks' compiled programs cost on accelerators."""

    networks: common.Networks = ()
    platforms: Annotated[tuple[str, ...], tyro.conf.arg(help="cuda, tpu, cpu. Default: the first two.")] = ()
    programs: Annotated[tuple[str, ...], tyro.conf.arg(help="training, inference. Default: both.")] = ()


def main(arguments: Arguments) -> None:
    """Compiles the programs, prints a table and saves the figures."""
    networks = chosen("networks", arguments.networks, CASES)
    platforms = chosen("platforms", arguments.platforms or tuple(WHEELS), PLATFORMS)
    programs = chosen("programs", arguments.programs, PROGRAMS)
    for platform in WHEELS.keys() & {*platforms}:
        require_compiler(platform)
    _compile_only()
    results = common.Results("programs", arguments.out, COLUMNS, rows=[])
    for name in networks:
        for platform in platforms:
            for program in programs:
                labels = {"network": name, "device": PLATFORMS[platform], "program": program}
                results.add(labels | cost(platform, PROGRAMS[program](*CASES[name])))


def _training(case, batch_size):
    return bare_step(case, batch_size).lower


PROGRAMS = {"training": _training, "inference": inference}


def require_compiler(platform: str) -> None:
    """Raises a `ValueError` that says what to install where the platform's compiler is missing."""
    wheel = WHEELS[platform]
    try:
        found = importlib.util.find_spec(wheel)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ValueError(
            f"the compiler for {PLATFORMS[platform]} is not installed ({wheel}); "
            "the first lines of experiments/bench/programs.py say how"
        )


def cost(platform: str, lower: Any) -> Mapping[str, float | None]:
    """Counts of one program; `lower(place)` lowers it for arguments with this sharding, None for a CPU."""
    # As a process that has just started.
    jax.clear_caches()
    started = time.perf_counter()
    lowered = lower(None if platform == "cpu" else _place(platform))
    traced = time.perf_counter()
    # Which variant of a kernel is fastest can be measured on the device alone.
    compiled = lowered.compile({"xla_gpu_autotune_level": 0} if platform == "cuda" else None)
    seconds = {"trace_s": traced - started, "compile_s": time.perf_counter() - traced}
    figures = dict.fromkeys(("launches", "loops", "moved_gb", "expected_ms"))
    if platform != "cpu":
        counts = hlo.count(compiled.as_text())
        figures |= {"launches": counts.launches, "loops": counts.loops, "moved_gb": counts.bytes / 1e9}
    if platform == "tpu":
        figures["expected_ms"] = 1e3 * counts.cycles / V5E_HERTZ
    return figures | {"temporary_mb": compiled.memory_analysis().temp_size_in_bytes / 1e6, **seconds}


def _place(platform):
    mesh = jax.sharding.Mesh(np.array(_devices(platform)), ("device",))
    return jax.sharding.NamedSharding(mesh, jax.P())


def _devices(platform):
    """One device of a machine that is not there."""
    if platform == "cuda":
        topology = topologies.get_topology_desc("h100", "cuda", target_config=H100, topology="1x1x1")
    else:
        topology = topologies.get_topology_desc("v5e:2x2", "tpu")
    return topology.devices[:1]


def _compile_only():
    """Settings that JAX reads when it starts: no device but the CPU, no cache, compilers that look for none."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)
    os.environ.update(
        JAX_SKIP_CUDA_CONSTRAINTS_CHECK="1",
        TPU_SKIP_MDS_QUERY="1",
        TPU_ACCELERATOR_TYPE="v5litepod-4",
        TPU_WORKER_HOSTNAMES="localhost",
    )


cli = command(main, Arguments)
