"""Measures how well convolutions on Lie groups commute with the group: `python -m experiments.bench.lie_equivariance`.

`lie_errors` says what the error is. What pixels make of a kernel depends on how fast it varies between them: on its
network, and for `siren` on the frequency of the first layer. Every network is measured, all but `siren` with its
defaults alone; `siren` also with the frequency that `LieConv` chooses by the size of the filter.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from matplotlib.figure import Figure

from attgconv_jax import lie
from attgconv_jax.checks import check_finite_positive
from attgconv_jax.lie import LieGroup, rotations, scalings, similarities
from attgconv_jax.lie.kernel_networks import NETWORKS
from attgconv_jax.lie.kernels import PAPER_FREQUENCY, check_size
from experiments.bench import common
from experiments.bench.lie_errors import errors, margin, worst
from experiments.report.figures import COLOURS, MARKERS, logarithmic
from experiments.report.markdown import Column
from experiments.run.runtime import command, use_compilation_cache

# Where curves over one quantity hold the others.
KINDS = ("lifting", *lie.KINDS)
ANGLES, KERNEL_SIZE, SCALES, MAX_SCALE = 8, 7, 3, 1.74
# The paper's.
FIRST_FREQUENCY = PAPER_FREQUENCY


def _network(row):
    if row["first_frequency"] is not None:
        return f"{row['network']}, {row['first_frequency']:g}"
    return "siren, by size" if row["network"] == "siren" else row["network"]


COLUMNS: dict[str, Column] = {
    "group": ("group", ""),
    "filter": ("kernel_size", ""),
    "network": (_network, ""),
    "kind": ("kind", ""),
    "right angles": ("right", ".1e"),
    "other angles": ("other", ".1e"),
    "scaled": ("scaled", ".1e"),
    "scaled, with ends": ("scaled_with_ends", ".1e"),
}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures how well convolutions on Lie groups commute with the group, and draws the curves."""

    angles: tuple[int, ...] = (4, 8, 12, 16)
    """How many rotations, with filters of 7 pixels."""
    kernel_sizes: tuple[int, ...] = (5, 7, 9, 11)
    """Of the filters in pixels, with 8 rotations, 3 scales, and both."""
    first_frequencies: tuple[float, ...] = (2.5, 5.0, 7.0, 10.0, 14.0)
    """Of the first layer of siren, on 8 rotations and on 3 scales, with filters of 7 pixels; elsewhere 10."""
    size: int = 33
    """Of the images, in pixels."""
    features: int = 4
    """Channels in and out."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the layers."""

    def __post_init__(self):
        super().__post_init__()
        for size in self.kernel_sizes:
            for group in (rotations(ANGLES), scalings(SCALES, MAX_SCALE)):
                check_size("kernel_sizes", size, group)
        for frequency in self.first_frequencies:
            check_finite_positive(first_frequencies=frequency)
        least = 2 * max(margin(size) for size in (KERNEL_SIZE, *self.kernel_sizes)) + 8
        if self.size < least:
            raise ValueError(f"size must be at least {least}, or no disc is left to compare on; got {self.size}")
        if not self.seeds:
            raise ValueError("seeds must be one or more numbers")


class Case(NamedTuple):
    """What layers are measured with: all kinds that the group has; the first frequency is of `siren` alone."""

    group: LieGroup
    kernel_size: int = KERNEL_SIZE
    network: str = "siren"
    first_frequency: float | None = FIRST_FREQUENCY
    """None: the default of `LieConv`, which goes by the size of the filter."""


def main(arguments: Arguments) -> None:
    """Measures, prints a table, saves the figures and the curves."""
    use_compilation_cache()
    settings = {name: getattr(arguments, name) for name in ("size", "features", "seeds")}
    results = common.Results("lie-equivariance", arguments.out, COLUMNS, **settings, rows=[])
    with jax.enable_x64(True):
        for case in _cases(arguments):
            group, frequency = case.group, case.first_frequency
            options = {} if frequency is None else dict(first_frequency=frequency)
            options = dict(network=case.network, network_options=options)
            for kind in KINDS:
                if kind.endswith("+2d") and None in (group.angles, group.scales):
                    continue
                records = errors(group, kind, case.kernel_size, *settings.values(), **options)
                row = {**case._asdict(), "group": repr(group), "angles": group.angles, "scales": group.scales}
                results.add(row | {"kind": kind, "elements": records, **worst(records)})
    figure(results.figures["rows"]).savefig(results.path.with_suffix(".png"), dpi=150)


def _cases(arguments):
    turned, scaled = rotations(ANGLES), scalings(SCALES, MAX_SCALE)
    groups = turned, scaled, similarities(ANGLES, SCALES, MAX_SCALE)
    by_size = [Case(group, size, first_frequency=None) for group in groups for size in arguments.kernel_sizes]
    others = [dict(first_frequency=number) for number in arguments.first_frequencies]
    others += [dict(network=name, first_frequency=None) for name in NETWORKS if name != "siren"]
    cases = [Case(group, size) for group in groups for size in arguments.kernel_sizes]
    cases += [Case(rotations(n)) for n in arguments.angles]
    cases += [Case(group, **other) for group in (turned, scaled) for other in others]
    return list(dict.fromkeys(cases + by_size))


def figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """The error over the filters' size, the number of rotations and the first frequency, a line a kind."""
    picture = Figure(figsize=(14.5, 7), layout="constrained")
    axes = picture.subplots(2, 3)
    plane, scales = f"SE(2), {ANGLES} rotations", f"$R^2$ x R+, {SCALES} scales"
    other, pixels = "other than right angles", f"{KERNEL_SIZE} pixels"
    panels = [
        (f"{plane}: {other}", ANGLES, None, "kernel_size", "other"),
        (f"SE(2), {pixels}: {other}", ANGLES, None, "angles", "other"),
        (f"{plane}, {pixels}: {other}", ANGLES, None, "first_frequency", "other"),
        (f"{scales}: scaled", None, SCALES, "kernel_size", "scaled"),
        (f"Sim(2), {ANGLES} rotations, {SCALES} scales: scaled", ANGLES, SCALES, "kernel_size", "scaled"),
        (f"{scales}, {pixels}: scaled", None, SCALES, "first_frequency", "scaled"),
    ]
    for axis, (title, angles, scales, over, quantity) in zip(axes.flat, panels, strict=True):
        held = {"angles": angles, "scales": scales, "kernel_size": KERNEL_SIZE}
        held |= {"network": "siren", "first_frequency": FIRST_FREQUENCY}
        del held[over]
        wanted = [row for row in rows if row["first_frequency"] is not None and row[quantity] is not None]
        part = [row for row in wanted if held.items() <= row.items()]
        _panel(axis, part, over, quantity)
        axis.set_title(title, fontsize=10)
    picture.legend(*axes[1, 1].get_legend_handles_labels(), frameon=False, fontsize=8, loc="outside right center")
    return picture


def _panel(axis, rows, over, quantity):
    labels = dict(kernel_size="filter (pixels)", angles="rotations", first_frequency="frequency of the first layer")
    for number, kind in enumerate(KINDS):
        points = sorted((row[over], 100 * row[quantity]) for row in rows if row["kind"] == kind)
        if points:
            style = dict(color=COLOURS[number % len(COLOURS)], marker=MARKERS[number % len(MARKERS)])
            line = "-" if number < len(COLOURS) else "--"
            axis.plot(*zip(*points, strict=True), line, label=kind, **style)
    axis.set(xlabel=labels[over], ylabel="error (%)", xticks=sorted({row[over] for row in rows}))
    axis.xaxis.set_major_formatter("{x:g}")
    logarithmic(axis)


cli = command(main, Arguments)
