"""What the networks cost on the device at hand: `python -m experiments.bench.networks`.

For every rot-MNIST network: time to compile the training step with an empty cache and, as at a second start, with a
filled one; time of a training step (dropout and Adam included), of the forward pass in evaluation mode, of making the
convolutions' filter banks and their gradients; and peak memory as XLA plans it. Medians; saved as JSON. Let nothing
else run beside it.

With `--memory` the memory of one training step instead, also of the All-CNNs for CIFAR-10; with `--memory --plan-only`
without running it.
"""

import dataclasses
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from attgconv_jax import filter_bank
from experiments.bench.memory import CASES, step_memory
from experiments.run.configuration import OptimizerConfig
from experiments.run.model_configuration import ModelConfig
from experiments.run.runtime import describe_device, new_file, run
from experiments.run.training import Trainer, make_optimizer

NETWORKS = {
    "Z2": ModelConfig("z2", "none", 0.3),
    "p4": ModelConfig("p4", "none", 0.3),
    "alpha_F-p4": ModelConfig("p4", "input", 0.3),
    "alpha_F-p4 (channel only)": ModelConfig("p4", "input_channel", 0.3),
    "alpha_F-p4 (spatial only)": ModelConfig("p4", "input_spatial", 0.3),
    "co-attentive p4": ModelConfig("p4", "co", 0.3),
    "alpha-p4": ModelConfig("p4", "response", 0.3),
    "alpha_CH-p4": ModelConfig("p4", "response_channel", 0.3),
    "alpha_SP-p4": ModelConfig("p4", "response_spatial", 0.3),
    "p4m": ModelConfig("p4m", "none", 0.3),
    "alpha_F-p4m": ModelConfig("p4m", "input", 0.3),
    "alpha-p4m": ModelConfig("p4m", "response", 0.3),
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measures what the networks cost on the device at hand."""

    networks: tuple[str, ...] = ()
    """Which networks. Default: all."""

    memory: bool = False
    """Memory of one step, as XLA plans it and as it runs, instead of times."""

    plan_only: bool = False
    """With --memory: only as XLA plans it. No step runs; that of All-CNN alpha-p4m takes minutes on a CPU."""

    batch_size: int = 128
    """Images a step."""

    steps: int = 10
    """Training steps a compiled call; with --memory it is one."""

    repeats: int = 7
    """Calls timed; the median counts. With --memory it is one."""

    out: pathlib.Path | None = None
    """File for the figures. Default: experiments/results/benchmark-PLATFORM.json."""


def main(arguments: Arguments) -> None:
    """Measures the networks, prints a table and saves the figures."""
    for name in ("batch_size", "steps", "repeats"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(arguments, name)}")
    if arguments.plan_only and not arguments.memory:
        raise ValueError("--plan-only is about memory: add --memory")
    known = CASES if arguments.memory else NETWORKS
    unknown = set(arguments.networks) - known.keys()
    if unknown:
        raise ValueError(f"networks must be among {', '.join(known)}, got {', '.join(sorted(unknown))}")
    networks = arguments.networks or tuple(known)
    device = describe_device()
    name = f"{'memory' if arguments.memory else 'benchmark'}-{device['platform']}.json"
    out = new_file(arguments.out or pathlib.Path("experiments/results") / name)
    results = {"date": time.strftime("%Y-%m-%d"), **device, "batch_size": arguments.batch_size, "networks": {}}
    (_memory if arguments.memory else _times)(arguments, networks, results, out)


def _memory(arguments, networks, results, out):
    print("| network | planned (MB) | resident (MB) | one step (s) |\n|---|---|---|---|")
    for name in networks:
        figures = step_memory(CASES[name], arguments.batch_size, run=not arguments.plan_only)
        results["networks"][name] = figures
        out.write_text(json.dumps(results, indent=2) + "\n")
        resident = "-" if figures["resident_mb"] is None else f"{figures['resident_mb']:.0f}"
        step = "-" if figures["step_s"] is None else f"{figures['step_s']:.1f}"
        print(f"| {name} | {figures['planned_mb']:.0f} | {resident} | {step} |", flush=True)


def _times(arguments, networks, results, out):
    columns = (
        "network",
        "parameters",
        "first compile (s)",
        "second start (s)",
        "step (ms)",
        "forward (ms)",
        "filter banks (ms)",
        "peak memory (MB)",
    )
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    with tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        for name in networks:
            figures = measure(NETWORKS[name], arguments.batch_size, arguments.steps, arguments.repeats)
            results["networks"][name] = figures
            out.write_text(json.dumps(results, indent=2) + "\n")
            compile_s, second_s = figures["compile_s"], figures["second_start_s"]
            print(
                f"| {name} | {figures['parameters']:,} | {compile_s:.1f} | {second_s:.1f} | {figures['step_ms']:.1f} | "
                f"{figures['forward_ms']:.1f} | {figures['filter_banks_ms']:.2f} | {figures['peak_memory_mb']:.0f} |",
                flush=True,
            )


def measure(config: ModelConfig, batch_size: int, steps: int, repeats: int) -> dict[str, float]:
    """Figures of one network: counts, seconds, milliseconds (medians) and megabytes."""
    trainer = Trainer(config, 10, make_optimizer(OptimizerConfig(), steps * repeats), batch_size)
    state = trainer.init((0,))
    generator = np.random.default_rng(0)
    images = jnp.asarray(generator.normal(size=(steps * batch_size, 28, 28, 1, 1)), jnp.float32)
    labels = jnp.asarray(generator.integers(0, 10, steps * batch_size), jnp.int32)

    compile_times = []
    for _ in range(2):
        jax.clear_caches()
        started = time.perf_counter()
        train = Trainer.train.lower(trainer, state, images, labels, steps).compile()
        compile_times.append(time.perf_counter() - started)
    memory = train.memory_analysis()

    step_times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        state = jax.block_until_ready(train(state, images, labels, steps))
        step_times.append((time.perf_counter() - started) / steps)

    evaluated = trainer.network(state.params, state.rest, 0)
    graph, variables = nnx.split(evaluated)
    forward = jax.jit(lambda variables, images: nnx.merge(graph, variables, copy=True)(images))
    convolutions = [getattr(convolution, "conv", convolution) for convolution in evaluated.convolutions]
    filters = [convolution.w[...] for convolution in convolutions]
    banks = jax.jit(jax.grad(lambda filters: sum(jnp.sum(filter_bank(w, evaluated.group) ** 2) for w in filters)))
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "compile_s": compile_times[0],
        "second_start_s": compile_times[1],
        "step_ms": 1e3 * statistics.median(step_times[1:]),
        "forward_ms": 1e3 * median_time(forward, variables, images[:batch_size], repeats=3 * repeats),
        "filter_banks_ms": 1e3 * median_time(banks, filters, repeats=3 * repeats),
        "peak_memory_mb": (memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes)
        / 1e6,
    }


def median_time(function: Callable, *arguments, repeats: int) -> float:
    """Seconds a call takes, the median of several after one that does not count."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def cli(arguments: list[str] | None = None) -> None:
    """The command line; what the user got wrong is one line on stderr and exit code 2."""
    run(main, Arguments, arguments, prog="python -m experiments.bench.networks")


if __name__ == "__main__":
    cli()
