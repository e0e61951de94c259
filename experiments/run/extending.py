"""A run whose number of epochs is changed: what becomes of its learning rate, and what its description says of it.

A run is extended where its newest checkpoint stands. Steps up to there had the schedule of the epochs of then, and keep
it should one of them be taken again; those after follow the schedule of the epochs of now.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import optax

from experiments.run.configuration import Config, OptimizerConfig
from experiments.run.optimizer import make_schedule
from experiments.run.runtime import describe_device

Extensions = Sequence[Mapping[str, Any]]
"""Records as `extension` makes them, the first first."""


def schedule_of(config: OptimizerConfig, steps_per_epoch: int, extensions: Extensions = ()) -> optax.Schedule:
    """The learning rate of every step, counted from 0, of a run that was extended, or was not.

    rate(step) = rate of the epochs that the run had when the step was taken
    """
    if config.schedule != "cosine":
        extensions = ()
    epochs = [*(record["from_epochs"] for record in extensions), config.epochs]
    *before, now = (make_schedule(dataclasses.replace(config, epochs=count), steps_per_epoch) for count in epochs)
    if not before:
        return now

    def schedule(count):
        rate = now(count)
        for former, record in zip(reversed(before), reversed(extensions), strict=True):
            rate = jnp.where(count < record["step"], former(count), rate)
        return rate

    return schedule


def extension(former: Config, epochs: int, step: int, steps_per_epoch: int) -> dict[str, Any]:
    """What a run's description says of being extended: epochs before and after, where, when, and by what.

    Args:
      former: the run's configuration until now.
      epochs: that it shall have.
      step: of its newest checkpoint.
      steps_per_epoch: of the run.

    Raises:
      ValueError: it has trained more epochs than that.
    """
    trained = -(-step // steps_per_epoch)
    if epochs < trained:
        raise ValueError(
            f"optimizer.epochs must be at least {trained}, the epochs that this run has trained, got {epochs}: "
            f"give --optimizer.epochs {former.optimizer.epochs}, which it has now, or another --workdir"
        )
    return {
        "from_epochs": former.optimizer.epochs,
        "epochs": epochs,
        "step": step,
        "epoch": round(step / steps_per_epoch, 2),
        "date": time.strftime("%Y-%m-%d"),
        **describe_device(),
    }


def extension_message(config: OptimizerConfig, steps_per_epoch: int, extensions: Extensions) -> str:
    """What the last extension of a run does to its length and to its learning rate, in words.

    Args:
      config: of the run as it is now.
      steps_per_epoch: of the run.
      extensions: at least one.
    """
    record = extensions[-1]
    step, epochs, former = record["step"], record["epochs"], record["from_epochs"]
    changed = f"{'extended' if epochs > former else 'shortened'} from {former} to {epochs} epochs"
    if step >= epochs * steps_per_epoch:
        return f"{changed}, all of which are trained"
    if config.schedule == "plateau":
        return f"{changed}: the learning rate is halved where validation accuracy stands still, as before"
    where = f"continues after epoch {record['epoch']:g}" if step else "begins anew"
    follows = f"the learning rate follows the {config.schedule} schedule of {epochs} epochs"
    if config.schedule == "constant":
        follows = "the learning rate stays constant"
    elif config.schedule == "step":
        follows = f"the learning rate falls after the epochs {' '.join(map(str, config.milestones))} as before"
    schedule = schedule_of(config, steps_per_epoch, extensions)
    then, now = float(schedule(max(step - 1, 0))), float(schedule(step))
    change = "rises" if now > then else "falls"
    course = f"is {now:.3g}" if now == then else f"{change} from {then:.3g} to {now:.3g}"
    return f"{changed} and {where}: {follows} from there, and {course} in the next step"
