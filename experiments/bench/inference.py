"""Inference beside PyTorch on the device at hand: `python -m experiments.bench.inference`.

The rot-MNIST networks in evaluation mode on 1 and on 256 images: ours as it is called under `jax.jit`, ours with all
that depends on weights alone computed beforehand (filter banks among it), as exported files have it, and the same in
plain PyTorch with filter banks made and batch norms folded into them (`experiments.bench.pytorch`). All three run in
turn in one process, with pauses in which the other library's threads go to sleep; medians. Logits must agree. Let
nothing else run beside it. Saved as JSON. PyTorch takes an environment of its own:

    uv venv beside-pytorch
    VIRTUAL_ENV=beside-pytorch uv pip install -e ".[experiments]" torch
    beside-pytorch/bin/python -m experiments.bench.inference
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx

from attgconv_jax import cyclic
from attgconv_jax.export.folding import folded
from attgconv_jax.models import RotMNISTNet
from experiments.bench import common
from experiments.bench.pytorch import import_torch, largest_difference, torch_network
from experiments.report.markdown import Column
from experiments.run.checks import chosen
from experiments.run.runtime import command

_network = functools.partial(RotMNISTNet, cyclic(4))
NETWORKS = {
    "p4": _network,
    "alpha_F-p4": functools.partial(_network, "input"),
    "alpha-p4": functools.partial(_network, "response"),
}
TOLERANCE = 1e-4
"""By which logits may differ, in units of the largest."""

COLUMNS: dict[str, Column] = {
    "network": ("network", ""),
    "images": ("images", ""),
    "jitted (ms)": ("jitted_ms", ".2f"),
    "folded (ms)": ("folded_ms", ".2f"),
    "PyTorch (ms)": ("pytorch_ms", ".2f"),
    "folded over PyTorch": (lambda row: row["folded_ms"] / row["pytorch_ms"], ".2f"),
}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures inference beside PyTorch."""

    networks: common.Networks = ()
    batch_sizes: Annotated[tuple[int, ...], tyro.conf.arg(help="Images a call.")] = (1, 256)
    repeats: common.Repeats = 15


def main(arguments: Arguments) -> None:
    """Measures the networks, prints a table and saves the figures."""
    names = chosen("networks", arguments.networks, NETWORKS)
    torch = import_torch()
    threads = {"pytorch": torch.__version__, "pytorch_threads": torch.get_num_threads()}
    results = common.Results("inference", arguments.out, COLUMNS, **threads, rows=[])
    for name in names:
        network = NETWORKS[name](rngs=nnx.Rngs(0))
        network.eval()
        for batch_size in arguments.batch_sizes:
            results.add({"network": name, "images": batch_size} | measure(network, batch_size, arguments.repeats))


def measure(network: RotMNISTNet, batch_size: int, repeats: int) -> Mapping[str, float]:
    """Milliseconds a call, and how far logits are from PyTorch's.

    Raises:
      ValueError: by more than `TOLERANCE`.
    """
    torch = import_torch()
    pixels = np.random.default_rng(0).standard_normal((batch_size, 28, 28, 1, 1), np.float32)
    images, tensor = jnp.asarray(pixels), torch.from_numpy(pixels)
    graph, variables = nnx.split(network)
    jitted = jax.jit(lambda variables, images: nnx.merge(graph, variables, copy=True)(images))
    alone = jax.jit(folded(network, jax.ShapeDtypeStruct(images.shape, images.dtype)))
    theirs = torch_network(network)
    difference = max(
        largest_difference(logits, theirs(tensor)) for logits in (jitted(variables, images), alone(images))
    )
    if not difference <= TOLERANCE:
        raise ValueError(f"logits must agree with PyTorch's to {TOLERANCE}, got {difference:.1e}")
    calls = [lambda: jitted(variables, images), lambda: alone(images), lambda: theirs(tensor)]
    seconds = common.median_seconds_in_turn(calls, repeats, at_least=0.2, pause=0.3)
    names = "jitted_ms", "folded_ms", "pytorch_ms"
    return {name: 1e3 * s for name, s in zip(names, seconds, strict=True)} | {"largest_difference": difference}


cli = command(main, Arguments)
