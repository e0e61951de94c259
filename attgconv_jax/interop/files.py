"""Files that hold a state dict: `.npz`, `.safetensors`, and those of `torch.save`, without PyTorch."""

import os
import pathlib
import zipfile
from collections.abc import Mapping

import numpy as np
from jaxtyping import ArrayLike

from attgconv_jax.interop.safetensors_file import read_safetensors, write_safetensors
from attgconv_jax.interop.torch_file import read_torch, write_torch
from attgconv_jax.models.arrays import first_line, listed, shown


def read_state(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a state dict without running anything that is in the file.

    Args:
      path: of an `.npz` of arrays by name, of a `.safetensors`, or of a `.pth`, `.pt`, `.ckpt`, `.tar` or `.bin` that
        `torch.save` made of a state dict, or of a dictionary that holds one under `state_dict`, `model` or
        `model_state_dict`. Names in an `.npz` may stand under `state/`; other names are then left aside.

    Raises:
      ValueError: the file is damaged, of another kind, or holds more than arrays; or a pickle in it refers to anything
        but tensors and containers. Nothing is executed, and no more memory is taken than a few times the bytes of the
        file, but for a compressed `.npz`.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    read, _, description = _kind(path)
    try:
        state = read(path)
    except Exception as error:  # Damaged bytes lead the readers to every kind of error.
        raise ValueError(f"{path.name} is not {description}: {_reason(error)}") from error
    return state


def write_state(path: str | pathlib.Path, state: Mapping[str, ArrayLike]) -> None:
    """Writes arrays by name; `read_state` reads them again without a bit changed.

    Args:
      path: its suffix, one of those of `read_state`, says which format. An existing file is replaced once the new one
        is complete.
      state: arrays by name. bfloat16 needs `.safetensors` or `.pth`: an `.npz` has no such type.

    Raises:
      ValueError: another suffix; a type or a name that the format lacks; a value that is not an array; no array at all
        for a file of `torch.save`.
    """
    path = pathlib.Path(path)
    _, write, _ = _kind(path)
    arrays = {}
    for name, value in state.items():
        array = np.asarray(value)
        if not isinstance(name, str) or array.dtype == object:
            got = f"{type(value).__name__} under {shown(ascii(name))}"
            raise ValueError(f"state must map names to arrays of numbers, got {got}")
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise ValueError(f"state must have names that UTF-8 can hold, got {shown(name)}")
        arrays[name] = array.astype(array.dtype.newbyteorder("="), copy=False)
    part = path.with_name(f".{path.name}-{os.getpid()}{path.suffix}")
    try:
        write(part, arrays)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _kind(path):
    """What reads and writes a file of this suffix, and what it should be."""
    torch = read_torch, write_torch, "a state dict of torch.save"
    kinds = {
        ".npz": (_read_npz, _write_npz, "an .npz of plain arrays"),
        ".safetensors": (read_safetensors, write_safetensors, "a .safetensors file"),
        ".pth": torch,
        ".pt": torch,
        ".ckpt": torch,
        ".tar": torch,
        ".bin": torch,
    }
    if path.suffix.lower() not in kinds:
        *suffixes, last = kinds
        raise ValueError(f"{path.name} must be an {', '.join(suffixes)} or {last} file")
    return kinds[path.suffix.lower()]


def _read_npz(path):
    if not zipfile.is_zipfile(path):
        raise ValueError("it is not a zip archive, or only a part of one")
    # Opened here, because NumPy does not close a file that it cannot read.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    if others := [name for name, value in arrays.items() if not isinstance(value, np.ndarray)]:
        raise ValueError(f"not an array: {listed([*map(shown, others)])}")
    under_state = {name.removeprefix("state/"): value for name, value in arrays.items() if name.startswith("state/")}
    return under_state or arrays


def _write_npz(path, state):
    for name, array in state.items():
        if array.dtype.kind not in "biufc":
            got = f"{array.dtype} under {shown(ascii(name))}: write a .safetensors or .pth"
            raise ValueError(f"state must hold arrays of NumPy's own types for an .npz, got {got}")
        # Readers take these for a folder, for the suffix of a part, and for the end of the name.
        if name.startswith("state/") or name.endswith(".npy") or "\0" in name:
            wanted = "that do not begin with state/, end with .npy or hold a NUL for an .npz"
            raise ValueError(f"state must have names {wanted}, got {shown(ascii(name))}: write a .safetensors or .pth")
    # By way of an open file, because NumPy takes names of arrays as its own arguments, `file` for one.
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in state.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _reason(error):
    """The first line of the error's message, after its class where the error is not ours."""
    message, name = first_line(error), type(error).__name__
    message = message if message.isprintable() else ascii(message)
    return message if type(error) is ValueError or message == name else f"{name}: {message}"
