"""Where pixels go: permutations, which are exact, and affine maps, carried out in one interpolation."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from experiments.augmentation.kinds import Images, register, up_to, yes_or_no

Maps = Float[Array, "batch 3 3"]
Background = Float[Array, "*c"] | float


@register("flip", "permutation", help="True: either axis reversed for half of the pictures, exactly.", **yes_or_no())
def flip(key: Key[Array, ""], images: Images, chosen: bool) -> Images:
    """Reverses x of half of the pictures and, independently, y of half."""
    along_x, along_y = jax.random.bernoulli(key, 0.5, (2, len(images)))
    return _reversed(_reversed(images, along_x, 1), along_y, 2)


@register("quarter_turns", "permutation", help="True: by 0, 90, 180 or 270 degrees, exactly.", **yes_or_no())
def quarter_turns(key: Key[Array, ""], images: Images, chosen: bool) -> Images:
    """Turns every picture by a multiple of 90 degrees."""
    return turned(images, jax.random.randint(key, len(images), 0, 4))


@register("mirror", "permutation", help="True: left and right exchanged for half of the pictures.", **yes_or_no())
def mirror(key: Key[Array, ""], images: Images, chosen: bool) -> Images:
    """Reverses y, which runs from left to right, of half of the pictures."""
    return _reversed(images, jax.random.bernoulli(key, 0.5, len(images)), 2)


@register(
    "crop",
    "crop",
    type=int,
    default=0,
    expected="pixels, at least 0",
    good=lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
    help="Pixels of background padded on every side before a random crop back to the original size.",
)
def crop(key: Key[Array, ""], images: Images, pixels: int, background: Background) -> Images:
    """Moves every picture along both axes by whole pixels, uniform in -pixels to pixels, amid background.

    Raises:
      ValueError: a picture might lie outside as a whole.
    """
    sides = images.shape[1:3]
    if pixels >= min(sides):
        raise ValueError(f"augment.crop must be less than the {min(sides)} pixels of the images, got {pixels}")
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * pixels + 1)
    return jax.vmap(functools.partial(_piece, shape=images.shape[1:]))(_framed(images, pixels, background), corners)


@register("rotate", "place", help="Degrees: by at most so many either way, evenly drawn.", **up_to(180))
def rotate(key: Key[Array, ""], images: Images, degrees: float) -> Maps:
    """Turns every picture about its centre by an angle that is uniform in -degrees to degrees."""
    limit = math.radians(degrees)
    return rotation(jax.random.uniform(key, len(images), images.dtype, -limit, limit))


@register(
    "scale",
    "place",
    type=tuple[float, float],
    default=(1.0, 1.0),
    expected="two positive numbers, the smaller first",
    good=lambda value: len(value) == 2 and 0 < value[0] <= value[1] < math.inf,
    help="Enlarged by a factor between these, such as 0.8 1.25, evenly drawn in its logarithm.",
)
def scale(key: Key[Array, ""], images: Images, limits: tuple[float, float]) -> Maps:
    """Enlarges every picture by a factor whose logarithm is uniform."""
    lower, upper = map(math.log, limits)
    shrinking = jnp.exp(-jax.random.uniform(key, len(images), images.dtype, lower, upper))
    return jax.vmap(jnp.diag)(jnp.stack([shrinking, shrinking, jnp.ones_like(shrinking)], axis=-1))


@register("shift", "place", help="Share of the side: along each axis by at most so much, evenly drawn.", **up_to(1))
def shift(key: Key[Array, ""], images: Images, limit: float) -> Maps:
    """Moves every picture along both axes by a share of the side that is uniform in -limit to limit."""
    sides = jnp.array(images.shape[1:3], images.dtype)
    offsets = sides * jax.random.uniform(key, (len(images), 2), images.dtype, -limit, limit)
    return jnp.tile(jnp.eye(3, dtype=images.dtype), (len(images), 1, 1)).at[:, :2, 2].set(-offsets)


def rotation(angles: Float[Array, " batch"]) -> Maps:
    """The map of a turn by so many radians counter-clockwise, as `jnp.rot90(image, 1)` turns."""
    cosine, sine, zero = jnp.cos(angles), jnp.sin(angles), jnp.zeros_like(angles)
    rows = [cosine, sine, zero, -sine, cosine, zero, zero, zero, zero + 1]
    return jnp.stack(rows, axis=-1).reshape(-1, 3, 3)


def turned(images: Images, quarters: Array) -> Images:
    """Every picture turned by so many quarters of a circle, `quarters` in 0 to 3, as `jnp.rot90` does."""
    odd = _per_image(quarters % 2 == 1)
    images = jnp.where(odd, jnp.swapaxes(images, 1, 2), images)
    return _reversed(_reversed(images, (quarters == 1) | (quarters == 2), 1), quarters >= 2, 2)


def resample(images: Images, maps: Maps, background: Background) -> Images:
    """Pictures seen through affine maps, interpolated bilinearly; what lies outside an image is background.

        out[n, p] = images[n, maps[n] p],  p in pixels from the centre

    The outermost pixels fade into the background over the width of a pixel.
    """
    sides = images.shape[1:3]
    padded = _framed(images, 1, background)[..., 0, :]
    row, column = (jnp.arange(n, dtype=images.dtype) - (n - 1) / 2 for n in sides)
    # Sums, for matrix products are rounded to fewer bits on accelerators, and these are coordinates.
    places = (
        maps[:, :2, 0, None, None] * row[:, None] + maps[:, :2, 1, None, None] * column + maps[:, :2, 2, None, None]
    )
    last = jnp.array(sides, images.dtype)
    places = jnp.clip(jnp.moveaxis(places, 1, -1) + (last + 1) / 2, 0, last + 1)
    corners = jnp.minimum(jnp.floor(places), last)
    weights = (places - corners)[..., None]
    windows = jax.vmap(_windows)(padded, corners.astype(jnp.int32))
    pairs = windows[..., 0, :] + weights[..., 1:, :] * (windows[..., 1, :] - windows[..., 0, :])
    return (pairs[..., 0, :] + weights[..., 0, :] * (pairs[..., 1, :] - pairs[..., 0, :]))[:, :, :, None]


def _framed(images, pixels, background):
    """Pictures with so many pixels of background, a number or one per channel, on every side."""
    widths = [(0, 0), (pixels, pixels), (pixels, pixels), (0, 0)]
    if jnp.ndim(background) == 0:
        return jnp.pad(images, [*widths, (0, 0)], constant_values=background)
    channels = [jnp.pad(images[..., c], widths, constant_values=background[c]) for c in range(images.shape[-1])]
    return jnp.stack(channels, axis=-1)


def _piece(image, corner, shape):
    """A piece of a picture from a corner on."""
    zero = jnp.zeros_like(corner[0])
    return lax.dynamic_slice(image, (*corner, zero, zero), shape)


def _windows(image, corners):
    """The 2x2 pixels from every corner `[x, y, 2]` on."""

    def window(corner):
        return lax.dynamic_slice(image, (*corner, jnp.zeros_like(corner[0])), (2, 2, image.shape[-1]))

    return jax.vmap(jax.vmap(window))(corners)


def _reversed(images, chosen, axis):
    """The chosen pictures reversed along an axis."""
    return jnp.where(_per_image(chosen), lax.rev(images, [axis]), images)


def _per_image(values):
    return values.reshape(-1, 1, 1, 1, 1)
