"""What each attention operator costs and keeps: `python -m experiments.bench.attention`.

For every operator in the p4 network for rotated MNIST, beside that network without attention on the same shapes:
parameters, floating-point operations of a forward pass, time of a training step, memory that XLA plans for it, and the
equivariance error of the logits on p4 and p4m with random parameters. Steps of both networks alternate, so that what
else slows the machine slows both; medians. Saved as JSON. Let nothing else run beside it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from attgconv_jax import OPERATORS, equivariance_error
from experiments.bench import common
from experiments.bench.steps import Step, evaluated, trainer_step
from experiments.data import load
from experiments.report.markdown import Column
from experiments.run.checks import chosen
from experiments.run.groups import parse_group
from experiments.run.model_configuration import model
from experiments.run.runtime import command, use_compilation_cache
from experiments.run.throughput import forward_flops
from experiments.run.training import make_network


class Row(NamedTuple):
    """An operator with settings, by the names that configurations use."""

    title: str
    attention: str
    options: tuple[str, ...] = ()


_CHOSEN = (
    Row("Co-attention", "co"),
    Row("Gather-Excite, no parameters", "ge", ("excite=False",)),
    Row("Gather-Excite, windows of 2x2", "ge", ("extent=2",)),
    Row("Squeeze-and-Excitation", "se"),
    Row("Squeeze-and-Excitation, over the group", "se", ("over_group=True",)),
    Row("Efficient channel attention", "eca"),
    Row("Style-based Recalibration", "srm"),
    Row("Global Context", "gc"),
    Row("Spatial Group-wise Enhance", "sge"),
    Row("Spatial Group-wise Enhance, joint", "sge", ("grouping=joint",)),
    Row("Coordinate attention", "coordinate"),
    Row("CBAM", "cbam"),
    Row("alpha_F", "input"),
    Row("BAM", "bam"),
    Row("Selective Kernel", "sk"),
    Row("Non-local attention", "non_local"),
    Row("Group self-attention", "self"),
    Row("alpha", "response"),
)
_OTHERS = OPERATORS.keys() - {row.attention for row in _CHOSEN}
# Variants of a formula that leave out a factor have no row.
_FURTHER = (
    Row(operator.title, name) for name, operator in OPERATORS.items() if name in _OTHERS and not operator.settings
)
ROWS = (*_CHOSEN, *_FURTHER)


def _name(row):
    return " ".join([f"`{row['attention']}`", *(f"`{option}`" for option in row["options"])])


COLUMNS: dict[str, Column] = {
    "operator": ("title", ""),
    "name": (_name, ""),
    "acts on": ("acts", ""),
    "parameters": ("extra_parameters", "+,"),
    "MFLOP an image": (lambda row: row["extra_flops"] / 1e6, "+.1f"),
    "step (ms)": ("step_ms", ".0f"),
    "relative": (lambda row: row["step_ms"] / row["plain_step_ms"], ".2f"),
    "memory (MB)": ("memory_mb", ".0f"),
    "error p4": ("error_p4", ".0e"),
    "error p4m": ("error_p4m", ".0e"),
}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures every attention operator beside the network without attention."""

    operators: tuple[str, ...] = ()
    """Names of the operators, as in --model.attention. Default: all."""
    batch_size: common.BatchSize = 128
    steps: common.Steps = 5
    repeats: common.Repeats = 7


def main(arguments: Arguments) -> None:
    """Measures the operators, prints a table and saves the figures."""
    names = chosen("operators", arguments.operators, list(dict.fromkeys(row.attention for row in ROWS)))
    use_compilation_cache()
    results = common.Results("attention", arguments.out, COLUMNS, batch_size=arguments.batch_size, rows=[])
    config = model("rot_mnist", "p4", dropout_rate=0.1)
    plain = _step(config, arguments)
    results.figures["plain"] = {
        "parameters": plain.parameters,
        "flops": _flops(config),
        "memory_mb": common.planned_mb(plain.compiled, donated_twice=True),
    }
    results.figures["ten_passes_ms"] = _ten_passes_ms(config, arguments)
    for row in ROWS:
        if row.attention in names:
            results.add(measure(row, plain, results.figures["plain"], arguments))


def measure(row: Row, plain: Step, plain_figures: Mapping[str, Any], arguments: Arguments) -> dict[str, Any]:
    """Figures of one operator, beside the step and the figures of the network without."""
    config = model("rot_mnist", "p4", row.attention, attention_options=row.options, dropout_rate=0.1)
    step = _step(config, arguments)
    plain_s, step_s = common.median_seconds_in_turn((plain, step), arguments.repeats)
    return {
        **row._asdict(),
        "acts": OPERATORS[row.attention].site,
        "extra_parameters": step.parameters - plain_figures["parameters"],
        "extra_flops": _flops(config) - plain_figures["flops"],
        "plain_step_ms": 1e3 * plain_s / arguments.steps,
        "step_ms": 1e3 * step_s / arguments.steps,
        "memory_mb": common.planned_mb(step.compiled, donated_twice=True),
        **{f"error_{group}": _error(dataclasses.replace(config, group=group)) for group in ("p4", "p4m")},
    }


def _step(config, arguments):
    step = trainer_step(config, arguments.batch_size, arguments.steps, arguments.repeats + 1)
    step.compile()
    return step


def _flops(config):
    """Of a forward pass of one image."""
    image = jax.ShapeDtypeStruct((1, 28, 28, 1, 1), jnp.float32)
    return forward_flops(nnx.eval_shape(lambda: evaluated(config)), image)


def _ten_passes_ms(config, arguments):
    """Ten times an elementwise product that reads and writes the inputs of all convolutions but the first."""
    shapes = jax.eval_shape(evaluated(config).feature_maps, jnp.zeros((arguments.batch_size, 28, 28, 1, 1)))[1:-1]
    maps = [jnp.ones(shape.shape, shape.dtype) for shape in shapes]
    scale = jax.jit(lambda maps: [1.5 * f for f in maps])
    return 1e4 * common.median_seconds(lambda: scale(maps), 10 * arguments.repeats)


def _error(config):
    """The equivariance error of the logits on digits, with noise on all parameters: many operators begin as a constant.

    Batch norms are those of training, which keep the numbers ordinary in a network that has seen nothing.
    """
    network = make_network(dataclasses.replace(config, dropout_rate=0.0), 10, 0)
    network.train()
    graph, params, rest = nnx.split(network, nnx.Param, ...)
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noise = [0.1 * jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
    params = jax.tree.map(jnp.add, params, jax.tree.unflatten(structure, noise))
    images = jnp.asarray(load("digits").standardised().test.images[:16])

    @jax.jit
    def logits(images):
        # Merged in here: a batch norm in training moves its statistics, which must be the trace's own.
        return nnx.merge(graph, params, rest, copy=True)(images)

    return equivariance_error(logits, images, parse_group(config.group), output="invariant")


cli = command(main, Arguments)
