"""Data sets, checked where they enter."""

from experiments.data.dataset import Dataset, Split
from experiments.data.digits import rotated_digits

__all__ = ["Dataset", "Split", "rotated_digits"]
