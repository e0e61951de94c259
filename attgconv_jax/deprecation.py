"""Former names, which work for this release with a `DeprecationWarning` that says the new one."""

import functools
import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def warn_deprecated(former: str, now: str, stacklevel: int = 3) -> None:
    """Warns that a name has become another, by default at the call of the function that calls this."""
    message = f"{former} is deprecated and goes with the next release; use {now}"
    warnings.warn(message, DeprecationWarning, stacklevel=stacklevel)


def convert_arguments(convert: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable:
    """Decorates a function whose keyword arguments `convert` turns from their former names into those of now."""

    def decorate(function):
        @functools.wraps(function)
        def with_former_names(*args, **kwargs):
            return function(*args, **convert(kwargs)) if kwargs else function(*args)

        return with_former_names

    return decorate


def former_attributes(module: str, former: Mapping[str, str], lazy: tuple[str, ...] = ()) -> Callable[[str], Any]:
    """A module's `__getattr__`: former names of its attributes as those of now, and `lazy` submodules on first use."""

    def __getattr__(name):
        if name in lazy:
            return importlib.import_module(f"{module}.{name}")
        if name not in former:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn_deprecated(f"{module}.{name}", f"{module}.{former[name]}")
        return getattr(importlib.import_module(module), former[name])

    return __getattr__
