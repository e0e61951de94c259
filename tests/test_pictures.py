"""Pictures as they are in files: all their bits, upright, and a line for what cannot be read."""

import pathlib
import struct
import zlib

import numpy as np
import pytest
from helpers import assert_refused
from PIL import Image

from experiments.data.pictures import as_type, file_bytes, kind_of, read_picture

RANDOM = np.random.default_rng(0)
COLOURS = RANDOM.integers(0, 256, (6, 9, 3), np.uint8)
GREYS = COLOURS[..., :1]
WIDE = RANDOM.integers(0, 65536, (6, 9, 4), np.uint16)


def write_png(path, pixels, transparent=None):
    """An uncommon PNG by hand: 16 bits a channel, all five filters in turn, a transparent colour."""
    channels = pixels.shape[-1]
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows, step = pixels.astype(">u2").reshape(len(pixels), -1).view(np.uint8).astype(int), 2 * channels
    written, above = b"", np.zeros_like(rows[0])
    for i, row in enumerate(rows):
        left, corner = (np.concatenate([np.zeros(step, int), line[:-step]]) for line in (row, above))
        a, b, c = (abs(left + above - corner - line) for line in (left, above, corner))
        paeth = np.where((a <= b) & (a <= c), left, np.where(b <= c, above, corner))
        guess = [0, left, above, (left + above) // 2, paeth][i % 5]
        written += bytes([i % 5]) + ((row - guess) % 256).astype(np.uint8).tobytes()
        above = row
    chunks = {b"IHDR": header, b"tRNS": transparent, b"IDAT": zlib.compress(written), b"IEND": b""}
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks.items():
        if data is not None:
            content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    path.write_bytes(content)


def check(path, expected, tolerance=0):
    """The file holds the pixels, and its header says of which kind they are."""
    pixels, kind = read_picture(path), kind_of(path, file_bytes(path))
    assert (pixels.shape, pixels.dtype) == (expected.shape, expected.dtype)
    assert (sorted(kind.sides), kind.features, kind.dtype) == (
        sorted(pixels.shape[:2]),
        pixels.shape[2],
        pixels.dtype.name,
    )
    np.testing.assert_allclose(pixels.astype(int), expected.astype(int), atol=tolerance, rtol=0)


@pytest.mark.parametrize("pixels", [GREYS, COLOURS], ids=["grey", "colour"])
@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.tif", "a.TIFF", "a.bmp", "a.webp", "a.jpg", "a.JPEG"])
@pytest.mark.default("a.PNG-grey", "a.TIFF-colour", "a.bmp-grey", "a.webp-colour", "a.JPEG-grey", "a.jpg-colour")
def test_every_format_is_read(name, pixels, tmp_path):
    options = {"webp": {"lossless": True}, "jpg": dict(quality=100, subsampling=0)}
    suffix = name.rpartition(".")[2].lower().replace("jpeg", "jpg")
    Image.fromarray(np.squeeze(pixels)).save(tmp_path / name, **options.get(suffix, {}))
    # WebP has colours alone.
    expected = np.repeat(pixels, 3, axis=-1) if suffix == "webp" and pixels is GREYS else pixels
    check(tmp_path / name, expected, 4 if suffix == "jpg" else 0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.tif", {}),
        ("a.tif", {"compression": "tiff_lzw"}),
        ("a.tif", {"compression": "tiff_adobe_deflate"}),
    ],
    ids=["png", "tiff", "tiff lzw", "tiff deflate"],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_grey_ramp_of_16_bits_keeps_its_order_and_its_65536_levels(name, options, order, tmp_path):
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    # So far Pillow writes the other order of bytes only under the name of its mode.
    picture = Image.frombytes("I;16B" if order == ">" else "I;16", ramp.shape, ramp.astype(f"{order}u2").tobytes())
    picture.save(tmp_path / name, **options)
    check(tmp_path / name, ramp[..., None])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_png_of_16_bits_keeps_them_in_every_channel(channels, tmp_path):
    pixels = WIDE[..., :channels]
    write_png(tmp_path / "a.png", pixels)
    colours = pixels if channels % 2 else pixels[..., :-1]
    alpha = 65535 if channels % 2 else pixels[..., -1:].astype(np.uint64)
    check(tmp_path / "a.png", np.round(colours * (alpha / 65535)).astype(np.uint16))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_colour_of_16_bits_becomes_black_and_no_other(channels, tmp_path):
    pixels = WIDE[..., :channels].copy()
    pixels[2, 3] = pixels[0, 0]
    pixels[4, 4] = pixels[0, 0] + 1
    write_png(tmp_path / "a.png", pixels, transparent=pixels[0, 0].astype(">u2").tobytes())
    expected = pixels.copy()
    expected[0, 0] = expected[2, 3] = 0
    check(tmp_path / "a.png", expected)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.default("False-3->", "True-4-<", "True-3->")
def test_a_colour_tiff_of_16_bits_keeps_them(order, channels, deflate, tmp_path):
    """Written by hand: Pillow writes none."""
    pixels = WIDE[..., :channels].copy()
    if channels == 4:
        pixels[..., 3] = 65535
    write_tiff(tmp_path / "a.tif", pixels, order, deflate=deflate)
    check(tmp_path / "a.tif", pixels[..., :3])


def write_tiff(path, pixels, order, planar=1, deflate=False):
    channels, data = pixels.shape[-1], pixels.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if deflate else data
    data += bytes(len(data) % 2)
    short, far = f"{order}HHIHH", 8 + len(data)
    entries = [
        (256, 3, 1, pixels.shape[1]),
        (257, 3, 1, len(pixels)),
        (258, 3, channels, far),
        (259, 3, 1, 8 if deflate else 1),
    ]
    entries += [(262, 3, 1, 2), (273, 4, 1, 8), (277, 3, 1, channels), (278, 3, 1, len(pixels))]
    entries += [(279, 4, 1, len(data)), (284, 3, 1, planar), *([(338, 3, 1, 2)] if channels == 4 else [])]
    content = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, far + 2 * channels) + data
    content += struct.pack(f"{order}{channels}H", *[16] * channels) + struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in entries:
        if kind == 3 and count == 1:
            content += struct.pack(short, tag, kind, count, value, 0)
        else:
            content += struct.pack(f"{order}HHII", tag, kind, count, value)
    path.write_bytes(content + bytes(4))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.default(*[f"{i}-a.jpg" for i in range(1, 9)], "6-a.png", "5-a.tif", "8-a.webp")
def test_a_picture_is_upright_whatever_its_exif_orientation(name, orientation, tmp_path):
    upright = np.zeros([16, 32, 3], np.uint8)
    upright[:8, :16] = 255
    upright[:8, 16:] = 128
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: np.rot90(upright, 2),
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, 3),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / name, exif=exif)
    check(tmp_path / name, upright, 0 if name in ("a.png", "a.tif") else 12)


def test_a_wide_picture_is_upright_as_well(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(WIDE[..., 0]).save(tmp_path / "a.png", exif=exif)
    check(tmp_path / "a.png", np.rot90(WIDE[..., :1], 3))


def test_palettes_are_what_they_stand_for(tmp_path):
    paletted = Image.fromarray(COLOURS).quantize(16)
    expected = np.asarray(paletted.convert("RGB"))
    paletted.save(tmp_path / "a.png")
    check(tmp_path / "a.png", expected)
    index = np.asarray(paletted)[0, 0]
    paletted.save(tmp_path / "b.png", transparency=int(index))
    check(tmp_path / "b.png", np.where(np.asarray(paletted)[..., None] == index, 0, expected).astype(np.uint8))
    grey = Image.fromarray(GREYS[..., 0]).convert("P")
    grey.putpalette([level for level in range(256) for _ in range(3)])
    grey.save(tmp_path / "c.png")
    check(tmp_path / "c.png", GREYS)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_transparent_pixels_are_composed_over_black(name, tmp_path):
    alpha = np.arange(54, dtype=np.uint8).reshape(6, 9, 1) * 4
    options = {"lossless": True, "exact": True} if name == "a.webp" else {}
    Image.fromarray(np.concatenate([COLOURS, alpha], -1)).save(tmp_path / name, **options)
    check(tmp_path / name, np.round(COLOURS * (alpha / 255)).astype(np.uint8))
    if name != "a.webp":
        Image.fromarray(np.concatenate([GREYS, alpha], -1)).save(tmp_path / name)
        check(tmp_path / name, np.round(GREYS * (alpha / 255)).astype(np.uint8))


@pytest.mark.parametrize(("mode", "key"), [("L", 77), ("RGB", (1, 2, 3)), ("1", 1)])
def test_a_transparent_colour_becomes_black(mode, key, tmp_path):
    pixels = COLOURS.copy()
    pixels[1, 1] = 77 if mode == "L" else (1, 2, 3)
    picture = Image.fromarray(pixels if mode == "RGB" else pixels[..., 0]).convert(mode)
    picture.save(tmp_path / "a.png", transparency=key)
    expected = np.asarray(picture.convert("RGB" if mode == "RGB" else "L")).reshape(6, 9, -1).copy()
    expected[(expected == (255 if mode == "1" else key)).all(-1)] = 0
    check(tmp_path / "a.png", expected)


def test_single_bits_are_black_and_white(tmp_path):
    for name in ("a.png", "a.tif", "a.bmp"):
        Image.fromarray(GREYS[..., 0] > 100).save(tmp_path / name)
        check(tmp_path / name, ((GREYS > 100) * 255).astype(np.uint8))


def test_a_jpeg_for_print_becomes_red_green_and_blue(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    check(tmp_path / "a.jpg", np.full([16, 16, 3], (255, 0, 0), np.uint8), 3)


def _cut(path):
    Image.fromarray(np.kron(COLOURS, np.ones([9, 9, 1], np.uint8))).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: 2 * len(content) // 3])


def _bomb(path):
    Image.new("1", (14000, 14000)).save(path)


BROKEN = {
    "cut.jpg": (_cut, "cannot be read as a picture: image file is truncated"),
    "cut.png": (_cut, "cannot be read as a picture: "),
    "empty.png": (pathlib.Path.touch, "is empty: put the picture there again"),
    "text.png": (lambda path: path.write_text("no picture"), "is no PNG, JPEG, TIFF, BMP or WebP that can be read"),
    "gif.png": (lambda path: Image.fromarray(COLOURS).save(path, "GIF"), "is no PNG, JPEG, TIFF, BMP or WebP"),
    "missing.png": (lambda path: None, "cannot be read: No such file or directory"),
    "folder.png": (pathlib.Path.mkdir, "cannot be read: Is a directory"),
    "float.tif": (lambda path: Image.fromarray(np.ones([3, 3], np.float32)).save(path), "neither of 8 nor of 16 bits"),
    "integers.tif": (lambda path: Image.fromarray(np.ones([3, 3], np.int32)).save(path), "nor of 16 bits"),
    "planes.tif": (lambda path: write_tiff(path, WIDE[..., :3], "<", planar=2), "16 bits a channel cannot be kept"),
    "pages.tif": (
        lambda path: Image.fromarray(COLOURS).save(path, save_all=True, append_images=[Image.fromarray(COLOURS)] * 2),
        "holds 3 pictures; save each as a file of its own",
    ),
    "bomb.png": (_bomb, "cannot be read as a picture: Image size (196000000 pixels) exceeds limit"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_a_line_with_its_name(name, tmp_path):
    make, message = BROKEN[name]
    make(tmp_path / name)
    with assert_refused(str(tmp_path / name), message) as caught:
        read_picture(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_pixels_take_another_type_where_nothing_is_lost():
    np.testing.assert_array_equal(as_type(GREYS, "uint8", 3), np.repeat(GREYS, 3, -1))
    wide = as_type(COLOURS, "uint16", 3)
    assert wide.dtype == np.uint16
    np.testing.assert_array_equal(wide, COLOURS.astype(int) * 257)
    assert as_type(WIDE[..., :1], "uint16", 1).shape == (6, 9, 1)
    with assert_refused("pixels must be uint8, got uint16; convert them"):
        as_type(WIDE[..., :1], "uint8", 1)
    with assert_refused("pixels must be float32, got uint8"):
        as_type(GREYS, "float32", 1)
    with assert_refused("pixels must have 1 channel (grey), got 3; convert the pictures"):
        as_type(COLOURS, "uint8", 1)
