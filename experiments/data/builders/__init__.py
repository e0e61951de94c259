"""TFDS builders of the sets that `experiments.data.prepare` writes; only they import TFDS when they are imported."""
