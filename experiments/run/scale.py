"""Whether pictures are on the scale of those that a network was trained on, as far as their means tell."""

import collections

import numpy as np

from attgconv_jax.preprocessing import Preprocessing

FACTOR, DEVIATIONS = 3, 5
"""Between means: of pictures of another type, and of any in deviations of the training pixels."""


class Scale:
    """Gathers types and means of pictures, and compares them with those of training."""

    def __init__(self, preprocessing: Preprocessing):
        self._preprocessing = preprocessing
        self._means = collections.defaultdict(list)

    def add(self, dtype: str, image: np.ndarray) -> None:
        """A picture's type in its file, and what the preprocessing has made of it."""
        mean, deviation = self._preprocessing.mean, self._preprocessing.deviation
        self._means[dtype].append(float(np.mean(image.mean(axis=(0, 1, 2)) * deviation + mean)))

    def note(self) -> str | None:
        """What is odd about the pictures, in a line; None where nothing is, or nothing is known of training.

        The mean of the pictures of a type is far from that of training if it differs by more than `DEVIATIONS`
        deviations; of those of another type also if the larger is more than `FACTOR` times the smaller.
        """
        trained, means, deviations = self._preprocessing.dtype, self._preprocessing.mean, self._preprocessing.deviation
        if (means, deviations) == (0, 1):
            # Those of a network whose images were not standardised.
            return None
        # Of all channels together, where each has its own.
        mean, deviation = np.mean(means), np.sqrt(np.mean(np.square(deviations)) + np.var(means))
        for dtype, means in self._means.items():
            found = float(np.mean(means))
            low, high = sorted((mean, found))
            if high - low > DEVIATIONS * deviation or (dtype != trained and high > FACTOR * low):
                which = f"these {len(means):,} {dtype} pictures have" if len(means) > 1 else f"this {dtype} picture has"
                return (
                    f"the network was trained on {trained} pictures of mean {mean:.3f} of white, {which} mean "
                    f"{found:.3f}: are they on the same scale?"
                )
        return None
