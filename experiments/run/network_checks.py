"""What a network must do for the options of its training, asked by tracing it before anything is written."""

import jax
import jax.extend

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
    state, images = _abstract_state(trainer), dataset.train.images[:2]
    program = jax.make_jaxpr(trainer.loss)(state.params, state.rest, images, dataset.train.labels[:2])
    if not _has_checkpoints(program.jaxpr):
        raise ValueError(
            "optimizer.gradient_checkpointing has no effect on this network, which names no blocks (by _block of "
            "attgconv_jax.models.Network): leave it out"
        )


def _abstract_state(trainer) -> TrainState:
    return jax.eval_shape(lambda: jax.tree.map(lambda leaf: leaf[0], trainer.init((0,))))


def _has_checkpoints(jaxpr):
    return any(
        equation.primitive.name.startswith(("checkpoint", "remat"))
        or any(map(_has_checkpoints, jax.extend.core.jaxprs_in_params(equation.params)))
        for equation in jaxpr.eqns
    )
