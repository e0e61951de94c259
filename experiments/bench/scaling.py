"""How a response attention layer's cost grows: `python -m experiments.bench.scaling`.

Time and memory of one layer's output and gradients, 3x3 filters on 26x26 pixels, for groups of 1, 2, 4 and 8 elements
and for 5, 10 and 20 channels in and out, beside the plain group convolution; the exponents are slopes of straight lines
through the logarithms. Saved as JSON and as a picture. Let nothing else run beside it.
"""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from attgconv_jax import ResponseChannelWeights, cyclic, dihedral, response_attentive_group_conv, trivial
from attgconv_jax.groups import Group
from experiments.bench import common
from experiments.report.figures import COLOURS, MARKERS
from experiments.run.runtime import command

GROUPS = (trivial(), cyclic(2), cyclic(4), dihedral(4))
CHANNELS = (5, 10, 20)
SIZE, TAPS, ATTENTION_TAPS = 26, 3, 7
KINDS = ("plain", "channel", "spatial", "channel and spatial")


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures how the cost of response attention grows with the group and the channels."""

    batch_size: common.BatchSize = 32
    repeats: common.Repeats = 7


def main(arguments: Arguments) -> None:
    """Measures all layers, fits the exponents, prints them and saves figures and picture."""
    results = common.Results("scaling", arguments.out, {}, batch_size=arguments.batch_size)
    for axis, cases in {
        "group order": {group.order: (group, 10) for group in GROUPS},
        "channels": {c: (cyclic(4), c) for c in CHANNELS},
    }.items():
        results.figures[axis] = {}
        for kind in KINDS:
            results.figures[axis][kind] = curve = _curve(kind, cases, arguments)
            exponents = ", ".join(f"{quantity} {curve[f'{quantity}_exponent']:.2f}" for quantity in ("ms", "mb"))
            print(f"{axis}, {kind}: exponents {exponents}; ms {[round(ms, 1) for ms in curve['ms']]}", flush=True)
            results.save()
    figure(results.figures).savefig(results.path.with_suffix(".png"), dpi=150)


def layer_cost(group: Group, c: int, kind: str, batch_size: int, repeats: int) -> tuple[float, float]:
    """Milliseconds and megabytes (XLA's plan) of a layer and its gradients by all its arrays."""
    generator, h = np.random.default_rng(0), group.order

    def random(*shape):
        return jnp.asarray(generator.normal(size=shape), jnp.float32)

    hidden = max(1, c // 2)
    channel = ResponseChannelWeights(random(c, hidden, c, h), random(c, c, hidden, h)) if "channel" in kind else None
    spatial = random(ATTENTION_TAPS, ATTENTION_TAPS, h, 2, c) if "spatial" in kind else None
    arrays = random(batch_size, SIZE, SIZE, h, c), random(TAPS, TAPS, h, c, c), channel, spatial
    layer = functools.partial(response_attentive_group_conv, group=group)
    step = jax.jit(jax.grad(lambda arrays: jnp.sum(jnp.square(layer(*arrays))))).lower(arrays).compile()
    return 1e3 * common.median_seconds(lambda: step(arrays), repeats), common.planned_mb(step)


def exponent(x: list[float], y: list[float]) -> float:
    """The slope of the straight line through the logarithms that has the least squares."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def figure(results: Mapping) -> Figure:
    """Time and memory over the order of the group and over the channels, logarithmic."""
    picture = Figure(figsize=(11.5, 6.4), layout="constrained")
    axes = picture.subplots(2, 2)
    for column, x_label in enumerate(("group order", "channels")):
        for row, (quantity, y_label) in enumerate({"ms": "time (ms)", "mb": "memory (MB)"}.items()):
            axis = axes[row, column]
            for i, (kind, curve) in enumerate(results[x_label].items()):
                label = f"{kind}: {curve[f'{quantity}_exponent']:.2f}"
                axis.loglog(curve["x"], curve[quantity], color=COLOURS[i], marker=MARKERS[i], label=label)
            axis.set(xlabel=x_label, ylabel=y_label, xticks=curve["x"], xticklabels=curve["x"])
            axis.minorticks_off()
            axis.grid(alpha=0.3)
            place = dict(loc="center left", bbox_to_anchor=(1, 0.5))
            axis.legend(frameon=False, fontsize=8, title="attention: exponent", **place)
    return picture


def _curve(kind, cases, arguments):
    costs = [layer_cost(*case, kind, arguments.batch_size, arguments.repeats) for case in cases.values()]
    x, curve = list(cases), dict(zip(("ms", "mb"), map(list, zip(*costs, strict=True)), strict=True))
    return {"x": x, **curve, **{f"{name}_exponent": exponent(x, values) for name, values in curve.items()}}


cli = command(main, Arguments)
