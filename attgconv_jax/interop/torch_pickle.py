"""The pickles that `torch.save` writes, read and written as data: nothing that one names is imported or called."""

import dataclasses
import io
import math
import pickletools
import struct
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from attgconv_jax.models.arrays import listed, shown

STORAGES = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(jnp.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
"""PyTorch's names of what tensors lie in, and their types here."""

_PROTOCOLS = range(2, 6)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINSTRING", "SHORT_BINSTRING"),
}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclasses.dataclass(frozen=True)
class Storage:
    """A row of numbers in the file; `key` says where."""

    dtype: np.dtype
    key: str
    length: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A view of a storage, with offset and strides in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def view(self, numbers: np.ndarray) -> np.ndarray:
        """The tensor in `numbers`, those of the storage."""
        size = math.prod(self.shape)
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        # To copy an expanded tensor, which has more elements than numbers, could take any amount of memory.
        if size > len(numbers) or (size and last >= len(numbers)):
            if size and last < len(numbers):
                problem = f"is expanded from {len(numbers)} numbers: save tensor.contiguous()"
            else:
                problem = f"reaches beyond its {len(numbers)} numbers"
            raise ValueError(f"a tensor of shape {self.shape} {problem}")
        if size == 0:
            return np.empty(self.shape, numbers.dtype)
        steps = [step * numbers.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, steps)


@dataclasses.dataclass(frozen=True)
class _Global:
    """A name in the pickle, `module.name`: never looked up."""

    name: str


class NumPyNumber:
    """A number of NumPy's beside the tensors, such as the best accuracy: not read."""

    def __init__(self, *_: Any):
        pass


_MARK = object()


def read_pickle(stream: io.BufferedIOBase) -> tuple[Any, dict[str, Storage]]:
    """The next pickle of a stream, of dictionaries, lists, tuples, numbers, strings and `Tensor`; and its storages.

    The stream is left behind it. A `ValueError` says what else the pickle refers to, or that it is damaged.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            machine.step(opcode.name, argument)
    except _RefusedError as error:
        raise ValueError(str(error)) from error
    except Exception as error:  # Damaged bytes lead to every kind of error.
        raise ValueError(f"its pickle is damaged or truncated ({type(error).__name__})") from error
    return machine.result, machine.storages


class _RefusedError(ValueError):
    """The pickle is sound, but holds what is not read."""


class _Machine:
    """The part of the pickle machine that builds containers. Calls in the pickle are looked up in `_MAKERS`."""

    def __init__(self):
        self.stack, self.memo, self.storages, self.result = [], {}, {}, None

    def step(self, name, argument):
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(self._last(_TUPLES[name]))]
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "GLOBAL":
            stack.append(_known(argument.replace(" ", ".")))
        elif handler := getattr(self, f"_{name.lower()}", None):
            handler()
        elif name == "PROTO" and argument not in _PROTOCOLS:
            raise _RefusedError(f"its pickle is of protocol {argument}")
        elif name not in ("PROTO", "FRAME"):
            raise _RefusedError(f"its pickle has the instruction {name}, which no state dict has")

    def _last(self, count):
        if len(self.stack) < count:
            raise IndexError
        return self.stack[len(self.stack) - count :]

    def _marked(self):
        """What lies above the last mark, taken off with it."""
        start = len(self.stack) - 1 - next(i for i, value in enumerate(reversed(self.stack)) if value is _MARK)
        values = self.stack[start + 1 :]
        del self.stack[start:]
        return values

    def _tuple(self):
        self.stack.append(tuple(self._marked()))

    def _appends(self):
        values = self._marked()
        _typed(self.stack[-1], list).extend(values)

    def _append(self):
        value = self.stack.pop()
        _typed(self.stack[-1], list).append(value)

    def _setitems(self):
        values = self._marked()
        _set(self.stack[-1], values)

    def _setitem(self):
        values = self._last(2)
        del self.stack[-2:]
        _set(self.stack[-1], values)

    def _stack_global(self):
        module, name = (_typed(value, str) for value in self._last(2))
        self.stack[-2:] = [_known(f"{module}.{name}")]

    def _reduce(self):
        maker, arguments = self._last(2)
        self.stack[-2:] = [_MAKERS[_typed(maker, _Global).name](*_typed(arguments, tuple))]

    def _build(self):
        # A state dict has attributes of its own, its modules' versions.
        self.stack.pop()
        if not isinstance(self.stack[-1], NumPyNumber):
            _typed(self.stack[-1], dict)

    def _binpersid(self):
        kind, storage, key, _, length, *view = _typed(self.stack.pop(), tuple)
        if kind != "storage" or view not in ([], [None]):
            raise _RefusedError("its pickle has storages that are parts of others")
        dtype = STORAGES[_typed(storage, _Global).name.removeprefix("torch.")]
        made = Storage(dtype, _typed(key, str), _count(length))
        if self.storages.setdefault(key, made) != made:
            raise ValueError
        self.stack.append(made)

    def _stop(self):
        (self.result,) = self.stack


def _known(name):
    if name not in _MAKERS and name.removeprefix("torch.") not in STORAGES:
        raise _RefusedError(
            f"its pickle refers to {shown(name)}, and only tensors, containers and numbers are read; nothing was "
            "executed: save a state_dict() alone"
        )
    return _Global(name)


def _typed(value, kind):
    if type(value) is not kind:
        raise TypeError
    return value


def _count(value):
    if type(value) is not int or value < 0:
        raise TypeError
    return value


def _set(target, values):
    target, keys = _typed(target, dict), values[::2]
    # Others could be nested without end, and hashing them takes as long.
    if not all(isinstance(key, str | int | float) for key in keys):
        raise TypeError
    target.update(zip(keys, values[1::2], strict=True))


def _ordered(*pairs):
    made = {}
    for pair in _typed(pairs[0], list) if pairs else ():
        _set(made, [*pair])
    return made


def _tensor(storage, offset, shape, strides, requires_grad=False, hooks=None, metadata=None):
    # PyTorch keeps there that the numbers are conjugated or negated, among other things.
    if metadata:
        raise _RefusedError(
            f"its pickle has a tensor with {listed([*map(shown, _typed(metadata, dict))])}, which changes its numbers: "
            "save tensor.clone()"
        )
    shape, strides = (tuple(map(_count, _typed(sizes, tuple))) for sizes in (shape, strides))
    if len(shape) != len(strides) or len(shape) > 32:
        raise TypeError
    return Tensor(_typed(storage, Storage), _count(offset), shape, strides)


_MAKERS: Mapping[str, Callable] = {
    "collections.OrderedDict": _ordered,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *_: _typed(tensor, Tensor),
    "torch.Size": lambda sizes: tuple(_typed(sizes, tuple)),
    # The parts of a number's pickle: its type, its bytes as text, and itself.
    "numpy.dtype": NumPyNumber,
    "_codecs.encode": NumPyNumber,
    "numpy.core.multiarray.scalar": NumPyNumber,
    "numpy._core.multiarray.scalar": NumPyNumber,
}


def write_pickle(tensors: Mapping[str, Tensor]) -> bytes:
    """The pickle that `torch.save` writes of a dictionary of tensors."""
    out = io.BytesIO()
    out.write(b"\x80\x02}(")
    kinds = {dtype: name for name, dtype in STORAGES.items()}
    for name, tensor in tensors.items():
        storage = tensor.storage
        out.write(_text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n((" + _text("storage"))
        out.write(b"ctorch\n" + kinds[storage.dtype].encode() + b"\n")
        out.write(_text(storage.key) + _text("cpu") + _integer(storage.length) + b"tQ" + _integer(tensor.offset))
        for sizes in (tensor.shape, tensor.strides):
            out.write(b"(" + b"".join(map(_integer, sizes)) + b"t")
        # Requires no gradient, has no hooks.
        out.write(b"\x89ccollections\nOrderedDict\n)RtR")
    out.write(b"u.")
    return out.getvalue()


def _text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _integer(value):
    if value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data
