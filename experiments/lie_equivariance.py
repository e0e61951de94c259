"""Measures how well convolutions on Lie groups commute with the group: `python -m experiments.lie_equivariance`.

Inputs are sums of plane waves of at most 1/8 cycle a pixel: between the pixels they are known, so what is turned and
scaled is evaluated, not resampled. Outputs are interpolated by splines of degree 5 and compared on the disc of radius
`size / 2 - m`, where `m` is 4, or as much more as filters reach out of the image. The error is relative, L2:

    |Phi(L_g f) - L_g Phi(f)| / |L_g Phi(f)|        for every element g of the grid

Layers are linear and freshly initialised. A finite grid of scales is no group: an element `g` moves a feature map along
the scales, and `L_g f` is zero where nothing comes in. What the last scales hold leaves the grid. "error" is that of
inputs which are zero there: pixels and masks make it. "error_with_ends" is that of inputs with content everywhere, at
the scales that came from the grid. Images leave no grid.

What pixels make of a kernel depends on how fast it varies between them: on its network, and for `siren` on the
frequency of the first layer. Every network is measured, all but `siren` with its defaults alone.
"""

import dataclasses
import json
import math
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from scipy import ndimage

from attgconv_jax import lie
from attgconv_jax.checks import check_finite_positive
from attgconv_jax.lie import LieGroup, rotations, scalings, similarities
from attgconv_jax.lie.kernel_networks import NETWORKS
from attgconv_jax.lie.kernels import check_size
from attgconv_jax.nn import LieConv
from experiments.figures import COLOURS, MARKERS
from experiments.runtime import describe_device, new_file, run, use_compilation_cache

KINDS = ("lifting", *lie.KINDS)
LARGEST_FREQUENCY = 1 / 8
WAVES = 40
MARGIN = 4
# Where curves over one quantity hold the others.
ANGLES, KERNEL_SIZE, SCALES, MAX_SCALE = 8, 7, 3, 1.74
# The default of `siren`.
FIRST_FREQUENCY = 10.0


@dataclasses.dataclass(frozen=True)
class Arguments:
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

    out: pathlib.Path = pathlib.Path("experiments/results/lie-equivariance.json")
    """File for the figures; the curves stand beside it as .png. Existing ones are replaced."""

    def __post_init__(self):
        for size in self.kernel_sizes:
            for group in (rotations(ANGLES), scalings(SCALES, MAX_SCALE)):
                check_size("kernel_sizes", size, group)
        for frequency in self.first_frequencies:
            check_finite_positive(first_frequencies=frequency)
        least = 2 * max(_margin(size) for size in (KERNEL_SIZE, *self.kernel_sizes)) + 8
        if self.size < least:
            raise ValueError(f"size must be at least {least}, or no disc is left to compare on; got {self.size}")
        if not self.seeds:
            raise ValueError("seeds must be one or more numbers")


class Case(NamedTuple):
    """What layers are measured with: all kinds that the group has."""

    group: LieGroup
    kernel_size: int = KERNEL_SIZE
    network: str = "siren"
    first_frequency: float | None = FIRST_FREQUENCY
    """Of `siren` alone."""

    @property
    def network_options(self) -> dict[str, float]:
        """As `LieConv` takes them."""
        return {} if self.first_frequency is None else dict(first_frequency=self.first_frequency)


class Waves:
    """Feature maps between the pixels: sums of plane waves, with other amplitudes for every element and channel.

    Args:
      elements: how many group elements; 1 for images.
      features: channels.
      seed: of the waves.
    """

    def __init__(self, elements: int, features: int, seed: int = 0):
        generator = np.random.default_rng(seed)
        radius = LARGEST_FREQUENCY * np.sqrt(generator.uniform(size=WAVES))
        angle = generator.uniform(0, 2 * np.pi, WAVES)
        self.frequencies = 2 * np.pi * radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
        self.amplitudes = generator.normal(size=(2, WAVES, elements, features)) / math.sqrt(WAVES)

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Values `[.., h, c]` at positions `[.., 2]` in pixels from the centre."""
        phase = positions @ self.frequencies.T
        return np.tensordot(np.cos(phase), self.amplitudes[0], 1) + np.tensordot(np.sin(phase), self.amplitudes[1], 1)


def errors(
    group: LieGroup, kind: str, kernel_size: int, size: int, features: int, seeds: Sequence[int], **options
) -> list[dict[str, float]]:
    """The error of fresh layers for every element of the grid but the identity; needs x64.

    Args:
      group: of the layers.
      kind: of the layers.
      kernel_size: in pixels.
      size: of the images, in pixels.
      features: channels.
      seeds: a layer each.
      **options: further arguments of `LieConv`.

    Returns:
      A record an element: `angle` in degrees, `scale`, `error` and `error_with_ends`, means over the seeds.
    """
    grid, elements = _pixels(size), np.asarray(group.grid())
    waves = Waves(1 if kind == "lifting" else group.order, features)
    sources = [grid @ np.linalg.inv(matrix).T for matrix in np.asarray(group.matrices(group.grid()))]
    disc = np.hypot(*np.moveaxis(grid, -1, 0)) <= size / 2 - _margin(kernel_size)
    options |= dict(lifting=True) if kind == "lifting" else dict(kind=kind)
    options |= dict(param_dtype=jnp.float64)
    layers = [LieConv(features, features, kernel_size, group, **options, rngs=nnx.Rngs(seed)) for seed in seeds]

    def mean_error(g, staying):
        f, moved = (_staying(waves(x), group, g) if staying else waves(x) for x in (grid, sources[g]))
        both = jnp.asarray(np.stack([f, _moved(moved, group, g)]))
        of_layers = []
        for layer in layers:
            plain, output = np.asarray(_apply(layer, both))
            of_layers.append(_error(output, _moved(_interpolated(plain, sources[g]), group, g), group, g, disc))
        return float(np.mean(of_layers))

    return [
        {
            "angle": math.degrees(elements[g][0]) if group.angles else 0.0,
            "scale": float(elements[g][-1]) if group.scales else 1.0,
            "error": mean_error(g, staying=True),
            "error_with_ends": mean_error(g, staying=False),
        }
        for g in range(1, group.order)
    ]


@nnx.jit
def _apply(layer, f):
    return layer(f)


def _margin(kernel_size):
    """Pixels from the image's edge to the disc, where filters do not reach out of the image."""
    return max(MARGIN, (kernel_size + 1) // 2)


def _pixels(size):
    """Positions from the centre of a square image, `[x, y, 2]`."""
    axis = np.arange(size) - (size - 1) / 2
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)


def _staying(f, group, g):
    """`f` with zeros at the scales that `g` moves out of the grid; of images, `f`."""
    last = (group.scales or 1) - g % (group.scales or 1)
    scale = np.arange(f.shape[2]) % (group.scales or 1)
    return f if f.shape[2] == 1 else np.where((scale < last)[:, None], f, 0)


def _moved(f, group, g):
    """`f(g^-1 h)` on `[x, y, h, c]`: around the circle, and along the scales with zeros at first; of images, `f`."""
    if f.shape[2] == 1:
        return f
    turn, places = divmod(g, group.scales or 1)
    f = np.roll(f.reshape(*f.shape[:2], group.angles or 1, group.scales or 1, -1), turn, axis=2)
    kept = f[:, :, :, : f.shape[3] - places]
    return np.concatenate([np.zeros_like(f[:, :, :, :places]), kept], 3).reshape(*f.shape[:2], group.order, -1)


def _interpolated(f, positions):
    """`[x, y, h, c]` at positions from the centre, `[x, y, 2]`."""
    index = np.moveaxis(positions, -1, 0) + (len(f) - 1) / 2
    planes = np.moveaxis(f.reshape(*f.shape[:2], -1), -1, 0)
    return np.stack([ndimage.map_coordinates(plane, index, order=5) for plane in planes], -1).reshape(f.shape)


def _error(output, expected, group, g, disc):
    """Relative, on the disc, at the scales that came from the grid."""
    came = np.arange(group.order) % (group.scales or 1) >= g % (group.scales or 1)
    output, expected = (f[disc][:, came] for f in (output, expected))
    return np.linalg.norm(output - expected) / np.linalg.norm(expected)


def main(arguments: Arguments) -> None:
    """Measures, prints a table, saves the figures and the curves."""
    out = new_file(arguments.out)
    use_compilation_cache()
    results = {
        "date": time.strftime("%Y-%m-%d"),
        **describe_device(),
        "size": arguments.size,
        "features": arguments.features,
        "seeds": list(arguments.seeds),
        "rows": [],
    }
    print("| group | filter | network | kind | right angles | other angles | scaled | scaled, with ends |")
    print("|---|---|---|---|---|---|---|---|")
    with jax.enable_x64(True):
        for case in _cases(arguments):
            group, network = case.group, case.network
            product = group.angles is not None and group.scales is not None
            for kind in KINDS:
                if kind.endswith("+2d") and not product:
                    continue
                records = errors(
                    group,
                    kind,
                    case.kernel_size,
                    arguments.size,
                    arguments.features,
                    arguments.seeds,
                    network=network,
                    network_options=case.network_options,
                )
                row = {**case._asdict(), "group": repr(group), "angles": group.angles, "scales": group.scales}
                row |= {"kind": kind, "elements": records, **worst(records)}
                results["rows"].append(row)
                out.write_text(json.dumps(results, indent=2) + "\n")
                cells = ["" if row[name] is None else f"{row[name]:.1e}" for name in worst(records)]
                named = network if case.first_frequency is None else f"{network}, {case.first_frequency:g}"
                print(f"| {group} | {case.kernel_size} | {named} | {kind} | {' | '.join(cells)} |", flush=True)
    figure(results["rows"]).savefig(out.with_suffix(".png"), dpi=150)


def _cases(arguments):
    turned, scaled = rotations(ANGLES), scalings(SCALES, MAX_SCALE)
    groups = turned, scaled, similarities(ANGLES, SCALES, MAX_SCALE)
    others = [dict(first_frequency=number) for number in arguments.first_frequencies]
    others += [dict(network=name, first_frequency=None) for name in NETWORKS if name != "siren"]
    cases = [Case(group, size) for group in groups for size in arguments.kernel_sizes]
    cases += [Case(rotations(n)) for n in arguments.angles]
    cases += [Case(group, **other) for group in (turned, scaled) for other in others]
    return list(dict.fromkeys(cases))


def worst(records: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """The largest error under rotations by right angles, by others, and under changes of scale alone; None: no such."""
    turned = [record for record in records if record["scale"] == 1]
    right = [record for record in turned if math.isclose(math.remainder(record["angle"], 90), 0, abs_tol=1e-6)]
    scaled = [record for record in records if record["angle"] == 0 and record["scale"] > 1]
    return {
        "right": max((record["error"] for record in right), default=None),
        "other": max((record["error"] for record in turned if record not in right), default=None),
        "scaled": max((record["error"] for record in scaled), default=None),
        "scaled_with_ends": max((record["error_with_ends"] for record in scaled), default=None),
    }


def figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """The error over the filters' size, the number of rotations and the first frequency, a line a kind."""
    picture = Figure(figsize=(14.5, 7), layout="constrained")
    axes = picture.subplots(2, 3)
    sines = [row for row in rows if row["network"] == "siren"]
    usual = [row for row in sines if row["first_frequency"] == FIRST_FREQUENCY]
    turned, scaled, similar = (
        [row for row in usual if (row["angles"] is not None, row["scales"] is not None) == acts]
        for acts in ((True, False), (False, True), (True, True))
    )

    def of_size(rows):
        return [row for row in rows if row["kernel_size"] == KERNEL_SIZE]

    plane, scales = f"SE(2), {ANGLES} rotations", f"$R^2$ x R+, {SCALES} scales"
    other, pixels = "other than right angles", f"{KERNEL_SIZE} pixels"
    panels = [
        (f"{plane}: {other}", [row for row in turned if row["angles"] == ANGLES], "kernel_size", "other"),
        (f"SE(2), {pixels}: {other}", [row for row in of_size(turned) if row["other"] is not None], "angles", "other"),
        (
            f"{plane}, {pixels}: {other}",
            [row for row in of_size(sines) if row["group"] == repr(rotations(ANGLES))],
            "first_frequency",
            "other",
        ),
        (f"{scales}: scaled", scaled, "kernel_size", "scaled"),
        (f"Sim(2), {ANGLES} rotations, {SCALES} scales: scaled", similar, "kernel_size", "scaled"),
        (
            f"{scales}, {pixels}: scaled",
            [row for row in of_size(sines) if row["group"] == repr(scalings(SCALES, MAX_SCALE))],
            "first_frequency",
            "scaled",
        ),
    ]
    for axis, (title, part, over, quantity) in zip(axes.flat, panels, strict=True):
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
    axis.set(xlabel=labels[over], ylabel="error (%)", yscale="log")
    axis.set_xticks(sorted({row[over] for row in rows}))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}")
    axis.grid(alpha=0.3, which="both")


def cli(arguments: list[str] | None = None) -> None:
    """The command line; what the user got wrong is one line on stderr and exit code 2."""
    run(main, Arguments, arguments, prog="python -m experiments.lie_equivariance")


if __name__ == "__main__":
    cli()
