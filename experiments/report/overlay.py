"""The picture of README: attention over a digit that turns, `python -m experiments.report.overlay NETWORK`.

NETWORK is any that `save_network` wrote, such as `runs/digits/networks/seed-0-best`, with spatial attention and a group
that has quarter turns.
"""

import dataclasses
import pathlib

import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from attgconv_jax import cyclic
from attgconv_jax.models import load_network
from attgconv_jax.plotting import common
from attgconv_jax.plotting.layers import layers_of
from experiments.data import DatasetName, load
from experiments.run.runtime import command

QUARTER_TURNS = cyclic(4)
COLOURS = "YlOrRd"
# Digits as ink on paper, for the warm overlay is light where attention is weak.
PAPER = dict(common.IMAGE_LOOK, cmap="gray_r")


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Draws the attention of a trained network over a test digit at four quarter turns."""

    network: tyro.conf.Positional[pathlib.Path]
    """Folder that `save_network` wrote."""
    data: DatasetName = "digits"
    """Data set on which it was trained."""
    image: int = 42
    """Which of the test split."""
    layer: int = 1
    """Whose attention, from 0."""
    out: pathlib.Path = pathlib.Path("attention.png")
    """File to write; its ending decides the format."""


def main(arguments: Arguments) -> None:
    """Draws and writes the picture."""
    image = jnp.asarray(load(arguments.data).standardised().test.images[arguments.image])
    overlay_figure(load_network(arguments.network), image, arguments.layer).savefig(arguments.out, dpi=110)
    print(f"picture: {arguments.out}")


def overlay_figure(network: nnx.Module, image: Float[Array, "x x 1 c"], layer: int) -> Figure:
    """An image at four quarter turns, the attention computed for each as a warm overlay, and that turned back.

    The overlay is what attention keeps of the layer's input, `1 - alpha` where `alpha` suppresses, as the mean over
    group and channels, from its 40th percentile (transparent) to its largest value (dark red).
    """
    layers = layers_of(network)
    rotated = jnp.stack([common.turned_image(image, QUARTER_TURNS, g) for g in range(4)])
    layer = layers.attending_layer(layer, rotated)
    (alpha,) = common.maps_by_channel(layers.maps(rotated, layer), None).values()
    if common.is_matrix(alpha):
        raise ValueError(f"layer {layer} attends to channels alone: take a network with spatial attention")
    maps = jnp.mean(alpha, axis=(-2, -1), keepdims=True)
    maps = 1 - maps if layers.combination(layer) == "suppress" else maps
    back = jnp.stack([common.turned_back(maps[g], QUARTER_TURNS, g, pairs=False) for g in range(4)])
    same = np.allclose(back, back[0], rtol=1e-4)
    rows = {
        "a handwritten digit,\nturned": (rotated, None),
        "what the network\nattends to": (rotated, maps),
        "turned back:\nall four are equal" if same else "turned back": (rotated[:1], back),
    }
    low = np.percentile(maps, 40)
    # Numbers that differ by rounding alone are to look alike.
    high = max(np.max(maps), low + 1e-4)
    figure = Figure(figsize=(8.6, 5.2), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03)
    axes = figure.subplots(len(rows), 4)
    for (label, (images, attention)), row in zip(rows.items(), axes, strict=True):
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=12, labelpad=12)
        for g, axis in enumerate(row):
            _draw(axis, images[g % len(images)], None if attention is None else attention[g], (low, high))
    for g, axis in enumerate(axes[0]):
        axis.set_title(f"{90 * g}°", fontsize=12)
    return figure


def _draw(axis, image, attention, limits):
    """An image, and attention over it: maps are smaller by the borders that were cut, and by pooling."""
    picture = common.shown_images(image)
    size = len(picture)
    axis.set(xticks=[], yticks=[])
    for side in axis.spines.values():
        side.set_color("0.8")
    axis.imshow(picture, extent=(0, size, size, 0), **PAPER)
    if attention is not None:
        shown = np.asarray(attention[..., 0, 0])
        strength = np.clip((shown - limits[0]) / (limits[1] - limits[0]), 0, 1)
        margin = (size - len(shown) * (size // len(shown))) / 2
        look = dict(cmap=COLOURS, vmin=limits[0], vmax=limits[1], extent=(margin, size - margin, size - margin, margin))
        axis.imshow(shown, alpha=0.65 * strength, **look)
        axis.set(xlim=(0, size), ylim=(size, 0))


cli = command(main, Arguments)
