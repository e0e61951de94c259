"""Weights drawn from the names of arrays, and the published networks' logits with them.

`python tests/published_weights.py OUT.json` measures how far ours are from them, and from the networks of the attentive
paper in the folder that `$ATTGCONV_REFERENCE` names; `experiments.report.tables` makes a table of it.
"""

import functools
import json
import os
import pathlib
import sys
import time
import zlib

import jax
import numpy as np

from attgconv_jax.interop import REFERENCE_NETWORKS, load_published, published_state
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


def loaded(name, dtype=np.float32):
    """The published network of this name in ours."""
    return load_published(state_of(name, dtype), *name.split("/"), **settings_of(name))


def _attentive(name):
    """State dict, images, and logits of a network of the attentive paper; None where they are not there."""
    path = pathlib.Path(os.environ.get("ATTGCONV_REFERENCE", "reference")) / "models" / f"{name}.npz"
    if not path.is_file():
        return None
    with np.load(path) as file:
        state = {key.removeprefix("state/"): file[key] for key in file.files if key.startswith("state/")}
        return state, file["input"].transpose(0, 2, 3, 1)[:, :, :, None], file["logits64"]


def _row(name, state, image, settings, logits):
    """How far our logits are from the original's, relative to the largest, and whether the weights go back."""
    source, network = name.split("/")
    row = {"source": source, "network": network, "arrays": len(state), "error64": None, "error32": None}
    for dtype in (np.float64, np.float32):
        given = {key: array.astype(dtype) for key, array in state.items()}
        ours = load_published(given, source, network, **settings)
        bits = np.dtype(dtype).itemsize * 8
        if logits.get(bits) is not None:
            found = np.asarray(jax.jit(ours)(image.astype(dtype)))[:, : logits[bits].shape[1]]
            row[f"error{bits}"] = float(np.max(np.abs(found - logits[bits])) / np.max(np.abs(logits[bits])))
        back = published_state(ours, source)
        row[f"back{bits}"] = back.keys() == given.keys() and all(back[k].tobytes() == given[k].tobytes() for k in back)
    return row


def measure(out):
    """Writes the figures of every network of the fixture, and of those of the attentive paper that are there."""
    jax.config.update("jax_enable_x64", True)
    figures = {"date": time.strftime("%Y-%m-%d"), "jax": jax.__version__, "numpy": np.__version__, "rows": []}
    cases = [
        (name, state_of(name), image_of(name), settings_of(name), {n: found.get(f"logits{n}") for n in (32, 64)})
        for name, found in published().items()
    ]
    for name in REFERENCE_NETWORKS:
        if (found := _attentive(name)) is not None:
            state, image, logits = found
            state = {key: array for key, array in state.items() if not key.endswith("num_batches_tracked")}
            cases.append((f"att_gconvs/{name}", state, image, {}, {64: logits, 32: logits}))
    for name, *case in cases:
        figures["rows"].append(_row(name, *case))
        print(figures["rows"][-1], flush=True)
        pathlib.Path(out).write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    measure(*sys.argv[1:])
