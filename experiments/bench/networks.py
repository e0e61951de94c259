"""What the networks cost on the device at hand: `python -m experiments.bench.networks`.

For every rot-MNIST network: time to compile the training step with an empty cache and, as at a second start, with a
filled one; time of a training step (dropout and Adam included), of the forward pass in evaluation mode, of making the
convolutions' filter banks and their gradients; and peak memory as XLA plans it. Medians; saved as JSON. Let nothing
else run beside it.
"""

import dataclasses
import functools
import tempfile

import jax
import jax.numpy as jnp
from flax import nnx

from attgconv_jax import filter_bank
from experiments.bench import common
from experiments.bench.steps import evaluated, trainer_step
from experiments.report.markdown import Column
from experiments.run.model_configuration import ModelConfig, model
from experiments.run.runtime import command

_model = functools.partial(model, "rot_mnist")
NETWORKS = {
    "Z2": _model("z2", "none"),
    "p4": _model("p4", "none"),
    "alpha_F-p4": _model("p4", "input"),
    "alpha_F-p4 (channel only)": _model("p4", "input_channel"),
    "alpha_F-p4 (spatial only)": _model("p4", "input_spatial"),
    "co-attentive p4": _model("p4", "co"),
    "alpha-p4": _model("p4", "response"),
    "alpha_CH-p4": _model("p4", "response_channel"),
    "alpha_SP-p4": _model("p4", "response_spatial"),
    "p4m": _model("p4m", "none"),
    "alpha_F-p4m": _model("p4m", "input"),
    "alpha-p4m": _model("p4m", "response"),
}

COLUMNS: dict[str, Column] = {
    "network": ("name", ""),
    "parameters": ("parameters", ","),
    "first compile (s)": ("compile_s", ".1f"),
    "second start (s)": ("second_start_s", ".1f"),
    "step (ms)": ("step_ms", ".1f"),
    "forward (ms)": ("forward_ms", ".1f"),
    "filter banks (ms)": ("filter_banks_ms", ".2f"),
    "peak memory (MB)": ("peak_memory_mb", ".0f"),
}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures what the networks cost on the device at hand."""

    networks: common.Networks = ()
    batch_size: common.BatchSize = 128
    steps: common.Steps = 10
    repeats: common.Repeats = 7


def main(arguments: Arguments) -> None:
    """Measures the networks, prints a table and saves the figures."""
    settings = arguments.batch_size, arguments.steps, arguments.repeats
    with tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        common.measure_networks("networks", arguments, COLUMNS, NETWORKS, lambda config: measure(config, *settings))


def measure(config: ModelConfig, batch_size: int, steps: int, repeats: int) -> dict[str, float]:
    """Figures of one network: counts, seconds, milliseconds (medians) and megabytes."""
    train = trainer_step(config, batch_size, steps, repeats)
    compile_s = []
    for _ in range(2):
        jax.clear_caches()
        compile_s.append(train.compile())
    step_s = common.median_seconds(train, repeats) / steps
    network, images = evaluated(config), train.data[0][:batch_size]
    graph, variables = nnx.split(network)
    forward = jax.jit(lambda variables, images: nnx.merge(graph, variables, copy=True)(images))
    filters = [getattr(convolution, "conv", convolution).w[...] for convolution in network.convolutions]
    banks = jax.jit(jax.grad(lambda filters: sum(jnp.sum(filter_bank(w, network.group) ** 2) for w in filters)))
    return {
        "parameters": train.parameters,
        "compile_s": compile_s[0],
        "second_start_s": compile_s[1],
        "step_ms": 1e3 * step_s,
        "forward_ms": 1e3 * common.median_seconds(lambda: forward(variables, images), 3 * repeats),
        "filter_banks_ms": 1e3 * common.median_seconds(lambda: banks(filters), 3 * repeats),
        "peak_memory_mb": common.planned_mb(train.compiled, donated_twice=True),
    }


cli = command(main, Arguments)
