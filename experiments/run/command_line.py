"""The command line of training: options of the preset, the data and the network that its words choose."""

import dataclasses
import itertools
import pathlib
from collections.abc import Sequence

import tyro

from attgconv_jax.models import NETWORKS
from experiments.configs import DEFAULT, PRESETS, TABLES
from experiments.data import own_name
from experiments.run.checks import check_name
from experiments.run.configuration import Config, DataConfig
from experiments.run.groups import is_lie
from experiments.run.idle import idle_options
from experiments.run.model_configuration import ModelConfig, config_class, model
from experiments.run.processes import Processes
from experiments.run.runtime import CompilationCache, Folder

PARTS = ("data", "model", "optimizer", "augment")
"""Of a configuration: the groups of options."""


@dataclasses.dataclass(frozen=True)
class Arguments(Config, Processes):
    """Trains a network and reports its error and its equivariance."""

    workdir: Folder = pathlib.Path("runs")
    """Folder of the run."""
    checkpoint_seconds: float = 30.0
    """Least time between checkpoints. Changes no number."""
    compilation_cache: CompilationCache = None

    def __post_init__(self):
        Config.__post_init__(self)
        Processes.__post_init__(self)
        if not self.checkpoint_seconds >= 0:
            raise ValueError(f"checkpoint_seconds must not be negative, got {self.checkpoint_seconds}")


def command_line(words: list[str]) -> tuple[type[Arguments], Arguments, list[str]]:
    """The arguments of a preset and of the network that the words choose, their defaults, and the other words."""
    given = words[:1] if words and not words[0].startswith("-") else []
    name = (given or [DEFAULT])[0]
    if name not in PRESETS and (pathlib.Path(name).is_dir() or name.endswith(".npz")):
        raise ValueError(
            f"the first word must be a preset, got {name!r}; for images of your own give --data.path {name}"
        )
    check_name("the preset", name, PRESETS)
    preset = PRESETS[name]
    parts, hidden = dict(vars(preset.config)), ""
    asks_for_help = not {"-h", "--help"}.isdisjoint(words)
    try:
        parts["data"] = _data(preset.config.data, words)
        parts["model"] = _network(preset.config.model, words)
        if asks_for_help:
            parts |= _shown(parts, words)
            hidden = (
                "\n\nOptions without effect on this choice of data, network and optimizer are hidden: give "
                "--data.path, --model.name, --model.group or --optimizer.name beside --help to see those of another."
            )
    except ValueError:
        # The help shows all options where the words choose nothing that exists.
        if not asks_for_help:
            raise
    fields = [(part, type(parts[part]), parts[part]) for part in PARTS]
    made = dataclasses.make_dataclass("Arguments", fields, bases=(Arguments,), frozen=True)
    presets = f"Presets, as the first word: {DEFAULT} (the default); {_preset_names()}."
    made.__doc__ = f"{preset.description}\n\n{presets}{hidden}"
    workdir, others = pathlib.Path("runs") / (_own_title(words) or name), words[len(given) :]
    return made, made(**parts, workdir=workdir), _with_preview(others, workdir)


def _with_preview(words, workdir):
    """The words, and the file that `--augment.preview` without one writes: beside the work directory."""
    flag, workdir = "--augment.preview", pathlib.Path(value_of("--workdir", words) or workdir)
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
    path = value_of("--data.path", words)
    own = path is not None and value_of("--data.name", words) is None
    return dataclasses.replace(data, name=own_name(path), test_images=None) if own else data


def _own_title(words):
    """What a run on the set that `--data.path` names is called: as its folder, or its file but for the suffix."""
    path = pathlib.Path(value_of("--data.path", words) or "").resolve()
    return (path.name if path.is_dir() else path.stem) if value_of("--data.path", words) else None


def _network(network: ModelConfig, words: list[str]) -> ModelConfig:
    """That of a preset, or of `--model.name`, or the residual network where `--model.group` is a Lie group."""
    group = value_of("--model.group", words) or network.group
    name = value_of("--model.name", words)
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


def value_of(flag: str, words: Sequence[str]) -> str | None:
    """What follows a flag among words of a command; None if it is not there."""
    pairs = itertools.pairwise(words)
    joined = (word.partition("=")[2] for word in words if word.startswith(f"{flag}="))
    return next(joined, next((value for word, value in pairs if word == flag), None))


def without_option(flag: str, words: Sequence[str]) -> list[str]:
    """The words without a flag and what follows it."""
    kept = [word for word, former in zip(words, [None, *words], strict=False) if flag not in (word, former)]
    return [word for word in kept if not word.startswith(f"{flag}=")]


def _shown(parts, words):
    """The parts of a configuration without the options that have no effect on what the words choose."""

    def choice(part, field):
        return value_of(f"--{part}.{field}", words) or getattr(parts[part], field)

    group = dataclasses.replace(parts["model"], group=choice("model", "group")).parsed_group()
    hidden = [option.partition(".")[2] for option in idle_options(choice, group)]
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
