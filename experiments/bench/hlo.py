"""Counts launches, bytes and cycles in the text of a program that XLA has compiled."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

# Instructions that compute nothing: they name, group or order what others have made.
_FREE = frozenset({"after-all", "bitcast", "constant", "get-tuple-element", "iota", "parameter", "tuple"})
_FREE |= {"call", "conditional", "while", "partition-id", "replica-id"}
_ELEMENT_BYTES = {"pred": 1, "c64": 8, "c128": 16}
_HEADER = re.compile(r"(ENTRY )?%?([\w.-]+) (?:\(.*\) -> .* )?\{$")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.-]+) = ")
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,<=]*)\]")
_CALLED = re.compile(r"(?:to_apply|true_computation|false_computation|branch_computations)=\{?([^,}]*(?:, %[^,}]*)*)")


class Instruction(NamedTuple):
    """One line of a computation; what it calls and how often stands in `attributes`."""

    name: str
    shape: str
    code: str
    operands: list[str]
    attributes: str


class Counts(NamedTuple):
    """Of a program, what stands in loops as often as they run."""

    launches: float = 0
    loops: float = 0
    bytes: float = 0
    cycles: float = 0

    def __add__(self, other):
        return Counts(*map(sum, zip(self, other, strict=True)))

    def __mul__(self, times):
        return Counts(*(times * figure for figure in self))


def count(text: str) -> Counts:
    """Kernel launches, loops, bytes that kernels read and write, and the cycles that a TPU's compiler estimates.

    Bytes are those of operands and results, without caches. A slice reads what it writes; a fusion around one reads at
    most twice that; a fusion that updates a slice in place counts nothing, which is a lower bound.
    """
    computations, entry = _parse(text)
    return _count(entry, computations)


def _count(name, computations):
    shapes = {instruction.name: instruction.shape for instruction in computations[name]}
    total = Counts()
    for instruction in computations[name]:
        attributes = instruction.attributes
        if instruction.code == "while":
            (body,) = re.findall(r"\bbody=%?([\w.-]+)", attributes)
            trips = re.search(r'known_trip_count"?:?=?\{"n":"?(\d+)', attributes)
            total += Counts(loops=1) + _count(body, computations) * (int(trips.group(1)) if trips else 1)
        elif instruction.code in ("conditional", "call"):
            for called in _CALLED.findall(attributes):
                total += sum((_count(each, computations) for each in re.findall(r"[\w.-]+", called)), Counts())
        elif instruction.code not in _FREE and not instruction.code.endswith("-done"):
            cycles = re.search(r'"estimated_cycles":"(\d+)"', attributes)
            moved = _moved(instruction, shapes)
            total += Counts(launches=1, bytes=moved, cycles=int(cycles.group(1)) if cycles else 0)
    return total


def _moved(instruction: Instruction, shapes: Mapping[str, str]) -> int:
    read = sum(_bytes(shapes.get(operand, "")) for operand in instruction.operands)
    written = _bytes(instruction.shape)
    if instruction.code == "dynamic-slice":
        return 2 * written
    if instruction.code == "fusion":
        if "dynamic-update-slice" in instruction.name or "dynamic_update_slice" in instruction.name:
            return 0
        if "dynamic-slice" in instruction.name or "dynamic_slice" in instruction.name:
            return min(read, 2 * written) + written
    return read + written


def _bytes(shape):
    return sum(
        math.prod(int(length.removeprefix("<=")) for length in lengths.split(",") if length)
        * (_ELEMENT_BYTES.get(kind) or max(1, int(bits) // 8))
        for kind, bits, lengths in _ARRAY.findall(shape)
    )


def _parse(text):
    """The computations by name, and the name of the one that is run."""
    computations, entry, current = {}, None, None
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
        header = _HEADER.match(line)
        if header:
            current = computations.setdefault(header.group(2), [])
            entry = header.group(2) if header.group(1) else entry
        elif current is not None and (match := _INSTRUCTION.match(line)):
            current.append(_instruction(match.group(1), line[match.end() :]))
    return computations, entry


def _instruction(name, text):
    end = _closing(text) if text.startswith("(") else text.index(" ")
    shape, rest = text[:end], text[end:].lstrip()
    code, rest = rest.split("(", 1)
    end = _closing("(" + rest) - 1
    return Instruction(name, shape, code, list(_names(rest[: end - 1])), rest[end:])


def _names(operands: str) -> Iterator[str]:
    return iter(re.findall(r"%([\w.-]+)", operands))


def _closing(text):
    """The index after the parenthesis that closes the first."""
    depth = 0
    for i, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return i + 1
    raise ValueError(f"no parenthesis closes the first of {text[:80]!r}")
