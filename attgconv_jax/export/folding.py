"""Constant folding: what depends on weights alone is computed once, before a program is exported."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.extend

# Calls of functions that a program goes on inside of; a rule for gradients is of no use in an exported program.
_CALLS = {
    "pjit", "jit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "checkpoint", "remat", "remat2",
}  # fmt: skip

# What only repeats numbers or counts is left to the program: its result is far larger than what it is made of.
_EXPANSIONS = {"broadcast_in_dim", "iota"}


@dataclasses.dataclass(eq=False)
class _Value:
    """A value of the program: a weight, or what an operation makes, `constant` if of weights alone."""

    constant: bool = False
    array: Any = None


@dataclasses.dataclass(eq=False)
class _Operation:
    """A primitive with its parameters, what goes in and what comes out."""

    equation: Any
    inputs: list[_Value]
    outputs: list[_Value]

    def __call__(self, *arrays, run=None):
        outputs = (run or self.equation.primitive.bind)(*arrays, **self.equation.params)
        return outputs if self.equation.primitive.multiple_results else [outputs]

    @property
    def expands(self) -> bool:
        """Whether it only makes many numbers of few."""
        sizes = (math.prod(variable.aval.shape) for variable in self.equation.invars)
        grows = math.prod(self.equation.outvars[0].aval.shape) > sum(sizes)
        return self.equation.primitive.name in _EXPANSIONS and grows


def folded(
    function: Callable, *arguments: jax.ShapeDtypeStruct, rewrites: Mapping[str, Callable] | None = None
) -> Callable:
    """The function with all that does not depend on its arguments computed; it takes arguments of these shapes.

    Arrays that the function closes over are constants, and so is what is computed of them alone: filter banks, the
    kernels of Lie groups, factors of norms. Calls inside are inlined.

    Options:
      rewrites: by the names of primitives functions that take their places in what remains, of their arguments and
        parameters.
    """
    rewrites = rewrites or {}
    closed, out_shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
    parameters = [_Value() for _ in closed.jaxpr.invars]
    operations: list[_Operation] = []
    results = _flatten(closed.jaxpr, [_Value(True, array) for array in closed.consts], parameters, operations)
    remaining, stored = _divide(operations, results)

    def constants():
        known = {}
        for operation in operations:
            if all(output.constant for output in operation.outputs):
                known.update(zip(operation.outputs, operation(*_read(operation.inputs, known)), strict=True))
        return [known[value] for value in stored]

    arrays = dict(zip(stored, jax.jit(constants)(), strict=True)) if stored else {}

    def program(*inputs):
        known = arrays | dict(zip(parameters, inputs, strict=True))
        for operation in remaining:
            run = rewrites.get(operation.equation.primitive.name)
            outputs = operation(*_read(operation.inputs, known), run=run)
            known.update(zip(operation.outputs, outputs, strict=True))
        return jax.tree.unflatten(jax.tree.structure(out_shape), _read(results, known))

    return program


def _flatten(jaxpr, constants, inputs, operations):
    """Appends the operations of a jaxpr, calls inlined, and gives its results."""
    values = dict(zip(jaxpr.constvars, constants, strict=True)) | dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom):
        return _Value(True, atom.val) if isinstance(atom, jax.extend.core.Literal) else values[atom]

    for equation in jaxpr.eqns:
        arguments = list(map(read, equation.invars))
        if equation.primitive.name in _CALLS:
            called = equation.params["jaxpr" if "jaxpr" in equation.params else "call_jaxpr"]
            called, consts = getattr(called, "jaxpr", called), getattr(called, "consts", ())
            outputs = _flatten(called, [_Value(True, array) for array in consts], arguments, operations)
        else:
            shapes = [length for variable in equation.outvars for length in variable.aval.shape]
            constant = all(value.constant for value in arguments) and not equation.effects
            constant = constant and all(isinstance(length, int) for length in shapes)
            outputs = [_Value(constant) for _ in equation.outvars]
            operations.append(_Operation(equation, arguments, outputs))
        values.update(zip(equation.outvars, outputs, strict=True))
    return list(map(read, jaxpr.outvars))


def _divide(operations, results):
    """The operations that remain, and the constants that they take, in the order of the program."""
    needed, remaining, stored = set(results), [], []
    for operation in reversed(operations):
        wanted = [value for value in operation.outputs if value in needed]
        if not wanted:
            continue
        if all(value.constant for value in operation.outputs) and not operation.expands:
            stored += wanted
        else:
            remaining.append(operation)
            needed.update(operation.inputs)
    return remaining[::-1], stored[::-1]


def _read(values, known):
    return [value.array if value.array is not None else known[value] for value in values]
