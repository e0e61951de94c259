"""Group convolution as a Flax NNX module."""

import functools
import inspect
from collections.abc import Callable
from typing import get_args

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jaxtyping import Array, Float

from attgconv_jax.bases import FilterBasis
from attgconv_jax.checks import check_boolean, check_divisor, check_positive, check_window
from attgconv_jax.convolution import add_bias, grouped_group_conv
from attgconv_jax.filters import Sampling, basis_of, check_sampling, former_sampling
from attgconv_jax.geometry import Padding
from attgconv_jax.groups import Group, check_group
from attgconv_jax.initializers import FilterInitializer, filter_initializer
from attgconv_jax.kernels.chunks import require_known
from attgconv_jax.kernels.settings import Dense, check_precision
from attgconv_jax.nn.module import Module


class GroupConv(Module):
    """`group_conv` with a filter of its own.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax import cyclic
    >>> from attgconv_jax.nn import GroupConv
    >>> lift = GroupConv(3, 10, 5, cyclic(4), lifting=True, rngs=nnx.Rngs(0))
    >>> lift(jnp.ones([8, 28, 28, 1, 3])).shape
    (8, 24, 24, 4, 10)

    Options (the others are those of all modules, see `attgconv_jax.nn`):
      channel_groups: into how many separate parts the channels fall; see `attgconv_jax.grouped_group_conv`.
      use_bias: whether a bias per channel is added.
      implementation: how it is computed: "rows" or "fourier" (for CPUs), "xla" (for GPUs and TPUs); None: the fastest
        for the platform. See `attgconv_jax.group_conv`.
      precision: of its products, on GPUs and TPUs: "highest" is float32; None: as JAX is set, there coarser by default.
        See `attgconv_jax.computing`.
    """

    _WEIGHTS = ("w",)

    @former_sampling
    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        group: Group,
        *,
        lifting: bool = False,
        stride: int = 1,
        padding: Padding = "VALID",
        dilation: int = 1,
        haar: bool = False,
        channel_groups: int = 1,
        use_bias: bool = False,
        exact: bool = True,
        antialiased: bool = False,
        sampling: Sampling | FilterBasis = Sampling(),
        kernel_init: FilterInitializer = "he_normal",
        implementation: str | None = None,
        precision: str | None = None,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_group(group)
        in_features, out_features = check_positive(in_features=in_features, out_features=out_features)
        kernel_size, self.stride, self.padding, self.dilation = check_window(kernel_size, stride, padding, dilation)
        check_sampling(sampling)
        check_boolean(lifting=lifting, haar=haar, use_bias=use_bias, exact=exact, antialiased=antialiased)
        self._check_implementation(implementation)
        check_precision(precision)
        self.implementation, self.precision = implementation, precision
        self.channel_groups = check_divisor("channel_groups", channel_groups, in_features, out_features)
        self.group, self.haar, self.exact, self.antialiased = group, haar, exact, antialiased
        self.sampling, self.dtype = sampling, dtype
        c_in = in_features // self.channel_groups
        shape = (kernel_size, kernel_size, 1 if lifting else group.order, c_in, out_features)
        # Of one pixel: nothing to turn.
        self.basis = basis_of(group, kernel_size, sampling) if kernel_size > 1 else None
        if self.basis is not None and len(self.basis) > kernel_size**2:
            raise ValueError(
                f"sampling must be a basis of at most {kernel_size**2} functions, one a pixel, got {self.basis}"
            )
        self._draw(filter_initializer(kernel_init), shape, param_dtype, rngs)
        self.bias = nnx.Param(jnp.zeros(out_features, param_dtype)) if use_bias else nnx.data(None)

    def __call__(self, f: Float[Array, "*batch x y h_in c_in"]) -> Float[Array, "*batch x_out y_out h c_out"]:
        """Convolves; see the function that the class is named after."""
        *arrays, bias = self._promoted(f)
        y = self._convolve(*arrays)
        return y if bias is None else add_bias(y, bias)

    @property
    def _options(self):
        names = "stride", "padding", "dilation", "haar", "exact", "antialiased", "implementation", "precision"
        sampling = self.sampling if self.basis is None else self.basis
        return {name: getattr(self, name) for name in names} | {"sampling": sampling}

    def _check_implementation(self, implementation):
        require_known(implementation, get_args(Dense))

    def _draw(self, init, shape, dtype, rngs):
        self.w = nnx.Param(self._coefficients(init(rngs.params(), shape, dtype)))

    def _coefficients(self, drawn):
        """As many independent numbers as the filter's basis has functions; filters of pixels are as drawn."""
        return drawn if self.basis is None else drawn.reshape(-1, *drawn.shape[2:])[: len(self.basis)]

    def _convolve(self, f, w):
        return grouped_group_conv(f, w, self.group, self.channel_groups, **self._options)

    def _promoted(self, f):
        """`f`, weights and bias, in the type to compute in."""
        variables = (getattr(self, name) for name in (*self._WEIGHTS, "bias"))
        arrays = (None if variable is None else variable[...] for variable in variables)
        return promote_dtype((f, *arrays), dtype=self.dtype)


def options_of_group_conv(*fixed: str) -> Callable[[Callable], Callable]:
    """Decorates a constructor whose `**options` go to `GroupConv`, all of whose arguments but the `fixed` it takes."""

    def decorate(init):
        own, further = (dict(inspect.signature(function).parameters) for function in (init, GroupConv.__init__))
        takes = {name: own.get(name, further.get(name)) for name in own | further if name not in (*fixed, "options")}

        @functools.wraps(init)
        def with_options(self, *args, **arguments):
            for name in arguments.keys() - takes.keys():
                known = ", ".join(list(takes)[1:])
                raise ValueError(f"{type(self).__name__} has no argument {name!r}; it takes {known}")
            init(self, *args, **arguments)

        with_options.__signature__ = inspect.Signature(takes.values())
        return with_options

    return decorate
