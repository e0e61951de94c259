"""Training on several devices: `python -m experiments.bench.devices`.

Trains networks for some steps on one device and, the batch spread over several, in the three ways in which JAX shares
work out: over an automatic mesh, over an explicit mesh, and by `jax.shard_map`. How far losses and parameters are from
one device's, in float64, beside how far one device's are if its first weights change in their last bit: rounding grows
as a network learns. Also which numbers devices exchange in a step, read from the compiled program: at best all
parameters once, and for every batch norm two numbers a channel on the way forward and two on the way back. Devices are
simulated where there is one CPU. Saved as JSON.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from flax import nnx
from jax.sharding import AxisType

from attgconv_jax import cyclic
from attgconv_jax.lie import rotations
from attgconv_jax.models import NETWORKS
from attgconv_jax.nn import ATTENTIONS, set_axis_name
from experiments.bench import common
from experiments.report.markdown import Column
from experiments.run.checks import chosen
from experiments.run.runtime import command

Way = Literal["automatic", "explicit", "shard_map"]
WAYS = get_args(Way)
AXIS = "data"
LIE = dict(network_options=dict(hidden_features=4))
SMALL: dict[str, dict[str, Any]] = {
    "all_cnn": dict(features=4),
    "cifar_resnet": dict(depth=8, features=4),
    "densenet": dict(features=4),
    "lie_all_cnn": dict(features=4, **LIE),
    "lie_resnet": dict(features=(4, 4), head_features=4, **LIE),
    "resnet": dict(depth=18, features=4),
    "rot_mnist": dict(features=4),
    "wide_resnet": dict(depth=10, widen_factor=2, features=4),
}
CASES = {name: (name, None) for name in SMALL} | {
    f"rot_mnist {attention}": ("rot_mnist", attention) for attention in ("response", "sk", *ATTENTIONS)
}
"""Network and attention by the name of the row."""

SMALLEST = 1e-3
"""Of an array, the largest number that its error is relative to, at least: a bias before a norm has no gradient."""

COLLECTIVES = "all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter"
_FOUND = re.compile(rf"= (.*?) ({'|'.join(COLLECTIVES)})(?:-start)?\(")

COLUMNS: dict[str, Column] = {
    "network": ("name", ""),
    "parameters": ("parameters", ""),
    "one bit": (lambda row: row.get("one_bit"), ".0e"),
    **{
        f"{way}, {title}": (lambda row, way=way, key=key: row[way][key], form)
        for way in WAYS
        for title, key, form in (
            ("error", "error", ".0e"),
            ("added up", "all-reduce", ""),
            ("gathered or moved", "others", ""),
        )
    },
}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures training on several devices: errors, and numbers exchanged in a step."""

    names: Annotated[tuple[str, ...], tyro.conf.arg(help="Of networks, as the table has them. Default: all.")] = ()
    ways: tuple[Way, ...] = WAYS
    """In which work is shared out."""
    devices: int = 8
    """How many; as many are simulated where the platform is a CPU."""
    batch_size: common.BatchSize = 8
    steps: Annotated[int, tyro.conf.arg(help="Of training.")] = 20


def main(arguments: Arguments) -> None:
    """Measures the networks, prints a table and saves the figures."""
    names = chosen("names", arguments.names, CASES)
    jax.config.update("jax_num_cpu_devices", arguments.devices)
    jax.config.update("jax_enable_x64", True)
    if jax.device_count() < arguments.devices:
        raise ValueError(f"--devices must be at most {jax.device_count()}, which there are, got {arguments.devices}")
    if arguments.batch_size % arguments.devices:
        raise ValueError(
            f"--batch-size must be a multiple of the {arguments.devices} devices, got {arguments.batch_size}"
        )
    options = dict(devices=arguments.devices, batch_size=arguments.batch_size, steps=arguments.steps)
    results = common.Results("devices", arguments.out, COLUMNS, **options, networks={})
    for name in names:
        results.add(measure(*CASES[name], arguments.ways, **options), name)
        jax.clear_caches()


def measure(
    name: str, attention: str | None, ways: tuple[Way, ...], devices: int, batch_size: int, steps: int
) -> dict[str, Any]:
    """Errors and exchanged numbers by way; a way that was not asked for has None."""
    entry = NETWORKS[name]
    group = rotations(4) if entry.lie else cyclic(4)
    size = entry.nearest_size(28, group)
    network = entry.network(
        group=group, attention=attention, classes=3, in_features=2, param_dtype=jnp.float64, rngs=nnx.Rngs(0),
        **SMALL[name],
    )  # fmt: skip
    generator = np.random.default_rng(0)
    images = generator.normal(size=(steps, batch_size, size, size, 1, 2))
    labels = generator.integers(0, 3, (steps, batch_size))
    expected, _ = _train(network, images, labels, None)
    changed, _ = _train(_changed_in_the_last_bit(network), images, labels, None)
    row: dict[str, Any] = {
        "one_bit": _error(changed, expected),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(nnx.state(network, nnx.Param))),
    }
    for way in WAYS:
        row[way] = dict.fromkeys(("error", "all-reduce", "others"))
        if way in ways:
            kind = AxisType.Explicit if way == "explicit" else AxisType.Auto
            mesh = jax.make_mesh((devices,), (AXIS,), axis_types=(kind,))
            with jax.set_mesh(mesh):
                actual, program = _train(network, images, labels, way)
            found = exchanged(program)
            others = sum(found[kind] for kind in COLLECTIVES[1:])
            row[way] = {"error": _error(actual, expected), "all-reduce": found["all-reduce"], "others": others}
    return row


def _changed_in_the_last_bit(network):
    graph, params, rest = nnx.split(network, nnx.Param, ...)
    params = jax.tree.map(lambda x: x * (1 + jnp.finfo(x.dtype).eps), params)
    return nnx.merge(graph, params, rest, copy=True)


def exchanged(program: str) -> dict[str, int]:
    """How many numbers a compiled program's collective operations have as results, by operation."""
    found = dict.fromkeys(COLLECTIVES, 0)
    for results, operation in _FOUND.findall(program):
        shapes = re.findall(r"\[([\d,]*)\]", results)
        found[operation] += sum(math.prod(int(n) for n in shape.split(",") if n) for shape in shapes)
    return found


def _train(network, images, labels, way):
    """Losses and the last parameters, and the compiled step's text."""
    network = nnx.clone(network)
    network.train()
    set_axis_name(network, AXIS if way == "shard_map" else None)
    graph, *state = nnx.split(network, nnx.Param, ...)
    optimizer = optax.sgd(0.05, momentum=0.9)
    everywhere = batch = None
    state = (*state, optimizer.init(state[0]))
    if way is not None:
        everywhere, batch = (jax.NamedSharding(jax.sharding.get_mesh(), spec) for spec in (jax.P(), jax.P(AXIS)))
        state = jax.device_put(state, everywhere)
    step: Callable = functools.partial(_step, graph, optimizer, way == "shard_map")
    if way == "shard_map":
        specs = (jax.P(), jax.P(AXIS), jax.P(AXIS))
        step = jax.shard_map(step, in_specs=specs, out_specs=jax.P())
    compiled, losses = None, []
    for data in zip(images, labels, strict=True):
        one = jax.device_put(data, batch)
        if compiled is None:
            compiled = jax.jit(step).lower(state, *one).compile()
        state, loss = compiled(state, *one)
        losses.append(loss)
    return jax.device_get((jnp.stack(losses), state[0])), compiled.as_text()


def _step(graph, optimizer, mapped, state, images, labels):
    params, rest, momentum = state

    def loss(params):
        network = nnx.merge(graph, params, rest, copy=True)
        losses = optax.softmax_cross_entropy_with_integer_labels(network(images), labels)
        loss = jnp.mean(losses)
        return jax.lax.pmean(loss, AXIS) if mapped else loss, nnx.state(network, nnx.Not(nnx.Param))

    (value, rest), gradients = jax.value_and_grad(loss, has_aux=True)(params)
    updates, momentum = optimizer.update(gradients, momentum, params)
    return (optax.apply_updates(params, updates), rest, momentum), value


def _error(actual, expected):
    """Of an array relative to its largest number, at least to `SMALLEST`: some are nothing but rounding."""
    pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    return max(float(np.max(np.abs(a - b)) / max(np.max(np.abs(b)), SMALLEST)) for a, b in pairs)


cli = command(main, Arguments)
