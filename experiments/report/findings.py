"""What the page of a run shows: measured once, of one network on one data set."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Int

from attgconv_jax import cyclic, plotting
from attgconv_jax.plotting.layers import layers_of
from experiments.data import Dataset
from experiments.report.measures import by_angle, confusion
from experiments.report.mistakes import Mistakes, worst_mistakes
from experiments.run.configuration import Config
from experiments.run.training import predict

ANGLE_STEP = 15.0
"""Degrees between the angles at which images are turned, by default."""

_LAYER_IMAGES = 4


@dataclasses.dataclass(frozen=True)
class Findings:
    """The figures of one network, of which pages are made.

    Attributes:
      name: of the run, or of the network.
      data: what the test images are, in words.
      class_names: in the order of the labels.
      report: as of `report_of`; of a network without a run its settings, data, device and errors as loaded.
      confusion: of the test split.
      mistakes: on the test split.
      angles: by name of a network what `by_angle` has measured: of this one first, and of those beside it.
      angle_images: how many test images were turned.
      layers: equivariance error by layer; or, in a sentence, why there is none.
      metrics: a record an epoch.
      command: that made the page; None: Python.
      attention: pictures that `draw_attention` has written.
    """

    name: str
    data: str
    class_names: tuple[str, ...]
    report: Mapping[str, Any]
    confusion: Int[np.ndarray, "label prediction"]
    mistakes: Mistakes
    angles: Mapping[str, Sequence[Mapping[str, float]]]
    angle_images: int
    layers: Sequence[tuple[str, float]] | str
    metrics: Sequence[Mapping[str, Any]] = ()
    command: str | None = None
    attention: Sequence[pathlib.Path] = ()


def findings_of(
    name: str,
    network: nnx.Module,
    dataset: Dataset,
    *,
    angle_images: int,
    angle_step: float = ANGLE_STEP,
    layer: int | None = None,
    **known: Any,
) -> Findings:
    """Measures a network on the test split of a standardised set.

    Args:
      name: of the run, or of the network.
      network: of the registry, in evaluation mode.
      dataset: standardised.
      angle_images: how many test images are turned.
      angle_step: in degrees; divides 360.
      layer: whose attention is shown beside mistakes, from 0; None: the first with attention over pixels.
      known: further fields of `Findings`.
    """
    logits = predict(network, dataset.test.images)
    return Findings(
        name=name,
        data=dataset.name,
        class_names=dataset.class_names,
        confusion=confusion(logits, dataset),
        mistakes=worst_mistakes(network, dataset, logits, layer),
        angles={name: by_angle(network, dataset, angle_step, angle_images)},
        angle_images=angle_images,
        layers=_layers(network, dataset),
        **known,
    )


def angle_images_of(config: Config, dataset: Dataset) -> int:
    """How many test images are turned at the end of training, by `ANGLE_STEP`: as many as take about 3 % of its time.

    A training step takes as long as three predictions. 50 to 500, and no more than there are.
    """
    predictions = 3 * config.optimizer.epochs * len(dataset.train)
    count = int(np.clip(0.03 * predictions * ANGLE_STEP / 360, 50, 500))
    return min(count, len(dataset.test))


def _layers(network, dataset):
    """The equivariance error of every layer on a few test images, or why it is not measured."""
    group = layers_of(network).group
    if group is None:
        return f"{network.group} does not act on feature maps as a finite group, so that no layer's error is measured."
    group = cyclic(4) if group.order == 1 else group
    errors = plotting.layer_errors(network, jnp.asarray(dataset.test.images[:_LAYER_IMAGES]), group)
    silent = [layer for layer, error in errors if not np.isfinite(error)]
    if silent:
        return f"What follows {silent[0]} is zero everywhere until the images turn, so that no error is relative to it."
    return errors
