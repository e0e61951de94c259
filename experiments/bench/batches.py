"""How a training step grows with the batch: `python -m experiments.bench.batches`.

Time and memory of one training step of the p4, alpha_F-p4 and alpha-p4 networks for rotated MNIST on 16, 64, 256 and
1,024 images: milliseconds (medians), memory as XLA plans it and by how much the process grows; the exponents are slopes
of straight lines through the logarithms, at most 1 where nothing grows faster than the batch. Saved as JSON and as a
picture. Let nothing else run beside it.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Annotated

import jax
import tyro
from matplotlib.figure import Figure

from experiments.bench import common
from experiments.bench.memory import CASES, step_memory
from experiments.bench.scaling import exponent
from experiments.report.figures import COLOURS, MARKERS
from experiments.report.markdown import Column
from experiments.run.checks import chosen
from experiments.run.runtime import command

NETWORKS = ("p4", "alpha_F-p4", "alpha-p4")
QUANTITIES = {"step_ms": "step (ms)", "planned_mb": "planned (MB)", "resident_mb": "resident (MB)"}

COLUMNS: dict[str, Column] = {
    "network": ("network", ""),
    "images": ("images", ""),
    "step (ms)": ("step_ms", ".1f"),
    "an image (ms)": (lambda row: row["step_ms"] / row["images"], ".3f"),
    "planned (MB)": ("planned_mb", ".0f"),
    "resident (MB)": ("resident_mb", ".0f"),
}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures how a training step grows with the batch."""

    networks: common.Networks = ()
    batch_sizes: Annotated[tuple[int, ...], tyro.conf.arg(help="Images a step; two or more.")] = (16, 64, 256, 1024)
    repeats: common.Repeats = 7

    def __post_init__(self):
        super().__post_init__()
        if len(set(self.batch_sizes)) < 2 or min(self.batch_sizes) < 1:
            raise ValueError(f"batch_sizes must be two or more different numbers of at least 1, got {self.batch_sizes}")


def main(arguments: Arguments) -> None:
    """Measures all steps, fits the exponents, prints them and saves figures and picture."""
    names = chosen("networks", arguments.networks, {name: CASES[name] for name in NETWORKS})
    results = common.Results("batches", arguments.out, COLUMNS, rows=[], exponents={})
    for name, batch_size in itertools.product(names, arguments.batch_sizes):
        figures = step_memory(CASES[name], batch_size, repeats=arguments.repeats)
        results.add({"network": name, "images": batch_size, **figures, "step_ms": 1e3 * figures["step_s"]})
        jax.clear_caches()
    for name in names:
        results.figures["exponents"][name] = found = exponents(results.figures["rows"], name)
        print(f"{name}: exponents {', '.join(f'{QUANTITIES[of]} {value:.2f}' for of, value in found.items())}")
    results.save()
    figure(results.figures["rows"]).savefig(results.path.with_suffix(".png"), dpi=150)


def exponents(rows: list[Mapping], name: str) -> dict[str, float]:
    """With which power of the batch a network's quantities grow, those that were measured."""
    curves = {of: _curve(rows, name, of) for of in QUANTITIES}
    return {of: exponent(*curve) for of, curve in curves.items() if None not in curve[1]}


def figure(rows: list[Mapping]) -> Figure:
    """Time and memory over the batch, logarithmic, each beside a line that grows as the batch does."""
    picture = Figure(figsize=(11.5, 3.6), layout="constrained")
    names = list(dict.fromkeys(row["network"] for row in rows))
    for axis, (of, label) in zip(picture.subplots(1, len(QUANTITIES)), QUANTITIES.items(), strict=True):
        for i, name in enumerate(names):
            x, y = _curve(rows, name, of)
            if None in y:
                continue
            axis.loglog(x, y, color=COLOURS[i], marker=MARKERS[i], label=f"{name}: {exponent(x, y):.2f}")
            axis.loglog(x, [y[-1] * images / x[-1] for images in x], color=COLOURS[i], linestyle=":", linewidth=1)
            axis.set_xticks(x, list(map(str, x)))
        axis.set(xlabel="images", ylabel=label)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(frameon=False, fontsize=8, title="exponent; dotted: 1")
    return picture


def _curve(rows, name, of):
    return [row["images"] for row in rows if row["network"] == name], [
        row[of] for row in rows if row["network"] == name
    ]


cli = command(main, Arguments)
