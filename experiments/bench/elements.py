"""Group elements shared by devices: `python -m experiments.bench.elements`.

Compiles a training step of p4 networks for one device, and for several along an axis of `computing(group_axis=...)`,
which share the group elements that convolutions and attention on responses compute, and not the images: temporary
memory of a device in XLA's plan. Nothing is run. Devices are simulated where there is one CPU. Saved as JSON.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from attgconv_jax import computing, cyclic
from attgconv_jax.models import RotMNISTNet
from experiments.bench import common
from experiments.report.markdown import Column
from experiments.run.checks import chosen
from experiments.run.runtime import command

AXIS = "group"
NETWORKS: dict[str, dict[str, Any]] = {
    "p4": {},
    "alpha-p4, tiles": dict(attention="response", attention_options=dict(implementation="tiles")),
    "alpha-p4, blocks": dict(attention="response", attention_options=dict(implementation="blocks")),
}
COLUMNS: dict[str, Column] = {
    "network": ("name", ""),
    "one device (MB)": ("one_mb", ",.0f"),
    "a device of several (MB)": ("several_mb", ",.0f"),
    "share": (lambda row: row["several_mb"] / row["one_mb"], ".2f"),
}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures the memory of a training step whose group elements devices share."""

    names: tuple[str, ...] = ()
    """Of networks, as the table has them. Default: all."""
    devices: int = 4
    """How many share the elements; as many are simulated where the platform is a CPU."""
    batch_size: common.BatchSize = 128


def main(arguments: Arguments) -> None:
    """Measures the networks, prints a table and saves the figures."""
    names = chosen("names", arguments.names, NETWORKS)
    jax.config.update("jax_num_cpu_devices", arguments.devices)
    if not 1 <= arguments.devices <= jax.device_count():
        raise ValueError(f"--devices must be in 1 to {jax.device_count()}, which there are, got {arguments.devices}")
    options = dict(devices=arguments.devices, batch_size=arguments.batch_size)
    results = common.Results("elements", arguments.out, COLUMNS, **options, networks={})
    for name in names:
        results.add(measure(NETWORKS[name], **options), name)
        jax.clear_caches()


def measure(options: dict[str, Any], devices: int, batch_size: int) -> dict[str, float]:
    """Megabytes of temporary arrays on one device, and on each of several."""
    network = RotMNISTNet(cyclic(4), rngs=nnx.Rngs(0), **options)
    network.train()
    graph, params, rest = nnx.split(network, nnx.Param, ...)
    arrays = params, rest, np.zeros((batch_size, 28, 28, 1, 1), np.float32), np.zeros(batch_size, np.int32)

    def loss(params, rest, images, labels):
        logits = nnx.merge(graph, params, rest, copy=True)(images)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    def megabytes(*arrays):
        program = jax.jit(jax.value_and_grad(loss)).lower(*arrays).compile()
        return program.memory_analysis().temp_size_in_bytes / 1e6

    one = megabytes(*arrays)
    mesh = jax.make_mesh((devices,), (AXIS,))
    with jax.set_mesh(mesh), computing(group_axis=AXIS):
        several = megabytes(*jax.device_put(arrays, jax.NamedSharding(mesh, jax.P())))
    return {"one_mb": one, "several_mb": several}


cli = command(main, Arguments)
