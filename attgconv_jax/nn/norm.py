"""The norms that networks and operators of this library use."""

import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import canonicalize_dtype
from jaxtyping import Array, Float

from attgconv_jax.checks import check_choice, check_divisor, check_finite_positive, check_integer, check_positive
from attgconv_jax.kernels.chunks import is_symbolic
from attgconv_jax.kernels.normalisation import group_normalised, normalised
from attgconv_jax.nn.module import Module

RunningVariance = Literal["biased", "unbiased"]


class BatchNorm(nnx.BatchNorm):
    """`nnx.BatchNorm` with the gradient of `attgconv_jax.kernels.normalisation.normalised`.

    The kernel computes the plain case, and statistics across a named axis. Flax's own code computes statistics within
    parts of that axis, masks, features on another axis than the last, and norms without a scale or a bias.

    In training a channel is normalised over `n` numbers: all images, positions and group elements. A single one becomes
    zero whatever it was, and its variance is zero, by which evaluation would divide; therefore `n = 1` raises a
    `ValueError`. Where shapes do not tell `n`, with a mask or a symbolic batch, and in an empty batch, running
    statistics of a channel with fewer than 2 numbers stay as they are.

    Options:
      running_variance: what running statistics keep, and evaluation divides by: the "biased" variance, the mean of
        squared deviations, as in Flax; or the "unbiased" one, `n / (n - 1)` times that, as in PyTorch. Training divides
        by the biased one in both.

    Other arguments are those of `nnx.BatchNorm`.
    """

    # Of an instance where it is not this, so that graph definitions from before are those of now.
    running_variance: RunningVariance = "biased"

    def __init__(self, *args, running_variance: RunningVariance = "biased", **options):
        super().__init__(*args, **options)
        self.keep_running_variance(running_variance)

    def keep_running_variance(self, running_variance: RunningVariance) -> None:
        """Makes running statistics keep this variance from now on; what they kept so far stays."""
        check_choice("running_variance", running_variance, get_args(RunningVariance))
        if running_variance != self.running_variance:
            if running_variance == BatchNorm.running_variance:
                del self.running_variance
            else:
                self.running_variance = running_variance

    def __call__(
        self, x: Float[Array, "*positions c"], use_running_average: bool | None = None, *, mask: Array | None = None
    ) -> Float[Array, "*positions c"]:
        """Normalizes, and in training mode updates the running statistics."""
        running = self.use_running_average if use_running_average is None else use_running_average
        if running:
            return super().__call__(x, running, mask=mask)
        self.check_count(x)
        unknown = mask is not None or self.axis_index_groups is not None or self.axis != -1
        if unknown or self.scale is None or self.bias is None:
            return self._flax(x, mask)
        scale, bias = self.scale[...], self.bias[...]
        dtype = canonicalize_dtype(x, scale, bias, dtype=self.dtype)
        y, mean, variance = normalised(
            *(array.astype(dtype) for array in (x, scale, bias)), self.epsilon, self.axis_name
        )
        count = self._count(x)
        if self.running_variance == "unbiased":
            variance *= _correction(count, variance.dtype)
        for variable, now in ((self.mean, mean), (self.var, variance)):
            moved = jax.lax.stop_gradient(self.momentum * variable[...] + (1 - self.momentum) * now)
            variable[...] = _if_two(count, moved, variable[...])
        return y.astype(dtype)

    def check_count(self, x: Float[Array, "*positions c"], advice: str = "take larger batches") -> None:
        """Raises a `ValueError`, with this advice, where there is one number a channel."""
        count = self._count(x)
        if not is_symbolic(count) and count == 1:
            raise ValueError(
                f"batch norm in training takes 2 numbers a channel at least, got one, x of shape {x.shape}: {advice}; "
                "where nothing is to be trained, call eval() first"
            )

    def _flax(self, x, mask):
        statistics = self.mean, self.var
        before = [variable[...] for variable in statistics]
        y = super().__call__(x, False, mask=mask)
        count = self._count(x) if mask is None else self._masked_count(x, mask)
        if self.running_variance == "unbiased":
            kept = self.momentum * before[1]
            added = self.var[...] - kept
            self.var[...] = kept + jax.lax.stop_gradient(_correction(count, added.dtype) * added)
        for variable, former in zip(statistics, before, strict=True):
            variable[...] = _if_two(count, variable[...], former)
        return y

    def _count(self, x):
        """How many numbers a channel has, on all devices that share statistics."""
        return self.devices * math.prod(x.shape[i] for i in self._axes(x))

    @property
    def devices(self) -> int:
        """How many devices share its statistics."""
        if self.axis_name is None:
            return 1
        groups = self.axis_index_groups
        return jax.lax.axis_size(self.axis_name) if groups is None else len(groups[0])

    def _masked_count(self, x, mask):
        count = jnp.sum(jnp.broadcast_to(mask, x.shape), self._axes(x))
        if self.axis_name is None:
            return count
        return jax.lax.psum(count, self.axis_name, axis_index_groups=self.axis_index_groups)

    def _axes(self, x):
        return tuple(i for i in range(x.ndim) if i != self.axis % x.ndim)


def _if_two(count, moved, former):
    """Statistics of so many numbers: the former ones of fewer than 2."""
    if isinstance(count, int):
        return former if count < 2 else moved
    return jnp.where(jnp.asarray(count) < 2, former, moved)


def _correction(count, dtype):
    """`n / (n - 1)`, what makes a variance an unbiased one."""
    count = jnp.asarray(count, dtype)
    return count / (count - 1)


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


class GroupNorm(Module):
    """A norm of every image by itself, over positions, group elements and the channels of one group of them.

        y = scale (x - mean) / sqrt(variance + epsilon) + bias,    scale and bias a number each per channel

    It has no running statistics, so that training and evaluation are the same function, of any batch. An element of the
    symmetry group moves the numbers that it takes mean and variance of, and changes neither: it commutes exactly.
    Raises a `ValueError` if there is only one number to normalise.

    Args:
      features: channels.
      channel_groups: into how many groups channels fall; 1: a layer norm.
      epsilon: added to the variance.

    Other arguments: see `attgconv_jax.nn`.
    Source: Wu and He 2018 (arXiv 1803.08494); Ba et al. 2016 (arXiv 1607.06450).
    """

    def __init__(
        self,
        features: int,
        channel_groups: int = 1,
        *,
        epsilon: float = 1e-5,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_positive(features=features)
        check_divisor("channel_groups", channel_groups, features)
        (epsilon,) = check_finite_positive(epsilon=epsilon)
        self.scale = nnx.Param(jnp.ones(features, param_dtype))
        self.bias = nnx.Param(jnp.zeros(features, param_dtype))
        self.channel_groups, self.epsilon, self.dtype = channel_groups, epsilon, dtype

    def __call__(
        self, x: Float[Array, "*batch_and_positions c"], batch_axes: int = 1
    ) -> Float[Array, "*batch_and_positions c"]:
        """Normalises; the first `batch_axes` axes count images."""
        scale, bias = self.scale[...], self.bias[...]
        if x.shape[-1:] != scale.shape:
            raise ValueError(f"x must have the {len(scale)} channels of the norm last, got shape {x.shape}")
        check_integer("batch_axes", batch_axes, 0)
        size = x.shape[-1] // self.channel_groups
        if math.prod(x.shape[batch_axes:-1]) * size == 1:
            raise ValueError(
                f"a norm of every image by itself takes 2 numbers at least, got one, of {x.shape[-1]} channels in "
                f"{self.channel_groups} groups and x of shape {x.shape}: take more channels a group or larger maps"
            )
        dtype = canonicalize_dtype(x, scale, bias, dtype=self.dtype)
        arrays = (array.astype(dtype) for array in (x, scale, bias))
        return group_normalised(*arrays, self.channel_groups, self.epsilon, batch_axes).astype(dtype)


def set_running_variance(module: nnx.Module, running_variance: RunningVariance) -> None:
    """Makes all batch norms in a module keep this variance, see `BatchNorm`; what they kept so far stays."""
    check_choice("running_variance", running_variance, get_args(RunningVariance))
    for norm in batch_norms(module):
        norm.keep_running_variance(running_variance)


def running_variance_of(module: nnx.Module) -> RunningVariance:
    """The variance that all batch norms in a module keep; a `ValueError` where they differ."""
    variances = running_variances(module)
    if len(variances) > 1:
        raise ValueError(
            f"running_variance must be the same in all batch norms, got {' and '.join(sorted(variances))}: make them "
            "alike by set_running_variance(network, ...)"
        )
    return next(iter(variances), BatchNorm.running_variance)


def running_variances(module: nnx.Module) -> set[RunningVariance]:
    """The variances that batch norms in a module keep."""
    return {norm.running_variance for norm in batch_norms(module)}


def batch_norms(module: nnx.Module) -> list[BatchNorm]:
    """All batch norms in a module, those of attention among them."""
    return [part for _, part in nnx.iter_graph(module) if isinstance(part, BatchNorm)]
