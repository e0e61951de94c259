"""What a network was made with, as an attribute that can be hashed and as JSON can hold it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from attgconv_jax.filters import Sampling


def frozen(value: Any) -> Any:
    """A setting that can be hashed, numbers as Python's."""
    if isinstance(value, Mapping):
        return frozenset((name, frozen(entry)) for name, entry in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(frozen, value))
    return value.item() if isinstance(value, np.generic) else value


def plain(value: Any) -> Any:
    """A setting as JSON can hold it."""
    if isinstance(value, frozenset):
        return {name: plain(entry) for name, entry in sorted(value)}
    return dataclasses.asdict(value) if isinstance(value, Sampling) else value
