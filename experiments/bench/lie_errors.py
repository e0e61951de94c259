"""How well layers on Lie groups commute with the group: inputs between the pixels, and the error they show.

Inputs are sums of plane waves of at most 1/8 cycle a pixel: between the pixels they are known, so what is turned and
scaled is evaluated, not resampled. Outputs are interpolated by splines of degree 5 and compared on the disc of radius
`size / 2 - m`, where `m` is 4, or as much more as filters reach out of the image. The error is relative, L2:

    |Phi(L_g f) - L_g Phi(f)| / |L_g Phi(f)|        for every element g of the grid

Layers are linear and freshly initialised. A finite grid of scales is no group: an element `g` moves a feature map along
the scales, and `L_g f` is zero where nothing comes in. What the last scales hold leaves the grid. "error" is that of
inputs which are zero there: pixels and masks make it. "error_with_ends" is that of inputs with content everywhere, at
the scales that came from the grid. Images leave no grid.
"""

import math
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy import ndimage

from attgconv_jax.lie import LieGroup
from attgconv_jax.nn import LieConv

LARGEST_FREQUENCY = 1 / 8
WAVES = 40
MARGIN = 4


class Waves:
    """Feature maps between the pixels: sums of plane waves, with other amplitudes for every element and channel."""

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
    """The error of fresh layers, one a seed, for every element of the grid but the identity; needs x64.

    A record an element: `angle` in degrees, `scale`, `error` and `error_with_ends`, means over the seeds. Further
    options are those of `LieConv`; `size` is of the images, in pixels.
    """
    grid, elements = _pixels(size), np.asarray(group.grid())
    waves = Waves(1 if kind == "lifting" else group.order, features)
    sources = [grid @ np.linalg.inv(matrix).T for matrix in np.asarray(group.matrices(group.grid()))]
    disc = np.hypot(*np.moveaxis(grid, -1, 0)) <= size / 2 - margin(kernel_size)
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


def margin(kernel_size: int) -> int:
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
