"""A learning rate that is halved where validation accuracy stands still; every seed has its own."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

FACTOR = 0.5


class PlateauState(NamedTuple):
    """Part of the optimiser's state, so that checkpoints hold it."""

    factor: jax.Array
    """Of the learning rate."""
    waited: jax.Array
    """Epochs since validation accuracy was better than ever before, or since the rate fell."""


def scale_by_plateau() -> optax.GradientTransformation:
    """Multiplies updates by a factor that `after_epoch` changes, and no step does."""

    def init(params):
        return PlateauState(jnp.ones([], jnp.float32), jnp.zeros([], jnp.int32))

    def update(updates, state, params=None):
        return jax.tree.map(lambda update: update * state.factor.astype(update.dtype), updates), state

    return optax.GradientTransformation(init, update)


def after_epoch(opt_state: Any, better: jax.Array, patience: int) -> Any:
    """The optimiser's state after an epoch, whose validation accuracy was better than ever before or was not.

    The factor is halved after `patience` consecutive epochs without improvement; the count then restarts. The state of
    an optimiser with another schedule stays as it is.

    Source: Romero et al. 2020, section 5.3, where PyTorch's `ReduceLROnPlateau` waits one epoch more than it is told.
    """

    def changed(state):
        return _counted(state, better, patience) if _is_plateau(state) else state

    return jax.tree.map(changed, opt_state, is_leaf=_is_plateau)


def learning_rates(rate: float, opt_state: Any) -> float | list[float]:
    """The learning rate of a schedule, times each seed's factor where there is one."""
    states = [state for state in jax.tree.leaves(opt_state, is_leaf=_is_plateau) if _is_plateau(state)]
    return (rate * states[0].factor).tolist() if states else rate


@functools.partial(jax.jit, static_argnames="patience")
def _counted(state, better, patience):
    waited = jnp.where(better, 0, state.waited + 1)
    falls = waited >= patience
    return PlateauState(jnp.where(falls, FACTOR, 1) * state.factor, jnp.where(falls, 0, waited))


def _is_plateau(state):
    return isinstance(state, PlateauState)
