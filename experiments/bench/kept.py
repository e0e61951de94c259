"""What the gradient keeps of the forward pass: `python -m experiments.bench.kept`.

For every network and a batch of images, how much its backward pass takes over from its forward pass, in training mode:
as it is, with `gradient_checkpointing`, of a quarter of the batch, as `--optimizer.accumulate 4` computes it, and with
both. Traced and not compiled, so that it is the same on every machine; what a compiler makes of it may be less, and
XLA's for CPUs computes nothing again. Saved as JSON.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import tyro
from flax import nnx

from attgconv_jax import cyclic, dihedral
from attgconv_jax.lie import rotations
from attgconv_jax.models import AllCNN, CIFARResNet, DenseNet, LieAllCNN, LieResNet, ResNet, RotMNISTNet, WideResNet
from experiments.bench import common
from experiments.report.markdown import Column
from experiments.run.checks import chosen
from experiments.run.runtime import command

PARTS = 4


class Case(NamedTuple):
    """A network, and the images that it is trained on."""

    make: Callable[..., nnx.Module]
    size: int
    channels: int
    batch_size: int


P4, P4M, SE2 = cyclic(4), dihedral(4), rotations(8)
CASES = {
    "alpha_F-p4": Case(lambda rngs: RotMNISTNet(P4, "input", rngs=rngs), 28, 1, 128),
    "alpha-p4": Case(lambda rngs: RotMNISTNet(P4, "response", rngs=rngs), 28, 1, 128),
    "All-CNN alpha_F-p4": Case(lambda rngs: AllCNN(P4, "input", rngs=rngs), 32, 3, 128),
    "ResNet-44 alpha_F-p4m": Case(lambda rngs: CIFARResNet(P4M, "input", rngs=rngs), 32, 3, 128),
    "WRN-28-10 p4": Case(lambda rngs: WideResNet(28, 10, P4, rngs=rngs), 32, 3, 128),
    "DenseNet alpha_F-p4m": Case(lambda rngs: DenseNet(P4M, "input", rngs=rngs), 96, 3, 64),
    "ResNet-50 SGE-p4": Case(lambda rngs: ResNet(50, P4, "sge", rngs=rngs), 225, 3, 32),
    "Lie ResNet SE2-8": Case(lambda rngs: LieResNet(SE2, rngs=rngs), 28, 1, 64),
    "Lie All-CNN SE2-8": Case(lambda rngs: LieAllCNN(SE2, rngs=rngs), 32, 3, 64),
}

COLUMNS: dict[str, Column] = {
    "network": ("name", ""),
    "images": ("batch_size", ""),
    "parameters (MB)": ("parameters_mb", ".1f"),
    "kept (MB)": ("kept_mb", ",.0f"),
    "checkpointing": ("checkpointing_mb", ",.0f"),
    f"in {PARTS} parts": ("parts_mb", ",.0f"),
    "both": ("both_mb", ",.0f"),
}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Counts what the gradient keeps of the forward pass."""

    networks: Annotated[tuple[str, ...], tyro.conf.arg(help="As the table has them. Default: all.")] = ()


def main(arguments: Arguments) -> None:
    """Counts, prints a table and saves the figures."""
    results = common.Results("kept", arguments.out, COLUMNS, parts=PARTS, networks={})
    for name in chosen("networks", arguments.networks, CASES):
        results.add(measure(CASES[name]), name)


def measure(case: Case) -> dict[str, Any]:
    """Megabytes of the parameters and of what is kept, parameters not counted."""
    network = nnx.eval_shape(lambda: case.make(nnx.Rngs(0)))
    params = jax.tree.leaves(nnx.state(network, nnx.Param))
    size = (case.size, case.size, 1, case.channels)
    row = {"batch_size": case.batch_size, "parameters_mb": _megabytes(params)}
    for name, checkpointing, parts in (
        ("kept", False, 1),
        ("checkpointing", True, 1),
        ("parts", False, PARTS),
        ("both", True, PARTS),
    ):
        images = jax.ShapeDtypeStruct((case.batch_size // parts, *size), jnp.float32)
        row[f"{name}_mb"] = _megabytes(kept(network, images, gradient_checkpointing=checkpointing))
    return row


def kept(network: nnx.Module, images: jax.ShapeDtypeStruct, *, gradient_checkpointing: bool) -> list[Any]:
    """Shapes of the arrays that the gradient of the logits' sum keeps, parameters not counted."""
    graph, params, rest = nnx.split(network, nnx.Param, ...)

    def pull_back(params, rest, images):
        def total(params):
            network = nnx.merge(graph, params, rest, copy=True)
            if gradient_checkpointing:
                network.gradient_checkpointing = True
            return jnp.sum(network(images))

        arrays = {id(leaf) for leaf in jax.tree.leaves(params)}
        return [leaf for leaf in jax.tree.leaves(jax.vjp(total, params)[1]) if id(leaf) not in arrays]

    return jax.eval_shape(pull_back, params, rest, images)


def _megabytes(shapes):
    return sum(shape.size * shape.dtype.itemsize for shape in shapes) / 1e6


cli = command(main, Arguments)
