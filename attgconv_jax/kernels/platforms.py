"""What is computed in another way where it is lowered for CUDA."""

from collections.abc import Callable
from typing import Any

from jax import lax
from jaxtyping import Array

from attgconv_jax.kernels.chunks import compiled
from attgconv_jax.kernels.devices import is_spread
from attgconv_jax.kernels.portability import is_portable


@compiled("cuda", "default", "options")
def on_cuda(cuda: Callable, default: Callable, *arrays: Array, options: tuple = ()) -> Any:
    """`cuda(*arrays, *options)` where the computation is lowered for CUDA, else `default(*arrays, *options)`.

    Inside of `attgconv_jax.kernels.portable`, and where arrays are sharded over an explicit mesh, it is `default`. Both
    functions are compared by value, or outside of `jit` they are compiled anew at every call.
    """
    if is_portable() or any(map(is_spread, arrays)):
        return default(*arrays, *options)

    def bound(function):
        return lambda *arrays: function(*arrays, *options)

    return lax.platform_dependent(*arrays, cuda=bound(cuda), default=bound(default))
