"""Arrays of a state dict, whatever network it is of."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from attgconv_jax.checks import FLOATS
from attgconv_jax.models.arrays import first_line, listed, shown

_PARALLEL = "module."
_HALVES = {"bfloat16", "float16"}


def plain_arrays(state: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    """The arrays by name, without `num_batches_tracked`, and without `module.` where all names begin with it.

    They are not copied: some hundred bytes of a file may stand for a large array, of names that fit no network.
    """
    if not isinstance(state, Mapping):
        raise ValueError(f"state must map names to arrays, got {type(state).__name__}")
    arrays = {}
    for name, value in state.items():
        got = f"{type(value).__name__} under {shown(ascii(name))}"
        try:
            array = np.asarray(value)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"state must map names to arrays, got {got}: {first_line(error)}") from error
        if not isinstance(name, str) or array.dtype == object:
            raise ValueError(f"state must map names to arrays of numbers, got {got}")
        if not name.endswith("num_batches_tracked"):
            arrays[name] = array
    # As PyTorch's DataParallel names them.
    if arrays and all(name.startswith(_PARALLEL) for name in arrays):
        return {name.removeprefix(_PARALLEL): array for name, array in arrays.items()}
    return arrays


def common_dtype(arrays: Mapping[str, np.ndarray]) -> jnp.dtype:
    """The one floating type of all arrays, but that running statistics beside halves may be float32.

    float64 needs `jax_enable_x64`.
    """
    found = sorted({array.dtype.name for array in arrays.values()})
    of_weights = {array.dtype.name for name, array in arrays.items() if not _is_statistic(name)}
    if len(of_weights) == 1 and of_weights <= _HALVES and {*found} == of_weights | {"float32"}:
        found = [*of_weights]
    if len(found) != 1 or found[0] not in FLOATS:
        raise ValueError(f"state must hold arrays of one type of {', '.join(FLOATS)}, got {', '.join(found)}")
    dtype = jnp.dtype(found[0])
    if dtype == jnp.float64 and not jax.config.jax_enable_x64:
        raise ValueError('state is float64: call jax.config.update("jax_enable_x64", True), or cast it to float32')
    return dtype


def check_finite(arrays: Mapping[str, np.ndarray]) -> None:
    """Raises a `ValueError` that names the arrays which hold NaN or infinity."""
    bad = [shown(name) for name, array in arrays.items() if not np.isfinite(array.astype(np.float64)).all()]
    if bad:
        raise ValueError(f"state must be finite, but there is NaN or infinity in {listed(bad)}")


def native(array: np.ndarray) -> np.ndarray:
    """The array in this machine's order of bytes, itself where it is in that."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _is_statistic(name):
    return name.endswith((".running_mean", ".running_var"))
