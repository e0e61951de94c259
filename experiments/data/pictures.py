"""Pictures as arrays: PNG, JPEG, TIFF, BMP and WebP through Pillow, with all their bits."""

import contextlib
import importlib
import io
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
"""Of the files in a folder that are taken for pictures, in lower case; what a file holds is told by its bytes."""

_ORIENTATION, _BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 274, 258, 262, 339
_WHITE_IS_ZERO = 0
_GREY = {"1", "L", "LA", "La", "I;16", "I;16B", "I;16L"}
_COLOUR = {"RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"}
# Of the samples of fewer than eight bits, whose transparent one is given as it is in the file.
_SCALE = {"L;2": 85, "L;4": 17}

# Pillow knows the names of those formats alone whose plugin is loaded.
for _plugin in ("Png", "Jpeg", "Tiff", "Bmp", "WebP"):
    importlib.import_module(f"PIL.{_plugin}ImagePlugin")


class Kind(NamedTuple):
    """What a picture's header says: pixels along its two sides, channels, type of its pixels."""

    sides: tuple[int, int]
    features: int
    dtype: str


class Picture(NamedTuple):
    """Pixels `[x, y, c]`, and whether some were transparent and thus composed over black."""

    pixels: np.ndarray
    composed: bool


def read_picture(path: str | os.PathLike) -> np.ndarray:
    """The pixels `[x, y, c]` of a picture, uint8 or uint16, c = 1 (grey) or 3 (red, green, blue), upright.

    The orientation in its EXIF data is applied; transparent pixels are composed over black; 16 bits stay 16 bits;
    1-bit pixels are 0 and 255; CMYK becomes RGB, palettes what they stand for, one of greys grey.

    Raises:
      ValueError: it is no such picture, cannot be read, or not without loss; the message is a line with its path.
    """
    return decode(path, file_bytes(path)).pixels


def as_type(pixels: np.ndarray, dtype: str, features: int) -> np.ndarray:
    """The pixels `[..., c]` of a picture in another type and number of channels, where nothing is lost.

    8 bits become 16 by `257 value`, so that white stays white; grey becomes colour.

    Raises:
      ValueError: 16 bits would become 8, colour grey, or pixels something else.
    """
    have, want = pixels.dtype, np.dtype(dtype)
    if have != want:
        if (have, want) != (np.uint8, np.uint16):
            raise ValueError(f"pixels must be {want}, got {have}; convert them, since what is lost is yours to choose")
        pixels = pixels.astype(np.uint16) * np.uint16(257)
    if pixels.shape[-1] not in (1, features):
        wanted = {1: "1 channel (grey)", 3: "3 channels (colour)"}.get(features, f"{features} channels")
        raise ValueError(
            f"pixels must have {wanted}, got {pixels.shape[-1]}; convert the pictures, since what is lost is yours to "
            "choose"
        )
    return np.repeat(pixels, features, axis=-1) if pixels.shape[-1] < features else pixels


def file_bytes(path: str | os.PathLike) -> bytes:
    """The content of a picture's file; a `ValueError` if there is none."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    if not content:
        raise ValueError(f"{path} is empty: put the picture there again, or remove the file")
    return content


def kind_of(path: str | os.PathLike, content: bytes) -> Kind:
    """What the header of a picture says; raises as `read_picture`, as far as the header goes."""
    with _reading(path):
        image = _opened(content)
        features = 1 if _is_grey(image) else 3
        return Kind((image.height, image.width), features, "uint16" if _is_wide(image) else "uint8")


def decode(path: str | os.PathLike, content: bytes) -> Picture:
    """The picture in a file's content; `path` is of messages alone. See `read_picture`."""
    with _reading(path):
        image = _opened(content)
        grey = _is_grey(image)
        colours, alpha = _colours_and_alpha(image, content)
        composed = alpha is not None and bool((alpha < np.iinfo(alpha.dtype).max).any())
        if composed:
            white = np.uint32(np.iinfo(colours.dtype).max)
            colours = ((colours.astype(np.uint32) * alpha + white // 2) // white).astype(colours.dtype)
        # Loading a TIFF has turned it already, and then the orientation is gone.
        upright = _upright(colours[..., :1] if grey else colours, image.getexif().get(_ORIENTATION, 1))
        return Picture(np.ascontiguousarray(upright), composed)


class _DecodersQuiet:
    """Holds back warnings of the decoders, from the first of several threads that enters to the last that leaves.

    Python's filters are of the whole process: `warnings.catch_warnings` in each thread would leave them changed.
    """

    def __init__(self):
        self._lock, self._entered = threading.Lock(), 0

    def __enter__(self):
        with self._lock:
            if self._entered == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=rf"PIL\b|{re.escape(__name__)}$")
            self._entered += 1

    def __exit__(self, *error):
        with self._lock:
            self._entered -= 1
            if self._entered == 0:
                self._filters.__exit__()


decoders_quiet = _DecodersQuiet()
"""Within it, what decoders warn of is not printed; reading a picture enters it itself."""


@contextlib.contextmanager
def _reading(path) -> Iterator[None]:
    """Within it, whatever the decoders raise of a damaged file becomes a line."""
    try:
        with decoders_quiet:
            yield
    except Image.UnidentifiedImageError as error:
        raise ValueError(
            f"{path} is no PNG, JPEG, TIFF, BMP or WebP that can be read, whatever its name says"
        ) from error
    except MemoryError:
        raise
    except Exception as error:
        message = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} cannot be read as a picture: {message}") from error


def _opened(content):
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    # A camera's MPO holds further pictures behind the one that is meant.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise ValueError(f"it holds {image.n_frames} pictures; save each as a file of its own")
    if image.mode not in _GREY | _COLOUR | {"P", "PA"}:
        raise ValueError(
            f"its pixels are neither of 8 nor of 16 bits (Pillow's mode {image.mode}); save it so, or use arrays"
        )
    if image.format == "TIFF" and not {*image.tag_v2.get(_SAMPLE_FORMAT, (1,))} <= {1, 4}:
        raise ValueError("its pixels are signed or floating; save it with 8 or 16 bits, or use arrays")
    bits = max(image.tag_v2.get(_BITS, (1,))) if image.format == "TIFF" else 8
    if bits > 8 and not _is_wide(image):
        raise ValueError(f"its {bits} bits a channel cannot be kept; save its channels together, with 8 or 16 bits")
    return image


def _rawmode(image):
    """How Pillow's decoder takes the samples."""
    arguments = image.tile[0].args if image.tile else ""
    return arguments if isinstance(arguments, str) else str((arguments or [""])[0])


def _is_wide(image):
    return ";16" in _rawmode(image) or image.mode.startswith("I;16")


def _is_grey(image):
    if image.mode in ("P", "PA"):
        palette = np.reshape(image.getpalette("RGB"), (-1, 3))
        return bool((palette == palette[:, :1]).all())
    return image.mode in _GREY or _rawmode(image) == "LA;16B"


def _colours_and_alpha(image, content):
    """Both `[x, y, c]`; None for alpha where there is none."""
    rawmode, key = _rawmode(image), image.info.get("transparency")
    if _is_wide(image):
        pixels, mode = _wide_pixels(image, content), "LA" if rawmode == "LA;16B" else image.mode
    else:
        mode = {"1": "L", "La": "LA", "P": "RGBA", "PA": "RGBA", "RGBa": "RGBA"}.get(image.mode, image.mode)
        mode = mode if mode in {"L", "LA", "RGBA"} else "RGB"
        pixels = np.asarray(image.convert(mode))
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    if mode in ("LA", "RGBA"):
        return pixels[..., :-1], pixels[..., -1:]
    if key is None:
        return pixels, None
    opaque = np.any(pixels != np.multiply(key, _SCALE.get(rawmode, 1)), axis=-1, keepdims=True)
    return pixels, np.where(opaque, np.iinfo(pixels.dtype).max, 0).astype(pixels.dtype)


def _wide_pixels(image, content):
    """All 16 bits of every channel, of which Pillow keeps the high byte where there are several channels.

    The decoder gives the low bytes when it is told that the samples have the other order of bytes.
    """
    rawmode = _rawmode(image)
    if image.mode.startswith("I;16"):
        pixels = np.asarray(image).astype(np.uint16)
        inverted = image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
        return np.uint16(65535) - pixels if inverted else pixels
    if rawmode == "LA;16B":
        parts = np.asarray(_as_rawmode(image, "RGBA")).astype(np.uint16)
        return parts[..., ::2] * np.uint16(256) + parts[..., 1::2]
    colours, _, order = rawmode.partition(";16")
    other = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}.get(order)
    if other is None or colours not in ("RGB", "RGBA", "RGBX"):
        raise ValueError(f"its 16 bits cannot be kept (Pillow's raw mode {rawmode}); save it as RGB")
    low = _as_rawmode(_opened(content), f"{colours};16{other}")
    return np.asarray(image).astype(np.uint16) * np.uint16(256) + np.asarray(low)


def _as_rawmode(image, rawmode):
    image.tile = [
        tile._replace(args=rawmode if isinstance(tile.args, str) else (rawmode, *tile.args[1:])) for tile in image.tile
    ]
    return image


def _upright(pixels, orientation):
    """The pixels turned and reflected as the EXIF orientation says."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
