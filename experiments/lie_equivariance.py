"""Measures how well convolutions on Lie groups commute with the group: `python -m experiments.lie_equivariance`.

Inputs are sums of plane waves of at most 1/8 cycle a pixel: between the pixels they are known, so what is turned and
scaled is evaluated, not resampled. Outputs are interpolated by splines of degree 5 and compared on the disc of radius
`size / 2 - m`, where `m` is 4, or as much more as filters reach out of the image. The error is relative, L2:

    |Phi(L_g f) - L_g Phi(f)| / |L_g Phi(f)|        for every element g of the grid

Layers are linear and freshly initialised. A finite grid of scales is no group: an element `g` moves a feature map along
the scales, and `L_g f` is zero where nothing comes in. What the last scales hold leaves the grid. "error" is that of
inputs which are zero there: pixels and masks make it. "error_with_ends" is that of inputs with content everywhere, at
the scales that came from the grid. Images leave no grid.
"""

import dataclasses
import json
import math
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from scipy import ndimage

from attgconv_jax.lie import KINDS, LieGroup, rotations, scalings, similarities
from attgconv_jax.lie.kernels import check_kernel
from attgconv_jax.nn import LieConv
from experiments.figures import COLOURS, MARKERS
from experiments.runtime import describe_device, new_file, run, use_compilation_cache

LARGEST_FREQUENCY = 1 / 8
WAVES = 40
MARGIN = 4
# Where curves over one quantity hold the others.
ANGLES, KERNEL_SIZE, SCALES, MAX_SCALE = 8, 7, 3, 1.74


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measures how well convolutions on Lie groups commute with the group, and draws the curves."""

    angles: tuple[int, ...] = (4, 8, 12, 16)
    """How many rotations, with filters of 7 pixels."""

    kernel_sizes: tuple[int, ...] = (5, 7, 9, 11)
    """Of the filters in pixels, with 8 rotations, 3 scales, and both."""

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
                check_kernel(group, size)
        least = 2 * max(_margin(size) for size in (KERNEL_SIZE, *self.kernel_sizes)) + 8
        if self.size < least:
            raise ValueError(f"size must be at least {least}, or no disc is left to compare on; got {self.size}")
        if not self.seeds:
            raise ValueError("seeds must be one or more numbers")


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
    group: LieGroup, kind: str, kernel_size: int, size: int, features: int, seeds: Sequence[int]
) -> list[dict[str, float]]:
    """The error of fresh layers for every element of the grid but the identity; needs x64.

    Args:
      group: of the layers.
      kind: of the layers.
      kernel_size: in pixels.
      size: of the images, in pixels.
      features: channels.
      seeds: a layer each.

    Returns:
      A record an element: `angle` in degrees, `scale`, `error` and `error_with_ends`, means over the seeds.
    """
    grid, elements = _pixels(size), np.asarray(group.grid())
    waves = Waves(1 if kind == "lifting" else group.order, features)
    sources = [grid @ np.linalg.inv(matrix).T for matrix in np.asarray(group.matrices(group.grid()))]
    disc = np.hypot(*np.moveaxis(grid, -1, 0)) <= size / 2 - _margin(kernel_size)
    layers = [
        LieConv(features, features, kernel_size, group, kind=kind, param_dtype=jnp.float64, rngs=nnx.Rngs(seed))
        for seed in seeds
    ]

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
    cases = [(rotations(ANGLES), size) for size in arguments.kernel_sizes]
    cases += [(rotations(n), KERNEL_SIZE) for n in arguments.angles if n != ANGLES]
    cases += [(scalings(SCALES, MAX_SCALE), size) for size in arguments.kernel_sizes]
    cases += [(similarities(ANGLES, SCALES, MAX_SCALE), size) for size in arguments.kernel_sizes]
    results = {
        "date": time.strftime("%Y-%m-%d"),
        **describe_device(),
        "size": arguments.size,
        "features": arguments.features,
        "seeds": list(arguments.seeds),
        "rows": [],
    }
    print("| group | filter | kind | right angles | other angles | scaled | scaled, with ends |")
    print("|---|---|---|---|---|---|---|")
    with jax.enable_x64(True):
        for group, kernel_size in cases:
            product = group.angles is not None and group.scales is not None
            for kind in KINDS:
                if kind.endswith("+2d") and not product:
                    continue
                records = errors(group, kind, kernel_size, arguments.size, arguments.features, arguments.seeds)
                row = {"group": repr(group), "angles": group.angles, "scales": group.scales}
                row |= {"kernel_size": kernel_size, "kind": kind, "elements": records, **worst(records)}
                results["rows"].append(row)
                out.write_text(json.dumps(results, indent=2) + "\n")
                cells = ["" if row[name] is None else f"{row[name]:.1e}" for name in worst(records)]
                print(f"| {group} | {kernel_size} | {kind} | {' | '.join(cells)} |", flush=True)
    figure(results["rows"]).savefig(out.with_suffix(".png"), dpi=150)


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
    """The error over the filters' size and over the number of rotations, a line a kind."""
    picture = Figure(figsize=(10.5, 7), layout="constrained")
    axes = picture.subplots(2, 2)
    turned = [row for row in rows if row["scales"] is None and row["other"] is not None]
    scaled = [row for row in rows if row["scales"] is not None]
    panels = {
        f"SE(2), {ANGLES} rotations: other than right angles": [row for row in turned if row["angles"] == ANGLES],
        f"SE(2), {KERNEL_SIZE} pixels: other than right angles": [
            row for row in turned if row["kernel_size"] == KERNEL_SIZE
        ],
        f"$R^2$ x R+, {SCALES} scales: scaled": [row for row in scaled if row["angles"] is None],
        f"Sim(2), {ANGLES} rotations, {SCALES} scales: scaled": [row for row in scaled if row["angles"] is not None],
    }
    for i, (axis, (title, part)) in enumerate(zip(axes.flat, panels.items(), strict=True)):
        over, quantity = "angles" if i == 1 else "kernel_size", "other" if i < 2 else "scaled"
        for number, kind in enumerate(KINDS):
            points = sorted((row[over], 100 * row[quantity]) for row in part if row["kind"] == kind)
            if points:
                style = dict(color=COLOURS[number % len(COLOURS)], marker=MARKERS[number % len(MARKERS)])
                line = "-" if number < len(COLOURS) else "--"
                axis.plot(*zip(*points, strict=True), line, label=kind, **style)
        axis.set(xlabel="rotations" if i == 1 else "filter (pixels)", ylabel="error (%)", yscale="log")
        axis.set_xticks(sorted({row[over] for row in part}))
        axis.set_title(title, fontsize=10)
        axis.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("{x:g}")
        axis.grid(alpha=0.3, which="both")
    axes[1, 1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return picture


def cli(arguments: list[str] | None = None) -> None:
    """The command line; what the user got wrong is one line on stderr and exit code 2."""
    run(main, Arguments, arguments, prog="python -m experiments.lie_equivariance")


if __name__ == "__main__":
    cli()
