"""What signatures and docstrings say of arguments and sources, for help, records and command lines."""

import functools
import inspect
import operator
import re
import sys
import types
from collections.abc import Callable
from typing import Any, Union, get_args, get_origin


def argument_help(*functions: Callable) -> dict[str, str]:
    """The text of every argument in `Args` or `Options` of these docstrings, by name; else what their packages say."""
    shared, own = {}, {}
    for function in functions:
        package = sys.modules.get(function.__module__.rpartition(".")[0])
        of_package = _arguments(inspect.getdoc(package) or "") if package else {}
        parameters = inspect.signature(function).parameters
        shared |= {name: text for name, text in of_package.items() if name in parameters}
        own |= _arguments(inspect.getdoc(function) or "")
    return shared | own


def source_of(function: Callable) -> str:
    """The paper that a docstring names after `Source`, up to its number on arXiv; nothing where it names none."""
    source = re.search(r"^Source: (.+(?:\n.+)*)", inspect.getdoc(function) or "", re.MULTILINE)
    text = " ".join(source[1].split()).rstrip(".") if source else ""
    paper = re.match(r".*?\(arXiv [\d.]+\)", text)
    return paper[0] if paper else text


def _arguments(docstring):
    """The entries of the section `Args` or `Options`, on one line each."""
    section = re.search(r"^(?:Args|Options):\n((?:  .*\n|\n)*)", docstring + "\n", re.MULTILINE)
    entries = re.findall(r"^  (\**\w+): ((?:.*)(?:\n    .*)*)", section[1] if section else "", re.MULTILINE)
    return {name.lstrip("*"): " ".join(text.split()) for name, text in entries}


def without_functions(annotation: Any) -> Any:
    """An annotation without the functions that it allows; None where these leave nothing but None."""
    if not _is_function(annotation):
        return annotation
    kinds = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else ()
    rest = [kind for kind in kinds if not _is_function(kind)]
    return functools.reduce(operator.or_, rest) if set(rest) - {types.NoneType} else None


def _is_function(annotation):
    """Whether an annotation allows functions."""
    return Callable in (annotation, get_origin(annotation)) or any(map(_is_function, get_args(annotation)))
