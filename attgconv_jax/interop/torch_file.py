"""Files of `torch.save`, read and written without PyTorch."""

import io
import math
import os
import pathlib
import struct
import sys
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from attgconv_jax.interop.torch_pickle import STORAGES, Storage, Tensor, read_pickle, write_pickle
from attgconv_jax.models.arrays import shown

# Of the older format: a pickle of its own at the start, and its version.
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001

# Where training programs keep the weights among other things.
_INSIDE = ("state_dict", "model", "model_state_dict")

# Storages begin at multiples of it, as in files of PyTorch.
_ALIGNMENT = 64
_LOCAL_HEADER = 30


def read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict by name, or of one that is saved under one of `_INSIDE`, or under two of them.

    Both formats of `torch.save` are read, zip archives and what it wrote before PyTorch 1.6. The pickle inside is read
    as data: nothing that it names is imported or called.

    Raises:
      ValueError: the file is damaged, `torch.save` did not write it, or it holds more than tensors, containers and
        numbers.
    """
    with path.open("rb") as stream:
        start = stream.read(4)
        stream.seek(0)
        if start == b"PK\3\4":
            return _read_zip(stream)
        if start[:1] == b"\x80":
            return _read_older(stream)
    raise ValueError("it is neither a zip archive nor a pickle")


def _read_zip(stream):
    with zipfile.ZipFile(stream) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        pickles = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise ValueError("it is a zip archive without the data.pkl of torch.save")
        # So that a small file cannot fill the memory.
        if any(e.compress_type != zipfile.ZIP_STORED for e in entries.values()) or (
            sum(entry.file_size for entry in entries.values()) > os.fstat(stream.fileno()).st_size
        ):
            raise ValueError("its parts are compressed, which those of torch.save never are")
        if not any(entry.CRC for entry in entries.values()):
            # `torch.serialization.set_crc32_options(False)` leaves them out; without the attribute none is compared.
            for entry in entries.values():
                del entry.CRC
        folder = pickles[0].removesuffix("data.pkl")

        def content(name):
            if folder + name not in entries:
                raise ValueError(f"its part {name} is missing")
            return archive.read(folder + name)

        order = content("byteorder") if f"{folder}byteorder" in entries else b"little"
        state = _state_dict(read_pickle(io.BytesIO(content("data.pkl")))[0])
        return _arrays(state, {t.storage: content(f"data/{t.storage.key}") for t in state.values()}, order.decode())


def _read_older(file):
    # In memory, where a text that claims to be longer than the file ends with it.
    stream = io.BytesIO(file.read())
    if (read_pickle(stream)[0], read_pickle(stream)[0]) != (_MAGIC, _VERSION):
        raise ValueError("it is a pickle, but torch.save did not write it")
    system = read_pickle(stream)[0]
    value, storages = read_pickle(stream)
    state, contents = _state_dict(value), {}
    for key in read_pickle(stream)[0]:
        storage, (length,) = storages[key], struct.unpack("<q", _exactly(stream, 8))
        if length != storage.length:
            raise ValueError(f"its storage {key} has {length} numbers instead of {storage.length}")
        contents[storage] = _exactly(stream, length * storage.dtype.itemsize)
    return _arrays(state, contents, "little" if system["little_endian"] else "big")


def _exactly(stream: io.BytesIO, count: int) -> bytes:
    """The next bytes."""
    content = stream.read(max(count, 0))
    if len(content) != count:
        raise ValueError("it ends within its numbers")
    return content


def _state_dict(value: Any) -> dict[str, Tensor]:
    """The tensors by name, wherever they are in what was saved."""
    for _ in range(2):
        inside = [value[name] for name in _INSIDE if name in value] if isinstance(value, dict) else []
        value = next((found for found in inside if isinstance(found, dict)), value)
    wanted = f"it must map names to tensors, nothing else, or hold such a mapping under {' or '.join(_INSIDE)}"
    if not isinstance(value, dict) or not value:
        raise ValueError(f"{wanted}, got {'an empty mapping' if value == {} else type(value).__name__}")
    for name, tensor in value.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{wanted}, got {type(tensor).__name__} under {shown(name)}")
    return value


def _arrays(state: Mapping[str, Tensor], contents: Mapping[Storage, bytes], order: str) -> dict[str, np.ndarray]:
    numbers = {}
    for storage, content in contents.items():
        if len(content) != storage.length * storage.dtype.itemsize:
            raise ValueError(
                f"its storage {storage.key} has {len(content)} bytes instead of {storage.length} numbers of "
                f"{storage.dtype}"
            )
        raw = np.frombuffer(bytearray(content), f"u{storage.dtype.itemsize}")
        numbers[storage] = (raw if order == sys.byteorder else raw.byteswap()).view(storage.dtype)
    return {name: tensor.view(numbers[tensor.storage]) for name, tensor in state.items()}


def write_torch(path: pathlib.Path, state: Mapping[str, np.ndarray]) -> None:
    """Writes arrays as `torch.save` writes a state dict; `torch.load` reads it, with `weights_only=True` too."""
    if not state:
        raise ValueError(f"state must hold an array for {path.suffix}, got none")
    tensors = {}
    for i, (name, array) in enumerate(state.items()):
        if array.dtype not in STORAGES.values():
            known = ", ".join(dtype.name for dtype in STORAGES.values())
            raise ValueError(
                f"state must hold arrays of {known} for {path.suffix}, got {array.dtype} under {shown(ascii(name))}"
            )
        strides = tuple(math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim))
        tensors[name] = Tensor(Storage(array.dtype, str(i), array.size), 0, array.shape, strides)
    with path.open("wb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:

        def add(name, content):
            entry = zipfile.ZipInfo(f"archive/{name}")
            before = stream.tell() + _LOCAL_HEADER + len(entry.filename.encode()) + 4
            filling = -before % _ALIGNMENT
            entry.extra = b"FB" + struct.pack("<H", filling) + b"Z" * filling
            archive.writestr(entry, content)

        add("data.pkl", write_pickle(tensors))
        add("byteorder", b"little")
        for i, array in enumerate(state.values()):
            raw = np.ascontiguousarray(array).reshape(-1).view(f"u{array.itemsize}")
            add(f"data/{i}", raw.astype(raw.dtype.newbyteorder("<")).tobytes())
        add("version", b"3\n")
