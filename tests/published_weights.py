"""Weights drawn from the names of arrays, and the published networks' logits with them."""

import functools
import json
import pathlib
import zlib

import numpy as np

from attgconv_jax.lie import rotations

FILE = pathlib.Path(__file__).parent / "fixtures" / "published.npz"
SIZES = {"sepgconv/ckgresnet": (1, 28, 28), "sepgconv/ckgallcnnc": (3, 32, 32)}
# Arguments of the networks that the fixture has in another size than the published one.
_KERNELS = dict(group=rotations(4), kernel_size=5, network_options=dict(hidden_features=16))
SETTINGS = {
    "sepgconv/ckgresnet": dict(features=(8, 8, 16), **_KERNELS),
    "sepgconv/ckgallcnnc": dict(features=8, **_KERNELS),
}


@functools.cache
def published():
    """By `SOURCE/NETWORK` the shapes of the state dict, and logits by dtype."""
    found = {}
    with np.load(FILE) as file:
        for key in file.files:
            name, _, part = key.rpartition("/")
            values = file[key]
            values = json.loads(zlib.decompress(values.tobytes())) if part == "shapes" else values
            found.setdefault(name, {})[part] = values
    return found


def draw(name, shape):
    """Numbers in float32 for an array of a state dict; see `fixtures/published.py.txt`."""
    if name.endswith("group.identity"):
        return np.zeros(shape, np.float32)
    bits = np.random.PCG64(zlib.crc32(name.encode())).random_raw(int(np.prod(shape)))
    unit = ((bits >> np.uint64(40)).astype(np.float64) / 2**24).reshape(shape)
    if name.endswith("running_var") or name == "image":
        return (0.5 + unit).astype(np.float32)
    if name.endswith(("running_mean", "bias")):
        return (0.4 * unit - 0.1).astype(np.float32)
    if len(shape) == 1:
        return (0.25 + 0.5 * unit).astype(np.float32)
    scale = 0.1 if "cknet" in name else 1.0
    return ((2 * unit - 1) * scale * (6 / np.prod(shape[1:])) ** 0.5).astype(np.float32)


def state_of(name, dtype=np.float32):
    """The state dict of a published network."""
    return {key: draw(key, shape).astype(dtype) for key, shape in published()[name]["shapes"].items()}


def image_of(name, dtype=np.float32):
    """Two images as our networks take them, `[2, x, y, 1, c]`."""
    c, x, y = SIZES.get(name, (3, 64, 64))
    return draw("image", (2, c, x, y)).transpose(0, 2, 3, 1)[:, :, :, None].astype(dtype)


def settings_of(name):
    """Arguments of `load_published` for the network of the fixture."""
    return SETTINGS.get(name, {})
