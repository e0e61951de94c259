"""Trains a preset, or continues it: `python -m experiments.train [PRESET] [--workdir DIR]`.

Without a preset it trains the alpha_F-p4 network on embedded rotated digits, on whatever device there is;
`--data.path PATH` trains on images of your own, class folders of pictures or arrays in a `.npz` file. The same
command continues a run that was killed, and shows the report of one that is complete; with more `--optimizer.epochs` it
extends either.
"""

import dataclasses
import itertools
import pathlib
import shlex
from typing import Any

import tyro

from attgconv_jax import Group
from attgconv_jax.models import NETWORKS
from experiments.configs import DEFAULT, PRESETS, TABLES
from experiments.data import OWN_NAMES, Arrays, Dataset, own_name
from experiments.data.prepared import PUBLISHED_SIZES
from experiments.report.classes import class_table
from experiments.report.examples import draw_examples
from experiments.report.findings import angle_images_of, findings_of
from experiments.report.markdown import side_by_side
from experiments.report.measures import equivariance_line
from experiments.report.pages import write_page
from experiments.report.reports import draw_attention, report_of, save_networks
from experiments.run.checks import check_name
from experiments.run.configuration import Config, DataConfig, steps_per_epoch
from experiments.run.extending import extension_message
from experiments.run.groups import is_lie
from experiments.run.loop import fit, make_trainer
from experiments.run.model_configuration import ModelConfig, config_class, model
from experiments.run.runtime import Folder, command, given_command, precision, use_compilation_cache
from experiments.run.transfer import check_start, start_message, start_of
from experiments.run.workdir import PAGE, Run, dataset_of, standardised

PARTS = ("data", "model", "optimizer", "augment")
"""Of a configuration: the groups of options."""

_EPOCHS = "--optimizer.epochs"


@dataclasses.dataclass(frozen=True)
class Arguments(Config):
    """Trains a network and reports its error and its equivariance."""

    workdir: Folder = pathlib.Path("runs")
    """Folder of the run."""
    checkpoint_seconds: float = 30.0
    """Least time between checkpoints. Changes no number."""
    words: tyro.conf.Suppress[tuple[str, ...]] = ()
    """The command line, as it was given."""

    def __post_init__(self):
        super().__post_init__()
        if not self.checkpoint_seconds >= 0:
            raise ValueError(f"checkpoint_seconds must not be negative, got {self.checkpoint_seconds}")


def train_run(
    config: Config,
    workdir: pathlib.Path,
    data: Arrays | Dataset | None = None,
    *,
    extend: bool = False,
    **options: Any,
) -> Run:
    """Trains the networks of a configuration in a work directory, or continues, or does nothing if that is done.

    Args:
      config: the run's.
      workdir: its folder.
      data: images and labels in place of those that the configuration names; a `Dataset` has the size that the network
        takes, and is not standardised.
      extend: whether a run of other epochs is extended, or shortened, to those of `config`.
      options: those of `experiments.run.loop.fit`, which says what is raised as well.

    Raises:
      ValueError: the work directory is another run's, or the data are not there, or the weights that it starts from are
        not there or do not fit.
    """
    if isinstance(data, Arrays):
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, name="arrays", path=None))
    run = Run(workdir)
    run.check(config, extend=extend)
    with precision(config.model.dtype):
        check_start(run, config)
    if run.is_finished(config):
        if run.has_moved(config):
            run.check_data(dataset_of(config))
        return run
    dataset = standardised(config, data if isinstance(data, Dataset) else dataset_of(config, data))
    with precision(config.model.dtype):
        # Checked before anything is written, so that a rejected configuration leaves no work directory.
        trainer = make_trainer(config, dataset)
        start = start_of(config, dataset) if config.init_from is not None and run.newest_step is None else None
        with run.locked():
            extended = len(run.extensions)
            run.begin(config, dataset, extend=extend, start=start and start.record)
            if run.extensions:
                trainer = make_trainer(config, dataset, run.extensions)
            if len(run.extensions) > extended:
                message = extension_message(
                    config.optimizer, steps_per_epoch(config, len(dataset.train)), run.extensions
                )
                print(f"{workdir} is {message}", flush=True)
            if start is not None:
                print(start_message(config, start.record, dataset.classes), flush=True)
            state, best, spent = fit(run, trainer, dataset, start=start, **options)
            report = report_of(run, trainer, state, best, dataset, spent)
            run.discard_results()
            save_networks(run, trainer, state, best, dataset, report)
            network = trainer.network(best.params, best.rest, 0)
            found = findings_of(
                run.name,
                network,
                dataset,
                report=report,
                metrics=run.metrics(),
                angle_images=angle_images_of(config, dataset),
                attention=draw_attention(network, dataset, workdir / "attention.png"),
                command=given_command(),
            )
            run.finish(found.report | {"angles": found.angles[run.name], "angle_images": found.angle_images})
            # Last, so that no picture keeps a run from being complete.
            write_page(workdir, found)
    return run


def main(arguments: Arguments) -> None:
    """Trains, and prints the report."""
    config = Config(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Config)})
    use_compilation_cache()
    network, workdir = config.model, arguments.workdir
    if config.augment.preview is not None:
        dataset = standardised(config, dataset_of(config))
        draw_examples(dataset, config.augment, config.augment.preview, config.seeds[0])
        print(f"picture: {config.augment.preview}; leave out --augment.preview to train")
        return
    images = config.data.name if config.data.path is None else f"{config.data.name} {config.data.path}"
    described = f"{network.name} on {network.group}, attention {network.attention}, on {images}"
    print(f"{described}; work directory {workdir}")
    extend = _value_of(_EPOCHS, arguments.words) is not None
    finished = Run(workdir).is_finished(config)
    run = train_run(config, workdir, extend=extend, checkpoint_seconds=arguments.checkpoint_seconds)
    report = run.report
    if finished:
        longer = [*_without_option(_EPOCHS, arguments.words), _EPOCHS, str(2 * config.optimizer.epochs)]
        command_of_it = f"python -m experiments.train {shlex.join(longer)}"
        print(f"{workdir} is finished, with {config.optimizer.epochs} epochs; to extend it: {command_of_it}")
    print(side_by_side([(run.name, report)]))
    # Reports of earlier versions have none.
    if "classes" in report:
        print(class_table(report["classes"]))
    print(equivariance_line(network.parsed_group(), max(report["equivariance_error"])))
    print(f"trained in {report['training_seconds']:.0f} s, evaluated in {report['evaluation_seconds']:.0f} s")
    evaluation = f"python -m experiments.evaluate {shlex.quote(str(workdir))}"
    if (workdir / PAGE).exists():
        print(f"report with pictures: {workdir / PAGE}")
        print(f"more figures, and beside another run: {evaluation}")
    else:
        # The run was killed after it was complete, and before its page was.
        print(f"report with pictures: {evaluation} draws it")


def command_line(words: list[str]) -> tuple[type[Arguments], Arguments, list[str]]:
    """The arguments of a preset and of the network that the words choose, their defaults, and the other words."""
    given = words[:1] if words and not words[0].startswith("-") else []
    name = (given or [DEFAULT])[0]
    check_name("the preset", name, PRESETS)
    preset = PRESETS[name]
    parts, hidden = dict(vars(preset.config)), ""
    asks_for_help = not {"-h", "--help"}.isdisjoint(words)
    try:
        parts["data"] = _data(preset.config.data, words)
        parts["model"] = _network(preset.config.model, words)
        if asks_for_help:
            parts |= _shown(parts, words)
            hidden = "\n\nOptions without effect on this choice of data, network and optimizer are hidden, and "
            hidden += "--model.sampling where a group maps the pixel grid to itself."
    except ValueError:
        # The help shows all options where the words choose nothing that exists.
        if not asks_for_help:
            raise
    fields = [(part, type(parts[part]), parts[part]) for part in PARTS]
    made = dataclasses.make_dataclass("Arguments", fields, bases=(Arguments,), frozen=True)
    presets = f"Presets, as the first word: {DEFAULT} (the default); {_preset_names()}."
    made.__doc__ = f"{preset.description}\n\n{presets}{hidden}"
    workdir, others = pathlib.Path("runs") / (_own_title(words) or name), words[len(given) :]
    return made, made(**parts, workdir=workdir, words=tuple(words)), _with_preview(others, workdir)


def _with_preview(words, workdir):
    """The words, and the file that `--augment.preview` without one writes: beside the work directory."""
    flag, workdir = "--augment.preview", pathlib.Path(_value_of("--workdir", words) or workdir)
    following = words.index(flag) + 1 if flag in words else None
    if following is None or (following < len(words) and not words[following].startswith("-")):
        return words
    return [*words[:following], f"{workdir}-augmentation.png", *words[following:]]


def _preset_names():
    """All names of presets but the default's, those of a table in braces."""
    tables = []
    for table, presets in TABLES.items():
        names = [preset.name.removeprefix(f"{table}-") for preset in presets if preset.name != DEFAULT]
        tables.append(f"{table}-{{{', '.join(names)}}}")
    return "; ".join(tables)


def _data(data: DataConfig, words: list[str]) -> DataConfig:
    """That of a preset, or the set of one's own that `--data.path` names."""
    path = _value_of("--data.path", words)
    own = path is not None and _value_of("--data.name", words) is None
    return dataclasses.replace(data, name=own_name(path), test_images=None) if own else data


def _own_title(words):
    """What a run on the set that `--data.path` names is called: as its folder, or its file but for the suffix."""
    path = pathlib.Path(_value_of("--data.path", words) or "").resolve()
    return (path.name if path.is_dir() else path.stem) if _value_of("--data.path", words) else None


def _network(network: ModelConfig, words: list[str]) -> ModelConfig:
    """That of a preset, or of `--model.name`, or the residual network where `--model.group` is a Lie group."""
    group = _value_of("--model.group", words) or network.group
    name = _value_of("--model.name", words)
    if name is None:
        name = network.name if NETWORKS[network.name].lie == is_lie(group) else "lie_resnet"
    if name == network.name:
        return network
    made = config_class(name)
    fields, former = ({field.name: field.default for field in dataclasses.fields(of)} for of in (made, network))
    required = {field: tyro.MISSING for field, default in fields.items() if default is dataclasses.MISSING}
    group = group if is_lie(group) == NETWORKS[name].lie else fields["group"]
    # What the preset chose otherwise than its network's defaults, as far as the other network has it.
    chosen = {field: getattr(network, field) for field in former.keys() & fields.keys()}
    kept = {field: value for field, value in chosen.items() if former[field] not in (dataclasses.MISSING, value)}
    return model(**required | kept | {"name": name, "group": group})


def _value_of(flag, words):
    """What follows a flag among the words; None if it is not there."""
    pairs = itertools.pairwise(words)
    joined = (word.partition("=")[2] for word in words if word.startswith(f"{flag}="))
    return next(joined, next((value for word, value in pairs if word == flag), None))


def _without_option(flag, words):
    """The words without a flag and what follows it."""
    kept = [word for word, former in zip(words, [None, *words], strict=False) if flag not in (word, former)]
    return [word for word in kept if not word.startswith(f"{flag}=")]


def _shown(parts, words):
    """The parts of a configuration without the options that have no effect on what the words choose."""

    def choice(part, field):
        return _value_of(f"--{part}.{field}", words) or getattr(parts[part], field)

    data, schedule = choice("data", "name"), choice("optimizer", "schedule")
    group = dataclasses.replace(parts["model"], group=choice("model", "group")).parsed_group()
    idle = {
        "directory": data.startswith("digits") or data in OWN_NAMES,
        "fit": data not in OWN_NAMES,
        "shares": data not in OWN_NAMES,
        "broken": data != "folder",
        "seed": "validation" in PUBLISHED_SIZES.get(data, ()),
        "sampling": group.is_exact if isinstance(group, Group) else choice("model", "attention") == "none",
        "max_scale": isinstance(group, Group) or group.scales is None,
        "momentum": choice("optimizer", "name") != "sgd",
        "milestones": schedule != "step",
        "decay": schedule != "step",
    }
    hidden = [name for name, is_idle in idle.items() if is_idle]
    return {part: _without(parts[part], hidden) for part in PARTS}


def _without(config, names):
    """The configuration with these fields kept from the command line."""
    fields = [
        (field.name, tyro.conf.Suppress[field.type], dataclasses.field(default=getattr(config, field.name)))
        for field in dataclasses.fields(config)
        if field.name in names
    ]
    made = dataclasses.make_dataclass(type(config).__name__, fields, bases=(type(config),), frozen=True)
    # Of the parts' summaries only that of the network says more than its name.
    made.__doc__ = type(config).__doc__ if isinstance(config, ModelConfig) else " "
    return made(**vars(config))


cli = command(main, command_line)
