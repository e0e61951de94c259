"""The group's action on whole images and feature maps, and how far a function is from commuting with it."""

import contextlib
import functools
import sys
import types
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attgconv_jax.checks import check_integer
from attgconv_jax.groups import Group

Kind = Literal["feature_map", "image", "invariant"]


def act(f: Float[Array | np.ndarray, "*shape"], group: Group, element: int, kind: Kind) -> Float[Array, "*transformed"]:
    """Transforms what lives on the plane, or on the group, by one group element.

        feature map  (L_g f)[x, h, c] = f[g^-1 x, g^-1 h, c]
        image        (L_g f)[x, 1, c] = f[g^-1 x, 1, c]
        invariant    (L_g f) = f

    `element` is the index of `g` in the group. Right angles permute pixels, and turn the axes of an image that is not
    square. Other angles are interpolated (bilinear, zero outside the image), which only square images can be.

    Source: Romero et al. 2020, section 2.
    """
    _check_finite(group)
    if check_integer("element", element, -(2**63)) not in range(group.order):
        raise ValueError(f"element must be one of {group}, 0 to {group.order - 1}, got {element}")
    check_kind(f, group, kind)
    return _act(jnp.asarray(f), group, element, kind)


def equivariance_error(
    function: Callable, x: Float[Array | np.ndarray, "*batch x y h c"], group: Group, output: Kind = "feature_map"
) -> float:
    """The worst error of `function(L_g x) = L_g function(x)`, relative to the largest output.

        max over g of |function(L_g x) - L_g function(x)| / max |function(x)|

    >>> import jax
    >>> from attgconv_jax import dihedral, equivariance_error, group_conv
    >>> p4m, (key, key_w) = dihedral(4), jax.random.split(jax.random.key(0))
    >>> image, w = jax.random.normal(key, [2, 9, 9, 1, 3]), jax.random.normal(key_w, [3, 3, 1, 3, 5])
    >>> equivariance_error(lambda f: group_conv(f, w, p4m), image, p4m) < 1e-5
    True

    The error is zero for an exactly equivariant function, about 1 for one that is not equivariant at all. Under other
    than right angles it holds what bilinear interpolation does to `x` and the output: there, and for Lie groups,
    `attgconv_jax.band_limited_error` is the honest figure.

    Options:
      function: any function or module of one argument; a module in evaluation mode, or with neither batch norm nor
        dropout.
      x: its argument: a feature map on `group`, or an image (`h == 1`).
      output: what it returns: a "feature_map" on the group, an "image" (one group element), or something "invariant".
    """
    _check_finite(group)
    kind = "image" if x.shape[-2:-1] == (1,) else "feature_map"
    check_kind(x, group, kind, "x")
    check_mode(function)
    # Moved on the host, where right angles need no program of their own for every element and shape.
    place = x.sharding if isinstance(x, jax.Array) and x.committed else None
    x = np.asarray(x)
    expected = function(jax.device_put(x, place))
    check_kind(expected, group, output, "the function's output")
    expected = np.asarray(expected)
    errors = []
    for element in range(group.order):
        transformed = np.asarray(function(jax.device_put(_act(x, group, element, kind), place)))
        wanted = np.asarray(_act(expected, group, element, output))
        if transformed.shape != wanted.shape:
            raise ValueError(
                f"the function maps a transformed input to shape {transformed.shape}, but its transformed output has "
                f"shape {wanted.shape}: it does not treat the axes x and y alike"
            )
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite shows in the error
            errors.append(np.max(np.abs(transformed - wanted)))
    worst, largest = float(np.max(errors)), float(np.max(np.abs(expected)))
    if largest == 0:
        return 0.0 if worst == 0 else np.inf
    return worst / largest


def check_mode(function: Callable, argument: str = "function") -> None:
    """Raises a `ValueError` if a function is, or holds, a module in training mode, as far as that can be seen.

    Seen are modules that are compiled, bound or partly applied, arguments of `functools.partial`, and what functions
    close over; not global variables, nor what other objects and containers hold.
    """
    nnx = sys.modules.get("flax.nnx")  # where it is not imported, there are no modules
    if nnx is None:
        return
    waiting, seen = [function], []  # kept in a list, so that no identity is given twice
    while waiting:
        held = waiting.pop()
        if any(held is known for known in seen):
            continue
        seen.append(held)
        if isinstance(held, nnx.Module):
            _check_module(nnx, held, argument)
        else:
            waiting += _held(held)


def _held(function):
    """What a function is made of: what it wraps, is bound to, was partly applied to and closes over."""
    if isinstance(function, functools.partial):
        return [function.func, *function.args, *function.keywords.values()]
    held = [getattr(function, name, None) for name in ("__wrapped__", "__self__")]
    for cell in getattr(function, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # of a name that is not bound yet
            held.append(cell.cell_contents)
    return [each for each in held if each is not None and not isinstance(each, types.ModuleType)]


def _check_module(nnx, root, argument):
    for path, module in nnx.iter_graph(root):
        drops = getattr(module, "deterministic", None) is False and getattr(module, "rngs", None) is not None
        drops = drops and getattr(module, "rate", 1) != 0
        if isinstance(module, nnx.Module) and (drops or getattr(module, "use_running_average", None) is False):
            name = ".".join(map(str, path)) or "it"
            raise ValueError(
                f"{argument} must be in evaluation mode, but {name} ({type(module).__name__}) is in training mode, "
                "where batch norm and dropout make it another function at every call: call its eval() first"
            )


def _check_finite(group):
    if not isinstance(group, Group):
        raise ValueError(
            f"group must be a finite Group such as attgconv_jax.cyclic(4), got {group!r}; the error under "
            "elements of a Lie group is what attgconv_jax.band_limited_error measures"
        )


def check_kind(f: Array | np.ndarray, group: Any, kind: str, name: str = "f") -> None:
    """Raises a `ValueError` unless `f` is of this kind on a finite or Lie group."""
    lengths = {"feature_map": group.order, "image": 1, "invariant": None}
    if kind not in lengths:
        argument = "output" if name == "the function's output" else "kind"
        raise ValueError(f'{argument} must be "feature_map", "image" or "invariant", got {kind!r}')
    if not isinstance(f, jax.Array | np.ndarray):
        raise ValueError(f"{name} must be one array, got {type(f).__name__}")
    if not jnp.issubdtype(f.dtype, jnp.floating) or f.size == 0:
        raise ValueError(f"{name} must be floating and not empty, got {f.dtype} of shape {f.shape}")
    if kind != "invariant" and (f.ndim < 4 or f.shape[-2] != lengths[kind]):
        raise ValueError(
            f"{name} must be {kind.replace('_', ' ')} [..., x, y, h, c] with h = {lengths[kind]} for {group}, got "
            f"shape {f.shape}"
        )


def _act(f, group, element, kind):
    """`act` without its checks; right angles turn NumPy arrays in NumPy."""
    if kind == "invariant":
        return f
    moved = _move(f, group, element)
    return moved[..., group.action[element], :] if kind == "feature_map" else moved


def _move(f, group, element):
    """`f[g^-1 x]` on the spatial axes."""
    reflection, rotation = divmod(element, group.rotations)
    if group.preserves_grid[element]:
        library = np if isinstance(f, np.ndarray) else jnp
        turned = library.rot90(f, 4 * rotation // group.rotations, axes=(-4, -3))
        return library.flip(turned, axis=-4) if reflection else turned
    x, y, h, c = f.shape[-4:]
    if x != y:
        raise ValueError(
            f"{group} turns by other than right angles, which needs a square image, got {x}x{y} pixels; for the error "
            "under such elements attgconv_jax.band_limited_error draws images of its own"
        )
    offset = np.arange(x) - (x - 1) / 2
    grid = np.stack(np.meshgrid(offset, offset, indexing="ij"))
    source = np.einsum("ji,jxy->ixy", group.matrices[element], grid) + (x - 1) / 2

    def sample(plane):
        return jax.scipy.ndimage.map_coordinates(plane, list(source), order=1)

    planes = jnp.moveaxis(f.reshape(-1, x, y, h * c), -1, 1).reshape(-1, x, y)
    moved = jax.vmap(sample)(planes).reshape(-1, h * c, x, y)
    return jnp.moveaxis(moved, 1, -1).reshape(f.shape)
