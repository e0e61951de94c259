"""Checkpoints come back bit for bit, or not at all."""

import asyncio
import gc
import pathlib
import shutil
import subprocess
import sys
import textwrap
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.run.checkpoints import Checkpoints, _name_of_now

ROOT = pathlib.Path(__file__).parents[1]
# When a file is damaged, threads of tensorstore still call the event loop that Orbax has closed.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def state(number):
    return {
        "weights": (jnp.full((3, 4), number, jnp.float32), jnp.arange(5) * number),
        "key": jax.random.split(jax.random.key(number), 2),
        "step": jnp.int32(number),
    }


def assert_same(actual, expected):
    assert actual["key"].dtype == expected["key"].dtype
    actual, expected = (tree | {"key": jax.random.key_data(tree["key"])} for tree in (actual, expected))
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of the steps 2 and 3, the first having made room."""
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.restore(state(0)) is None
        for number in (1, 2, 3):
            checkpoints.save(number, state(number), {"number": number})
    return tmp_path / "checkpoints"


def restore(folder):
    with Checkpoints(folder) as checkpoints:
        return checkpoints.restore(state(0))


def test_the_newest_comes_back_bit_for_bit_and_two_are_kept(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["2", "3"]
    restored, record = restore(folder)
    assert record == {"number": 3}
    assert_same(restored, state(3))


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("damage", ["truncated", "garbled", "emptied", "deleted"])
@pytest.mark.default("garbled", "deleted")
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(folder, tmp_path, damage):
    """Every file in turn: the state is the newest's, intact, or the one before's, with a warning."""
    fell_back = set()
    for i, path in enumerate(files(folder / "3")):
        copy = tmp_path / str(i) / "checkpoints"
        shutil.copytree(folder, copy)
        break_file(copy / path.relative_to(folder), damage)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            restored, record = restore(copy)
        assert_same(restored, state(record["number"]))
        if record["number"] == 2:
            assert "the checkpoint of step 3 is damaged" in str(warned[0].message)
            assert (copy.parent / "damaged-3").is_dir() and not (copy / "3").exists()
            fell_back.add(path.name)
    assert {"manifest.ocdbt", "metadata"} <= fell_back


def break_file(path, damage):
    content, middle = path.read_bytes(), path.stat().st_size // 2
    if damage == "deleted":
        path.unlink()
    elif damage == "garbled":
        path.write_bytes(content[:middle] + bytes(255 - byte for byte in content[middle:]))
    else:
        path.write_bytes(content[:middle] if damage == "truncated" else b"")


def test_what_the_file_format_does_not_notice_the_digest_does(folder):
    path = folder / "3" / "record" / "metadata"
    path.write_text(path.read_text().replace('"number": 3', '"number": 4'))
    with pytest.warns(UserWarning, match=r"step 3 is damaged \(its digest does not fit its arrays\)"):
        assert restore(folder)[1] == {"number": 2}


@pytest.mark.parametrize(
    "other",
    [
        {"step": jnp.zeros([7], jnp.int32)},
        {"step": jnp.zeros([], jnp.int16)},
        {"key": jax.random.split(jax.random.key(0, impl="rbg"), 2)},
        {"more": jnp.zeros([3])},
    ],
    ids=lambda change: str(*change),
)
def test_a_state_of_another_program_is_refused_and_nothing_is_moved(folder, other):
    with Checkpoints(folder) as checkpoints, pytest.raises(ValueError, match="is of another program: 1 of its arrays"):
        checkpoints.restore(state(0) | other)
    assert restore(folder)[1] == {"number": 3}


def test_a_reader_leaves_what_it_finds(folder):
    """Another process writes there: neither its half-written checkpoint nor a damaged one is touched."""
    (folder / "4.orbax-checkpoint-tmp").mkdir()
    break_file(folder / "3" / "arrays" / "manifest.ocdbt", "truncated")
    before = sorted(folder.rglob("*"))
    with Checkpoints(folder, read_only=True) as checkpoints, pytest.warns(match="step 3 is damaged"):
        assert checkpoints.restore(state(0))[1] == {"number": 2}
    assert sorted(folder.rglob("*")) == before


@pytest.fixture
def collection_by_hand():
    gc.disable()
    yield
    gc.enable()


def test_tasks_that_failed_on_a_damaged_checkpoint_do_not_complain_later(
    folder, caplog, monkeypatch, collection_by_hand
):
    """Orbax leaves some in its event loop now and then, which log when they are collected."""

    def leave_a_task(self, step):
        async def fail():
            raise ValueError

        loop = asyncio.new_event_loop()
        cycle = [loop.create_task(fail())]
        cycle.append(cycle)
        loop.run_until_complete(asyncio.wait(cycle[:1]))
        loop.close()
        raise ValueError("damaged")

    monkeypatch.setattr(Checkpoints, "_read", leave_a_task)
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ValueError, match="no checkpoint that can be read"):
        restore(folder)
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"]


def test_when_all_are_damaged_nothing_is_started_anew(folder):
    for path in folder.rglob("manifest.ocdbt"):
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ValueError, match="no checkpoint that can be read"):
        restore(folder)
    with pytest.raises(ValueError, match="no checkpoint that can be read; delete"):
        restore(folder)


def test_training_goes_on_over_a_damaged_checkpoint(folder):
    break_file(folder / "3" / "arrays" / "manifest.ocdbt", "truncated")
    with Checkpoints(folder) as checkpoints:
        with pytest.warns(UserWarning, match="damaged"):
            checkpoints.restore(state(0))
        checkpoints.save(3, state(3), {"number": 3})
    assert restore(folder)[1] == {"number": 3}


def test_a_full_disk_is_one_line(tmp_path):
    """The limit on a file's size stands in for the disk's: the write fails in Orbax's own thread."""
    code = f"""
        import resource, pathlib
        import numpy as np
        from experiments.run.checkpoints import Checkpoints
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            with Checkpoints(pathlib.Path({str(tmp_path / "checkpoints")!r})) as checkpoints:
                checkpoints.save(1, {{"x": np.random.default_rng(0).normal(size=200_000)}}, {{}})
        except OSError as error:
            print(error)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith("cannot write to ") and result.stdout.count("\n") == 1
    assert result.stdout.rstrip().endswith("File too large; see to it, then give the same command again")


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Not a directory"):
        Checkpoints(tmp_path / "file" / "checkpoints")


def test_arrays_of_version_0_1_0_are_known_by_their_former_names():
    of_layer = "params['convolutions'][0]['attention']"
    former = {f"{of_layer}['w1'].value": f"{of_layer}['weights']['channel']['w1'].value"}
    former |= {f".opt_state[2].mu{of_layer}['w'].value": f".opt_state[2].mu{of_layer}['weights'].value"}
    former |= {f".best{of_layer}['spatial'].value": f".best{of_layer}['weights']['spatial'].value"}
    for name, now in former.items():
        assert _name_of_now(name, {now}) == now
        assert _name_of_now(name, {name}) == name
    kept = "params['convolutions'][0]['attention']['weights']['w1'].value"
    assert _name_of_now(kept, {kept}) == kept
