"""How much a class counts in the loss, where classes have unequally many images."""

import numpy as np
from jaxtyping import Float, Int


def class_weights(
    setting: str | tuple[float, ...], labels: Int[np.ndarray, " image"], classes: int
) -> Float[np.ndarray, " classes"] | None:
    """The factors of the classes' losses, whose mean over the training images is one; None: all are one.

        "balanced":    n / (k n_c),    n images, n_c of class c, k classes that have any
        numbers a_c:   a_c n / sum over c of a_c n_c

    Args:
      setting: "none", "balanced", or a positive number a class.
      labels: of the training images.
      classes: how many there are.
    """
    if setting == "none":
        return None
    counts = np.bincount(labels, minlength=classes)
    if setting == "balanced":
        relative = np.where(counts > 0, 1 / np.maximum(counts, 1), 0)
    elif len(setting) == classes:
        relative = np.asarray(setting, float)
    else:
        raise ValueError(f"optimizer.class_weights must be {classes} numbers, one a class, got {len(setting)}")
    return relative * len(labels) / (relative @ counts)
