"""Trains a network: `python -m experiments.train [--workdir DIR]`.

With no arguments it trains the alpha_F-p4 network on embedded rotated digits, on whatever device there is, then prints
the error on all three splits and the equivariance error of what it trained, and draws attention maps of test digits
under all rotations. `--help` lists what can be changed.
"""

import dataclasses
import json
import pathlib
import sys
import time
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
import tyro

from attgconv_jax import equivariance_error, plotting
from attgconv_jax.models import RotMNISTNet, save_network
from experiments.config import Config, parse_group
from experiments.data import Dataset, rotated_digits
from experiments.runtime import describe_device, run, use_compilation_cache
from experiments.training import Trainer, error_rate, make_network, make_optimizer, predict


@dataclasses.dataclass(frozen=True)
class Arguments(Config):
    """Trains a network on rotated digits and reports its error and its equivariance."""

    workdir: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder for the report, the network and the picture; must not hold a run. Default: a new one under runs/."""


def train(config: Config, dataset: Dataset, *, progress: bool = True) -> tuple[RotMNISTNet, dict]:
    """Trains one network.

    Args:
      config: of the run.
      dataset: standardised.
      progress: whether to show a progress bar on stderr.

    Returns:
      The network in evaluation mode, and a report: the error on every split in percent after the last epoch, the
      equivariance error, and seconds taken.

    Raises:
      ValueError: a batch is larger than the training split.
      FloatingPointError: the loss is not finite; names the epoch.
    """
    started = time.perf_counter()
    epochs, batch_size = config.optimizer.epochs, config.optimizer.batch_size
    steps = len(dataset.train) // batch_size
    if steps == 0:
        raise ValueError(
            f"optimizer.batch_size must be at most {len(dataset.train)}, the training images, got {batch_size}"
        )
    network = make_network(config.model, dataset.classes, config.seed)
    trainer = Trainer(network, make_optimizer(config.optimizer, epochs * steps), batch_size)
    state = trainer.init(config.seed)
    images, labels = jax.device_put((dataset.train.images, dataset.train.labels))
    with tqdm.tqdm(total=epochs * steps * batch_size, unit="image", disable=not progress, file=sys.stderr) as bar:
        for epoch in range(1, epochs + 1):
            state, losses = trainer.epoch(state, images, labels)
            loss = float(np.mean(losses))
            if not np.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss} in epoch {epoch}: lower optimizer.learning_rate")
            bar.update(steps * batch_size)
            bar.set_postfix_str(f"epoch {epoch}/{epochs}, loss {loss:.3f}")
    network = trainer.network(state)
    trained = time.perf_counter()
    report = {
        "error_percent": {name: 100 * error_rate(network, split) for name, split in dataset.splits().items()},
        "equivariance_error": equivariance_error(
            lambda images: jnp.asarray(predict(network, images)),
            jnp.asarray(dataset.test.images[:250]),
            parse_group(config.model.group),
            output="invariant",
        ),
        "final_loss": loss,
        "training_seconds": trained - started,
        "evaluation_seconds": time.perf_counter() - trained,
    }
    return network, report


def main(arguments: Arguments) -> None:
    """Trains, reports, and writes report, network and picture to the work directory."""
    config = Config(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Config)})
    workdir = _new_workdir(arguments.workdir, config)
    use_compilation_cache()
    dataset = rotated_digits(config.data.seed).standardised()
    print(f"{config.model.group} network, attention {config.model.attention}, on {dataset.name}; writing to {workdir}")
    network, report = train(config, dataset)
    save_network(workdir / "network", network)
    report = {"config": dataclasses.asdict(config), "data": dataset.name, **describe_device(), **report}
    (workdir / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    for split, error in report["error_percent"].items():
        print(f"error on {split:<10} {error:6.2f} %")
    print(f"equivariance error of the logits over {config.model.group}: {report['equivariance_error']:.1e}")
    print(f"trained in {report['training_seconds']:.0f} s, evaluated in {report['evaluation_seconds']:.0f} s")
    if config.model.attention != "none":
        figure = plotting.attention_figure(network, jnp.asarray(dataset.test.images[:3]), parse_group("p4"))
        figure.savefig(workdir / "attention.png", dpi=120)
        print(f"attention maps under all rotations: {workdir / 'attention.png'}")


def _new_workdir(workdir: pathlib.Path | None, config: Config) -> pathlib.Path:
    """A folder without a run in it."""
    if workdir is None:
        name = f"digits-{config.model.group}-{config.model.attention}-{time.strftime('%Y%m%d-%H%M%S')}"
        workdir = pathlib.Path("runs") / name
    if (workdir / "report.json").exists() or (workdir / "network").exists():
        raise ValueError(f"--workdir {workdir} already holds a run: name another folder, or delete it")
    workdir.mkdir(parents=True, exist_ok=True)
    return workdir


def cli(arguments: list[str] | None = None) -> None:
    """The command line; what the user got wrong is one line on stderr and exit code 2."""
    run(main, Arguments, arguments, prog="python -m experiments.train")


if __name__ == "__main__":
    cli()
