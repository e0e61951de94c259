"""Trains a preset, or continues it: `python -m experiments.train [PRESET] [--workdir DIR]`.

Without a preset it trains the alpha_F-p4 network on embedded rotated digits, on whatever device there is. The same
command continues a run that was killed, and shows the report of one that is complete.
"""

import dataclasses
import pathlib
import shlex
import sys
from typing import Annotated, Any

import tyro

from attgconv_jax.lie import LieGroup
from experiments.configs import DEFAULT, PRESETS
from experiments.data import load
from experiments.report.markdown import side_by_side
from experiments.report.measures import equivariance_line
from experiments.report.reports import draw_attention, report_of, save_networks
from experiments.run.configuration import Config
from experiments.run.loop import fit, make_trainer
from experiments.run.runtime import precision, run_command, use_compilation_cache
from experiments.run.workdir import Run


@dataclasses.dataclass(frozen=True)
class Arguments(Config):
    """Trains a network and reports its error and its equivariance."""

    workdir: Annotated[pathlib.Path, tyro.conf.arg(metavar="DIR")] = pathlib.Path("runs")
    """Folder of the run."""

    checkpoint_seconds: float = 30.0
    """Least time between checkpoints, which a killed run repeats, and little more. Changes no number."""

    def __post_init__(self):
        super().__post_init__()
        if not self.checkpoint_seconds >= 0:
            raise ValueError(f"checkpoint_seconds must not be negative, got {self.checkpoint_seconds}")


def train_run(config: Config, workdir: pathlib.Path, **options: Any) -> Run:
    """Trains the networks of a configuration in a work directory, or continues, or does nothing if that is done.

    Args:
      config: of the run.
      workdir: new, or of a run of the same configuration.
      **options: of `experiments.run.loop.fit`.

    Raises:
      ValueError: the work directory is another run's, or the data are not there.
      FloatingPointError, OSError, OutOfTime: see `experiments.run.loop.fit`.
    """
    run = Run(workdir)
    run.check(config)
    if run.report is not None:
        return run
    dataset = load(config.data.name, config.data.directory, config.data.seed, config.data.test_images).standardised()
    with precision(config.model.dtype):
        # Checked before anything is written, so that a rejected configuration leaves no work directory.
        trainer = make_trainer(config, dataset)
        with run.locked():
            run.begin(config, dataset)
            state, best, spent = fit(run, trainer, dataset, **options)
            save_networks(run, trainer, state, best)
            draw_attention(trainer.network(best.params, best.rest, 0), dataset, workdir / "attention.png")
            run.finish(report_of(run, trainer, state, best, dataset, spent))
    return run


def main(arguments: Arguments) -> None:
    """Trains, and prints the report."""
    config = Config(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Config)})
    use_compilation_cache()
    model = config.model
    kernels = f"{model.kind or 'separable'} kernels, " if isinstance(model.parsed_group(), LieGroup) else ""
    print(
        f"{model.group} network, {kernels}attention {model.attention}, on {config.data.name}; work directory "
        f"{arguments.workdir}"
    )
    run = train_run(config, arguments.workdir, checkpoint_seconds=arguments.checkpoint_seconds)
    report = run.report
    print(side_by_side([(run.name, report)]))
    print(equivariance_line(model.parsed_group(), max(report["equivariance_error"])))
    print(f"trained in {report['training_seconds']:.0f} s, evaluated in {report['evaluation_seconds']:.0f} s")
    for picture in sorted(run.workdir.glob("*.png")):
        print(f"picture: {picture}")
    print(f"more figures and pictures: python -m experiments.evaluate {shlex.quote(str(run.workdir))}")


def cli(arguments: list[str] | None = None) -> None:
    """The command line; what the user got wrong is one line on stderr and exit code 2."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        words = [DEFAULT, *words]
    presets = {
        name: Arguments(**vars(preset.config), workdir=pathlib.Path("runs") / name) for name, preset in PRESETS.items()
    }
    descriptions = {name: preset.description for name, preset in PRESETS.items()}
    choice = tyro.extras.subcommand_type_from_defaults(presets, descriptions)
    run_command(main, choice, words)


if __name__ == "__main__":
    cli()
