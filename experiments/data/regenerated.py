"""How the sets regenerated from MNIST choose and turn their images; NumPy and SciPy only."""

import dataclasses
import hashlib
from collections.abc import Mapping

import numpy as np

from experiments.data.rotation import SCALES, turned

SEED = 2007
SIZES = {"train": 10_000, "validation": 2_000, "test": 50_000}


@dataclasses.dataclass(frozen=True)
class Turns:
    """Which images a split takes, `[image]` (int64); angle in radians and scale of each, `[image]` (float32)."""

    indices: np.ndarray
    angles: np.ndarray
    scales: np.ndarray


def choose_turns(
    images: np.ndarray, labels: np.ndarray, sizes: Mapping[str, int] = SIZES, seed: int = SEED
) -> dict[str, Turns]:
    """Disjoint random splits; for each of their images an angle uniform over the circle, and a scale over `SCALES`.

    The images are first put in the order of SHA-256 of their pixels and label, so that nothing depends on the order
    in which they come. All regenerated sets take this choice, and each leaves out what it does not change: an image is
    in the same split of all of them, by the same angle and scale.

    Args:
      images: `[image, row, column]`, uint8.
      labels: `[image]`, integers in 0 to 255.
      sizes: images a split, in the order in which the splits take theirs.
      seed: of the one generator, which draws the permutation first, then the angles, then the scales.

    Source: our own; sizes and angles after Larochelle et al. 2007, scales after Kanazawa et al. 2014.
    """
    if images.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"images must be uint8 with one label an image, got {images.dtype} of shape {images.shape} and labels of "
            f"shape {labels.shape}"
        )
    if sum(sizes.values()) > len(images):
        raise ValueError(f"sizes must sum to at most the {len(images)} images, got {sum(sizes.values())}")
    pairs = zip(images, labels, strict=True)
    hashes = [hashlib.sha256(image.tobytes() + bytes([label])).digest() for image, label in pairs]
    by_content = np.array(sorted(range(len(images)), key=hashes.__getitem__))
    generator = np.random.default_rng(seed)
    order = by_content[generator.permutation(len(images))]
    angles = generator.uniform(0, 2 * np.pi, len(images)).astype(np.float32)
    scales = generator.uniform(*SCALES, len(images)).astype(np.float32)
    return {name: Turns(order[part], angles[part], scales[part]) for name, part in consecutive(sizes).items()}


def consecutive(sizes: Mapping[str, int]) -> dict[str, slice]:
    """The slices of parts of these sizes, one after the other, by name."""
    ends = np.cumsum(list(sizes.values()))
    return {name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends.tolist(), strict=True)}


def turned_pixels(image: np.ndarray, angle: float = 0, scale: float = 1) -> np.ndarray:
    """The uint8 image turned by `angle` radians and scaled (see `turned`), clipped to 0 to 255 and rounded."""
    placed = turned(image.astype(np.float64), float(angle), grid=len(image), side=len(image) * float(scale))
    return np.rint(np.clip(placed, 0, 255)).astype(np.uint8)
