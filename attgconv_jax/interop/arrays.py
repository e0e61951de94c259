"""Arrays of a state dict, whatever network it is of."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

_PARALLEL = "module."
_DTYPES = ("bfloat16", "float16", "float32", "float64")


def plain_arrays(state: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    """The arrays by name, without `num_batches_tracked`, and without `module.` where all names begin with it."""
    if not isinstance(state, Mapping):
        raise ValueError(f"state must map names to arrays, got {type(state).__name__}")
    arrays = {}
    for name, value in state.items():
        got = f"{type(value).__name__} under {name!r}"
        try:
            array = np.asarray(value)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"state must map names to arrays, got {got}: {error}") from error
        if not isinstance(name, str) or array.dtype == object:
            raise ValueError(f"state must map names to arrays of numbers, got {got}")
        if not name.endswith("num_batches_tracked"):
            arrays[name] = array.astype(array.dtype.newbyteorder("="))
    # As PyTorch's DataParallel names them.
    if arrays and all(name.startswith(_PARALLEL) for name in arrays):
        return {name.removeprefix(_PARALLEL): array for name, array in arrays.items()}
    return arrays


def common_dtype(arrays: Mapping[str, np.ndarray]) -> jnp.dtype:
    """The one floating type of all arrays; float64 needs `jax_enable_x64`."""
    found = sorted({array.dtype.name for array in arrays.values()})
    if len(found) != 1 or found[0] not in _DTYPES:
        raise ValueError(f"state must hold arrays of one type of {', '.join(_DTYPES)}, got {', '.join(found)}")
    dtype = jnp.dtype(found[0])
    if dtype == jnp.float64 and not jax.config.jax_enable_x64:
        raise ValueError('state is float64: call jax.config.update("jax_enable_x64", True), or cast it to float32')
    return dtype


def check_finite(arrays: Mapping[str, np.ndarray]) -> None:
    """Raises a `ValueError` that names the arrays which hold NaN or infinity."""
    bad = [name for name, array in arrays.items() if not np.isfinite(array.astype(np.float64)).all()]
    if bad:
        raise ValueError(f"state must be finite, but there is NaN or infinity in {', '.join(bad)}")
