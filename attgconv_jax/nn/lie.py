"""Convolution on a Lie group as a Flax NNX module."""

import weakref
from collections.abc import Mapping
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jaxtyping import Array, Float

from attgconv_jax.checks import check_boolean, check_choice, check_feature_map, check_window
from attgconv_jax.deprecation import warn_deprecated
from attgconv_jax.geometry import Padding
from attgconv_jax.kernels.chunks import require_known
from attgconv_jax.kernels.settings import check_precision
from attgconv_jax.lie.checks import check_exact, check_grid
from attgconv_jax.lie.groups import LieGroup
from attgconv_jax.lie.kernel_networks import NETWORKS, python_numbers
from attgconv_jax.lie.kernels import Coordinates, Mask, first_frequency
from attgconv_jax.lie.kinds import KINDS, LIFTING
from attgconv_jax.lie.layer import evaluate
from attgconv_jax.lie.weights import lie_weights
from attgconv_jax.nn.dropout import ModeModule

# The kernels of modules in evaluation mode, with the weights and settings they were evaluated from.
_EVALUATED = weakref.WeakKeyDictionary()


class Frequencies(nnx.Variable):
    """What a kernel network was drawn with and keeps: no parameter, but part of a checkpoint."""


class LieConv(ModeModule):
    """`lie_conv` with kernel networks of its own.

    In evaluation mode, on the group's own grid and outside of a trace, kernels are kept for the next call; when the
    weights are others by then, they are evaluated anew.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax.lie import rotations
    >>> from attgconv_jax.nn import LieConv
    >>> se2, rngs = rotations(8), nnx.Rngs(0)
    >>> lift = LieConv(3, 10, 7, se2, lifting=True, rngs=rngs)
    >>> conv = LieConv(10, 16, 7, se2, kind="separable", rngs=rngs)
    >>> conv(lift(jnp.ones([2, 28, 28, 1, 3]))).shape
    (2, 28, 28, 8, 16)

    Other arguments: see `attgconv_jax.nn`.

    Options:
      kernel_size: of the filters, in pixels, odd.
      kind: how the kernel comes in factors: "nonseparable", "gseparable", "separable", "dseparable", "dgseparable";
        "separable+2d" and "gseparable+2d" on similarities; see `attgconv_jax.lie.lie_conv`. None: "separable", or there
        are none with `lifting`.
      network: of the kernels: "siren", "fourier", "multiplicative", "b_spline", or any other of
        `attgconv_jax.lie.kernel_networks.NETWORKS`.
      network_options: of the kernel networks: keyword arguments of `siren_weights` and the like, where that is. The
        first frequency of "siren" goes by the filter's size, `attgconv_jax.lie.kernels.first_frequency`, but with the
        paper's coordinates, where it is the paper's 10.
      coordinates: "periodic"; "angle", torn opposite the identity but for splines; or "paper" for the paper's; see
        `attgconv_jax.lie.kernels`.
      mask: how kernels end at distance 1: "smooth" or "hard"; the paper's coordinates have masks of their own.
      exact: whether positions of the filters that quarter turns do not map to themselves raise, if the group rotates.
      implementation: of the convolution; see `attgconv_jax.lie.convolution`.
      dtype: to convolve in; kernels are evaluated in the dtype of the parameters.

    Source: Knigge et al. 2022.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        group: LieGroup,
        *,
        kind: str | None = None,
        lifting: bool = False,
        network: str = "siren",
        network_options: Mapping[str, Any] | None = None,
        coordinates: Coordinates = "periodic",
        mask: Mask = "smooth",
        stride: int = 1,
        padding: Padding = "SAME",
        exact: bool = True,
        implementation: str | None = None,
        precision: str | None = None,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        if kind == "lifting":
            warn_deprecated('kind="lifting"', "lifting=True")
            kind, lifting = None, True
        (self.exact,) = check_boolean(exact=exact)
        check_choice("mask", mask, get_args(Mask))
        _, self.stride, self.padding, _ = check_window(1, stride, padding, 1)
        options = python_numbers(network_options)
        sizes, of_kernels = (in_features, out_features, kernel_size), dict(network=network, network_options=options)
        of_kernels |= dict(lifting=lifting, coordinates=coordinates, dtype=param_dtype)
        weights = lie_weights(rngs.params, *sizes, group, kind, **of_kernels)
        self.weights = nnx.data(_variables(weights, NETWORKS[network].fixed))
        if network == "siren":
            options = {"first_frequency": first_frequency(group, int(kernel_size), coordinates)} | options
        self.in_features, self.kernel_size = int(in_features), int(kernel_size)
        self.lifting, self.kind = bool(lifting), None if lifting else kind or "separable"
        self.group, self.network, self.mask, self.dtype = group, network, mask, dtype
        require_known(implementation, self._kind.implementations)
        check_precision(precision)
        self.implementation, self.precision = implementation, precision
        # Pairs and no dict: a graph definition that holds a dict cannot be hashed, nor be a static argument.
        self._options = tuple(sorted(options.items()))
        self.coordinates = NETWORKS[network].coordinates(coordinates)
        self.deterministic = False

    def __call__(
        self,
        f: Float[Array, "*batch x y h_in c_in"],
        in_grid: Float[Array, "h_in d"] | None = None,
        out_grid: Float[Array, "h d"] | None = None,
    ) -> Float[Array, "*batch x_out y_out h c_out"]:
        """Convolves between two grids, by default the group's own; see `attgconv_jax.lie.lie_conv`."""
        check_feature_map(f)
        if self.kind is None and f.shape[-2] != 1:
            hint = "of images [batch, x, y, c] take f[..., None, :], and on feature maps leave out lifting=True"
            raise ValueError(f"f must be an image [..., x, y, 1, c], which is lifted, got shape {f.shape}; {hint}")
        if self.kind is not None and f.shape[-2] == 1 < self.group.order and in_grid is None:
            raise ValueError(f"f must be a feature map, got the image {f.shape}; lift it, with lifting=True")
        if f.shape[-1] != self.in_features:
            raise ValueError(f"f must have {self.in_features} channels, got shape {f.shape}")
        if self.exact:
            check_exact(f, self.group, self.kernel_size, self.stride, self.padding)
        evaluated = self._kept() if in_grid is None and out_grid is None else self.kernels(in_grid, out_grid)
        f, *evaluated = promote_dtype((f, *evaluated), dtype=self.dtype)
        names = "stride", "padding", "implementation", "precision"
        return self._kind.conv(f, *evaluated, **{name: getattr(self, name) for name in names})

    def kernels(
        self, in_grid: Float[Array, "h_in d"] | None = None, out_grid: Float[Array, "h d"] | None = None
    ) -> tuple[Array, ...]:
        """The evaluated kernels: the matrix over the channels if there is one, and an array a factor."""
        weights = jax.tree.map(lambda variable: variable[...], self.weights, is_leaf=_is_variable)
        dtype, own = jax.tree.leaves(weights)[0].dtype, self.group.grid()
        if self.lifting and in_grid is not None:
            raise ValueError(f"in_grid must be None with lifting=True, got shape {np.shape(in_grid)}")
        grids = {name: grid for name, grid in (("in_grid", in_grid), ("out_grid", out_grid)) if grid is not None}
        check_grid(self.group, **grids)
        # Angles of few digits would turn the filters by others.
        wide = jnp.promote_types(dtype, jnp.float32)
        in_grid, out_grid = (grids.get(name, own).astype(wide) for name in ("in_grid", "out_grid"))
        networks = [
            NETWORKS[self.network].on(factor.axes(self.group, self.coordinates), dict(self._options))
            for factor in self._kind.factors
        ]
        of_layer = self.kernel_size, self.in_features, self._kind, networks, self.coordinates, self.mask
        evaluated = evaluate(weights, self.group, None if self.lifting else in_grid, out_grid, *of_layer)
        return tuple(kernel.astype(dtype) for kernel in evaluated)

    def _kept(self):
        """The kernels on the group's own grid, from the last call where that is sound."""
        if not self.deterministic:
            return self.kernels()
        weights = [variable[...] for variable in jax.tree.leaves(self.weights, is_leaf=_is_variable)]
        names = "group", "kind", "lifting", "kernel_size", "network", "_options", "coordinates", "mask"
        settings = tuple(getattr(self, name) for name in names)
        before, settings_before, evaluated = _EVALUATED.get(self, ((), (), ()))
        same = len(before) == len(weights) and all(a is b for a, b in zip(before, weights, strict=True))
        if same and settings == settings_before:
            return evaluated
        evaluated = self.kernels()
        if not any(isinstance(array, jax.core.Tracer) for array in (*weights, *evaluated)):
            _EVALUATED[self] = weights, settings, evaluated
        return evaluated

    @property
    def _kind(self):
        return LIFTING if self.lifting else KINDS[self.kind]


def _variables(weights, fixed):
    """Every array in a variable: parameters, but for the named fields of a kernel network's weights."""

    def of_factor(each):
        variables = jax.tree.map(nnx.Param, each)
        return variables._replace(**{name: Frequencies(getattr(each, name)) for name in fixed}) if fixed else variables

    return jax.tree.map(nnx.Param, weights)._replace(factors=tuple(map(of_factor, weights.factors)))


def _is_variable(leaf):
    return isinstance(leaf, nnx.Variable)
