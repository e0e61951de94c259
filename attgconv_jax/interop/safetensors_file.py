"""Files in the format of safetensors, read and written without its library."""

import json
import math
import os
import pathlib
import struct
import sys
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from attgconv_jax.models.arrays import shown

DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(jnp.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
"""The format's names of types, and the types here."""

_METADATA = "__metadata__"

# Of the header, as in the format's own reader.
_MOST_BYTES = 100_000_000


def read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays by name.

    Raises:
      ValueError: the file is damaged or of another format, or has a type that is none of `DTYPES`.
    """
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size < 8:
            raise ValueError(f"it ends after {size} bytes")
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > min(size - 8, _MOST_BYTES):
            raise ValueError(f"its header would have {length:,} bytes, and the file has {size:,}")
        entries = _entries(stream.read(length))
        layouts = {name: _layout(shown(name), entry) for name, entry in entries.items()}
        arrays, end = {}, 0
        for name, (dtype, shape, begin, stop) in sorted(layouts.items(), key=lambda item: item[1][2:]):
            if begin != end:
                raise ValueError(f"{shown(name)} begins at byte {begin:,} of the data instead of {end:,}")
            if stop > (left := size - 8 - length):
                raise ValueError(f"{shown(name)} ends at byte {stop:,} of the data, and the file has {left:,}")
            raw = np.fromfile(stream, f"<u{dtype.itemsize}", (stop - begin) // dtype.itemsize)
            arrays[name] = raw.astype(raw.dtype.newbyteorder("="), copy=False).view(dtype).reshape(shape)
            end = stop
        if end != size - 8 - length:
            raise ValueError(f"{size - 8 - length - end:,} bytes of the data belong to no tensor")
    return {name: arrays[name] for name in layouts}


def _entries(header):
    def unique(pairs):
        made = dict(pairs)
        if len(made) != len(pairs):
            raise ValueError("a name stands twice in its header")
        return made

    entries = json.loads(header.decode(), object_pairs_hook=unique)
    if not isinstance(entries, dict):
        raise ValueError("its header is no JSON object")
    return {name: entry for name, entry in entries.items() if name != _METADATA}


def _layout(name, entry):
    """Type, shape, and where the numbers begin and end."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name} must have dtype, shape and data_offsets")
    code, shape, offsets = (entry[key] for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(code, str) or code not in DTYPES:
        raise ValueError(f"{name} is of type {shown(code)}, none of {', '.join(DTYPES)}")
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2 or len(shape) > 32:
        raise ValueError(f"{name} has shape {shown(shape)} and data_offsets {shown(offsets)}")
    begin, stop = offsets
    wanted = math.prod(shape) * DTYPES[code].itemsize
    if stop - begin != wanted:
        raise ValueError(f"{name} has {stop - begin:,} bytes instead of {wanted:,}, those of shape {shape}")
    return DTYPES[code], tuple(shape), begin, stop


def _are_counts(values):
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)


def write_safetensors(path: pathlib.Path, state: Mapping[str, np.ndarray]) -> None:
    """Writes arrays so that the format's own library, and with it PyTorch, reads them."""
    codes = {dtype: code for code, dtype in DTYPES.items()}
    for name, array in state.items():
        if array.dtype not in codes:
            known = ", ".join(dtype.name for dtype in codes)
            raise ValueError(
                f"state must hold arrays of {known} for {path.suffix}, got {array.dtype} under {shown(ascii(name))}"
            )
        if name == _METADATA:
            raise ValueError(f"state must have other names than {_METADATA}, which the format keeps for itself")
    # Wide ones first, so that every array begins at a multiple of its own size.
    names = sorted(state, key=lambda name: -state[name].itemsize)
    header, end = {_METADATA: {"format": "pt"}}, 0
    for name in names:
        array = state[name]
        header[name] = dict(dtype=codes[array.dtype], shape=array.shape, data_offsets=(end, end + array.nbytes))
        end += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            raw = np.ascontiguousarray(state[name]).reshape(-1).view(f"u{state[name].itemsize}")
            stream.write((raw if sys.byteorder == "little" else raw.byteswap()).tobytes())
