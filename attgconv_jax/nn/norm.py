"""Batch norm as the networks and operators of this library use it."""

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import canonicalize_dtype
from jaxtyping import Array, Float

from attgconv_jax.kernels.normalisation import normalised


class BatchNorm(nnx.BatchNorm):
    """`nnx.BatchNorm` with the gradient of `attgconv_jax.kernels.normalisation.normalised`.

    What that does not know is Flax's own: statistics across named axes, masks, features on another axis than the last,
    no scale or no bias.
    """

    def __call__(
        self, x: Float[Array, "*positions c"], use_running_average: bool | None = None, *, mask: Array | None = None
    ) -> Float[Array, "*positions c"]:
        """Normalizes, and in training mode updates the running statistics."""
        running = self.use_running_average if use_running_average is None else use_running_average
        unknown = mask is not None or self.axis_name is not None or self.axis != -1
        if running or unknown or self.scale is None or self.bias is None:
            return super().__call__(x, running, mask=mask)
        scale, bias = self.scale[...], self.bias[...]
        dtype = canonicalize_dtype(x, scale, bias, dtype=self.dtype)
        y, *statistics = normalised(*(array.astype(dtype) for array in (x, scale, bias)), self.epsilon)
        for variable, now in zip((self.mean, self.var), statistics, strict=True):
            variable[...] = jax.lax.stop_gradient(self.momentum * variable[...] + (1 - self.momentum) * now)
        return y.astype(dtype)


def batch_norm(features: int, dtype, param_dtype, rngs: nnx.Rngs, *, epsilon: float = 2e-5) -> BatchNorm:
    """Batch norm over batch, space and group, of momentum 0.9; `epsilon` is the reference's, PyTorch's is 1e-5.

    The variance is the mean of squared deviations. As a difference of two means, Flax's default, it would be lost where
    the mean is far larger than the deviation: raw counts of a camera would leave with a deviation of 2.5 instead of 1.
    """
    options = dict(momentum=0.9, epsilon=epsilon, use_fast_variance=False)
    norm = BatchNorm(features, **options, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
    # Flax keeps running statistics in float32 whatever the parameters are: too little for float64.
    for statistic in (norm.mean, norm.var):
        statistic.set_value(statistic[...].astype(jnp.promote_types(param_dtype, jnp.float32)))
    return norm


def wide_dtype(dtype):
    """`dtype` or float32 if that is wider; None stays."""
    return None if dtype is None else jnp.promote_types(dtype, jnp.float32)
