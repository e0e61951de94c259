"""What the page of a run shows: measured once, of one network on one data set."""

import dataclasses
import pathlib
import time
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
from experiments.run.evaluation import EVALUATION_BATCH, predict
from experiments.run.waiting import doing

ANGLE_STEP = 15.0
"""Degrees between the angles at which images are turned, by default."""

ANGLE_SECONDS = 60.0
"""Turning images takes no longer by default."""

PENDING = "This is not drawn yet. Where the process was stopped, python -m experiments.evaluate draws all figures."

_LAYER_IMAGES = 4
_FEWEST = 20


@dataclasses.dataclass(frozen=True)
class Findings:
    """The figures of one network, of which pages are made.

    Attributes:
      name: of the run, or of the network.
      data: what the test images are, in words.
      class_names: in the order of the labels.
      report: as of `report_of`; of a network without a run its settings, data, device and errors as loaded.
      confusion: of the test split.
      mistakes: on the test split; None: they are not known yet.
      angles: by name of a network what `by_angle` has measured: of this one first, and of those beside it; none if
        it is not known yet.
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
    mistakes: Mistakes | None
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
    seconds: float | None = ANGLE_SECONDS,
    **known: Any,
) -> Findings:
    """Measures a network on the test split of a standardised set.

    Args:
      name: of the run, or of the network.
      network: of the registry, in evaluation mode.
      dataset: standardised.
      angle_images: how many test images are turned, if `seconds` allow.
      angle_step: in degrees; divides 360.
      seconds: that turning them may take, else fewer images are turned, or by fewer angles; None: any.
      layer: whose attention is shown beside mistakes, from 0; None: the first with attention over pixels.
      known: further fields of `Findings`.
    """
    began = time.perf_counter()
    logits = predict(network, dataset.test.images)
    # Whatever made the figures in `known` has compiled the program, and the last batch is filled up.
    an_image = (time.perf_counter() - began) / (EVALUATION_BATCH * -(-len(logits) // EVALUATION_BATCH))
    with doing("looking at mistakes"):
        mistakes = worst_mistakes(network, dataset, logits, layer)
    count, step = angle_images, angle_step
    if seconds is not None:
        count, step = affordable(angle_images, angle_step, an_image, seconds)
    with doing(_turning(count, step, angle_images, angle_step), an_image * count * 360 / step):
        angles = by_angle(network, dataset, step, count)
    with doing("measuring how equivariant every layer is"):
        layers = _layers(network, dataset)
    return Findings(
        name=name,
        data=dataset.name,
        class_names=dataset.class_names,
        confusion=confusion(logits, dataset),
        mistakes=mistakes,
        angles={name: angles},
        angle_images=count,
        layers=layers,
        **known,
    )


def first_findings(name: str, dataset: Dataset, *, report: Mapping[str, Any], **known: Any) -> Findings:
    """What is known without a network: the figures of a report, whose first seed's confusions they are.

    Args:
      name: of the run.
      dataset: of the report.
      report: as of `report_of`.
      known: further fields of `Findings`.
    """
    counts = np.array(report["classes"]["confusion"][0])
    names = dataset.class_names
    return Findings(name, dataset.name, names, report, counts, None, {}, 0, PENDING, **known)


def affordable(images: int, step: float, an_image: float, seconds: float) -> tuple[int, float]:
    """How many images are turned, and by multiples of which angle, so that it takes so many seconds at most.

    Angles become fewer where else less than 20 images would be left; so many are turned by quarter turns at least.
    """
    for coarser in [step, *(each for each in (45.0, 90.0) if each > step)]:
        most = int(seconds * coarser / (360 * max(an_image, 1e-9)))
        if most >= min(images, _FEWEST):
            return min(images, most), coarser
    return min(images, _FEWEST), max(step, 90.0)


def _turning(count, step, wanted, wanted_step):
    """What is done in words, and what is not."""
    longer = f" ({wanted} by {360 / wanted_step:g} would take over {ANGLE_SECONDS:g} s)"
    fewer = "" if (count, step) == (wanted, wanted_step) else longer
    return f"turning {count} test images by {360 / step:g} angles{fewer}"


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
