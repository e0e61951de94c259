"""What the residual networks on Lie groups cost on the device at hand: `python -m experiments.bench.lie_networks`.

For every kind of kernels on SE(2) with 4, 8, 12 and 16 rotations, and for separable ones on Sim(2): time of a training
step (dropout and Adam included), of making all kernels and their gradients, and memory of the step as XLA plans it.
Medians; saved as JSON. Let nothing else run beside it.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from attgconv_jax.lie import LieGroup, rotations, similarities
from attgconv_jax.models import LieResNet
from attgconv_jax.nn import LieConv
from experiments.bench import common
from experiments.bench.steps import Case, bare_step
from experiments.report.markdown import Column
from experiments.run.runtime import command

KINDS = ("nonseparable", "gseparable", "separable", "dseparable", "dgseparable")


def _case(group: LieGroup, kind: str) -> Case:
    return Case(lambda rngs: LieResNet(group, kind, rngs=rngs), 28, 1, optax.adam(1e-4))


CASES = {f"SE2-{n} {kind}": _case(rotations(n), kind) for n in (4, 8, 12, 16) for kind in KINDS}
CASES["Sim2-16x3 separable+2d"] = _case(similarities(16, 3, 1.74), "separable+2d")

COLUMNS: dict[str, Column] = {
    "network": ("name", ""),
    "parameters": ("parameters", ","),
    "compile (s)": ("compile_s", ".1f"),
    "step (ms)": ("step_ms", ".0f"),
    "kernels (ms)": ("kernels_ms", ".1f"),
    "memory (MB)": ("planned_mb", ".0f"),
}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures what the residual networks on Lie groups cost on the device at hand."""

    networks: common.Networks = ()
    batch_size: common.BatchSize = 64
    repeats: common.Repeats = 3


def main(arguments: Arguments) -> None:
    """Measures the networks, prints a table and saves the figures."""
    settings = arguments.batch_size, arguments.repeats
    common.measure_networks("lie-networks", arguments, COLUMNS, CASES, lambda case: measure(case, *settings))


def measure(case: Case, batch_size: int, repeats: int) -> dict[str, float]:
    """Figures of one network: a count, seconds, milliseconds (medians) and megabytes."""
    step = bare_step(case, batch_size)
    return {
        "parameters": step.parameters,
        "compile_s": step.compile(),
        "step_ms": 1e3 * common.median_seconds(step, repeats),
        "kernels_ms": 1e3 * common.median_seconds(_kernels(case.make(nnx.Rngs(0))), 3 * repeats),
        "planned_mb": common.planned_mb(step.compiled),
    }


def _kernels(network):
    """A function that makes all kernels of a network, and gradients by its parameters."""
    graph, params, rest = nnx.split(network, nnx.Param, ...)

    @jax.jit
    @jax.grad
    def gradients(params):
        network = nnx.merge(graph, params, rest, copy=True)
        layers = [layer for _, layer in nnx.iter_graph(network) if isinstance(layer, LieConv)]
        return sum(jnp.sum(jnp.square(kernel)) for layer in layers for kernel in layer.kernels())

    return lambda: gradients(params)


cli = command(main, Arguments)
