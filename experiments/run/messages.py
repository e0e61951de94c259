"""What commands say of wrong words, in one line: the option, what it must be, what was given."""

import re
from typing import get_args

from attgconv_jax.kernels.response import Implementation
from experiments.run.checks import unknown_name

_RULE = re.compile(r"[╭╰─].*|-{3,}")
_VALUE = re.compile(r"(?:with base 10:|to float:|for arguments:|instantiated from) (.*?)(?:\. Got errors:.*)?$")
_CHOICE = re.compile(r"invalid choice '(.*)' for argument '(\S+)'\. Expected one of \((.*)\) ?\.")

# What the library advises in Python, and options of a command that trains.
_ADVICE = {
    re.compile(r"side by side, or pass exact=False"): "side by side, or give --model.attention-options exact=False",
    re.compile(r"pass exact=False"): "give --model.no-exact",
    re.compile(r'attention_options=dict\((\w+)="(\w+)"\)'): r"--model.attention-options \1=\2",
    re.compile(r'(\w+)="layer" or \1="group"'): r"--model.attention-options \1=layer or \1=group",
    re.compile(r"; where nothing is to be trained, call eval\(\) first"): "",
}


def with_options(message: str) -> str:
    """A message of the library whose advice is in options of the command line, not in Python.

    >>> with_options('take larger batches, norm="layer" or norm="group"')
    'take larger batches, --model.attention-options norm=layer or norm=group'
    """
    for advice, option in _ADVICE.items():
        message = advice.sub(option, message)
    return message


def one_line(page: str) -> str:
    """Tyro's message without the box around it, its title, and the name of the parser that found it."""
    sections = [[]]
    for line in page.splitlines():
        words = line.strip("│ ")
        if _RULE.fullmatch(words):
            sections.append([])
        elif words:
            sections[-1].append(words)
    # Before the first rule there is nothing but, where a terminal has no boxes, the title, which the message repeats.
    found, *others = sections[1:]
    message, helped = " ".join(found), others[0] if others and others[0][:1] == ["Argument helptext:"] else []
    if parsing := re.fullmatch(r"Error parsing ([^:]*): (.*)", message):
        option, message = parsing.groups()
        given = _VALUE.search(message) if helped else None
        if given is not None:
            wanted = helped[1].removeprefix(option).strip()
            message = f"{option} must be {wanted}, got {_words(given[1])}. {' '.join(helped[2:])}"
            others = others[1:]
    elif choice := _CHOICE.fullmatch(message):
        # Tyro's order is another in every process, and None stands for leaving the option out.
        names = sorted(set(re.findall("'([^']*)'", choice[3])) - {"None"})
        message = unknown_name(choice[2], choice[1], names)
        if choice[2] == "--model.implementation" and choice[1] in get_args(Implementation):
            message += f"; of attention on responses: --model.attention-options implementation={choice[1]}"
    elif message.startswith("Unrecognized options:") and re.search(r"\b(True|False)\b", message):
        message += "; an option that is on or off takes no value: --NAME, or no- before the last part of its name"
    message += "" if message.endswith((".", ":", ")")) else "."
    return " ".join(" ".join([message, *(line for section in others for line in section)]).split())


def _words(given):
    """What was given, without the list around it."""
    return " ".join(re.findall("'([^']*)'", given)) or given
