"""Batch norm as the networks and operators of this library use it."""

import jax.numpy as jnp
from flax import nnx


def batch_norm(features: int, dtype, param_dtype, rngs: nnx.Rngs, *, epsilon: float = 2e-5) -> nnx.BatchNorm:
    """Batch norm over batch, space and group, of momentum 0.9; `epsilon` is the reference's, PyTorch's is 1e-5.

    The variance is the mean of squared deviations. As a difference of two means, Flax's default, it would be lost where
    the mean is far larger than the deviation: raw counts of a camera would leave with a deviation of 2.5 instead of 1.
    """
    options = dict(momentum=0.9, epsilon=epsilon, use_fast_variance=False)
    norm = nnx.BatchNorm(features, **options, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
    # Flax keeps running statistics in float32 whatever the parameters are: too little for float64.
    for statistic in (norm.mean, norm.var):
        statistic.set_value(statistic[...].astype(jnp.promote_types(param_dtype, jnp.float32)))
    return norm


def wide_dtype(dtype):
    """`dtype` or float32 if that is wider; None stays."""
    return None if dtype is None else jnp.promote_types(dtype, jnp.float32)
