"""What each attention operator costs and keeps: `python -m experiments.bench.attention`.

For every operator in the p4 network for rotated MNIST, beside that network without attention on the same shapes:
parameters, floating-point operations of a forward pass, time of a training step, memory that XLA plans for it, and the
equivariance error of the logits on p4 and p4m with random parameters. Steps of both networks alternate, so that what
else slows the machine slows both; medians. Saved as JSON and as a Markdown table. Let nothing else run beside it.
"""

import dataclasses
import json
import pathlib
import statistics
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from attgconv_jax import OPERATORS, equivariance_error
from experiments.data import load
from experiments.report.markdown import markdown
from experiments.run.configuration import OptimizerConfig
from experiments.run.groups import parse_group
from experiments.run.model_configuration import Attention, ModelConfig
from experiments.run.runtime import describe_device, new_file, run, use_compilation_cache
from experiments.run.training import Trainer, make_network, make_optimizer


class Row(NamedTuple):
    """An operator with settings, by the names that configurations use."""

    title: str
    attention: Attention
    options: tuple[str, ...] = ()


ROWS = (
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


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measures every attention operator beside the network without attention."""

    operators: tuple[str, ...] = ()
    """Names of the operators, as in --model.attention. Default: all."""

    batch_size: int = 128
    """Images a step."""

    steps: int = 5
    """Training steps a compiled call."""

    repeats: int = 7
    """Calls timed; the median counts."""

    out: pathlib.Path | None = None
    """File for the figures. Default: experiments/results/attention-PLATFORM.json; the table gets .md beside it."""

    def __post_init__(self):
        for name in ("batch_size", "steps", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.out is not None and self.out.suffix != ".json":
            raise ValueError(f"--out must end in .json, the table gets .md beside it; got {self.out}")
        known = list(dict.fromkeys(row.attention for row in ROWS))
        unknown = [name for name in self.operators if name not in known]
        if unknown:
            raise ValueError(f"operators must be among {', '.join(known)}, got {', '.join(unknown)}")


def main(arguments: Arguments) -> None:
    """Measures all operators, prints the table and saves it."""
    use_compilation_cache()
    device = describe_device()
    out = new_file(arguments.out or pathlib.Path(f"experiments/results/attention-{device['platform']}.json"))
    results = {"date": time.strftime("%Y-%m-%d"), **device, "batch_size": arguments.batch_size, "rows": []}
    plain = _Step(ModelConfig("p4", "none"), arguments)
    results["plain"] = {"parameters": plain.parameters, "flops": _flops(plain.config), "memory_mb": plain.memory_mb}
    results["ten_passes_ms"] = _ten_passes_ms(plain.config, arguments)
    for row in ROWS:
        if arguments.operators and row.attention not in arguments.operators:
            continue
        config = ModelConfig("p4", row.attention, attention_options=row.options)
        step = _Step(config, arguments)
        times = [(plain.time(), step.time()) for _ in range(arguments.repeats + 1)][1:]
        plain_ms, step_ms = (statistics.median(column) for column in zip(*times, strict=True))
        figures = {
            **row._asdict(),
            "acts": OPERATORS[row.attention].acts if row.attention in OPERATORS else "response",
            "extra_parameters": step.parameters - plain.parameters,
            "extra_flops": _flops(config) - results["plain"]["flops"],
            "plain_step_ms": plain_ms,
            "step_ms": step_ms,
            "memory_mb": step.memory_mb,
            **{f"error_{group}": _error(dataclasses.replace(config, group=group)) for group in ("p4", "p4m")},
        }
        results["rows"].append(figures)
        print(json.dumps(figures), flush=True)
        out.write_text(json.dumps(results, indent=2) + "\n")
    text = table(results)
    out.with_suffix(".md").write_text(text + "\n")
    print(text)


def table(results: Mapping[str, Any]) -> str:
    """The figures as a Markdown table."""
    columns = (
        "operator",
        "name",
        "acts on",
        "parameters",
        "MFLOP an image",
        "step (ms)",
        "relative",
        "memory (MB)",
        "error p4",
        "error p4m",
    )
    plain = results["plain"]
    none = statistics.median(row["plain_step_ms"] for row in results["rows"])
    first = ["none", "`none`", "", f"{plain['parameters']:,}", f"{plain['flops'] / 1e6:.1f}", f"{none:.0f}", "1.00"]
    rows = [[*first, f"{plain['memory_mb']:.0f}", "", ""]]
    for row in results["rows"]:
        name = " ".join([f"`{row['attention']}`", *(f"`{option}`" for option in row["options"])])
        rows.append(
            [
                row["title"],
                name,
                row["acts"],
                f"+{row['extra_parameters']:,}",
                f"+{row['extra_flops'] / 1e6:.1f}",
                f"{row['step_ms']:.0f}",
                f"{row['step_ms'] / row['plain_step_ms']:.2f}",
                f"{row['memory_mb']:.0f}",
                f"{row['error_p4']:.0e}",
                f"{row['error_p4m']:.0e}",
            ]
        )
    return markdown(columns, rows)


class _Step:
    """A compiled training step of a network, with its own state."""

    def __init__(self, config, arguments):
        self.config, self.steps = config, arguments.steps
        calls = arguments.repeats + 1
        trainer = Trainer(config, 10, make_optimizer(OptimizerConfig(), calls * self.steps), arguments.batch_size)
        self.state = trainer.init((0,))
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(self.state.params))
        generator = np.random.default_rng(0)
        images = self.steps * arguments.batch_size
        self.data = (
            jnp.asarray(generator.normal(size=(images, 28, 28, 1, 1)), jnp.float32),
            jnp.asarray(generator.integers(0, 10, images), jnp.int32),
        )
        self.train = Trainer.train.lower(trainer, self.state, *self.data, self.steps).compile()
        plan = self.train.memory_analysis()
        self.memory_mb = (plan.temp_size_in_bytes + plan.argument_size_in_bytes + plan.output_size_in_bytes) / 1e6

    def time(self):
        """Milliseconds a step."""
        started = time.perf_counter()
        self.state = jax.block_until_ready(self.train(self.state, *self.data, self.steps))
        return 1e3 * (time.perf_counter() - started) / self.steps


def _evaluated(config):
    network = make_network(config, 10, 0)
    network.eval()
    return network


def _flops(config):
    """Of a forward pass of one image, as XLA counts them before it optimises.

    Lowered for a TPU, whose program has convolutions in it where a CPU's has loops, which XLA counts once.
    """
    graph, variables = nnx.split(nnx.eval_shape(lambda: _evaluated(config)))
    image = jax.ShapeDtypeStruct((1, 28, 28, 1, 1), jnp.float32)
    traced = jax.jit(lambda variables, image: nnx.merge(graph, variables)(image)).trace(variables, image)
    return traced.lower(lowering_platforms=("tpu",)).cost_analysis()["flops"]


def _ten_passes_ms(config, arguments):
    """Ten times an elementwise product that reads and writes the inputs of all convolutions but the first."""
    shapes = jax.eval_shape(_evaluated(config).feature_maps, jnp.zeros((arguments.batch_size, 28, 28, 1, 1)))[1:-1]
    maps = [jnp.ones(shape.shape, shape.dtype) for shape in shapes]
    scale = jax.jit(lambda maps: [1.5 * f for f in maps])
    times = []
    for _ in range(10 * arguments.repeats + 1):
        started = time.perf_counter()
        jax.block_until_ready(scale(maps))
        times.append(1e4 * (time.perf_counter() - started))
    return statistics.median(times[1:])


def _error(config):
    """The equivariance error of the logits on digits, with noise on all parameters: many operators begin as a constant.

    Without dropout but with the batch norms of training, which keep the numbers ordinary in a network that has seen
    nothing.
    """
    network = make_network(dataclasses.replace(config, dropout_rate=0.0), 10, 0)
    network.train()
    graph, params, rest = nnx.split(network, nnx.Param, ...)
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [
        leaf + 0.1 * jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)
    ]
    params = jax.tree.unflatten(structure, noisy)
    images = jnp.asarray(load("digits").standardised().test.images[:16])

    @jax.jit
    def logits(images):
        # Merged in here: a batch norm in training moves its statistics, which must be the trace's own.
        return nnx.merge(graph, params, rest, copy=True)(images)

    return equivariance_error(logits, images, parse_group(config.group), output="invariant")


def cli(arguments: list[str] | None = None) -> None:
    """The command line; what the user got wrong is one line on stderr and exit code 2."""
    run(main, Arguments, arguments, prog="python -m experiments.bench.attention")


if __name__ == "__main__":
    cli()
