"""Checks of what a configuration is given."""

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import Any


def check(name: str, value: Any, expected: str, good: bool) -> None:
    """Raises a `ValueError` that says what was expected unless a value is good, and a float finite."""
    if not good or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{name} must be {expected}, got {value}")


def check_name(field: str, name: str, known: Iterable[str]) -> None:
    """Raises a `ValueError` unless a name is known; the message has all that are, and the nearest first."""
    known = list(known)
    if name not in known:
        raise ValueError(unknown_name(field, name, known))


def unknown_name(field: str, name: str, known: Sequence[str]) -> str:
    """What is said of a name that is none of the known ones: all that are, and the nearest."""
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.7)
    hint = f"; perhaps {near[0]}" if near else ""
    return f"{field} must be one of {', '.join(known)}, got {name!r}{hint}"


def chosen(field: str, names: Sequence[str], known: Iterable[str]) -> Sequence[str]:
    """The names that a command line chose, all that are known if it chose none; a `ValueError` if one is not known."""
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"{field} must be among {_listed(known)}, got {_listed(unknown)}")
    return names or tuple(known)


def _listed(names):
    return ", ".join(f'"{name}"' if "," in name else name for name in names)


def check_seed(name: str, seed: int) -> None:
    """Raises a `ValueError` unless a seed is one of 32 bits."""
    check(name, seed, "in 0 to 2^32 - 1", 0 <= seed < 2**32)
