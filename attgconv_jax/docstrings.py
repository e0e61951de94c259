"""What docstrings say of arguments and sources, for help texts and records that follow from functions."""

import inspect
import re
import sys
from collections.abc import Callable


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
