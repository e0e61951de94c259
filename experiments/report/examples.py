"""A picture of what augmentation does to training images."""

import pathlib
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from attgconv_jax.plotting.common import shown_images
from experiments.augmentation import AugmentConfig, augment
from experiments.data import Dataset
from experiments.data.dataset import sample_of
from experiments.report.figures import cut
from experiments.run.runtime import writing

ROWS, DRAWN = 6, 7


def draw_examples(dataset: Dataset, config: AugmentConfig, path: pathlib.Path, seed: int = 0) -> None:
    """Writes `augmentation_figure` to a file; its folder is made if needed."""
    figure = augmentation_figure(dataset, config, seed)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)


def augmentation_figure(dataset: Dataset, config: AugmentConfig, seed: int = 0) -> Figure:
    """Training images of different classes, a row each: as they are, and changed at random seven times.

    Without an augmentation: the first training images of every class, a row each, as the network gets them.

    Shades are those between the darkest and the brightest training pixel, what is beyond is cut off; channels that are
    neither one nor three are averaged. Mixed images say what they are made of.

    Args:
      dataset: standardised.
      config: what is done to them.
      seed: of the changes.
    """
    if not config.chosen:
        return _unchanged_figure(dataset)
    chosen = _of_different_classes(dataset.train.labels)
    images, labels = jnp.asarray(dataset.train.images[chosen]), jnp.asarray(dataset.train.labels[chosen])
    background = jnp.asarray(dataset.background)
    keys = jax.random.split(jax.random.key(seed), DRAWN)
    changed, mixture = jax.jit(jax.vmap(lambda key: augment(key, images, labels, config, background)))(keys)
    columns = _shown(np.concatenate([images[None], changed]), dataset)

    names = [cut(name, 18) for name in dataset.class_names]
    size = 1.25 * (1 + DRAWN) + 1, (1.45 if mixture else 1.25) * len(chosen) + 0.6
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(chosen), 1 + DRAWN, squeeze=False)
    for (row, column), axis in np.ndenumerate(axes):
        axis.imshow(columns[column, row], cmap="gray", vmin=0, vmax=1)
        axis.set(xticks=[], yticks=[])
        if mixture and column:
            share, other = float(mixture.share[column - 1, row]), int(mixture.labels[column - 1, row])
            axis.set_xlabel(f"+ {100 * (1 - share):.0f} % of {names[other]}", fontsize=8)
    for axis, label in zip(axes[:, 0], dataset.train.labels[chosen], strict=True):
        axis.set_ylabel(names[label], rotation="horizontal", ha="right", va="center", fontsize=10)
    axes[0, 0].set_title("as it is", fontsize=10)
    figure.suptitle(textwrap.fill(", ".join(_setting(kind, config) for kind in config.chosen), 100), fontsize=10)
    return figure


def _unchanged_figure(dataset):
    """The first images of the first classes."""
    labels, images = dataset.train.labels, dataset.train.images
    shown = np.unique(labels)[:ROWS]
    figure = Figure(figsize=(1.25 * (1 + DRAWN) + 1, 1.25 * len(shown) + 0.6), layout="constrained")
    axes = figure.subplots(len(shown), 1 + DRAWN, squeeze=False)
    for row, label in zip(axes, shown, strict=True):
        of_class = images[np.flatnonzero(labels == label)[: 1 + DRAWN]]
        for axis in row:
            axis.set(xticks=[], yticks=[], frame_on=False)
        for axis, image in zip(row, _shown(of_class, dataset), strict=False):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1)
        name = cut(dataset.class_names[label], 18)
        row[0].set_ylabel(name, rotation="horizontal", ha="right", va="center", fontsize=10)
    x, y = images.shape[1:3]
    figure.suptitle(f"training images of {x} x {y} pixels, without augmentation", fontsize=10)
    return figure


def _shown(images, dataset):
    """In the colours from before standardisation, between the darkest and the brightest training pixel."""
    sample = sample_of(dataset.train.images)
    ends = (end(sample, axis=(0, 1, 2, 3)) for end in (np.min, np.max))
    low, high = map(dataset.unstandardised, ends)
    return shown_images(dataset.unstandardised(images), (float(low.min()), float(high.max())))


def _setting(kind, config):
    value = getattr(config, kind.name)
    numbers = value if isinstance(value, tuple) else [] if value is True else [value]
    return " ".join([kind.name.replace("_", " "), *(f"{number:g}" for number in numbers)])


def _of_different_classes(labels):
    """The first images of the first classes; where there are fewer classes than rows, the next of each."""
    by_class = [np.flatnonzero(labels == label)[:ROWS] for label in np.unique(labels)[:ROWS]]
    ranked = sorted((rank, label, image) for label, images in enumerate(by_class) for rank, image in enumerate(images))
    chosen = sorted((label, rank, image) for rank, label, image in ranked[:ROWS])
    return np.array([image for *_, image in chosen])
