"""What a network does to a whole split: its confusions, and what turning the images changes."""

import math

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float, Int

from attgconv_jax import act, cyclic
from attgconv_jax.groups import Group
from attgconv_jax.lie import LieGroup
from experiments.data import Dataset
from experiments.run.training import predict


def measured_group(group: Group | LieGroup) -> Group:
    """The finite group over which equivariance is measured: of a Lie group the right angles in its grid.

    They alone permute pixels.
    """
    return cyclic(math.gcd(group.angles or 1, 4)) if isinstance(group, LieGroup) else group


def equivariance_line(group: Group | LieGroup, error: float) -> str:
    """The equivariance error of a network's logits over `measured_group(group)`, in words."""
    measured = measured_group(group)
    if isinstance(group, LieGroup) and measured.order == 1:
        return f"equivariance error of the logits: not measured, {group} permutes no pixels"
    over = f"the {'quarter' if measured.order == 4 else 'half'} turns of " if isinstance(group, LieGroup) else ""
    return f"equivariance error of the logits over {over}{group}: {error:.1e}"


def by_element(network: nnx.Module, dataset: Dataset, count: int) -> list[float]:
    """The largest change of the logits under each element of `measured_group`, relative to the largest logit.

    About 1e-6 where the group is exact. Arguments as of `by_angle`.
    """
    images, background = dataset.test.images[:count], float(dataset.train.images.min())
    return [change["largest_change"] for change in _changes(network, images, measured_group(network.group), background)]


def by_angle(network: nnx.Module, dataset: Dataset, step: float, count: int) -> list[dict[str, float]]:
    """What turning test images by every multiple of `step` degrees does, 360 degrees included.

    Right angles permute pixels. Others interpolate bilinearly and fill up with the darkest training pixel: part of the
    change they show is the interpolation's. Returns a record an angle: `degrees`; `logits_change`, the root mean square
    of the logits' change relative to that of the logits; `largest_change`, the largest relative to the largest logit;
    `error_percent`; `changed_percent`, of predictions.

    Args:
      network: in evaluation mode.
      dataset: standardised.
      step: divides 360.
      count: of test images, the first.
    """
    images, labels = dataset.test.images[:count], dataset.test.labels[:count]
    rotations = cyclic(round(360 / step))
    records = list(_changes(network, images, rotations, float(dataset.train.images.min()), labels))
    return [{"degrees": 360 * i / rotations.order, **record} for i, record in enumerate([*records, records[0]])]


def confusion(logits: Float[np.ndarray, "image classes"], dataset: Dataset) -> Int[np.ndarray, "label prediction"]:
    """How often test images of a class are taken for another."""
    counts = np.zeros((dataset.classes, dataset.classes), int)
    np.add.at(counts, (dataset.test.labels, logits.argmax(axis=1)), 1)
    return counts


def _changes(network, images, group, background, labels=None):
    """Yields what each element of the group changes, the identity included."""
    upright = predict(network, images)
    turn = jax.jit(act, static_argnums=(1, 2, 3))
    for element in range(group.order):
        logits = predict(network, np.asarray(turn(images - background, group, element, "image")) + background)
        change, predictions = logits - upright, logits.argmax(axis=1)
        record = {
            "logits_change": float(np.sqrt(np.mean(change**2) / np.mean(upright**2))),
            "largest_change": float(np.abs(change).max() / np.abs(upright).max()),
            "changed_percent": float(100 * np.mean(predictions != upright.argmax(axis=1))),
        }
        if labels is not None:
            record["error_percent"] = float(100 * np.mean(predictions != labels))
        yield record
