"""Saved networks, as commands take them."""

import pathlib
from typing import Any

from attgconv_jax.models.description import read_description


def registered_description(folder: pathlib.Path) -> dict[str, Any]:
    """What `network.json` says of a network; a `ValueError` if no command can make it."""
    description = read_description(folder)
    if "class" in description:
        raise ValueError(
            f"{folder} holds {description['class']}, a network of your own, which a command cannot make: take it in "
            f"Python, by load_classifier or load_network of attgconv_jax.models with like={description['class']}(...)"
        )
    return description
