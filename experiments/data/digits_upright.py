"""The embedded digits as they were written, to see what networks make of images that turn when none has in training."""

from experiments.data.dataset import Dataset, register
from experiments.data.digits import placed_digits


@register("digits_upright")
def upright_digits(seed: int = 0) -> Dataset:
    """scikit-learn's handwritten digits, enlarged and not turned; splits and digits are those of `rotated_digits`."""
    return placed_digits(f"upright digits (seed {seed})", "digits_upright", seed, turning=False)
