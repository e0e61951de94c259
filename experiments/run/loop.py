"""The training loop: continues where the newest checkpoint stands, and leaves everything a reader needs."""

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from attgconv_jax.nn.norm import RunningVariance
from experiments.augmentation import augment
from experiments.data import Dataset
from experiments.run.checkpoints import Checkpoints
from experiments.run.class_weights import class_weights
from experiments.run.configuration import Config, steps_per_epoch
from experiments.run.extending import Extensions, schedule_of
from experiments.run.feeding import feed_of
from experiments.run.finite import check_finite, check_logits, telling_what_stays
from experiments.run.forecast import Forecast, OutOfTime
from experiments.run.identity import identity
from experiments.run.mesh import device_count, everywhere, own, within
from experiments.run.metrics import metrics_of, progress_bar
from experiments.run.network_checks import check_checkpointing, check_single_images
from experiments.run.optimizer import make_optimizer
from experiments.run.plateau import after_epoch, learning_rates
from experiments.run.processes import of_all
from experiments.run.stopping import Stopped, stop_requests
from experiments.run.throughput import Throughput
from experiments.run.training import Trainer, TrainState
from experiments.run.waiting import compiling
from experiments.run.workdir import Run

CALL_SECONDS = 1.0
"""A compiled call takes about as long: the progress bar moves, and Python is not waited for."""


class Best(NamedTuple):
    """Of every seed the network with the fewest validation errors so far, the earliest of equals."""

    params: Any
    rest: Any
    wrong: jax.Array
    epoch: jax.Array


class Spent(NamedTuple):
    """Seconds a run has taken, over all its processes."""

    training: float = 0.0
    evaluation: float = 0.0


def make_trainer(
    config: Config, dataset: Dataset, extensions: Extensions = (), running_variance: RunningVariance = "biased"
) -> Trainer:
    """The trainer of a configuration on its data; float64 needs x64 (see `experiments.run.runtime.precision`).

    Its learning rate is that of a run that was extended so, and its batch norms keep that variance.
    """
    steps, mode = steps_per_epoch(config, len(dataset.train)), config.seeds_mode
    if config.model.dtype == "float64" and not jax.config.jax_enable_x64:
        raise ValueError("model.dtype float64 needs jax.enable_x64(True) around it")
    if mode == "auto":
        mode = "loop" if jax.default_backend() == "cpu" else "vmap"
    optimizer = make_optimizer(config.optimizer, steps, schedule_of(config.optimizer, steps, extensions))
    weights = class_weights(config.optimizer.class_weights, dataset.train.labels, dataset.classes)
    options = dict(in_features=dataset.in_features, augmentation=config.augment, class_weights=weights)
    options |= dict(freeze=config.freeze, running_variance=running_variance)
    names = "accumulate", "gradient_checkpointing", "ema_decay"
    options |= {name: getattr(config.optimizer, name) for name in names}
    if config.augment.chosen:
        options |= dict(background=dataset.background)
        # Traced for their checks, before anything is written.
        changed = functools.partial(augment, config=config.augment, background=0.0)
        jax.eval_shape(changed, jax.random.key(0), dataset.train.images[:1], dataset.train.labels[:1])
    trainer = Trainer(config.model, dataset.classes, optimizer, config.optimizer.batch_size, mode, **options)
    if config.optimizer.batch_size == config.optimizer.accumulate:
        check_single_images(trainer, dataset)
    if config.optimizer.gradient_checkpointing:
        check_checkpointing(trainer, dataset)
    return trainer


def first_state(
    trainer: Trainer, seeds: tuple[int, ...], start: Callable[[TrainState], TrainState] | None = None
) -> tuple[TrainState, Best]:
    """The first state of a run, which `start` changes, and best networks of epoch 0 that any other is better than."""
    state = trainer.init(seeds)
    if start is not None:
        state = trainer.averaging(start(state))
    params, rest = jax.tree.map(jnp.copy, trainer.evaluated(state))
    most = jnp.full(len(seeds), jnp.iinfo(jnp.int32).max, jnp.int32)
    return state, Best(params, rest, most, jnp.zeros_like(most))


def last_state(run: Run, trainer: Trainer) -> tuple[TrainState, Best, Spent]:
    """The newest state, best networks and time spent of a run, which another process may be training."""
    folder = run.workdir / "checkpoints"
    if folder.is_dir():
        with Checkpoints(folder, read_only=True) as checkpoints:
            state, best, _, spent = _restored(checkpoints, first_state(trainer, run.config().seeds))
        if np.all(best.epoch):
            return state, best, spent
    raise ValueError(f"{run.workdir} has no checkpoint of a whole epoch yet: train it a little longer")


def _restored(checkpoints, beginning):
    """State, best networks, step and time spent where the newest checkpoint stands, else at the beginning."""
    newest, record = checkpoints.restore(beginning) or (beginning, {"step": 0, "spent": ()})
    return *newest, record["step"], Spent(*record["spent"])


def fit(
    run: Run,
    trainer: Trainer,
    dataset: Dataset,
    *,
    start: Callable[[TrainState], TrainState] | None = None,
    checkpoint_seconds: float = 30.0,
    deadline: float | None = None,
    workers: int = 0,
    mesh: Mesh | None = None,
) -> tuple[TrainState, Best, Spent]:
    """Trains to the end, from the newest checkpoint if there is one; returns what `last_state` does.

    Args:
      run: begun.
      trainer: of the run's configuration.
      dataset: standardised.
      start: changes the first state, where there is no checkpoint.
      checkpoint_seconds: least time between checkpoints; changes no number.
      deadline: in seconds of `time.monotonic()`; None: none.
      workers: processes that read a stream; 0: threads of this one. Changes no number.
      mesh: of devices, which share every batch; None: one device. Changes numbers by rounding.

    Raises:
      FloatingPointError: a loss, a parameter, a statistic or a logit is not finite; names seed and step.
      Stopped: Ctrl-C or SIGTERM came; a checkpoint of the steps so far is written.
      OutOfTime: the run would end after the deadline, or has reached it; a checkpoint is written.
    """
    config = run.config()
    per_epoch = steps_per_epoch(config, len(dataset.train))
    total = per_epoch * config.optimizer.epochs
    schedule = schedule_of(config.optimizer, per_epoch, run.extensions)
    images_a_step = config.optimizer.batch_size * len(config.seeds)
    forecast = Forecast(deadline, wait=per_epoch * config.test_every)
    with contextlib.ExitStack() as stack:
        stack.enter_context(within(mesh))
        checkpoints = stack.enter_context(Checkpoints(run.workdir / "checkpoints"))
        images = stack.enter_context(feed_of(trainer, dataset, config.seeds, total, workers))
        state, best, step, spent = _begun(run, trainer, images, start, total, checkpoints)
        images.start(step)
        metrics = stack.enter_context(metrics_of(run.workdir, step, config.seeds))
        bar = stack.enter_context(progress_bar(total * images_a_step, step * images_a_step))
        stops = stack.enter_context(stop_requests())
        stack.enter_context(telling_what_stays(run, checkpoints.wait))
        speed = _throughput(trainer, state, dataset)
        saved, pace, calls = time.monotonic(), 1, 0
        while step < total:
            count = min(pace, per_epoch - step % per_epoch)
            started = time.perf_counter()
            state = images.train(state, count)
            check_finite(np.asarray(state.first_bad_step), run, per_epoch)
            seconds = time.perf_counter() - started
            step, spent, calls = step + count, spent._replace(training=spent.training + seconds), calls + 1
            if calls > 1:  # what the first takes beside its steps says nothing of the next
                pace = max(1, round(CALL_SECONDS * count / seconds))
            speed.add(count * images_a_step, seconds)
            bar.update(count * images_a_step)
            if step % per_epoch == 0:
                started = time.perf_counter()
                rates = learning_rates(float(schedule(step - 1)), state.opt_state)
                state, best, errors = _evaluate(trainer, state, best, images, step // per_epoch, run)
                spent = spent._replace(evaluation=spent.evaluation + time.perf_counter() - started)
                record = _of_training(state, per_epoch, config) | errors
                record |= {f"{name}_seconds": value for name, value in spent._asdict().items()}
                record |= speed.take() | images.figures() | {"learning_rate": rates, "time": time.time()}
                metrics.write({"step": step, "epoch": step // per_epoch} | record)
                bar.set_postfix_str(_postfix(step // per_epoch, record))
            late = forecast.reason_to_stop(step, total, at_end_of_epoch=step % per_epoch == 0)
            due = late or step == total or time.monotonic() - saved >= checkpoint_seconds
            pace, save, signum, others = _agreed(pace, bool(due), stops[0] if stops else 0, bool(late))
            late = late or others
            if save:
                checkpoints.save(step, (state, best), {"step": step, "spent": list(spent)})
                saved = time.monotonic()
            if signum or late:
                checkpoints.wait()
                raise Stopped(signum=signum) if signum else OutOfTime(late)
    return *own((state, best)), spent


def _throughput(trainer, state, dataset):
    network = nnx.eval_shape(lambda: trainer.network(*trainer.evaluated(state), 0))
    return Throughput(network, dataset.train.images.shape[1:], device_count())


def _agreed(pace, due, signum, late):
    """What all processes that train together do next: steps of a call, whether to save, the signal, why it is late."""
    numbers = of_all(pace, due, signum, late)
    signum, late = (int(np.max(numbers[:, i])) for i in (2, 3))
    late = "the time of a process that trains along is up" if late else None
    return int(numbers[0, 0]), bool(numbers[0, 1] or signum or late), signum, late


def _begun(run, trainer, images, start, total, checkpoints):
    """As `_restored`, the time of compilation included."""
    started = time.perf_counter()
    beginning = _beginning(run, trainer, images, start, total)
    waited = time.perf_counter() - started
    *newest, step, spent = _restored(checkpoints, beginning)
    steps = of_all(step)[:, 0].astype(int).tolist()
    if len(set(steps)) > 1:
        raise ValueError(f"processes that train together found checkpoints of steps {steps}: they must share --workdir")
    return *everywhere(newest), step, spent._replace(training=spent.training + waited)


def _beginning(run, trainer, images, start, total):
    """The first state and best networks; the programs of the steps that are left are compiled."""
    config = run.config()
    if run.newest_step == total:
        return everywhere(first_state(trainer, config.seeds, start))
    # What the programs depend on; of the data and the seeds their number.
    fields = {name: value for name, value in identity(config).items() if name.startswith(("model.", "optimizer."))}
    shapes = {name: split.images.shape for name, split in images.dataset.splits().items()}
    steps = [record["step"] for record in run.extensions]
    with compiling(
        [fields, config.freeze, len(config.seeds), trainer.mode, shapes, steps, config.data.stream, device_count()]
    ) as wait:
        beginning = state, _ = everywhere(first_state(trainer, config.seeds, start))
        wait.compile(images.programs(state, trainer.evaluated(state)))
    return beginning


@jax.jit
def _keep_best(best: Best, params: Any, rest: Any, wrong: jax.Array, epoch: jax.Array) -> Best:
    better = wrong < best.wrong

    def choose(new, old):
        return jnp.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return jax.tree.map(choose, Best(params, rest, wrong, jnp.full_like(best.epoch, epoch)), best)


def _evaluate(trainer, state, best, images, epoch, run):
    """State and best networks after the epoch, and errors in percent, a list over seeds a split."""
    config = run.config()
    evaluated = trainer.evaluated(state)
    tested = epoch % config.test_every == 0 or epoch == config.optimizer.epochs
    names, wrong = ["validation", "test"] if tested else ["validation"], {}
    for name in names:
        wrong[name], bad = images.count_errors(*evaluated, name)
        check_logits(np.asarray(bad), name, int(state.step[0]), run)
    opt_state = after_epoch(state.opt_state, wrong["validation"] < best.wrong, config.optimizer.patience)
    best = _keep_best(best, *evaluated, wrong["validation"], epoch)
    errors = {f"{name}_error_percent": percent(wrong[name], len(images.dataset.splits()[name])) for name in names}
    return state._replace(opt_state=opt_state), best, errors


def _of_training(state, per_epoch, config):
    """Loss and error of the epoch's own images, in training mode, a list over seeds each."""
    loss = (np.asarray(state.loss, np.float64) / per_epoch).tolist()
    return {"train_loss": loss, "train_error_percent": percent(state.wrong, per_epoch * config.optimizer.batch_size)}


def percent(wrong: jax.Array, images: int) -> list[float]:
    """Numbers of errors `[seed]` among so many images, in percent."""
    return (100 * np.asarray(wrong, np.float64) / images).tolist()


def _postfix(epoch, record):
    names = "train_loss", "train_error_percent", "validation_error_percent"
    loss, train, validation = (np.mean(record[name]) for name in names)
    return f"epoch {epoch}, loss {loss:.3f}, error {train:.2f} %, validation {validation:.2f} %"
