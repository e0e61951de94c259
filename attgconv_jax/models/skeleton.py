"""Networks whose arrays are about to be read from a file."""

from collections.abc import Callable

import jax
import jax.extend
from flax import nnx

# What a checkpoint holds: all variables but the random streams.
ARRAYS = nnx.Not(nnx.RngState)


def skeleton(build: Callable[[], nnx.Module]) -> tuple:
    """A network without the numbers: initial values that are about to be replaced are never computed.

    Of what `build` makes, the parts that `nnx.merge` puts together: the structure; all variables but random streams as
    shapes and dtypes; random streams as they are.
    """
    traced, (graphdef, arrays, rest) = jax.make_jaxpr(lambda: nnx.split(build(), ARRAYS, ...), return_shape=True)()
    count = len(jax.tree.leaves(arrays))
    # Compiled, so that XLA leaves out what only the discarded arrays need.
    streams = jax.jit(lambda: jax.extend.core.jaxpr_as_fun(traced)()[count:])()
    return graphdef, arrays, jax.tree.unflatten(jax.tree.structure(rest), streams)
