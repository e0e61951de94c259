"""Gradient checkpointing of a part of a network."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx


def checkpointed(function: Callable[..., Any], module: nnx.Module, *arrays: Any) -> Any:
    """`function(module, *arrays)`, of which the gradient keeps the module's variables and the arrays alone.

    What lies between is computed again. Where `nnx.remat` writes all of a module's variables anew, this writes those
    that the function has changed: a module that changes none, as in evaluation, may be one that `jax.jit` closes over.

    Args:
      function: of a module, which it may change as a call does, and arrays.
      module: whose statistics and counts become what the function makes of them.
      arrays: pytrees.
    """
    graph, state = nnx.split(module)
    changed = []

    @jax.checkpoint
    def run(state, *arrays):
        copy = nnx.merge(graph, state, copy=True)
        outcome = function(copy, *arrays)
        before = dict(nnx.to_flat_state(state))
        after = [(path, new.get_value()) for path, new in nnx.to_flat_state(nnx.state(copy))]
        after = [(path, value) for path, value in after if value is not before[path].get_value()]
        changed[:] = [path for path, _ in after]
        return outcome, [value for _, value in after]

    outcome, values = run(state, *arrays)
    variables = dict(nnx.to_flat_state(state))
    updates = [(path, variables[path].replace(value)) for path, value in zip(changed, values, strict=True)]
    nnx.update(module, nnx.from_flat_state(updates))
    return outcome
