"""Fields of configurations by dotted name, and what those of earlier runs are called now."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from attgconv_jax import OPERATORS, Sampling
from experiments.augmentation import KINDS
from experiments.data.own import SHARES
from experiments.run.groups import is_lie, parse_group
from experiments.run.model_configuration import MAX_SCALE, config_class


def as_of_now(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a run under their current names; those that there were not yet stand for what was done then."""
    fields = _before_bases(_renamed(dict(fields)))
    return _LATER | _later_arguments(fields.get("model.name")) | fields


def as_json(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields by dotted name, tuples as lists."""
    flat = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            flat |= as_json(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


# Fields that came later, as they are of runs from before.
_LATER = {
    "data.broken": "raise",
    "data.channelwise": False,
    "data.fit": "pad",
    "data.shares": list(SHARES),
    "data.size": "exact",
    "data.standardise": True,
    "data.stream": False,
    "freeze": "none",
    "init_from": None,
    "optimizer.accumulate": 1,
    "optimizer.class_weights": "none",
    "optimizer.ema_decay": None,
    "optimizer.gradient_checkpointing": False,
    "optimizer.patience": 20,
    **{f"augment.{kind.name}": kind.default for kind in KINDS.values()},
}

# Arguments of networks that came later, likewise.
_LATER_ARGUMENTS = {
    "kernel_size": 3,
    "kernel_init": None,
    "antialiased": False,
    "oversampled": False,
    "masked": False,
    "implementation": None,
    "precision": None,
}

_BEFORE_NETWORKS = {
    "data.test_images": None,
    "model.attention_options": [],
    "model.features": [],
    "model.kernel_network": "siren",
    "model.kernel_options": [],
    "model.kind": None,
    "model.max_scale": MAX_SCALE,
    "model.random_grids": False,
}

_BEFORE_SAMPLING = {"model.sampling.kind": "bilinear", "model.sampling.disc_mask": False}


def _later_arguments(network):
    known = () if network is None else [field.name for field in dataclasses.fields(config_class(network))]
    return {f"model.{name}": value for name, value in _LATER_ARGUMENTS.items() if name in known}


def _renamed(fields):
    """Fields of runs of version 0.1.0, before networks had names, as they are called now."""
    if "model.name" in fields or "model.group" not in fields:
        return fields
    lie = is_lie(fields["model.group"])
    fields = _BEFORE_NETWORKS | fields
    kinds = {None: "separable" if lie else "nonseparable", "g": "gseparable", "gc": "separable"}
    kind = fields.pop("model.kind")
    fields |= {"model.name": "lie_resnet" if lie else "rot_mnist", "model.kind": kinds.get(kind, kind)}
    former = {"network": "kernel_network", "network_options": "kernel_options"}
    kernels = {f"model.{name}": fields.pop(f"model.{before}") for name, before in former.items()}
    if lie:
        fields |= kernels
        if not fields["model.features"]:
            del fields["model.features"]
    else:
        del fields["model.max_scale"], fields["model.random_grids"]
    defaults = as_json({"model": dataclasses.asdict(config_class(fields["model.name"])())})
    return _without_sampling(defaults) | _BEFORE_SAMPLING | fields


def _without_sampling(fields):
    return {name: value for name, value in fields.items() if not name.startswith("model.sampling.")}


def _before_bases(fields):
    """Fields of runs whose filters had no bases. Where no filter is interpolated, how it would be says nothing."""
    if "model.sampling.kind" not in fields:
        return fields
    if "model.sampling.tolerance" in fields:
        unused = fields["model.sampling.kind"] is None and not _interpolates(fields)
        return fields | (as_json({"model": {"sampling": dataclasses.asdict(Sampling())}}) if unused else {})
    former = Sampling(fields["model.sampling.kind"], fields.get("model.sampling.disc_mask", False))
    sampling = former if former.disc_mask or _interpolates(fields) else Sampling()
    return _without_sampling(fields) | as_json({"model": {"sampling": dataclasses.asdict(sampling)}})


def _interpolates(fields):
    """Whether a network has filters that its group turns by other than right angles."""
    group, attention = fields.get("model.group", "p4"), fields.get("model.attention")
    if is_lie(group):
        return attention in OPERATORS and "sampling" in OPERATORS[attention].options
    return not parse_group(group).is_exact
