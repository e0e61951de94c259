"""Trains a preset, or continues it: `python -m experiments.train [PRESET] [--workdir DIR]`.

Without a preset it trains the alpha_F-p4 network on embedded rotated digits, on whatever device there is. The same
command continues a run that was killed, and shows the report of one that is complete.
"""

import dataclasses
import pathlib
import shlex
from typing import Annotated, Any

import tyro

from attgconv_jax.models import NETWORKS
from experiments.configs import DEFAULT, PRESETS
from experiments.report.markdown import side_by_side
from experiments.report.measures import equivariance_line
from experiments.report.reports import draw_attention, report_of, save_networks
from experiments.run.checks import check_name
from experiments.run.configuration import Config
from experiments.run.groups import is_lie
from experiments.run.loop import fit, make_trainer
from experiments.run.model_configuration import ModelConfig, config_class, model
from experiments.run.runtime import command, precision, use_compilation_cache
from experiments.run.workdir import Run, dataset_of


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
    dataset = dataset_of(config).standardised()
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
    network = config.model
    print(
        f"{network.name} on {network.group}, attention {network.attention}, on {config.data.name}; work directory "
        f"{arguments.workdir}"
    )
    run = train_run(config, arguments.workdir, checkpoint_seconds=arguments.checkpoint_seconds)
    report = run.report
    print(side_by_side([(run.name, report)]))
    print(equivariance_line(network.parsed_group(), max(report["equivariance_error"])))
    print(f"trained in {report['training_seconds']:.0f} s, evaluated in {report['evaluation_seconds']:.0f} s")
    for picture in sorted(run.workdir.glob("*.png")):
        print(f"picture: {picture}")
    print(f"more figures and pictures: python -m experiments.evaluate {shlex.quote(str(run.workdir))}")


def command_line(words: list[str]) -> tuple[type[Arguments], Arguments, list[str]]:
    """The arguments of a preset and of the network that the words choose, their defaults, and the other words.

    Raises:
      ValueError: an unknown preset or network.
    """
    given = words[:1] if words and not words[0].startswith("-") else []
    name = (given or [DEFAULT])[0]
    check_name("the preset", name, PRESETS)
    preset = PRESETS[name]
    network = _network(preset.config.model, words)
    made = dataclasses.make_dataclass("Arguments", [("model", type(network), network)], bases=(Arguments,), frozen=True)
    names = ", ".join(known for known in PRESETS if known != name)
    made.__doc__ = f"{preset.description}\n\nOther presets, as the first word: {names}."
    config = dataclasses.replace(preset.config, model=network)
    return made, made(**vars(config), workdir=pathlib.Path("runs") / name), words[len(given) :]


def _network(network: ModelConfig, words: list[str]) -> ModelConfig:
    """That of a preset, or of `--model.name`, or the residual network where `--model.group` is a Lie group."""
    group = _value_of("--model.group", words) or network.group
    name = _value_of("--model.name", words)
    if name is None:
        name = network.name if NETWORKS[network.name].lie == is_lie(group) else "lie_resnet"
    if name == network.name:
        return network
    made = config_class(name)
    required = {field.name: tyro.MISSING for field in dataclasses.fields(made) if _is_required(field)}
    group = group if is_lie(group) == NETWORKS[name].lie else made.group
    # What the preset chose otherwise than its network's defaults, as far as the other network has it.
    known = {field.name for field in dataclasses.fields(made)}
    chosen = {
        field.name: getattr(network, field.name) for field in dataclasses.fields(network) if not _is_required(field)
    }
    defaults = {field.name: field.default for field in dataclasses.fields(network)}
    kept = {field: value for field, value in chosen.items() if field in known and value != defaults[field]}
    return model(**required | kept | {"name": name, "group": group})


def _is_required(field):
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _value_of(flag, words):
    """What follows a flag among the words; None if it is not there."""
    pairs = zip(words, [*words[1:], None], strict=True)
    joined = (word.partition("=")[2] for word in words if word.startswith(f"{flag}="))
    return next(joined, next((value for word, value in pairs if word == flag), None))


cli = command(main, command_line)


if __name__ == "__main__":
    cli()
