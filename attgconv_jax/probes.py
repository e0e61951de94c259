"""How far a function is from commuting with any group element, on images that are known between the pixels."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from attgconv_jax.checks import check_boolean, check_choice, check_finite_positive, check_integer, check_positive
from attgconv_jax.equivariance import check_kind, check_mode
from attgconv_jax.groups import Group
from attgconv_jax.lie.groups import LieGroup
from attgconv_jax.moves import moves_of, on_the_group

_WAVES = 40

# Pixels from what a border reaches to what is compared: a pixel's weight in a spline falls by 0.43 a pixel.
_MARGIN = 5

# Pixels by which outputs are continued for splines, whose own continuation has a kink.
_CONTINUATION = 12

# Of the smallest disc, in pixels of the output.
_LEAST_RADIUS = 3

# Of the filter that measures the floor: deviation in pixels, and where it is cut off.
_DEVIATION, _REACH = 1.0, 6


class BandLimitedError(NamedTuple):
    """What `band_limited_error` measures.

    Attributes:
      error: under the worst element.
      floor: of a filter, or a number, whose true error is nil, measured in the same way: what is near it is none of the
        function's.
      by_element: the error under each element, in their order.
      radius: of the disc compared, in pixels of the output; None where outputs are invariant.
    """

    error: float
    floor: float
    by_element: tuple[float, ...]
    radius: float | None


def band_limited_error(
    function: Callable,
    group: Group | LieGroup,
    *,
    input: str = "image",
    output: str = "feature_map",
    elements: Any = None,
    channels: int = 1,
    size: int = 65,
    images: int = 3,
    band: float = 1 / 8,
    margin: float | int | None = None,
    fade: bool | None = None,
    ends: bool = False,
    seed: int = 0,
    dtype: Any = jnp.float32,
) -> BandLimitedError:
    """The error of `function(L_g f) = L_g function(f)` for any element, of images that are known between the pixels.

        |function(L_g f) - L_g function(f)| / |L_g function(f)|        L2, over pixels with |x| <= radius

    `f` is a sum of plane waves of at most `band` cycles a pixel, with random directions, phases and amplitudes. `L_g f`
    has the same waves, turned, reflected and scaled: nothing is resampled. The output is interpolated by splines of
    order 5 about its centre, whatever its stride. `floor` is what this measure finds, on the pixels of the output, of a
    Gaussian filter, which commutes with every rotation and reflection; where elements scale, of the image itself; and
    where outputs are invariant, of a ratio of moments that is.

    The border of an image is no part of the error. The disc ends 5 pixels inside of all that changes with the outermost
    pixels of the image. Where these change everything, as through a mean over pixels, let images `fade` to zero towards
    the circle that touches the border; they do where the output is invariant.

    Feature maps on a Lie group hold a grid of its elements, so elements must map that grid to itself. Those that scale
    move it along the scales: compared are the scales that came from the grid.

    >>> import jax
    >>> from attgconv_jax import Sampling, band_limited_error, cyclic, group_conv
    >>> c8, w = cyclic(8), jax.random.normal(jax.random.key(0), [5, 5, 1, 1, 2], "float32")
    >>> interpolated = jax.jit(lambda f: group_conv(f, w, c8, sampling=Sampling("bilinear")))
    >>> measured = band_limited_error(interpolated, c8, size=33, images=1)
    >>> 0.1 < measured.error < 1, measured.floor < 1e-3, measured.by_element[2] < 1e-5
    (True, True, True)

    Options:
      function: of a batch `[images, size, size, h, channels]`, such as a compiled module in evaluation mode; called
        once an element and a few times more.
      input: what it takes: an "image" (`h == 1`) or a "feature_map" on the group.
      output: what it returns: a "feature_map" on the group, an "image" (one group element), or something "invariant".
      elements: indices, of a Lie group those of `group.grid()`; or coordinates `[n, d]` of elements of a Lie group,
        which may be any where no feature map is involved. None: all of the group or the grid.
      size: of the images along each axis, in pixels.
      images: how many; the error is of all together.
      band: the largest frequency, in cycles a pixel. Fading adds about `2 / size`.
      margin: pixels of the output from its edge to the disc; None: as found, or 5 if images fade.
      fade: whether images fade to zero towards the border; None: where the output is invariant.
      ends: whether feature maps have content at the scales that an element moves out of the grid, whose neighbours then
        miss it.
      seed: of the waves.
      dtype: of the images.

    Raises:
      ValueError: an argument of another kind, or an image whose border leaves no disc to compare on.

    Source: our own.
    """
    check_choice("input", input, ("image", "feature_map"))
    check_choice("output", output, ("feature_map", "image", "invariant"))
    channels, images = check_positive(channels=channels, images=images)
    size, seed = check_integer("size", size, 2 * _LEAST_RADIUS), check_integer("seed", seed, 0)
    (band,) = check_finite_positive(band=band)
    if band > 1 / 2:
        raise ValueError(f"band must be at most 0.5 cycles a pixel, what pixels can hold, got {band}")
    fades, ends = check_boolean(fade=output == "invariant" if fade is None else fade, ends=ends)
    check_mode(function)
    moves = moves_of(group, elements)
    if "feature_map" in (input, output) and any(move.action is None for move in moves):
        raise ValueError(
            f"elements must map the grid of {group} to itself where feature maps are compared; others are measured "
            'from an "image" to an "image" or to what is "invariant"'
        )
    scales = [math.sqrt(abs(np.linalg.det(move.matrix))) for move in moves]
    waves = [Waves(1 if input == "image" else group.order, channels, seed + i, band) for i in range(images)]

    def probe(positions):
        f = np.stack([of_image(positions) for of_image in waves])
        return f * _fading(positions, size / 2 / max(1, *scales)) if fades else f

    def applied(f):
        result = function(jnp.asarray(f, dtype))
        check_kind(result, group, output, "the function's output")
        return np.asarray(result, np.float64)

    def measured(apply, pixels, kind, radius):
        return _errors(apply, probe, pixels, moves, kind, radius, ends)

    if output == "invariant":
        radius, floors = None, measured(_moments, pixels_of(size), output, None)
    else:
        count, radius = _disc(applied, probe(pixels_of(size)), margin, fades, 100 * float(jnp.finfo(dtype).eps))
        stride = max(1, round(size / count))
        smoothed = _gaussian if np.allclose(scales, 1) else _inner
        finer = pixels_of((count - 1) * stride + 1 + 2 * _REACH)
        floors = measured(lambda f: smoothed(f)[:, ::stride, ::stride], finer, input, radius)
    errors = measured(applied, pixels_of(size), output, radius)
    return BandLimitedError(float(np.max(errors)), max(floors), tuple(errors), radius)


class Waves:
    """An image or feature map between the pixels: a sum of plane waves, others for every group element and channel."""

    def __init__(self, elements: int, features: int, seed: int = 0, band: float = 1 / 8):
        generator = np.random.default_rng(seed)
        radius = band * np.sqrt(generator.uniform(size=_WAVES))
        angle = generator.uniform(0, 2 * np.pi, _WAVES)
        self.frequencies = 2 * np.pi * radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
        self.amplitudes = generator.normal(size=(2, _WAVES, elements, features)) / math.sqrt(_WAVES)

    def __call__(self, positions: Float[np.ndarray, "*shape 2"]) -> Float[np.ndarray, "*shape h c"]:
        """Values at positions in pixels from the centre."""
        phase = positions @ self.frequencies.T
        return np.tensordot(np.cos(phase), self.amplitudes[0], 1) + np.tensordot(np.sin(phase), self.amplitudes[1], 1)


def pixels_of(size: int) -> Float[np.ndarray, "x y 2"]:
    """Positions of the pixels of a square image from its centre."""
    axis = np.arange(size) - (size - 1) / 2
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)


def _fading(positions, radius):
    """`cos^2` of the distance from the centre, zero from `radius` on; with axes for elements and channels."""
    distance = np.minimum(np.linalg.norm(positions, axis=-1) / radius, 1)
    return (np.cos(np.pi / 2 * distance) ** 2)[..., None, None]


def _errors(apply, probe, pixels, moves, kind, radius, ends) -> list[float]:
    """The error of a function of arrays `[n, x, y, h, c]` under every move."""
    plain, errors = {}, []
    for move in moves:
        f = probe(pixels)
        lost = np.setdiff1d(np.arange(f.shape[-2]), move.action) if f.shape[-2] > 1 and not ends else ()
        if tuple(lost) not in plain:
            f[..., lost, :] = 0
            plain[tuple(lost)] = _transformed(apply(f), kind, radius)
        moved = apply(on_the_group(probe(pixels @ np.linalg.inv(move.matrix).T), move))
        errors.append(_relative(*plain[tuple(lost)](moved, move)))
    return errors


def _transformed(plain, kind, radius):
    """A function of the output for a moved input, and the move: that output and what it should be, where compared."""
    if kind == "invariant":
        return lambda moved, move: (moved, plain)
    from scipy import ndimage  # noqa: PLC0415 (needed here alone)

    pixels, width = pixels_of(plain.shape[1]), (_CONTINUATION, _CONTINUATION)
    coefficients = np.pad(plain, [(0, 0), width, width, (0, 0), (0, 0)], "reflect", reflect_type="odd")
    for axis in (1, 2):
        coefficients = ndimage.spline_filter1d(coefficients, 5, axis, mode="mirror")
    planes = np.moveaxis(coefficients, (1, 2), (-2, -1)).reshape(-1, *coefficients.shape[1:3])

    def compared(moved, move):
        sources = pixels @ np.linalg.inv(move.matrix).T
        inside = np.maximum(np.linalg.norm(pixels, axis=-1), np.linalg.norm(sources, axis=-1)) <= radius
        index = sources[inside].T + (len(pixels) - 1) / 2 + _CONTINUATION
        values = [ndimage.map_coordinates(p, index, order=5, mode="mirror", prefilter=False) for p in planes]
        shape = len(plain), *plain.shape[3:], -1
        wanted = on_the_group(np.moveaxis(np.reshape(values, shape), -1, 1), move)
        came = move.action >= 0 if plain.shape[-2] > 1 else slice(None)
        return moved[:, inside][..., came, :], wanted[..., came, :]

    return compared


def _relative(result, wanted):
    difference, size = np.linalg.norm(result - wanted), np.linalg.norm(wanted)
    return float(difference / size) if size else math.inf if difference else 0.0


def _disc(applied, f, margin, fades, tolerance) -> tuple[int, float]:
    """Pixels along each axis of the outputs for these images, and the radius of the disc to compare."""
    plain = applied(f)
    if plain.ndim != 5 or len(plain) != len(f) or plain.shape[1] != plain.shape[2]:
        raise ValueError(
            f"the function must map {len(f)} square images to as many square outputs [{len(f)}, x, x, h, c], got shape "
            f"{plain.shape}"
        )
    count = plain.shape[1]
    if margin is not None:
        radius = count / 2 - check_finite_positive(margin=margin)[0]
    elif fades:
        radius = count / 2 - _MARGIN
    else:
        radius = _reached(applied, f, plain, tolerance) - _MARGIN
    if radius < _LEAST_RADIUS:
        raise ValueError(
            f"size {f.shape[1]} with outputs of {count} pixels leaves no disc that the border does not reach: take "
            "larger images, fade=True where means over pixels reach everything, or a smaller margin"
        )
    return count, radius


def _reached(applied, f, plain, tolerance):
    """How far from the centre the outputs begin that change with the outermost pixels of the input, or the border."""
    edge = np.ones(f.shape[1:3])
    edge[1:-1, 1:-1] = 0
    noise = 10 * np.std(f) * np.random.default_rng(0).normal(size=f.shape) * edge[..., None, None]
    change = np.max([np.abs(applied(f + sign * noise) - plain) for sign in (1, -1)], axis=0)
    changed = np.max(change, axis=(0, 3, 4)) > tolerance * np.max(np.abs(plain))
    distance = np.linalg.norm(pixels_of(len(changed)), axis=-1)
    return float(np.min(distance[changed], initial=len(changed) / 2))


def _gaussian(f):
    """A Gaussian filter, at the pixels that it does not reach out of."""
    offset = np.arange(-_REACH, _REACH + 1)
    taps = np.exp(-(offset**2) / (2 * _DEVIATION**2))
    for axis in (1, 2):
        f = np.lib.stride_tricks.sliding_window_view(f, len(taps), axis) @ (taps / taps.sum())
    return f


def _inner(f):
    """The same pixels, as they are."""
    return f[:, _REACH:-_REACH, _REACH:-_REACH]


def _moments(f):
    """A number of every image and channel that rotations, reflections and scalings of the image do not change."""
    second, fourth, sixth = (np.sum(f**power, axis=(1, 2, 3)) for power in (2, 4, 6))
    return second * sixth / fourth**2
