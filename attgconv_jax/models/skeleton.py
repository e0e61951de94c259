"""Networks whose arrays are about to be read from a file."""

from collections.abc import Callable

import jax
from flax import nnx

ARRAYS = (nnx.Param, nnx.BatchStat)


def skeleton(build: Callable[[], nnx.Module]) -> tuple:
    """A network without the numbers: initial values that are about to be replaced are never computed.

    Args:
      build: makes the network.

    Returns:
      The parts that `nnx.merge` puts together: the structure; parameters and running statistics as shapes and dtypes;
      the rest of the state (random streams) as `build` makes it.

    Source: our own.
    """
    graphdef, arrays, _ = nnx.split(nnx.eval_shape(build), ARRAYS, ...)
    # Compiled, so that XLA leaves out what only the discarded arrays need.
    rest = jax.jit(lambda: nnx.split(build(), ARRAYS, ...)[2])()
    return graphdef, arrays, rest
