"""Files of state dicts that are damaged, of another kind, or meant to do harm: one line each, nothing is executed."""

import collections
import io
import json
import pickle
import struct
import sys
import zipfile

import numpy as np
import pytest
from test_interop_files import FILES, FIXTURES, VALUES, Bomb, error_of, npy, npz

from attgconv_jax.interop import read_state, write_state
from attgconv_jax.interop.torch_pickle import read_pickle


def refusal(tmp_path, name, content):
    """The reason for which a file of these bytes is refused."""
    (tmp_path / name).write_bytes(content)
    kind = "a .safetensors file" if name.endswith(".safetensors") else "a state dict of torch.save"
    message = error_of(lambda: read_state(tmp_path / name))
    assert message.startswith(f"{name} is not {kind}: "), message
    return message.split(": ", 1)[1]


@pytest.mark.parametrize("file", FILES)
def test_a_file_cut_off_anywhere_is_refused_in_one_line(tmp_path, file):
    content = (FIXTURES / file).read_bytes()
    for length in [*range(0, 40, 7), *range(40, len(content) - 1, 311), len(content) - 1]:
        refusal(tmp_path, file, content[:length])


@pytest.mark.parametrize("file", FILES)
def test_a_file_with_wrong_bytes_is_refused_in_one_line_or_holds_other_numbers(tmp_path, file):
    content, generator = bytearray((FIXTURES / file).read_bytes()), np.random.default_rng(0)
    for place in generator.integers(0, len(content), 100):
        changed = content.copy()
        changed[place] ^= 1 << int(generator.integers(8))
        (tmp_path / file).write_bytes(changed)
        try:
            state = read_state(tmp_path / file)
        except ValueError as error:
            assert len(str(error).splitlines()) == 1 and file in str(error)
        else:
            assert sum(array.nbytes for array in state.values()) <= 2 * len(content)


def archive(pickled, **parts):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        for name, content in parts.items():
            file.writestr(f"archive/{name.replace('_', '/')}", content)
    return buffer.getvalue()


def tensor_pickle(length=4, shape=(2, 2), strides=(2, 1), offset=0, storage="FloatStorage", key="0", metadata=()):
    """As `torch.save` pickles `{"weight": tensor}`."""

    class Persistent(pickle._Pickler):
        def persistent_id(self, value):
            return value[1] if isinstance(value, tuple) and value[:1] == ("persistent",) else None

    def named(module, name):
        made = type(name, (), {})
        made.__module__, made.__qualname__ = module, name
        return made

    class Call:
        def __init__(self, function, *arguments):
            self.call = function, arguments

        def __reduce__(self):
            return self.call

    def rebuild():
        pass

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    kind = named("torch", storage)
    row = ("persistent", ("storage", kind, key, "cpu", length))
    value = {"weight": Call(rebuild, row, offset, shape, strides, False, collections.OrderedDict(), *metadata)}
    buffer = io.BytesIO()
    modules = {"torch": {storage: kind}, "torch._utils": {"_rebuild_tensor_v2": rebuild}}
    before = {name: sys.modules.get(name) for name in modules}
    try:
        for name, content in modules.items():
            sys.modules[name] = type(sys)(name)
            vars(sys.modules[name]).update(content)
        Persistent(buffer, 2).dump(value)
    finally:
        for name, module in before.items():
            sys.modules.pop(name) if module is None else sys.modules.__setitem__(name, module)
    return buffer.getvalue()


FOUR = np.arange(4, dtype=np.float32).tobytes()


def test_a_tensor_is_a_view_of_its_storage(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(archive(tensor_pickle(shape=(2, 1), strides=(2, 1), offset=1), data_0=FOUR))
    assert np.array_equal(read_state(path)["weight"], [[1], [3]])
    path.write_bytes(archive(tensor_pickle(), data_0=np.arange(4, dtype=">f4").tobytes(), byteorder="big"))
    assert np.array_equal(read_state(path)["weight"], [[0, 1], [2, 3]])


BAD_TENSORS = {
    "beyond the storage": (dict(offset=1), "reaches beyond its 4 numbers"),
    "expanded without end": (
        dict(shape=(10**9, 10**9), strides=(0, 0)),
        "is expanded from 4 numbers: save tensor.contiguous()",
    ),
    "negated": (dict(metadata=({"neg": True},)), "a tensor with neg, which changes its numbers: save tensor.clone()"),
    "backwards": (dict(strides=(-2, -1)), "damaged"),
    "other axes": (dict(strides=(1,)), "damaged"),
    "more numbers than bytes": (dict(length=10**15, shape=(10**15,), strides=(1,)), "has 16 bytes instead of 10000000"),
    "fewer": (dict(length=3), "storage 0 has 16 bytes instead of 3 numbers of float32"),
    "another type": (dict(storage="DoubleStorage"), "storage 0 has 16 bytes instead of 4 numbers of float64"),
    "complex": (dict(storage="ComplexFloatStorage"), "refers to torch.ComplexFloatStorage"),
    "elsewhere": (dict(key="../0"), "its part data/../0 is missing"),
}


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_a_tensor_that_its_storage_does_not_hold_is_refused(tmp_path, case):
    changes, message = BAD_TENSORS[case]
    assert message in refusal(tmp_path, "a.pth", archive(tensor_pickle(**changes), data_0=FOUR))


class Other:
    pass


HOSTILE = {
    "call": (Bomb(), "refers to sys.exit"),
    "nested": ({"weight": [(1, Bomb())]}, "refers to sys.exit"),
    "object": ({"weight": Other()}, "refers to test_interop_hostile.Other"),
    "numpy": ({"weight": np.zeros(3)}, "refers to numpy"),
    "number": ({"weight": 1.0}, "under state_dict or model or model_state_dict, got float under weight"),
    "list": ([1, 2], "it must map names to tensors, nothing else, or hold such a mapping"),
    "nothing": ({}, "model_state_dict, got an empty mapping"),
    "none": ({"state_dict": {"model": {"_extra_state": None}}}, "got NoneType under _extra_state"),
    "bytes": ({"weight": b"123"}, "which no state dict has"),
    "set": ({"weight": {1}}, ""),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("case", HOSTILE)
def test_a_pickle_of_anything_else_is_refused_and_nothing_is_executed(tmp_path, case, protocol):
    value, message = HOSTILE[case]
    pickled = pickle.dumps(value, protocol)
    for content in (archive(pickled), older(pickled)):
        reason = refusal(tmp_path, "a.pth", content)
        if protocol >= 2 and case not in ("bytes", "object"):
            assert message in reason


def older(pickled):
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    return head + pickled + pickle.dumps([], 2)


CRAFTED = {
    # Each would take memory or time without end in a reader that trusts it.
    "memo of two billion": b"\x80\x02}r\xff\xff\xff\x7f.",
    "text of four billion bytes": b"\x80\x02X\xff\xff\xff\xffabc.",
    "tuples of tuples as keys": b"\x80\x02}(" + b"Nq\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"Nu.",
    "marks without end": b"\x80\x02" + b"(" * 10**5 + b".",
    "deep lists": b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
    "empty stack": b"\x80\x02a.",
    "build": b"\x80\x02N}b.",
    "inst": b"(S'exit'\nios\nsystem\n.",
    "newobj": b"\x80\x02cos\nsystem\n)\x81.",
    "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R.",
    "extension": b"\x80\x02\x82\x01.",
    "called by a tensor's name": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
    "call of a storage": b"\x80\x02ctorch\nFloatStorage\n)R.",
    "no end": b"\x80\x02}",
}


@pytest.mark.parametrize("case", CRAFTED)
def test_instructions_made_by_hand_are_data_or_refused(case):
    try:
        value, storages = read_pickle(io.BytesIO(CRAFTED[case]))
    except ValueError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert case in ("memo of two billion", "deep lists") and type(value) in (dict, list) and not storages


def test_names_from_a_file_are_shown_in_a_line_without_control_characters(tmp_path):
    name = "a\x1b[31m" + 10**5 * "b"
    pickled = b"\x80\x02c" + name.encode() + b"\nc\n."
    for message in (
        refusal(tmp_path, "a.pth", archive(pickled)),
        refusal(tmp_path, "a.pth", archive(pickle.dumps({name: 1}, 2))),
        refusal(tmp_path, "a.safetensors", safetensors({name: 1})),
    ):
        assert r"a\x1b[31mbbb" in message and message.isprintable() and len(message) < 400


def test_numbers_of_numpy_beside_the_weights_are_left_alone(tmp_path):
    # As PyTorch pickles them, by protocol 2.
    number = pickle.dumps(np.float64(0.5), 2)[2:-1]
    content = b"\x80\x02}(" + b"X\x04\0\0\0best" + number + b"X\x10\0\0\0model_state_dict" + tensor_pickle()[2:-1]
    (tmp_path / "a.pth").write_bytes(archive(content + b"u.", data_0=FOUR))
    assert np.array_equal(read_state(tmp_path / "a.pth")["weight"], [[0, 1], [2, 3]])
    assert "got NumPyNumber under best" in refusal(tmp_path, "a.pth", archive(pickle.dumps({"best": np.float64(1)}, 2)))


def test_archives_without_checksums_are_read_and_others_compared(tmp_path):
    content = bytearray(archive(tensor_pickle(), data_0=FOUR))
    for start, offset in ((b"PK\3\4", 14), (b"PK\1\2", 16)):
        place = content.find(start)
        while place >= 0:
            content[place + offset : place + offset + 4] = bytes(4)
            place = content.find(start, place + 1)
    (tmp_path / "a.pth").write_bytes(content)
    assert np.array_equal(read_state(tmp_path / "a.pth")["weight"], [[0, 1], [2, 3]])
    broken = archive(tensor_pickle(), data_0=FOUR).replace(FOUR, FOUR[::-1])
    assert "Bad CRC-32" in refusal(tmp_path, "a.pth", broken)


def test_parts_that_are_compressed_or_overlap_are_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", tensor_pickle(length=10**7, shape=(10**7,), strides=(1,)))
        file.writestr("archive/data/0", bytes(4 * 10**7))
    assert "compressed" in refusal(tmp_path, "a.pth", buffer.getvalue())
    assert "without the data.pkl" in refusal(tmp_path, "a.pth", npz(weight=npy(VALUES)))


def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype="F32", shape=(2, 2), offsets=(0, 16)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


BAD_SAFETENSORS = {
    "empty": (b"", "it ends after 0 bytes"),
    "long header": (safetensors({}, length=2**63), "its header would have 9,223,372,036,854,775,808 bytes"),
    "no json": (safetensors(b"{nothing"), "JSONDecodeError"),
    "deep json": (safetensors(b"[" * 10**5), "RecursionError"),
    "list": (safetensors([1]), "its header is no JSON object"),
    "twice": (safetensors(b'{"a": 1, "a": 2}'), "a name stands twice"),
    "number": (safetensors({"a": 1}), "a must have dtype, shape and data_offsets"),
    "type": (safetensors({"a": entry("F8_E4M3", offsets=(0, 4))}, bytes(4)), "a is of type F8_E4M3, none of F64"),
    "size": (safetensors({"a": entry(shape=(3, 2))}, FOUR), "a has 16 bytes instead of 24, those of shape [3, 2]"),
    "huge": (safetensors({"a": entry(shape=(2**40,), offsets=(0, 2**42))}, FOUR), "and the file has 16"),
    "negative": (safetensors({"a": entry(shape=(-2, -2))}, FOUR), "a has shape [-2, -2]"),
    "boolean": (safetensors({"a": entry(shape=(True, 4))}, FOUR), "a has shape [True, 4]"),
    "short": (safetensors({"a": entry()}, FOUR[:12]), "a ends at byte 16 of the data, and the file has 12"),
    "rest": (safetensors({"a": entry()}, FOUR * 2), "16 bytes of the data belong to no tensor"),
    "hole": (safetensors({"a": entry(offsets=(4, 20))}, FOUR * 2), "a begins at byte 4 of the data instead of 0"),
    "shared": (safetensors({"a": entry(), "b": entry()}, FOUR), "b begins at byte 0 of the data instead of 16"),
}


@pytest.mark.parametrize("case", BAD_SAFETENSORS)
def test_a_safetensors_file_that_does_not_add_up_is_refused(tmp_path, case):
    content, message = BAD_SAFETENSORS[case]
    assert message in refusal(tmp_path, "a.safetensors", content)


def test_a_name_that_the_format_of_safetensors_keeps_is_refused(tmp_path):
    message = error_of(lambda: write_state(tmp_path / "a.safetensors", {"__metadata__": np.ones(3)}))
    assert "must have other names than __metadata__" in message
