"""Files of state dicts: what PyTorch and safetensors wrote is read, and what we wrote is read again."""

import io
import pathlib
import pickle
import struct
import sys
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_refused, random

from attgconv_jax.interop import read_state, write_state

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
FILES = ["state.pth", "state-older.pth", "state.safetensors"]
BASE = np.arange(24, dtype=np.float32).reshape(4, 6)
KINDS = [np.float64, np.float32, np.float16, jnp.bfloat16, np.int64, np.int32, np.int16, np.int8, np.uint8]
# Of `fixtures/states.py.txt`.
EXPECTED = {np.dtype(kind).name: (BASE / np.float32(7)).astype(kind) for kind in KINDS} | {
    "bool": BASE > 9,
    "scalar": np.float32(3).reshape(()),
    "empty": np.zeros([0, 3], np.float32),
    "ä.weight": BASE[0],
    "transposed": BASE.T,
    "part": BASE[1:3, 2:5],
    "parameter": BASE,
}


def error_of(call, kind=ValueError):
    with assert_refused() if kind is ValueError else pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    return message


def assert_same(state, expected):
    assert state.keys() == expected.keys()
    for name, array in expected.items():
        assert (state[name].dtype, state[name].shape) == (array.dtype, array.shape), name
        assert state[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("file", FILES)
def test_files_of_pytorch_and_safetensors_hold_what_was_written(file):
    assert_same(read_state(FIXTURES / file), EXPECTED)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".tar", ".safetensors", ".npz"])
def test_what_is_written_is_read_without_a_bit_changed(tmp_path, suffix):
    state = dict(EXPECTED)
    if suffix == ".npz":
        del state["bfloat16"]
    state["nan"] = np.array([np.nan, -np.nan, -0.0, np.inf])
    write_state(tmp_path / f"state{suffix}", state)
    assert_same(read_state(tmp_path / f"state{suffix}"), state)
    assert [path.name for path in tmp_path.iterdir()] == [f"state{suffix}"]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
def test_a_file_is_replaced_when_all_is_written(tmp_path, suffix):
    path = tmp_path / f"state{suffix}"
    write_state(str(path), {"a": jnp.ones(3), "file": np.ones(2, ">f4")})
    assert_same(read_state(path), {"a": np.ones(3), "file": np.ones(2, np.float32)})
    content = path.read_bytes()
    assert "must hold arrays of" in error_of(lambda: write_state(path, {"a": np.ones(3), "b": np.array(["text"])}))
    assert "got complex64 under 'a'" in error_of(lambda: write_state(tmp_path / "a.pth", {"a": np.ones(3, "c8")}))
    assert [file.name for file in tmp_path.iterdir()] == [path.name] and path.read_bytes() == content
    assert "got object" not in error_of(lambda: write_state(path, {"a": None}))
    assert "got int under 3" in error_of(lambda: write_state(path, {3: 1}))


def test_an_npz_has_no_bfloat16(tmp_path):
    message = error_of(lambda: write_state(tmp_path / "a.npz", {"a": np.zeros(2, jnp.bfloat16)}))
    assert message.endswith("bfloat16 under 'a': write a .safetensors or .pth") and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["state/a", "a.npy", "a\0b"])
def test_names_that_an_npz_does_not_keep_are_refused(tmp_path, name):
    state = {name: np.ones(2), "b": np.zeros(3)}
    assert f"for an .npz, got {name!r}: write" in error_of(lambda: write_state(tmp_path / "a.npz", state))
    for suffix in (".pth", ".safetensors"):
        write_state(tmp_path / f"a{suffix}", state)
        assert_same(read_state(tmp_path / f"a{suffix}"), state)


def test_what_no_file_can_hold_is_refused(tmp_path):
    for suffix in (".npz", ".pth", ".safetensors"):
        message = error_of(lambda suffix=suffix: write_state(tmp_path / f"a{suffix}", {"\ud800": np.ones(2)}))
        assert message == r"state must have names that UTF-8 can hold, got '\ud800'"
    message = error_of(lambda: write_state(tmp_path / "a.pth", {}))
    assert message == "state must hold an array for .pth, got none" and not list(tmp_path.iterdir())


def test_suffixes_in_upper_case_and_of_other_programs_are_known(tmp_path):
    for name in ("pytorch_model.bin", "A.PTH", "A.SafeTensors"):
        write_state(tmp_path / name, {"a": BASE})
        assert_same(read_state(tmp_path / name), {"a": BASE})


def test_parts_begin_where_pytorch_maps_them(tmp_path):
    write_state(tmp_path / "a.pth", {"weight": random(7), "é": random(3, 5)})
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        content = (tmp_path / "a.pth").read_bytes()
        for entry in archive.infolist():
            name, extra = struct.unpack_from("<HH", content, entry.header_offset + 26)
            assert (entry.header_offset + 30 + name + extra) % 64 == 0


@pytest.mark.parametrize("prefix", ["", "state/"])
def test_an_npz_is_read_by_name(tmp_path, prefix):
    arrays = {"c1.weight": random(2, 3), "bn1.num_batches_tracked": np.array(1)}
    others = {"input": np.zeros(3)} if prefix else {}
    np.savez(tmp_path / "weights.npz", **{prefix + name: value for name, value in arrays.items()}, **others)
    for path in (tmp_path / "weights.npz", str(tmp_path / "weights.npz")):
        state = read_state(path)
        assert state.keys() == arrays.keys()
        assert all(np.array_equal(state[name], value) for name, value in arrays.items())


class Bomb:
    def __reduce__(self):
        return sys.exit, ("a pickle was executed",)


def npz(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def damaged(content):
    """Bytes in the middle of the compressed data are wrong."""
    middle = len(content) // 3
    return content[:middle] + bytes(16) + content[middle + 16 :]


VALUES = np.random.default_rng(0).integers(0, 9, 1000)

NO_STATE_DICTS = {
    "objects": npz(weight=npy(np.array([Bomb()], object), allow_pickle=True)),
    "pickle": pickle.dumps({"weight": Bomb()}),
    "text": b"these are no weights",
    "empty": b"",
    "array": npy(VALUES),
    "truncated": npz(weight=npy(VALUES))[:400],
    "damaged": damaged(npz(weight=npy(VALUES))),
    "no_array": npz(weight=b"text"),
    "more_than_memory": npz(weight=npy(VALUES).replace(b"(1000,), }" + b" " * 12, b"(1000000000000000,), }")),
}


@pytest.mark.parametrize("case", NO_STATE_DICTS)
def test_an_npz_of_anything_but_arrays_is_refused_in_one_line(tmp_path, case):
    path = tmp_path / "weights.npz"
    path.write_bytes(NO_STATE_DICTS[case])
    assert error_of(lambda: read_state(path)).startswith("weights.npz is not an .npz of plain arrays: ")


def test_no_file_and_other_kinds_of_files_are_refused(tmp_path):
    assert error_of(lambda: read_state(tmp_path / "no.npz"), FileNotFoundError) == f"there is no file {tmp_path}/no.npz"
    assert error_of(lambda: read_state(tmp_path), FileNotFoundError) == f"there is no file {tmp_path}"
    (tmp_path / "weights.h5").write_bytes(b"")
    kinds = "weights.h5 must be an .npz, .safetensors, .pth, .pt, .ckpt, .tar or .bin file"
    assert error_of(lambda: read_state(tmp_path / "weights.h5")) == kinds
    assert error_of(lambda: write_state(tmp_path / "weights.h5", {})) == kinds
