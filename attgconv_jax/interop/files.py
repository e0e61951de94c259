"""Files that hold a state dict: `.npz`, and `.pth` where PyTorch is installed."""

import importlib.util
import pathlib
import pickle
import warnings
import zipfile
from collections.abc import Mapping

import numpy as np


def read_state(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a state dict without running anything that is in the file.

    Args:
      path: of an `.npz` of arrays by name, or of a `.pth` or `.pt` that `torch.save` made of a state dict, which needs
        PyTorch. Names in an `.npz` may stand under `state/`; other names are then left aside.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    readers = {".npz": _read_npz, ".pth": _read_pth, ".pt": _read_pth}
    if path.suffix not in readers:
        raise ValueError(f"{path.name} must be an .npz, .pth or .pt file")
    return readers[path.suffix](path)


def _read_npz(path):
    problem = f"{path.name} is not an .npz of plain arrays"
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{problem}: it is no zip archive, or not all of one")
    try:
        # Opened here, because NumPy does not close a file that it cannot read.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # Damaged bytes lead the readers to every kind of error.
        raise ValueError(f"{problem}: {_reason(error)}") from error
    if others := [name for name, value in arrays.items() if not isinstance(value, np.ndarray)]:
        raise ValueError(f"{problem}: not an array: {', '.join(others)}")
    under_state = {name.removeprefix("state/"): value for name, value in arrays.items() if name.startswith("state/")}
    return under_state or arrays


def _read_pth(path):
    if importlib.util.find_spec("torch") is None:
        raise ImportError(f"reading {path.name} needs PyTorch: install it, or convert the file to .npz where it is")
    import torch  # noqa: PLC0415 (an optional dependency)

    problem = f"{path.name} is not a plain state dict saved by torch.save"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # PyTorch's own text advises to load the file unsafely.
        raise ValueError(f"{problem}: it is damaged, or holds more than tensors; save a state_dict() alone") from error
    except Exception as error:  # Damaged bytes lead the readers to every kind of error.
        raise ValueError(f"{problem}: {_reason(error)}") from error
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise ValueError(f"{problem}: it must map names to tensors, nothing else")
    try:
        return {name: value.detach().numpy() for name, value in state.items()}
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{path.name} holds tensors that NumPy cannot: {_reason(error)}") from error


def _reason(error):
    """The error's class and the first line of its message."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
