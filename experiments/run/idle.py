"""Options without effect on what is chosen beside them: hidden by the help, and an error where one is changed."""

import dataclasses
from collections.abc import Callable
from typing import Any

from attgconv_jax import Group
from attgconv_jax.filters import BASES
from attgconv_jax.lie import LieGroup
from experiments.data import OWN_NAMES
from experiments.data.prepared import PUBLISHED
from experiments.run.configuration import Config


def idle_options(choice: Callable[[str, str], Any], group: Group | LieGroup) -> dict[str, str]:
    """The options without effect, by dotted name, each with the choice that makes it so.

    Args:
      choice: what is chosen of a part of the configuration, by its field.
      group: of the network.
    """
    data, rule, schedule = choice("data", "name"), choice("optimizer", "name"), choice("optimizer", "schedule")
    finite = isinstance(group, Group)
    # Filters of a basis may be asked for on every finite group.
    downsampling = _known(choice, "model", "downsampling")
    has_basis = finite and getattr(choice("model", "sampling"), "kind", None) in BASES
    idle = {
        f"data.name {data}": {
            "data.directory": data.startswith("digits") or data in OWN_NAMES,
            "data.fit": data not in OWN_NAMES,
            "data.shares": data not in OWN_NAMES,
            "data.broken": data != "folder",
            "data.stream": data != "folder" and data not in PUBLISHED,
            "data.seed": data in PUBLISHED and "validation" in PUBLISHED[data].sizes,
        },
        f"data.stream {choice('data', 'stream')}": {"data.workers": not choice("data", "stream")},
        f"model.group {choice('model', 'group')}": {
            "model.sampling": not has_basis and (group.is_exact if finite else choice("model", "attention") == "none"),
            "model.max_scale": finite or group.scales is None,
        },
        f"model.downsampling {downsampling}": {"model.exact": downsampling == "pool"},
        f"optimizer.name {rule}": {"optimizer.momentum": rule != "sgd"},
        f"optimizer.schedule {schedule}": {
            "optimizer.milestones": schedule != "step",
            "optimizer.decay": schedule != "step",
            "optimizer.patience": schedule != "plateau",
        },
    }
    return {option: cause for cause, options in idle.items() for option, is_idle in options.items() if is_idle}


def _known(choice, part, field):
    """What is chosen of a field; None of a network that does not have it."""
    try:
        return choice(part, field)
    except AttributeError:
        return None


def check_effect(config: Config) -> None:
    """Raises a `ValueError` if an option without effect is changed: whoever does that expects one."""
    idle = idle_options(lambda part, field: getattr(getattr(config, part), field), config.model.parsed_group())
    for option, cause in idle.items():
        part, name = option.split(".")
        chosen = getattr(config, part)
        for field in dataclasses.fields(chosen):
            if field.name == name and getattr(chosen, name) != field.default:
                raise ValueError(f"{option} has no effect with {cause}: leave it out, got {getattr(chosen, name)}")
