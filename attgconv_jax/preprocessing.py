"""From pixels as they come out of a file to what a network takes, in steps that commute with the group."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from attgconv_jax.checks import check_choice, check_positive

Fit = Literal["pad", "crop", "stretch", "frame"]
Number = float | np.floating


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What was done to the images that a network was trained on, to be done to all that it sees.

        (resize(pixels / white, size, fit, background) - mean) / deviation

    >>> import numpy as np
    >>> from attgconv_jax.preprocessing import Preprocessing
    >>> preprocessing = Preprocessing(size=28, features=3, dtype="uint8", mean=0.5, deviation=0.25)
    >>> preprocessing(np.full([7, 40, 60, 3], 255, np.uint8)).shape
    (7, 28, 28, 1, 3)

    Attributes:
      size: pixels along x and y of what the network takes.
      features: its channels.
      dtype: of the pixels in a file, such as "uint8", "uint16" or "float32"; kept by its name.
      fit: how images of another size are brought to it; see `resize`.
      background: of what "pad" and "frame" put around an image, where white is 1.
      mean: of the training images, resized, where white is 1: one number, or one per channel.
      deviation: of the same, as many numbers as `mean`.
    """

    size: int | np.integer
    features: int | np.integer = 1
    dtype: str | np.dtype | type = "uint8"
    fit: str = "pad"
    background: Number = 0.0
    mean: Number | Sequence[Number] | np.ndarray | jax.Array = 0.0
    deviation: Number | Sequence[Number] | np.ndarray | jax.Array = 1.0

    def __post_init__(self):
        # Python's numbers, which do not decide in what precision images are computed.
        size, features = check_positive(size=self.size, features=self.features)
        numbers = {"background": _number("background", self.background)}
        numbers |= {name: _numbers(name, getattr(self, name), features) for name in ("mean", "deviation")}
        for name, value in {"size": size, "features": features, "dtype": _dtype_name(self.dtype), **numbers}.items():
            object.__setattr__(self, name, value)
        check_choice("fit", self.fit, get_args(Fit))
        if isinstance(self.mean, tuple) != isinstance(self.deviation, tuple):
            raise ValueError(
                "mean and deviation must both be one number, or both one per channel, got "
                f"{self.mean} and {self.deviation}"
            )
        finite = all(np.isfinite(number).all() for number in numbers.values())
        if not (finite and np.greater(self.deviation, 0).all()):
            raise ValueError(
                "background, mean and deviation must be finite, the deviation positive, got "
                f"{self.background}, {self.mean}, {self.deviation}"
            )

    @property
    def white(self) -> float:
        """The pixel that becomes 1: the largest integer of the type, of floating pixels 1 itself."""
        return 1.0 if np.issubdtype(self.dtype, np.floating) else float(np.iinfo(self.dtype).max)

    def __call__(self, pixels: Shaped[Array | np.ndarray, "..."]) -> Float[Array, "batch size size 1 c"]:
        """What a network takes of images `[batch, x, y]` or `[batch, x, y, c]`; grey ones become colour.

        Raises a `ValueError` if type, axes or channels are others.
        """
        return self.apply(jnp.asarray(self.checked(pixels)))

    @property
    def device_dtype(self) -> np.dtype:
        """The type that pixels have on a device: that of 64 bits is float32 there, unless `jax_enable_x64` is set."""
        dtype = np.dtype(self.dtype)
        return np.dtype(np.float32) if dtype.itemsize > 4 and not jax.config.jax_enable_x64 else dtype

    def apply(self, pixels: Shaped[Array, "batch x y 1 #c"]) -> Float[Array, "batch size size 1 c"]:
        """The formula, for pixels that `checked` has let pass: traced, where types may be narrower than in a file."""
        least = jnp.float32 if self.white > 1 else jnp.promote_types(pixels.dtype, jnp.float32)
        images = resize(pixels.astype(least) / self.white, self.size, self.fit, self.background)
        images = jnp.broadcast_to(images, (*images.shape[:-1], self.features))
        return self.standardised(images)

    def standardised(
        self, images: Float[Array | np.ndarray, "*batch x y 1 c"]
    ) -> Float[Array | np.ndarray, "*batch x y 1 c"]:
        """`(images - mean) / deviation`, in the images' own type; NumPy arrays in NumPy."""
        if not isinstance(self.mean, tuple):
            return (images - self.mean) / self.deviation
        shape = (1,) * (images.ndim - 1) + (self.features,)
        mean, deviation = (np.reshape(each, shape).astype(images.dtype) for each in (self.mean, self.deviation))
        return (images - mean) / deviation

    def checked(self, pixels: Shaped[Array | np.ndarray, "..."]) -> Shaped[Array | np.ndarray, "batch x y 1 c"]:
        """The pixels with all axes, as `device_dtype`.

        A `ValueError` if type, axes or channels are others than those of training.
        """
        wanted = f"[batch, x, y, {self.features}]" if self.features > 1 else "[batch, x, y] or [batch, x, y, 1]"
        # Arrays of JAX have no wider type than that of the device.
        known = {self.dtype, self.device_dtype.name} if isinstance(pixels, jax.Array) else {self.dtype}
        pixels = pixels if isinstance(pixels, jax.Array) else _pixel_array(pixels, wanted)
        if pixels.dtype.name not in known:
            raise ValueError(
                f"images must be {self.dtype} with white at {self.white:g}, as those of training, got {pixels.dtype}; "
                "convert them"
            )
        if pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] in (1, self.features)):
            raise ValueError(f"images must be {wanted}, got one of shape {pixels.shape}: pass images[None]")
        if pixels.ndim == 3:
            pixels = pixels[..., None]
        if pixels.ndim != 4 or pixels.shape[-1] not in (1, self.features):
            first = pixels.ndim == 4 and pixels.shape[1] in (1, self.features)
            hint = "; channels are the last axis: pass numpy.moveaxis(images, 1, -1)" if first else ""
            raise ValueError(f"images must be {wanted}, got shape {pixels.shape}{hint}")
        shape = (*pixels.shape[:3], 1, self.features)
        if pixels.dtype != self.device_dtype:
            pixels = pixels.astype(self.device_dtype)
        return (jnp if isinstance(pixels, jax.Array) else np).broadcast_to(pixels[..., None, :], shape)


def resize(
    images: Float[Array | np.ndarray, "*batch x y 1 c"], size: int, fit: str, background: float = 0.0
) -> Float[Array | np.ndarray, "*batch size size 1 c"]:
    """Square images, resampled about their centre by linear interpolation, smoothed where they shrink.

        out[i, j] = sum over x, y of  A[i, x] B[j, y] images[x, y]  +  (1 - a[i] b[j]) background

    `A` and `B` are those of `resampling_matrix`, `a` and `b` their rows' sums: 1 inside the image, 0 outside. Both are
    symmetric about the centre, whatever the sizes' parity, and made by the same rule: quarter turns and reflections
    commute with it, up to rounding. NumPy arrays are resized in NumPy.

    Options:
      fit: "pad" scales the longer side to `size` and puts background beside the shorter; "crop" scales the shorter
        side and cuts the longer; "stretch" scales both; "frame" scales nothing and puts background around the image,
        where as much on both sides does it, else it stretches.

    Raises:
      ValueError: the fit is unknown, or an axis of the images has length 0.

    Source: our own.
    """
    (size,) = check_positive(size=size)
    check_choice("fit", fit, get_args(Fit))
    sides = images.shape[-4:-2]
    if 0 in sides:
        raise ValueError(f"images must have pixels along x and y, got shape {images.shape}")
    if fit == "frame":
        fit = "none" if all(side <= size and (size - side) % 2 == 0 for side in sides) else "stretch"
    steps = {
        "pad": [max(sides) / size] * 2,
        "crop": [min(sides) / size] * 2,
        "stretch": [side / size for side in sides],
        "none": [1.0, 1.0],
    }[fit]
    if sides == (size, size):
        return images
    library = jnp if isinstance(images, jax.Array) else np
    rows, columns = (
        resampling_matrix(side, size, step).astype(images.dtype) for side, step in zip(sides, steps, strict=True)
    )
    # NumPy has no other precision than its own.
    exact = {"precision": "highest"} if library is jnp else {}
    resized = library.einsum("ix,...xyhc->...iyhc", rows, images, optimize=True, **exact)
    resized = library.einsum("jy,...iyhc->...ijhc", columns, resized, optimize=True, **exact)
    outside = 1 - np.outer(rows.any(axis=1), columns.any(axis=1)).astype(images.dtype)
    return resized + (images.dtype.type(background) * outside)[:, :, None, None] if outside.any() else resized


def resampling_matrix(length: int, size: int, step: float) -> Float[np.ndarray, "size length"]:
    """Takes `length` samples to `size` samples `step` apart about the same centre; each row's sum is 1, or 0 outside.

        A[i, x] ~ max(0, 1 - |p_i - q_x| / max(step, 1)),  p_i = step (i - (size - 1) / 2),  q_x = x - (length - 1) / 2

    Turning both axes round leaves the matrix as it is, to the bit. Those samples are outside whose centre is farther
    from the middle than half the `length`, or half a `step` if that is more: something of a thin image always remains.

    Source: our own.
    """
    positions = step * (np.arange(size) - (size - 1) / 2)
    samples = np.arange(length) - (length - 1) / 2
    weights = np.maximum(0, 1 - np.abs(positions[:, None] - samples) / max(step, 1))
    inside = (np.abs(positions) <= max(length, step) / 2)[:, None]
    matrix = np.where(inside, weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12), 0)
    return (matrix + matrix[::-1, ::-1]) / 2


def _pixel_array(images, wanted):
    """Images as an array of NumPy; a `ValueError` if they are none, such as names of files or of several sizes."""
    try:
        array = np.asarray(images)
    except ValueError as error:
        raise ValueError(f"images must be one array {wanted}, of one size, got {type(images).__name__}") from error
    if array.dtype.kind not in "biufcV":
        names = array.dtype.kind in "US" or any(isinstance(each, os.PathLike) for each in array.flat)
        hint = ": read files first, for example by numpy.asarray(PIL.Image.open(file))[None]" if names else ""
        raise ValueError(f"images must be an array {wanted}, got {type(images).__name__}{hint}")
    return array


def _number(name, value):
    """A number as Python's; a `ValueError` if it is none."""
    try:
        return float(value if np.ndim(value) == 0 and not isinstance(value, str) else [])
    except TypeError as error:
        raise ValueError(f"{name} must be a number, got {value!r}") from error


def _numbers(name, value, features):
    """A number as Python's, or a tuple of as many as there are channels; a `ValueError` if it is neither."""
    if not isinstance(value, list | tuple | np.ndarray | jax.Array) or np.ndim(value) == 0:
        return _number(name, value)
    if np.ndim(value) != 1 or len(value) != features:
        got = f"{len(value)} numbers" if np.ndim(value) == 1 else f"shape {np.shape(value)}"
        raise ValueError(f"{name} must be one number, or {features}, one per channel, got {got}")
    return tuple(_number(name, each) for each in value)


def _dtype_name(value):
    """The name of a type of pixels; a `ValueError` if it is none."""
    try:
        dtype = np.dtype("none" if value is None else value)
    except TypeError as error:
        raise ValueError(f'dtype must be that of pixels, such as "uint8" or "float32", got {value!r}') from error
    if dtype.kind not in "uf" or dtype.itemsize > 8:
        raise ValueError(f"dtype must be of unsigned integers or floating, of at most 64 bits, got {dtype}")
    return dtype.name
