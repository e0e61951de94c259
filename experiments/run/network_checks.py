"""What a network must do for the options of its training, asked by tracing it before anything is written."""

import jax
import jax.extend
from flax import nnx

from experiments.data import Dataset
from experiments.run.training import Trainer, TrainState


def check_single_images(trainer: Trainer, dataset: Dataset) -> None:
    """Raises a `ValueError` where a network does not train on one image at a time, as some batch norms do not."""
    state = _abstract_state(trainer)
    try:
        jax.eval_shape(trainer.loss, state.params, state.rest, dataset.train.images[:1], dataset.train.labels[:1])
    except ValueError as error:
        whole = trainer.accumulate == 1
        wanted = "optimizer.batch_size must be" if whole else "optimizer.accumulate must leave parts of"
        got = "" if whole else f", {trainer.accumulate} parts of {trainer.batch_size}"
        raise ValueError(f"{wanted} at least 2 for this network, got 1{got}: {error}") from error


def check_checkpointing(trainer: Trainer, dataset: Dataset) -> None:
    """Raises a `ValueError` where a network has no blocks whose inside its gradient could compute again."""
    state, images, counts = _abstract_state(trainer), dataset.train.images[:2], []
    for checkpoints in (True, False):

        def logits(params, rest, images, checkpoints=checkpoints):
            network = nnx.merge(trainer.graph, params, rest, copy=True)
            network.gradient_checkpointing = checkpoints
            return network(images)

        counts.append(_checkpoints(jax.make_jaxpr(logits)(state.params, state.rest, images).jaxpr))
    # Some layers have checkpoints of their own.
    if counts[0] == counts[1]:
        raise ValueError(
            "optimizer.gradient_checkpointing has no effect on this network, which names no blocks (by _block of "
            "attgconv_jax.models.Network): leave it out"
        )


def _abstract_state(trainer) -> TrainState:
    return jax.eval_shape(lambda: jax.tree.map(lambda leaf: leaf[0], trainer.init((0,))))


def _checkpoints(jaxpr):
    """How many there are, those within others included."""
    return sum(
        equation.primitive.name.startswith(("checkpoint", "remat"))
        + sum(map(_checkpoints, jax.extend.core.jaxprs_in_params(equation.params)))
        for equation in jaxpr.eqns
    )
