"""Batch norm as the networks and operators of this library use it."""

import jax.numpy as jnp
from flax import nnx


def batch_norm(features: int, dtype, param_dtype, rngs: nnx.Rngs, *, epsilon: float = 2e-5) -> nnx.BatchNorm:
    """Batch norm over batch, space and group, of momentum 0.9; `epsilon` is the reference's, PyTorch's is 1e-5."""
    norm = nnx.BatchNorm(features, momentum=0.9, epsilon=epsilon, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
    # Flax keeps running statistics in float32 whatever the parameters are: too little for float64.
    for statistic in (norm.mean, norm.var):
        statistic.set_value(statistic[...].astype(jnp.promote_types(param_dtype, jnp.float32)))
    return norm
