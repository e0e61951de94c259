"""What a network does to a whole split: its confusions, and what turning the images changes."""

import functools
import math
import time
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Float, Int

from attgconv_jax import act, cyclic
from attgconv_jax.groups import Group
from attgconv_jax.lie import LieGroup
from experiments.data import Dataset
from experiments.data.own import plural
from experiments.run.evaluation import EVALUATION_BATCH, predict

_FLOATS_TOGETHER = 2**25

EQUIVARIANCE_SECONDS = 60.0
"""Measuring an equivariance error takes about as long at most."""


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


def turning_line(angles: Sequence[Mapping[str, float]], images: int) -> str:
    """What `by_angle` has measured of so many images, in words."""
    logits, predictions = (max(record[field] for record in angles) for field in ("logits_change", "changed_percent"))
    # The last is the first again.
    turns = len(angles) - 1
    return (
        f"{plural(images, 'test image', 'test images')} turned by {turns} angles, every {360 / turns:g} degrees: at "
        f"the worst angle {predictions:.1f} % are classified otherwise than upright, and the logits differ from those "
        f"of upright images by {100 * logits:.1f} % of their size"
    )


def equivariance_images(network: nnx.Module, dataset: Dataset) -> int:
    """Of how many test images an equivariance error over `measured_group` is measured: a batch, where that is fast.

    Where a batch takes so long that all elements would take more than `EQUIVARIANCE_SECONDS`, a power of two that takes
    less, 8 at least: one shape serves other runs from the compilation cache.
    """
    images, evaluations = dataset.test.images[:EVALUATION_BATCH], 1 + measured_group(network.group).order
    # The first call may compile; only where it takes long is there a second.
    for _ in range(2):
        began = time.perf_counter()
        predict(network, images)
        share = EQUIVARIANCE_SECONDS / (evaluations * (time.perf_counter() - began))
        if share >= 1:
            return len(images)
    return min(len(images), 2 ** max(3, int(EVALUATION_BATCH * share).bit_length() - 1))


def by_element(network: nnx.Module, dataset: Dataset, count: int | None = None) -> list[float]:
    """The largest change of the logits under each element of `measured_group`, relative to the largest logit.

    About 1e-6 where the group is exact. Arguments as of `by_angle`; without `count` it is `equivariance_images`.
    """
    count = equivariance_images(network, dataset) if count is None else count
    images, background = dataset.test.images[:count], dataset.background
    batch_size = batch_for(dataset, count)
    changes = _changes(network, images, measured_group(network.group), background, batch_size)
    return [change["largest_change"] for change in changes]


def batch_for(dataset: Dataset, count: int) -> int:
    """Of so many test images: as ever, unless they are fewer than `equivariance_images` takes of a fast network."""
    return count if count < min(EVALUATION_BATCH, len(dataset.test)) else EVALUATION_BATCH


def by_angle(network: nnx.Module, dataset: Dataset, step: float, count: int) -> list[dict[str, float]]:
    """What turning test images by every multiple of `step` degrees does, 360 degrees included.

    Right angles permute pixels. Others interpolate bilinearly and fill up with the darkest training pixel: part of the
    change they show is the interpolation's. Returns a record an angle: `degrees`; `logits_change`, the root mean square
    of the logits' change relative to that of the logits; `largest_change`, the largest relative to the largest logit;
    `error_percent`; `changed_percent`, of predictions. Logits that are all zero change by 0 if they stay so, else by 1.

    Args:
      network: in evaluation mode.
      dataset: standardised.
      step: divides 360.
      count: of test images, the first.
    """
    images, labels = dataset.test.images[:count], dataset.test.labels[:count]
    rotations = cyclic(round(360 / step))
    # All angles of as many images as fit together, so that the last batch of a few images is not one an angle.
    parts = -(-images.size * rotations.order // _FLOATS_TOGETHER)
    background = dataset.background
    logits = np.concatenate(
        [_turned_logits(network, part, rotations, background) for part in np.array_split(images, parts)], axis=1
    )
    records = [_change(turned, logits[0], labels) for turned in logits]
    return [{"degrees": 360 * i / rotations.order, **record} for i, record in enumerate([*records, records[0]])]


def confusion(logits: Float[np.ndarray, "image classes"], dataset: Dataset) -> Int[np.ndarray, "label prediction"]:
    """How often test images of a class are taken for another."""
    counts = np.zeros((dataset.classes, dataset.classes), int)
    np.add.at(counts, (dataset.test.labels, logits.argmax(axis=1)), 1)
    return counts


def _turned_logits(network, images, rotations, background):
    """Logits of images under every rotation, `[rotation, image, classes]`."""
    turned = [_rotated(images - background, rotations, element) + background for element in range(rotations.order)]
    return predict(network, np.concatenate(turned)).reshape(rotations.order, len(images), -1)


def _rotated(images, rotations, element):
    """`act` on images in NumPy, with one program for all angles that interpolate."""
    if rotations.preserves_grid[element]:
        return np.rot90(images, 4 * element // rotations.order, axes=(1, 2))
    return np.asarray(_interpolated(images, rotations.matrices[element]))


@jax.jit
def _interpolated(images, matrix):
    """Images `[image, x, x, 1, c]` turned by a matrix: bilinear, zero outside."""
    offset = jnp.arange(images.shape[1]) - (images.shape[1] - 1) / 2
    source = jnp.einsum("ji,jxy->ixy", matrix, jnp.stack(jnp.meshgrid(offset, offset, indexing="ij"))) - offset[0]
    sample = functools.partial(map_coordinates, coordinates=list(source), order=1)
    over_channels = jax.vmap(sample, in_axes=-1, out_axes=-1)
    return jax.vmap(over_channels)(images[..., 0, :])[..., None, :]


def _changes(network, images, group, background, batch_size):
    """Yields what each element of the group changes, the identity included."""
    upright = predict(network, images, batch_size)
    turn = jax.jit(act, static_argnums=(1, 2, 3))
    for element in range(group.order):
        turned = np.asarray(turn(images - background, group, element, "image")) + background
        logits = predict(network, turned, batch_size)
        yield _change(logits, upright)


def _change(logits, upright, labels=None):
    """The record of `by_angle` for logits of turned images."""
    change, predictions = logits - upright, logits.argmax(axis=1)
    record = {
        "logits_change": _relative(np.sqrt(np.mean(change**2)), np.sqrt(np.mean(upright**2))),
        "largest_change": _relative(np.abs(change).max(), np.abs(upright).max()),
        "changed_percent": float(100 * np.mean(predictions != upright.argmax(axis=1))),
    }
    return record if labels is None else record | {"error_percent": float(100 * np.mean(predictions != labels))}


def _relative(change, size):
    """A change relative to a size; of nothing 0 if it stays so, else 1."""
    return float(change / size) if size else float(change > 0)
