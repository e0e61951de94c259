"""What the residual networks on Lie groups cost on the device at hand: `python -m experiments.bench.lie_networks`.

For every kind of kernels on SE(2) with 4, 8, 12 and 16 rotations, and for separable ones on Sim(2): time of a training
step (dropout and Adam included), of making all kernels and their gradients, and memory of the step as XLA plans it.
Medians; saved as JSON. Let nothing else run beside it.
"""

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from attgconv_jax.lie import LieGroup, rotations, similarities
from attgconv_jax.models import LieResNet
from attgconv_jax.nn import LieConv
from experiments.bench.memory import Case, compile_step
from experiments.bench.networks import median_time
from experiments.run.runtime import describe_device, new_file, run

KINDS = ("nonseparable", "gseparable", "separable", "dseparable", "dgseparable")


def _case(group: LieGroup, kind: str) -> Case:
    return Case(lambda rngs: LieResNet(group, kind, rngs=rngs), 28, 1, optax.adam(1e-4))


CASES = {f"SE2-{n} {kind}": _case(rotations(n), kind) for n in (4, 8, 12, 16) for kind in KINDS}
CASES["Sim2-16x3 separable+2d"] = _case(similarities(16, 3, 1.74), "separable+2d")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measures what the residual networks on Lie groups cost on the device at hand."""

    networks: tuple[str, ...] = ()
    """Which networks, as "SE2-8 separable". Default: all."""

    batch_size: int = 64
    """Images a step."""

    repeats: int = 3
    """Steps timed; the median counts."""

    out: pathlib.Path | None = None
    """File for the figures. Default: experiments/results/lie-benchmark-PLATFORM.json."""

    def __post_init__(self):
        for name in ("batch_size", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        unknown = set(self.networks) - CASES.keys()
        if unknown:
            raise ValueError(f"networks must be among {', '.join(CASES)}, got {', '.join(sorted(unknown))}")


def main(arguments: Arguments) -> None:
    """Measures the networks, prints a table and saves the figures."""
    device = describe_device()
    default = pathlib.Path("experiments/results") / f"lie-benchmark-{device['platform']}.json"
    out = new_file(arguments.out or default)
    results = {"date": time.strftime("%Y-%m-%d"), **device, "batch_size": arguments.batch_size, "networks": {}}
    print("| network | parameters | compile (s) | step (ms) | kernels (ms) | memory (MB) |\n|---|---|---|---|---|---|")
    for name in arguments.networks or CASES:
        figures = measure(CASES[name], arguments.batch_size, arguments.repeats)
        results["networks"][name] = figures
        out.write_text(json.dumps(results, indent=2) + "\n")
        print(
            f"| {name} | {figures['parameters']:,} | {figures['compile_s']:.1f} | {figures['step_ms']:.0f} | "
            f"{figures['kernels_ms']:.1f} | {figures['planned_mb']:.0f} |",
            flush=True,
        )


def measure(case: Case, batch_size: int, repeats: int) -> dict[str, float]:
    """Figures of one network: a count, seconds, milliseconds (medians) and megabytes."""
    started = time.perf_counter()
    step = compile_step(case, batch_size)
    compile_s = time.perf_counter() - started
    state, arrays = step.make_state(), step.make_arrays()
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state[0]))

    def advance():
        nonlocal state
        state = step.call(*state, *arrays)
        return state

    network = case.make(nnx.Rngs(0))
    return {
        "parameters": parameters,
        "compile_s": compile_s,
        "step_ms": 1e3 * median_time(advance, repeats=repeats),
        "kernels_ms": 1e3 * median_time(_kernels(network), repeats=3 * repeats),
        "planned_mb": step.planned_mb,
    }


def _kernels(network: LieResNet) -> Callable[[], nnx.State]:
    """Makes all kernels of a network, and gradients by its parameters."""
    graph, params, rest = nnx.split(network, nnx.Param, ...)

    @jax.jit
    @jax.grad
    def gradients(params):
        network = nnx.merge(graph, params, rest, copy=True)
        layers = [layer for _, layer in nnx.iter_graph(network) if isinstance(layer, LieConv)]
        return sum(jnp.sum(jnp.square(kernel)) for layer in layers for kernel in layer.kernels())

    return lambda: gradients(params)


def cli(arguments: list[str] | None = None) -> None:
    """The command line; what the user got wrong is one line on stderr and exit code 2."""
    run(main, Arguments, arguments, prog="python -m experiments.bench.lie_networks")


if __name__ == "__main__":
    cli()
