"""The test images whose wrong predictions are the most confident, with what the network attends to in them."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from scipy.special import softmax

from attgconv_jax.plotting import common
from attgconv_jax.plotting.layers import layers_of
from experiments.data import Dataset
from experiments.report.figures import cut

SHOWN = 12
"""So many mistakes are shown, if there are as many."""

_COLUMNS = 4


class Mistakes(NamedTuple):
    """Misclassified test images, the most confident first, and their attention."""

    places: Int[np.ndarray, " mistake"]
    """In the test split, from 0."""
    names: Sequence[str]
    """Of the images: files, or numbers in arrays or in the test split."""
    images: Float[np.ndarray, "mistake x y 1 c"]
    labels: Int[np.ndarray, " mistake"]
    predictions: Int[np.ndarray, " mistake"]
    probabilities: Float[np.ndarray, " mistake"]
    """Of the predictions."""
    maps: Float[np.ndarray, "mistake _x _y"] | None = None
    """Of attention, the mean over group elements and channels; None: there is none, or none over pixels."""
    layer: int | None = None
    """Whose attention that is, from 0."""


def worst_mistakes(
    network: nnx.Module, dataset: Dataset, logits: Float[np.ndarray, "image classes"], layer: int | None = None
) -> Mistakes:
    """The most confident mistakes of a network in evaluation mode, at most `SHOWN`.

    Args:
      network: of the registry, in evaluation mode.
      dataset: standardised.
      logits: the network's, of the test split.
      layer: whose attention is shown, from 0; None: the first that has attention over pixels.
    """
    probabilities, labels = softmax(logits.astype(np.float64), axis=1), dataset.test.labels
    predictions = logits.argmax(axis=1)
    confidence = probabilities[np.arange(len(labels)), predictions]
    wrong = np.flatnonzero(predictions != labels)
    places = wrong[np.argsort(-confidence[wrong], kind="stable")][:SHOWN]
    known = dataset.test.names
    names = [f"test image {place}" if known is None else known[place] for place in places]
    images = dataset.unstandardised(dataset.test.images[places])
    found = Mistakes(places, names, images, labels[places], predictions[places], confidence[places])
    if len(places):
        layers = network.attending_layers if layer is None else [layer]
        for attending in layers:
            maps = _attention(network, dataset.test.images, places, attending)
            if maps is not None:
                return found._replace(maps=maps, layer=attending)
    return found


def _attention(network, images, places, layer):
    """Attention maps of images; None where they have but one pixel."""
    # In the shape in which `draw_attention` asks by default: both have one program.
    filled = np.resize(places, SHOWN)
    batch = jnp.asarray(images[filled].reshape(4, SHOWN // 4, *images.shape[1:]))
    layers = layers_of(network)
    maps = list(common.maps_by_channel(layers.maps(batch, layer), None).values())
    if common.is_matrix(maps[0]):
        return None
    shown = np.mean([np.asarray(jnp.mean(alpha, axis=(-2, -1))) for alpha in maps], axis=0)
    return shown.reshape(SHOWN, *shown.shape[2:])[: len(places)]


def figure(mistakes: Mistakes, class_names: tuple[str, ...]) -> Figure:
    """Every mistake with label, prediction and its probability, beside it the attention, as `plotting` draws it."""
    count, with_maps = len(mistakes.places), mistakes.maps is not None
    wide = 2 if with_maps else 1
    columns = min(count, _COLUMNS if with_maps else _COLUMNS + 2)
    rows = -(-count // columns)
    side = 9.6 / (2 * _COLUMNS) if with_maps else 9.6 / (_COLUMNS + 2)
    made = Figure(figsize=(max(2.4, side * columns * wide), (side + 0.75) * rows), layout="constrained")
    axes = made.subplots(rows, columns * wide, squeeze=False).reshape(-1, wide)
    for axis in axes.ravel():
        axis.set(xticks=[], yticks=[])
        axis.set_axis_off()
    for i, cell in enumerate(axes[:count]):
        label, prediction = (cut(class_names[of[i]], 18) for of in (mistakes.labels, mistakes.predictions))
        title = f"{label}\ntaken for {prediction}\n({100 * mistakes.probabilities[i]:.1f} %)"
        cell[0].set_title(title, fontsize=8, loc="left")
        cell[0].imshow(common.shown_images(mistakes.images[i]), cmap="gray", vmin=0, vmax=1)
        cell[0].set_xlabel(cut(mistakes.names[i], 18, end=True), fontsize=7, loc="left")
        if with_maps:
            cell[1].imshow(mistakes.maps[i], cmap=common.MAP_COLOURS, **common.shades(mistakes.maps[i]))
            cell[1].set_xlabel(common.constant_value(mistakes.maps[i]) or "attention", fontsize=7)
        for axis in cell:
            axis.set_axis_on()
    return made
