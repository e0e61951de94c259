"""What layers and networks cost outside of `jax.jit`: `python -m experiments.bench.eager`.

Calls every kind of layer and network and its gradient as a notebook does, operation by operation: counts programs that
are compiled by the first call and by five more, for which none should be left, and measures seconds a call and by how
much the process grows over many calls. Saved as JSON. Let nothing else run beside it. The first lines of
experiments/bench/pooling.py say how another revision of the library is measured.
"""

import contextlib
import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import tyro
from flax import nnx

from attgconv_jax import cyclic
from attgconv_jax.attention import OPERATORS
from attgconv_jax.lie import rotations, similarities
from attgconv_jax.models import AllCNN, LieAllCNN, LieResNet, ResNet, RotMNISTNet
from attgconv_jax.nn import (
    ATTENTIONS,
    AttentiveGroupConv,
    GroupConv,
    GroupPool,
    LieAttention,
    LieConv,
    ResponseAttentiveGroupConv,
    SelectiveKernelGroupConv,
    SeparableGroupConv,
    SpatialPool,
)
from experiments.bench import common
from experiments.bench.memory import resident_bytes
from experiments.report.markdown import Column
from experiments.run.checks import chosen
from experiments.run.runtime import command

P4 = cyclic(4)
CHANNELS = 4
AGAIN = 5
SIZES = {"non_local": 12, "self": 28}
"""Pixels along an axis of what goes in, else 24: of so many positions a batch is scored in two parts."""


def _conv(layer, group=P4, size=3, **options):
    return lambda rngs: layer(CHANNELS, CHANNELS, size, group, rngs=rngs, **options)


def _lie(kind):
    return _conv(LieConv, rotations(4), kind=kind)


def _operator(name):
    return lambda rngs: ATTENTIONS[name](CHANNELS, P4, rngs=rngs)


LAYERS: dict[str, tuple[Callable[[nnx.Rngs], nnx.Module], int]] = {
    "conv": (_conv(GroupConv, cyclic(8), padding=1), 8),
    "separable": (_conv(SeparableGroupConv, padding=1, kind="separable"), 4),
    "gseparable": (_conv(SeparableGroupConv, padding=1, kind="gseparable"), 4),
    "response": (_conv(ResponseAttentiveGroupConv, padding=1), 4),
    "response, channels": (_conv(ResponseAttentiveGroupConv, padding=1, spatial=False), 4),
    "response, positions": (_conv(ResponseAttentiveGroupConv, padding=1, channel=False), 4),
    "attentive": (_conv(AttentiveGroupConv, padding=1), 4),
    "selective kernel": (_conv(SelectiveKernelGroupConv, padding=1), 4),
    "spatial pool": (lambda rngs: SpatialPool(P4), 4),
    "spatial pool, overlapping": (lambda rngs: SpatialPool(P4, window=3, stride=1, padding=1), 4),
    "group pool": (lambda rngs: GroupPool(), 4),
    "lie nonseparable": (_lie("nonseparable"), 4),
    "lie separable": (_lie("separable"), 4),
    "lie dseparable": (_lie("dseparable"), 4),
    "lie gseparable": (_lie("gseparable"), 4),
    "lie separable+2d": (_conv(LieConv, similarities(4, 2, 2.0), 5, kind="separable+2d"), 8),
    "lie attention": (lambda rngs: LieAttention("cbam", CHANNELS, rotations(4), rngs=rngs), 4),
    **{name: (_operator(name), 4) for name, operator in OPERATORS.items() if operator.site != "response"},
}
"""What makes them of random streams, and the group elements of what goes in."""


def _network(network, *arguments, **options):
    return functools.partial(network, *arguments, **options)


_SMALL = dict(in_features=3, classes=10)
NETWORKS: dict[str, tuple[Callable[..., nnx.Module], tuple[int, ...]]] = {
    "RotMNISTNet p4": (_network(RotMNISTNet, P4), (32, 28, 28, 1, 1)),
    "RotMNISTNet alpha_F-p4": (_network(RotMNISTNet, P4, "input"), (32, 28, 28, 1, 1)),
    "RotMNISTNet alpha-p4": (_network(RotMNISTNet, P4, "response"), (32, 28, 28, 1, 1)),
    "AllCNN p4": (_network(AllCNN, P4), (8, 32, 32, 1, 3)),
    "ResNet-18 p4": (_network(ResNet, 18, P4, features=8, **_SMALL), (8, 65, 65, 1, 3)),
    "LieResNet separable": (_network(LieResNet, rotations(4), "separable"), (8, 28, 28, 1, 1)),
    "LieAllCNN separable": (_network(LieAllCNN, rotations(4), "separable", features=16), (8, 32, 32, 1, 3)),
}
"""What makes them, and the shape of their images."""

COLUMNS: dict[str, Column] = {
    "layer or network": ("name", ""),
    "programs, first call": ("first", ""),
    "with gradient": ("gradient_first", ""),
    f"programs, {AGAIN} more calls": ("again", ""),
    "of the gradient": ("gradient_again", ""),
    "call (ms)": ("call_ms", ".1f"),
    "with gradient (ms)": ("gradient_ms", ".1f"),
    "growth (MB)": ("growth_mb", ".1f"),
}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures what layers and networks cost outside of `jax.jit`."""

    names: Annotated[tuple[str, ...], tyro.conf.arg(help="Of layers and networks. Default: all.")] = ()
    batch_size: common.BatchSize = 64
    """Of layers; networks have their own."""
    calls: Annotated[int, tyro.conf.arg(help="Over which seconds and growth are measured.")] = 100


def main(arguments: Arguments) -> None:
    """Measures the layers and networks, prints a table and saves the figures."""
    cases = {}
    for name, (make, h) in LAYERS.items():
        size = SIZES.get(name, 24)
        cases[name] = make, (arguments.batch_size, size, size, h, CHANNELS)
    cases |= NETWORKS
    names = chosen("names", arguments.names, cases)
    results = common.Results("eager", arguments.out, COLUMNS, calls=arguments.calls, networks={})
    for name in names:
        make, shape = cases[name]
        results.add(measure(make(rngs=nnx.Rngs(0)), shape, arguments.calls), name)
        jax.clear_caches()


def measure(module: nnx.Module, shape: tuple[int, ...], calls: int) -> dict[str, float | None]:
    """Programs compiled, milliseconds a call (medians), and megabytes by which many calls let the process grow."""
    module.eval()
    graph, parameters, rest = nnx.split(module, nnx.Param, ...)
    f = jax.random.normal(jax.random.key(0), shape, jnp.float32)

    def loss(parameters, f):
        return jnp.sum(nnx.merge(graph, parameters, rest, copy=True)(f) ** 2)

    gradient = jax.grad(loss, argnums=(0, 1))
    runs = {"": lambda: module(f), "gradient_": lambda: gradient(parameters, f)}
    with compilations() as programs:
        figures = {f"{name}first": _counted(run, 1, programs) for name, run in runs.items()}
        figures |= {f"{name}again": _counted(run, AGAIN, programs) for name, run in runs.items()}
    before = resident_bytes()
    seconds = {name: [_seconds(run) for _ in range(calls)] for name, run in runs.items()}
    after = resident_bytes()
    return figures | {
        "call_ms": 1e3 * statistics.median(seconds[""]),
        "gradient_ms": 1e3 * statistics.median(seconds["gradient_"]),
        "growth_mb": None if before is None else (after - before) / 1e6,
    }


@contextlib.contextmanager
def compilations() -> Iterator[list[float]]:
    """Within it the list has an entry for every program that is compiled, the seconds it took."""
    found = []

    def listen(event: str, seconds: float, **_: Any):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def _counted(run, times, programs):
    before = len(programs)
    for _ in range(times):
        jax.block_until_ready(run())
    return len(programs) - before


def _seconds(run):
    started = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - started


cli = command(main, Arguments)
