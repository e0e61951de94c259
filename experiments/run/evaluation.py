"""Images that are evaluated a batch at a time."""

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from experiments.run.mesh import device_count

EVALUATION_BATCH = 250


def evaluation_batch() -> int:
    """How many images are evaluated at once, which devices share."""
    return -(-EVALUATION_BATCH // device_count()) * device_count()


def in_batches(array: Array, filling: int = 0) -> Array:
    """`[batches, image, ...]`, filled up at the end."""
    size = evaluation_batch()
    if len(array) == size:
        return array[None]
    padded = jnp.pad(array, [(0, -len(array) % size)] + [(0, 0)] * (array.ndim - 1), constant_values=filling)
    return padded.reshape(-1, size, *array.shape[1:])


@nnx.jit
def _logits(network, images):
    return network(images)


def predict(
    network: nnx.Module, images: Float[np.ndarray, "image x y 1 c"], batch_size: int = EVALUATION_BATCH
) -> Float[np.ndarray, "image classes"]:
    """Logits of a network in evaluation mode, a batch at a time."""
    logits = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        # One shape compiles once: the last batch is filled up and the filling dropped.
        filled = np.concatenate([batch, np.zeros((batch_size - len(batch), *batch.shape[1:]), batch.dtype)])
        logits.append(np.asarray(_logits(network, filled))[: len(batch)])
    return np.concatenate(logits)
