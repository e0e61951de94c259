"""What the networks cost on the device at hand: `python -m experiments.bench.networks`.

For every rot-MNIST network: time to compile the training step with an empty cache and, as at a second start, with a
filled one; time of a training step (dropout and Adam included), of the forward pass in evaluation mode, of making the
convolutions' filter banks and their gradients; and peak memory as XLA plans it. Medians; saved as JSON. Let nothing
else run beside it.
"""

import dataclasses
import tempfile

import jax
import jax.numpy as jnp
from flax import nnx

from attgconv_jax import filter_bank
from experiments.bench import common
from experiments.bench.steps import evaluated, trainer_step
from experiments.report.markdown import Column
from experiments.run.checks import chosen
from experiments.run.model_configuration import ModelConfig
from experiments.run.runtime import command

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
    names = chosen("networks", arguments.networks, NETWORKS)
    results = common.Results("networks", arguments.out, COLUMNS, batch_size=arguments.batch_size, networks={})
    with tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        for name in names:
            results.add(measure(NETWORKS[name], arguments.batch_size, arguments.steps, arguments.repeats), name)


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

if __name__ == "__main__":
    cli()
