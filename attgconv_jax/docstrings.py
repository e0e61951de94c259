"""What docstrings say of arguments, for help texts that follow from functions."""

import inspect
import re
from collections.abc import Callable


def argument_help(function: Callable) -> dict[str, str]:
    """The text of every argument in the section `Args` or `Options` of a docstring, by name, on one line each."""
    section = re.search(r"^(?:Args|Options):\n((?:  .*\n|\n)*)", inspect.getdoc(function) + "\n", re.MULTILINE)
    if section is None:
        return {}
    entries = re.findall(r"^  (\**\w+): ((?:.*)(?:\n    .*)*)", section[1], re.MULTILINE)
    return {name.lstrip("*"): " ".join(text.split()) for name, text in entries}
