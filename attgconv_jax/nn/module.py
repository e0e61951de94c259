"""What the library's modules are derived from."""

import inspect
from typing import Any

from flax import nnx


class Module(nnx.Module):
    """A module of Flax whose signature is that of its constructor, unless it has one of its own.

    That of Flax's metaclass names no argument.
    """

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        if "__signature__" not in vars(cls):
            cls.__signature__ = inspect.Signature(list(inspect.signature(cls.__init__).parameters.values())[1:])
