"""Checks of what a configuration is given, and options as NAME=VALUE."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args


def check(name: str, value: Any, expected: str, good: bool) -> None:
    """Raises a `ValueError` that says what was expected unless a value is good, and a float finite."""
    if not good or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{name} must be {expected}, got {value}")


def check_choice(name: str, value: str, choices: Any) -> None:
    """Raises a `ValueError` that names them unless a value is one of the choices, a `Literal` or a union of such."""
    names = [name for choice in get_args(choices) for name in get_args(choice) or [choice]]
    if value not in names:
        raise ValueError(f"{name} must be one of {', '.join(names)}, got {value!r}")


def chosen(field: str, names: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    """The names that a command line chose, all that are known if it chose none.

    Raises:
      ValueError: a name is not known.
    """
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"{field} must be among {', '.join(known)}, got {', '.join(unknown)}")
    return names or tuple(known)


def check_seed(name: str, seed: int) -> None:
    """Raises a `ValueError` unless a seed is one of 32 bits."""
    check(name, seed, "in 0 to 2^32 - 1", 0 <= seed < 2**32)


def parse_options(
    field: str, of: str, options: Sequence[str], known: Mapping[str, type]
) -> dict[str, bool | int | float | str]:
    """The values of options, each NAME=VALUE, by name.

    Args:
      field: where the options stand, for messages.
      of: what the options are of, for messages.
      options: each NAME=VALUE.
      known: the names, and of what type their values are.

    Raises:
      ValueError: an option is not NAME=VALUE, or its name or value is none; the message says what would be.
    """
    parsed = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or name not in known:
            raise ValueError(
                f"{field} must be NAME=VALUE; the names for {of} are {', '.join(known) or 'none'}; got {option!r}"
            )
        if name in parsed:
            raise ValueError(f"{field} names {name} twice; once will do")
        parsed[name] = _parse(f"{field}: {name}", value, known[name])
    return parsed


def _parse(name, value, kind):
    if kind is bool and value in ("True", "False"):
        return value == "True"
    if kind is not bool:
        try:
            return kind(value)
        except ValueError:
            pass
    expected = {bool: "True or False", int: "an integer", float: "a number"}[kind]
    raise ValueError(f"{name} must be {expected}, got {value!r}")
