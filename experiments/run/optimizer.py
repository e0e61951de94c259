"""The optimiser of a configuration, and its learning rate."""

import optax

from experiments.run.configuration import OptimizerConfig
from experiments.run.plateau import scale_by_plateau


def make_optimizer(
    config: OptimizerConfig, steps_per_epoch: int, schedule: optax.Schedule | None = None
) -> optax.GradientTransformation:
    """Clipping, L2 added to the gradient, Adam or momentum, decoupled weight decay, learning rate: in this order.

    Args:
      config: the optimiser's.
      steps_per_epoch: of the schedule, which counts steps.
      schedule: another than `make_schedule` makes.

    Source: Kingma and Ba 2015 (Adam, with its L2); Loshchilov and Hutter 2019 (decoupled weight decay).
    """
    rule = optax.scale_by_adam() if config.name == "adam" else optax.trace(config.momentum)
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
        optax.add_decayed_weights(config.l2),
        rule,
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_learning_rate(schedule or make_schedule(config, steps_per_epoch)),
        *([scale_by_plateau()] if config.schedule == "plateau" else []),
    )


def make_schedule(config: OptimizerConfig, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate of every step, counted from 0, without what "plateau" makes of it.

    A `ValueError` if the warm-up takes all steps.
    """
    steps, warmup = config.epochs * steps_per_epoch, round(config.warmup_epochs * steps_per_epoch)
    rate = config.learning_rate
    if warmup >= steps:
        raise ValueError(f"optimizer.warmup_epochs must leave some of the {steps} steps, got {config.warmup_epochs}")
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(rate, steps - warmup)
    else:
        drops = {epoch * steps_per_epoch - warmup: config.decay for epoch in config.milestones}
        after = optax.piecewise_constant_schedule(rate, drops)
    if warmup == 0:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), after], [warmup])
