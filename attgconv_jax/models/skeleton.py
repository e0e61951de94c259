"""Networks whose arrays are about to be read from a file."""

from collections.abc import Callable

import jax
import jax.extend
from flax import nnx

from attgconv_jax.nn.lie import Frequencies

ARRAYS = (nnx.Param, nnx.BatchStat, Frequencies)


def skeleton(build: Callable[[], nnx.Module]) -> tuple:
    """A network without the numbers: initial values that are about to be replaced are never computed.

    Of what `build` makes, the parts that `nnx.merge` puts together: the structure; parameters, running statistics and
    fixed waves as shapes and dtypes; the rest of the state (random streams) as it is.
    """
    traced, (graphdef, arrays, rest) = jax.make_jaxpr(lambda: nnx.split(build(), ARRAYS, ...), return_shape=True)()
    count = len(jax.tree.leaves(arrays))
    # Compiled, so that XLA leaves out what only the discarded arrays need.
    streams = jax.jit(lambda: jax.extend.core.jaxpr_as_fun(traced)()[count:])()
    return graphdef, arrays, jax.tree.unflatten(jax.tree.structure(rest), streams)
