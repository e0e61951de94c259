"""Convolution on a Lie group as a Flax NNX module."""

import weakref
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jaxtyping import Array, Float

from attgconv_jax.checks import check_positive, check_window
from attgconv_jax.geometry import Padding
from attgconv_jax.lie.checks import require_grid
from attgconv_jax.lie.groups import LieGroup
from attgconv_jax.lie.kernels import Coordinates, Mask, check_kernel
from attgconv_jax.lie.layer import KINDS, LieWeights, apply_kernels, check_kind, lie_kernels, require_exact
from attgconv_jax.lie.networks import FourierWeights
from attgconv_jax.nn.kernel_networks import (
    NETWORKS,
    Axes,
    KernelNetworkName,
    check_network,
    network_function,
)

# The kernels of modules in evaluation mode, with the weights and settings they were evaluated from.
_EVALUATED = weakref.WeakKeyDictionary()


class Frequencies(nnx.Variable):
    """What a kernel network was drawn with and keeps: no parameter, but part of a checkpoint."""


class LieConv(nnx.Module):
    """`lie_conv` with kernel networks of its own.

    In evaluation mode, on the group's own grid and outside of a trace, kernels are kept for the next call; when the
    weights are others by then, they are evaluated anew.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax.lie import rotations
    >>> from attgconv_jax.nn import LieConv
    >>> se2, rngs = rotations(8), nnx.Rngs(0)
    >>> lift = LieConv(3, 10, 7, se2, kind="lifting", rngs=rngs)
    >>> conv = LieConv(10, 16, 7, se2, kind="separable", rngs=rngs)
    >>> conv(lift(jnp.ones([2, 28, 28, 1, 3]))).shape
    (2, 28, 28, 8, 16)

    Args:
      in_features: input channels.
      out_features: output channels, per group element.
      kernel_size: of the filters, in pixels, odd.
      group: acts on the kernels.
      kind: how the kernel comes in factors: "lifting" for images, "nonseparable", "gseparable", "separable",
        "dseparable", "dgseparable"; "separable+2d" and "gseparable+2d" on similarities; see
        `attgconv_jax.lie.lie_conv`.
      network: of the kernels: "siren", "fourier", "multiplicative" or "b_spline".
      network_options: of the kernel networks; see `attgconv_jax.nn.kernel_networks`.
      coordinates: "periodic"; "angle", torn opposite the identity but for splines; or "paper" for the paper's; see
        `attgconv_jax.lie.kernels`.
      mask: how kernels end at distance 1: "smooth" or "hard"; the paper's coordinates have masks of their own.
      stride: in pixels.
      padding: pixels on every side, "SAME" or "VALID".
      exact: whether to refuse positions of the filters that quarter turns do not map to themselves, if the group turns.
      dtype: to compute in; None: the common type of input and parameters. Kernels are evaluated in that of the
        parameters.
      param_dtype: of the parameters.
      rngs: source of the parameters' randomness.

    Raises:
      ValueError: a size is out of range, a kind that the group does not have, unknown names, or options without effect.

    Source: Knigge et al. 2022.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int,
        group: LieGroup,
        *,
        kind: str = "separable",
        network: KernelNetworkName = "siren",
        network_options: Mapping[str, Any] | None = None,
        coordinates: Coordinates = "periodic",
        mask: Mask = "smooth",
        stride: int = 1,
        padding: Padding = "SAME",
        exact: bool = True,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_positive(in_features=in_features, out_features=out_features, kernel_size=kernel_size)
        check_window(kernel_size, stride, padding, 1)
        check_kernel(group, kernel_size, coordinates, mask)
        check_kind(kind, group)
        options = dict(network_options or {})
        check_network(network, options, group)
        # A spline is periodic in the angle itself.
        self.coordinates = "angle" if network == "b_spline" and coordinates == "periodic" else coordinates
        self.mask = mask
        self.kind = kind
        self.kernel_size = kernel_size
        self.in_features = in_features
        self.group = group
        self.stride = stride
        self.padding = padding
        self.exact = exact
        self.dtype = dtype
        self.deterministic = False
        self.network = network
        # Pairs and no dict: a graph definition that holds a dict cannot be hashed, nor be a static argument.
        self._options = tuple(sorted(options.items()))
        wanted, weights = KINDS[kind], []
        for factor, axes in zip(wanted.factors, self._axes(), strict=True):
            m = out_features * (in_features if factor.pairs else 1)
            fan = (in_features if factor.pairs else 1) * (kernel_size**2 if axes.plane else 1)
            weights.append(NETWORKS[network].initialise(rngs.params(), axes, m, fan, param_dtype, **options))
        projection = None
        if wanted.projection:
            bound = in_features**-0.5
            shape = in_features, out_features
            projection = nnx.Param(jax.random.uniform(rngs.params(), shape, param_dtype, -bound, bound))
        self.weights = nnx.data(LieWeights(tuple(map(_parameters, weights)), projection))

    def __call__(
        self,
        f: Float[Array, "*batch x y h_in c_in"],
        in_grid: Float[Array, "h_in d"] | None = None,
        out_grid: Float[Array, "h d"] | None = None,
    ) -> Float[Array, "*batch x_out y_out h c_out"]:
        """Convolves; see `attgconv_jax.lie.lie_conv`.

        Args:
          f: feature map, or image.
          in_grid: the elements that `f` lives on; None: `group.grid()`.
          out_grid: those that the output lives on; None: `group.grid()`.

        Returns:
          Feature map.

        Raises:
          ValueError: `f` or the grids do not fit.
        """
        if f.shape[-1] != self.in_features:
            raise ValueError(f"f must have {self.in_features} channels, got shape {f.shape}")
        if self.exact:
            require_exact(f, self.group, self.kernel_size, self.stride, self.padding)
        evaluated = self._kept() if in_grid is None and out_grid is None else self.kernels(in_grid, out_grid)
        f, *_ = promote_dtype((f, *evaluated), dtype=self.dtype)
        return apply_kernels(f, evaluated, self.kind, stride=self.stride, padding=self.padding)

    def kernels(
        self, in_grid: Float[Array, "h_in d"] | None = None, out_grid: Float[Array, "h d"] | None = None
    ) -> tuple[Array, ...]:
        """The evaluated kernels; see `attgconv_jax.lie.lie_kernels`.

        Args:
          in_grid: the elements that the input lives on; None: `group.grid()`.
          out_grid: those that the output lives on; None: `group.grid()`.

        Returns:
          The matrix over the channels if there is one, and an array a factor.

        Raises:
          ValueError: grids that are not the group's.
        """
        weights = jax.tree.map(lambda variable: variable[...], self.weights, is_leaf=_is_variable)
        dtype = jax.tree.leaves(weights)[0].dtype
        for name, grid in (("in_grid", in_grid), ("out_grid", out_grid)):
            if grid is not None:
                require_grid(self.group, grid, name)
        own = self.group.grid()
        if in_grid is None and self.kind != "lifting":
            in_grid = own
        # Angles of few digits would turn the filters by others.
        in_grid, out_grid = (
            None if grid is None else grid.astype(jnp.promote_types(dtype, jnp.float32))
            for grid in (in_grid, own if out_grid is None else out_grid)
        )
        evaluated = lie_kernels(
            weights,
            self.group,
            in_grid,
            out_grid,
            self.kernel_size,
            self.in_features,
            self.kind,
            network=[network_function(self.network, dict(self._options), axes) for axes in self._axes()],
            coordinates=self.coordinates,
            mask=self.mask,
        )
        return tuple(kernel.astype(dtype) for kernel in evaluated)

    def set_view(self, deterministic: bool | None = None):
        """Lets `nnx.view` choose the mode."""
        if deterministic is not None:
            self.deterministic = deterministic

    def _kept(self):
        """The kernels on the group's own grid, from the last call where that is sound."""
        if not self.deterministic:
            return self.kernels()
        weights = [variable[...] for variable in jax.tree.leaves(self.weights, is_leaf=_is_variable)]
        names = "group", "kind", "kernel_size", "network", "_options", "coordinates", "mask"
        settings = tuple(getattr(self, name) for name in names)
        before, settings_before, evaluated = _EVALUATED.get(self, ((), (), ()))
        same = len(before) == len(weights) and all(a is b for a, b in zip(before, weights, strict=True))
        if same and settings == settings_before:
            return evaluated
        evaluated = self.kernels()
        if not any(isinstance(array, jax.core.Tracer) for array in (*weights, *evaluated)):
            _EVALUATED[self] = weights, settings, evaluated
        return evaluated

    def _axes(self):
        """The coordinates of every factor's kernel network."""
        turns, scales = self.group.angles is not None, self.group.scales is not None
        angle = 2 if self.coordinates == "periodic" else 1
        for factor in KINDS[self.kind].factors:
            on_group = "group" in factor.domain
            yield Axes(
                plane="plane" in factor.domain,
                angle=angle * (factor.domain == "rotations" or (on_group and turns)),
                scale=factor.domain == "scales" or (on_group and scales),
            )


def _parameters(weights):
    """Every array in a variable: parameters, but for what is not trained."""
    variables = jax.tree.map(nnx.Param, weights)
    if isinstance(weights, FourierWeights):
        return variables._replace(frequencies=Frequencies(weights.frequencies))
    return variables


def _is_variable(leaf):
    return isinstance(leaf, nnx.Variable)
