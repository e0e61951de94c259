"""The embedded data sets: real handwriting, which needs no network and no TensorFlow."""

import numpy as np

from experiments.data.dataset import Dataset, Split, describe, register
from experiments.data.regenerated import consecutive
from experiments.data.rotation import SCALES, turned

SIZE = 28
DIGIT_SIZE = 20
SPLITS = {"train": 1000, "validation": 297, "test": 500}


@register("digits")
def rotated_digits(seed: int = 0) -> Dataset:
    """scikit-learn's handwritten digits, enlarged and rotated by angles uniform over the full circle.

    1,797 digits of 8x8 pixels (UCI, Alpaydin and Kaynak 1998). Each is turned once about its centre and enlarged to
    20x20 pixels in the middle of 28x28, as MNIST's digits are, in one resampling with cubic splines. The seed decides
    the split (1,000 train, 297 validation, 500 test, disjoint) and the angles; a writer may stand in more than one.
    """
    return _placed_digits(f"rotated digits (seed {seed})", "digits", seed)


@register("digits_rot_scale")
def rotated_scaled_digits(seed: int = 0) -> Dataset:
    """As `rotated_digits`, and each scaled as well, from the 20x20 pixels by a factor uniform in [0.3, 1].

    Split and angles are those of `rotated_digits` for the same seed; the scales are drawn after them.
    """
    return _placed_digits(f"rotated and scaled digits (seed {seed})", "digits_rot_scale", seed, SCALES)


def _placed_digits(title, name, seed, scales=(1.0, 1.0)):
    # It takes two seconds to import, and the prepared sets do without.
    from sklearn.datasets import load_digits  # noqa: PLC0415

    digits = load_digits()
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(digits.images))
    angles = generator.uniform(0, 2 * np.pi, len(order))
    sides = DIGIT_SIZE * generator.uniform(*scales, len(order))
    placed = zip(order, angles, sides, strict=True)
    images = np.stack([turned(digits.images[i] / 16, angle, SIZE, side) for i, angle, side in placed])
    images = np.clip(images, 0, 1)[:, :, :, None, None].astype(np.float32)
    labels = digits.target[order].astype(np.int32)
    splits = {split: Split(images[part], labels[part]) for split, part in consecutive(SPLITS).items()}
    provenance = describe(name, "1.0.0", str(seed), splits)
    return Dataset(name=title, classes=10, provenance=provenance, **splits)
