"""What the sources of published weights have in common."""

from collections.abc import Callable, Mapping, Set
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from attgconv_jax.groups import trivial
from attgconv_jax.interop.slots import Slot
from attgconv_jax.models import ResNet


class Recipe(NamedTuple):
    """A network of ours that computes what a published one does.

    Attributes:
      make: its class.
      settings: what it is made with.
      free: names of further settings in which networks of the published code differ.
      derived: settings that the published code sets by others, from those of a network of ours; None: none.
    """

    make: Callable[..., nnx.Module]
    settings: Mapping[str, Any]
    free: Set[str] = frozenset()
    derived: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None


class Source(NamedTuple):
    """Code that others publish weights of.

    Attributes:
      networks: the recipes by the names of that code.
      slots: of one of these networks of ours, where the arrays of the state dict are in it.
      constants: of one of these networks, arrays of the state dict that are not in ours, as they are always the same.
    """

    networks: Mapping[str, Recipe]
    slots: Callable[[nnx.Module], Mapping[str, Slot]]
    constants: Callable[[nnx.Module], Mapping[str, np.ndarray]] = lambda network: {}


def resnet(depth: int, attention: str | None = None, **options: Any) -> Recipe:
    """The recipe of an ordinary ResNet with these options of its attention."""
    return Recipe(ResNet, dict(depth=depth, group=trivial(), attention=attention, attention_options=options))
