"""What several pictures need: choices that exist, names of group elements, maps by channel, maps turned back."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attgconv_jax.attention import ResponseMaps
from attgconv_jax.equivariance import act
from attgconv_jax.groups import Group

MAP_COLOURS, FILTER_COLOURS = "cividis", "PuOr"

IMAGE_LOOK = dict(cmap="gray", vmin=0, vmax=1)
"""Of `shown_images`, those in colour aside: black is dark."""

_ALIKE = 1e-4
"""Numbers in maps that differ by less differ by rounding alone, and are to look alike."""


def matplotlib(module: str):
    """A module of matplotlib, which is an optional dependency, by its name in there."""
    try:
        return importlib.import_module(f"matplotlib.{module}")
    except ImportError as error:
        raise ImportError("plotting needs matplotlib: install attgconv_jax[plotting]") from error


def check_drawable(name: str, array: Any, axes: str) -> None:
    """Raises a `ValueError` unless this is an array of finite numbers, without imaginary parts."""
    if not isinstance(array, jax.Array | np.ndarray):
        raise ValueError(f"{name} must be an array {axes}, got {type(array).__name__}")
    if jnp.issubdtype(array.dtype, jnp.complexfloating) or not jnp.issubdtype(array.dtype, jnp.number):
        raise ValueError(f"{name} must hold real numbers, got {array.dtype}")
    if not np.isfinite(np.asarray(array)).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")


def check_images(name: str, images: Any, axes: str) -> None:
    """Raises a `ValueError` unless this is an array that a network can be drawn of: floating and finite."""
    check_drawable(name, images, axes)
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"{name} must be floating, got {images.dtype}; cast and standardise them")


def chosen_of(chosen: int | Sequence[int] | np.ndarray, known: int, what: str) -> list[int]:
    """The numbers chosen, as a list; a `ValueError` unless they are some of 0 to `known - 1`."""
    chosen = np.atleast_1d(np.asarray(chosen)).tolist()
    if not chosen or not all(type(number) is int and 0 <= number < known for number in chosen):
        raise ValueError(f"{what} must be some of 0 to {known - 1}, got {chosen}")
    return chosen


def element_name(group: Group, element: int, *, short: bool = False) -> str:
    """The element in words: degrees counter-clockwise, and whether a flip follows; short, in two lines."""
    reflection, rotation = divmod(element, group.rotations)
    return f"{360 * rotation / group.rotations:g}°" + (",\nflipped" if short else ", flipped") * reflection


def turned_image(image: Float[Array, "*batch x y 1 c"], group: Group, element: int) -> Float[Array, "*batch _x _y 1 c"]:
    """The image under a group element; where other than right angles leave corners empty, its minimum."""
    if group.preserves_grid[element]:
        return act(image, group, element, "image")
    background = jnp.min(image, axis=(-4, -3, -2, -1), keepdims=True)
    return act(image - background, group, element, "image") + background


def shown_images(
    images: Float[Array | np.ndarray, "*batch x y 1 c"], limits: tuple[float, float] | None = None
) -> Float[np.ndarray, "..."]:
    """Images in [0, 1]: those of three channels in colour, `[..., x, y, 3]`, of others the mean, `[..., x, y]`.

    Args:
      images: of any range, such as standardised ones.
      limits: what is black and what white, and what is beyond is cut off; None: the darkest and the brightest value
        shown.
    """
    images = np.asarray(images, np.float64)
    pixels = images[..., 0, :] if images.shape[-1] == 3 else images.mean(axis=(-2, -1))
    low, high = (np.min(pixels), np.max(pixels)) if limits is None else limits
    return np.clip((pixels - low) / (high - low if high > low else 1), 0, 1)


def before_standardisation(images: Array, unstandardise: Callable[[Array], Array] | None) -> Array:
    """Images as they are to be shown; a `ValueError` unless `unstandardise` is None or a function."""
    if unstandardise is None:
        return images
    if not callable(unstandardise):
        raise ValueError(f"unstandardise must be a function of images or None, got {type(unstandardise).__name__}")
    return unstandardise(images)


def maps_by_channel(maps: Array | ResponseMaps, channels: int | Sequence[int] | None) -> dict[int | None, Array]:
    """The maps to show, by output channel: of attention on responses another for each, else one for all.

    That is `{None: [..., x, y, h, c]}` of attention on the input, which has no output channels to choose; of that on
    responses, for every channel (None: the first three) its `[..., x, y, h_in, h]`, the mean over input channels.
    Attention of channels alone has one pixel.
    """
    if isinstance(maps, ResponseMaps):
        known = next(alpha for alpha in maps if alpha is not None).shape[-1]
        channels = range(min(3, known)) if channels is None else channels
        return {o: _pair_maps(maps, o) for o in chosen_of(channels, known, "output channels")}
    if channels is not None:
        raise ValueError("this attention has one map for all output channels: leave out channels")
    return {None: maps}


def _pair_maps(maps, o):
    """`alpha_X alpha_C` of output channel `o`, the mean over input channels: `[..., x, y, h_in, h]`."""
    channel, spatial = (1.0 if alpha is None else jnp.mean(alpha[..., o], axis=-2) for alpha in maps)
    return spatial * channel


def turned_back(
    alpha: Float[Array, "*batch x y h _last"], group: Group, element: int, *, pairs: bool
) -> Float[Array, "*batch _x _y h _last"]:
    """`L_(g^-1) alpha`: what an equivariant network makes of the image under `g`, as it would be without `g`.

    With `pairs` the last axis is a group axis, too; a group axis of length 1 stays as it is.
    """
    back = int(group.inverse[element])
    moved = act(alpha, group, back, "image" if alpha.shape[-2] == 1 else "feature_map")
    return moved[..., group.action[back]] if pairs and alpha.shape[-1] > 1 else moved


def shades(shown: Float[np.ndarray, "*shape"]) -> dict[str, float]:
    """The range of colours for maps."""
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    return dict(vmin=low, vmax=max(high, low + _ALIKE))


def constant_value(shown: Float[np.ndarray, "*shape"]) -> str | None:
    """Of maps whose numbers are all alike that number in words; None of others.

    >>> import numpy as np
    >>> constant_value(np.full([2, 3, 3], 0.5)), constant_value(np.arange(3.0))
    ('constant, 0.500', None)
    """
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    return f"constant, {(low + high) / 2:.3f}" if high - low < _ALIKE else None


def colour_bar(figure, drawn, axes: np.ndarray, shown: Float[np.ndarray, "*shape"], label: str, **look) -> None:
    """A bar beside the axes that says what the colours of maps mean; of constant maps their value in its place."""
    value = constant_value(shown)
    if value is None:
        figure.colorbar(drawn, ax=axes, label=label, **look)
        return
    column = np.atleast_2d(axes)[:, -1]
    axis = column[len(column) // 2]
    place = dict(transform=axis.transAxes, rotation=90, ha="left", va="center")
    axis.text(1.06, 0.5, f"{label}:\n{value}", **place)


def is_matrix(alpha: Array | np.ndarray) -> bool:
    """Whether there is but one pixel, so that group elements and channels are worth a picture, not space."""
    return alpha.shape[-4:-2] == (1, 1)


def shown_map(alpha: Float[Array | np.ndarray, "*batch x y h _last"]) -> Float[np.ndarray, "*batch _rows _columns"]:
    """The mean over the last two axes; of a map of one pixel these two axes."""
    return np.asarray(alpha[..., 0, 0, :, :] if is_matrix(alpha) else jnp.mean(alpha, axis=(-2, -1)))


def meaning(combination: str) -> str:
    """What a large value of attention maps means that are combined so with what they attend to."""
    return "suppressed" if combination == "suppress" else "attention"
