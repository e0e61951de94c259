"""Saved networks, as commands take them."""

import contextlib
import pathlib
from collections.abc import Mapping
from typing import Any

from attgconv_jax.models.description import read_description
from experiments.run.model_configuration import ModelConfig
from experiments.run.runtime import precision


def registered_description(folder: pathlib.Path) -> dict[str, Any]:
    """What `network.json` says of a network; a `ValueError` if no command can make it."""
    description = read_description(folder)
    if "class" in description:
        raise ValueError(
            f"{folder} holds {description['class']}, a network of your own, which a command cannot make: take it in "
            f"Python, by load_classifier or load_network of attgconv_jax.models with like={description['class']}(...)"
        )
    return description


def precision_of(
    network: Mapping[str, Any] | ModelConfig, products: str | None
) -> contextlib.AbstractContextManager[None]:
    """`precision` for a network that `network.json` or the configuration of a run describes."""
    if isinstance(network, ModelConfig):
        return precision(network.dtype, products, getattr(network, "precision", None))
    return precision(network.get("param_dtype", ""), products, network["settings"].get("precision"))
