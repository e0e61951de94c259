"""Measures what becomes of the variance of activations in a deep network: `python -m experiments.bench.variance`.

Ten group convolutions as they are initialised by default, with a ReLU between each two, on images of frequencies up to
1/8 cycle a pixel, periodic as the borders are. Mean squares before each ReLU, over positions, group, channels and draws
of the network; the first layer takes `1 / sqrt(2)` of images of variance 1, so that 1 is what it should leave. Draws of
so few channels scatter far more than their mean. Predicted, of bases, is what infinitely many channels leave.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax import Group, Sampling
from attgconv_jax.bases.scales import radii, spectrum, variances
from attgconv_jax.filters import basis_of
from attgconv_jax.nn import GroupConv
from experiments.bench import common
from experiments.bench.angle_layers import BAND
from experiments.bench.angles import label
from experiments.report.markdown import Column
from experiments.run.groups import parse_group
from experiments.run.runtime import command, use_compilation_cache

LAYERS = 10
SAMPLINGS = (
    Sampling("bilinear"),
    *(Sampling(kind, lowpass=lowpass) for kind in ("rings", "least_error") for lowpass in (None, 0.2)),
)
COLUMNS: dict[str, Column] = {
    "group": ("group", ""),
    "filter": ("kernel_size", ""),
    "sampling": (label, ""),
    "least, predicted": (lambda row: min(row["predicted"] or [math.nan]), ".2f"),
    "largest": (lambda row: max(row["predicted"] or [math.nan]), ".2f"),
    **{f"layer {i}": (lambda row, i=i: row["mean_square"][i - 1], ".2f") for i in (1, 2, 3, 5, 7, 10)},
    "standard error": (lambda row: row["standard_error"][-1], ".2f"),
}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures what becomes of the variance of activations in a deep network."""

    groups: tuple[str, ...] = ("C3", "C5", "C6", "C8", "C12", "C16", "D6", "D8")
    """Which groups."""
    kernel_sizes: tuple[int, ...] = (3, 5, 7, 9)
    """Pixels along each axis of the filters."""
    maps: int = 192
    """Channels times group elements of a feature map, about; 12 channels at least."""
    draws: int = 32
    """Networks; the mean counts."""
    size: int = 16
    """Pixels along each axis of the images."""


def main(arguments: Arguments) -> None:
    """Measures, prints a table and saves the figures."""
    use_compilation_cache()
    settings = {name: getattr(arguments, name) for name in ("maps", "draws", "size")}
    results = common.Results("variance", arguments.out, COLUMNS, layers=LAYERS, **settings, band=BAND, rows=[])
    for name, size, sampling in itertools.product(arguments.groups, arguments.kernel_sizes, SAMPLINGS):
        group = parse_group(name)
        row = {"group": repr(group), "kernel_size": size, **dataclasses.asdict(sampling)}
        results.add(row | measured(group, size, sampling, **settings))


def measured(group: Group, kernel_size: int, sampling: Sampling, **settings: int) -> Mapping[str, Any]:
    """The mean over the draws by layer, its standard error, and the wide network's."""
    squares = mean_squares(group, kernel_size, sampling, **settings)
    error = np.std(squares, axis=0, ddof=1) / np.sqrt(len(squares)) if len(squares) > 1 else np.zeros(squares.shape[1])
    basis = basis_of(group, kernel_size, sampling)
    gains = None if basis is None else spectrum(basis.table) / kernel_size**2
    return {
        "mean_square": np.mean(squares, axis=0).tolist(),
        "standard_error": error.tolist(),
        "predicted": None if basis is None else variances(gains, LAYERS).tolist(),
    }


def mean_squares(
    group: Group, kernel_size: int, sampling: Sampling, *, maps: int, draws: int, size: int, layers: int = LAYERS
) -> Float[np.ndarray, "draw layer"]:
    """The mean square of every layer's output, of random networks on random images."""
    channels = max(12, round(maps / group.order))
    margin = kernel_size // 2, kernel_size - 1 - kernel_size // 2

    def one(key):
        for_image, for_layers = jax.random.split(key)
        f = waves(for_image, size)[..., None, None] / jnp.sqrt(2)
        rngs, squares = nnx.Rngs(for_layers), []
        for layer in range(layers):
            conv = GroupConv(
                f.shape[-1], channels, kernel_size, group, lifting=layer == 0, sampling=sampling, exact=False, rngs=rngs
            )
            f = conv(jnp.pad(f, [margin, margin, (0, 0), (0, 0)], mode="wrap"))
            squares.append(jnp.mean(f**2))
            f = jax.nn.relu(f)
        return jnp.stack(squares)

    return np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys))(jax.random.split(jax.random.key(0), draws)))


def waves(key: Array, size: int) -> Float[Array, "x y"]:
    """A random periodic image of variance 1, of equal parts of all frequencies up to `BAND` cycles a pixel but 0."""
    radius = radii(size)
    kept = (radius > 0) & (radius <= BAND)
    image = jnp.fft.ifft2(jnp.fft.fft2(jax.random.normal(key, (size, size))) * kept).real
    return image / jnp.std(image)


cli = command(main, Arguments)
