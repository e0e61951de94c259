"""The exponential moving average of a network over its training."""

from typing import Any

import jax
import jax.numpy as jnp


def averaged(average: Any, newest: Any, decay: float, step: jax.Array) -> Any:
    """The average after a step, a pytree; of keys and counts, which do not float, the newest.

    average + (1 - d) (newest - average),    d = min(decay, (1 + step) / (10 + step))

    Args:
      average: before the step.
      newest: parameters and other variables after it.
      decay: in (0, 1); the rise to it makes an average over few steps forget where it began.
      step: counted from 0.

    Source: the rise is that of TensorFlow's `ExponentialMovingAverage` with `num_updates`.
    """
    weight = 1 - jnp.minimum(decay, (1 + step) / (10 + step))

    def move(average, newest):
        return average + weight.astype(newest.dtype) * (newest - average) if is_floating(newest) else newest

    return jax.tree.map(move, average, newest)


def is_floating(leaf: jax.Array) -> bool:
    """Whether an array holds floating numbers."""
    return jnp.issubdtype(leaf.dtype, jnp.floating)
