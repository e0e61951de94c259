"""How an attention map and what it attends to are put together."""

from typing import get_args

import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.attention.operator import Combination
from attgconv_jax.checks import check_choice
from attgconv_jax.kernels.chunks import sum_dtype, wide

_COMBINATIONS = {
    "scale": lambda f, alpha: alpha * f,
    "suppress": lambda f, alpha: f - alpha * f,
    "emphasise": lambda f, alpha: f + alpha * f,
    "add": lambda f, alpha: f + alpha,
    "choose": lambda f, alpha: jnp.sum(alpha * f, axis=0),
}


def attend(
    f: Float[Array, "..."], alpha: Float[Array, "..."], combination: Combination = "scale"
) -> Float[Array, "..."]:
    """Puts an attention map and what it attends to together.

    | `combination` | result | operators |
    |---|---|---|
    | "scale" | `alpha f` | most |
    | "suppress" | `(1 - alpha) f` | alpha_F, co-attention |
    | "emphasise" | `(1 + alpha) f` | BAM |
    | "add" | `f + alpha` | Global Context, non-local and self-attention |
    | "choose" | `sum over b of alpha_b f_b` | Selective Kernel; `f` is `[branches, ..., x, y, h, c]` |

    Computed in float32 at least. The result has the common type of `f` and `alpha`, or that of `f` where `alpha` has no
    more than the float32 that maps of low precision are computed in.
    """
    check_choice("combination", combination, get_args(Combination))
    fits = alpha.ndim == f.ndim and all(a in (1, b) for a, b in zip(alpha.shape, f.shape, strict=False))
    if combination == "choose":
        fits = fits and f.ndim > 4 and alpha.shape[0] == f.shape[0]
    if not fits:
        raise ValueError(f"alpha must be broadcastable to f, of shape {f.shape}; got {alpha.shape}")
    dtype = jnp.promote_types(f.dtype, alpha.dtype)
    if jnp.issubdtype(f.dtype, jnp.floating) and dtype == sum_dtype(f):
        dtype = f.dtype
    return _COMBINATIONS[combination](wide(f), wide(alpha)).astype(dtype)
