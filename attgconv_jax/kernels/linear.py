"""Linear maps with transposes of their own: a kernel states its tangent and its gradient, and has both modes.

JAX's `custom_vjp` refuses forward mode, and of a `custom_jvp` it makes the gradient itself, by transposing the tangent.
Here the tangent is one primitive, which forward mode computes and reverse mode replaces by the gradient of the kernel.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from attgconv_jax.kernels.chunks import Bound
from attgconv_jax.kernels.devices import varying_alike

_linear = jax.extend.core.Primitive("attgconv_linear")
_linear.multiple_results = True


def linear(function: Callable, transpose: Callable, residuals: Any, tangents: Any) -> Array:
    """`function(residuals, tangents)`, an array, whose transpose is the caller's.

    Differentiable in both modes, by the residuals as often as both functions are; may be mapped and jitted.

    Args:
      function: linear in the tangents. Both functions must close over no arrays; outside of `jit` they are compared
        by value.
      transpose: `transpose(residuals, cotangent, wanted)`, with cotangents of the tangents in their structure. `wanted`
        is that structure's leaves as a tuple of booleans: what is not wanted is not looked at.
      residuals: pytree of arrays.
      tangents: pytree of arrays; those that are a `SymbolicZero` are None when `function` sees them.
    """
    leaves, structure = jax.tree.flatten(tangents, is_leaf=lambda x: x is None)
    wanted = tuple(not (leaf is None or isinstance(leaf, SymbolicZero)) for leaf in leaves)
    known, known_structure = jax.tree.flatten(residuals)
    moving = [leaf for leaf, is_wanted in zip(leaves, wanted, strict=True) if is_wanted]
    arguments = known_structure, structure, wanted
    known, moving = varying_alike((known, moving))
    pair = _Tangent(function, *arguments), _Cotangents(transpose, *arguments)
    return _bind(*pair, len(known), [*known, *moving])[0]


def at_once(function: Callable, *arrays: Any) -> Any:
    """`function(*arrays)`, of pytrees of arrays, in one piece.

    When JAX linearises a rule it takes its loops apart, and stacks what an iteration makes of no input. Not of this:
    what a rule computes beside its tangent is to be computed here. The function must close over no arrays.
    """
    leaves, structure = jax.tree.flatten(arrays)
    outputs = jax.tree.structure(jax.eval_shape(function, *arrays))
    return outputs.unflatten(_bind(_Leaves(function, structure), None, len(leaves), leaves))


@dataclasses.dataclass(frozen=True)
class _Leaves:
    """`function`, from the leaves of its arguments to those of its output."""

    function: Callable
    structure: Any

    def __call__(self, *leaves):
        return jax.tree.leaves(self.function(*self.structure.unflatten(leaves)))


def bilinear(run: Callable) -> Callable:
    """A convolution `(f, w, windows, settings)`, from its steps `run(step, settings, windows, f, w, ..)`.

    The steps are "forward", "backward" (of both, with the cotangent last) and "backward_filter".
    """

    @functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
    def conv(f, w, windows, settings):
        return run("forward", settings, windows, f, w)

    @functools.partial(conv.defjvp, symbolic_zeros=True)
    def _(windows, settings, primals, tangents):
        step = functools.partial(Bound, arguments=(("windows", windows), ("settings", settings)))
        return at_once(step(conv), *primals), linear(step(tangent), step(gradients), primals, tangents)

    def tangent(primals, tangents, windows, settings):
        (f, w), (f_dot, w_dot) = primals, tangents
        pairs = [(f_dot, w), (f, w_dot)]
        parts = [conv(*pair, windows, settings) for pair in pairs if all(x is not None for x in pair)]
        return sum(parts[1:], parts[0])

    def gradients(primals, d_out, wanted, windows, settings):
        # Images are data: where nothing asks for their gradient (the first layer of a network), none is computed.
        if wanted == (False, True):
            return None, run("backward_filter", settings, windows, *primals, d_out)
        return run("backward", settings, windows, *primals, d_out)

    return conv


@dataclasses.dataclass(frozen=True)
class _Flat:
    """A function of `linear`, of arrays one after another in place of residuals and tangents."""

    function: Callable
    known_structure: Any
    structure: Any
    wanted: tuple[bool, ...]


class _Tangent(_Flat):
    """From residuals and wanted tangents to the output in a list."""

    def __call__(self, *arrays):
        count = self.known_structure.num_leaves
        moving = iter(arrays[count:])
        tangents = [next(moving) if is_wanted else None for is_wanted in self.wanted]
        residuals = self.known_structure.unflatten(arrays[:count])
        return [self.function(residuals, self.structure.unflatten(tangents))]


class _Cotangents(_Flat):
    """From residuals and the cotangent to the wanted ones in a list."""

    def __call__(self, *arrays):
        *known, cotangent = arrays
        cotangents = self.function(self.known_structure.unflatten(known), cotangent, self.wanted)
        leaves = jax.tree.leaves(cotangents, is_leaf=lambda x: x is None)
        return [leaf for leaf, is_wanted in zip(leaves, self.wanted, strict=True) if is_wanted]


def _bind(function, transpose, residuals, arrays):
    # What is traced here is what is lowered, whatever context that happens in; outside of `jit` it only gives shapes.
    jaxpr = jax.make_jaxpr(function)(*arrays)
    return _linear.bind(*arrays, function=function, transpose=transpose, residuals=residuals, jaxpr=jaxpr)


@_linear.def_impl
def _evaluate(*arrays, function, **_):
    return function(*arrays)


@_linear.def_abstract_eval
def _types(*_, jaxpr, **__):
    return jaxpr.out_avals


def _lowered(*arrays, jaxpr, **_):
    return jax.extend.core.jaxpr_as_fun(jaxpr)(*arrays)


def _jvp(primals, tangents, *, function, transpose, residuals, jaxpr):
    parameters = dict(function=function, transpose=transpose, residuals=residuals, jaxpr=jaxpr)
    known, moving = primals[:residuals], primals[residuals:]
    out_dots = None
    if any(type(dot) is not ad.Zero for dot in tangents[residuals:]):
        out_dots = _linear.bind(*known, *map(ad.instantiate_zeros, tangents[residuals:]), **parameters)
    moved = [i for i, dot in enumerate(tangents[:residuals]) if type(dot) is not ad.Zero]
    if moved:

        def of_moved(*arrays):
            changed = dict(zip(moved, arrays, strict=True))
            return function(*(changed.get(i, x) for i, x in enumerate(known)), *moving)

        more = jax.jvp(of_moved, [known[i] for i in moved], [tangents[i] for i in moved])[1]
        out_dots = more if out_dots is None else [a + b for a, b in zip(out_dots, more, strict=True)]
    return _linear.bind(*primals, **parameters), out_dots


def _transposed(cotangents, *arrays, function, transpose, residuals, jaxpr):
    del jaxpr
    known, moving = arrays[:residuals], arrays[residuals:]
    cotangents = [*map(ad.instantiate_zeros, cotangents)]
    gradients = _bind(transpose, function, residuals, [*known, *cotangents])
    wanted = [g if ad.is_undefined_primal(x) else None for g, x in zip(gradients, moving, strict=True)]
    return [None] * residuals + wanted


@dataclasses.dataclass(frozen=True)
class _Mapped:
    """A function mapped over these axes of its arguments, and the first of its outputs."""

    function: Callable
    axes: tuple[int | None, ...]

    def __call__(self, *arrays):
        return jax.vmap(self.function, self.axes)(*arrays)


@dataclasses.dataclass(frozen=True)
class _MappedTranspose:
    """The transpose of `_Mapped`: what was not mapped gets the sum of its cotangents."""

    transpose: Callable
    axes: tuple[int | None, ...]
    residuals: int

    def __call__(self, *arrays):
        known, moving = self.axes[: self.residuals], self.axes[self.residuals :]
        cotangents = [0] * (len(arrays) - self.residuals)
        gradients = jax.vmap(self.transpose, (*known, *cotangents))(*arrays)
        return [
            jnp.sum(g, 0) if axis is None else jnp.moveaxis(g, 0, axis)
            for g, axis in zip(gradients, moving, strict=True)
        ]


def _batched(arrays, axes, *, function, transpose, residuals, jaxpr):
    del jaxpr
    axes = tuple(axes)
    pair = _Mapped(function, axes), transpose and _MappedTranspose(transpose, axes, residuals)
    outs = _bind(*pair, residuals, arrays)
    return outs, [0] * len(outs)


ad.primitive_jvps[_linear] = _jvp
ad.primitive_transposes[_linear] = _transposed
batching.primitive_batchers[_linear] = _batched
mlir.register_lowering(_linear, mlir.lower_fun(_lowered, multiple_results=True))
