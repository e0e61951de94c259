"""The gradient of a batch that is computed in parts, one after the other, to take less memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from experiments.run.mesh import in_parts


def accumulated(
    loss_of: Callable[..., tuple[jax.Array, tuple[Any, jax.Array]]], trained: Any, rest: Any, batch: Any, parts: int
) -> tuple[tuple[jax.Array, Any, jax.Array], Any]:
    """Loss, other variables and errors after a batch, and the gradient towards what is trained.

    gradient = 1 / parts * sum over parts of (gradient of the part's mean loss)

    Args:
      loss_of: of `trained`, `rest` and the arrays of a batch: its mean loss, and what `rest` becomes and the errors.
      trained: towards which the gradient is.
      rest: goes from part to part.
      batch: arrays whose leading axis is that of images, and which `parts` divides.
      parts: how many; 1: the batch whole.

    Returns:
      Mean loss, what `rest` becomes and the errors of all parts; and the gradient, like `trained`.
    """
    gradient_of = jax.value_and_grad(loss_of, has_aux=True)
    if parts == 1:
        (loss, (rest, wrong)), gradient = gradient_of(trained, rest, *batch)
        return (loss, rest, wrong), gradient

    def add(sums, part):
        loss, rest, wrong, gradient = sums
        (loss_of_part, (rest, wrong_of_part)), gradient_of_part = gradient_of(trained, rest, *part)
        summed = jax.tree.map(jnp.add, gradient, gradient_of_part)
        return (loss + loss_of_part, rest, wrong + wrong_of_part, summed), None

    split = jax.tree.map(lambda array: in_parts(array, parts), batch)
    loss, (_, wrong) = jax.eval_shape(loss_of, trained, rest, *jax.tree.map(lambda array: array[0], split))
    zeros = jnp.zeros([], loss.dtype), rest, jnp.zeros([], wrong.dtype), jax.tree.map(jnp.zeros_like, trained)
    (loss, rest, wrong, gradient), _ = lax.scan(add, zeros, split)
    return (loss / parts, rest, wrong), jax.tree.map(lambda total: total / parts, gradient)
