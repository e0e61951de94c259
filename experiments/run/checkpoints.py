"""Checkpoints of a run: Orbax, asynchronous, atomic, and checked when they are read."""

import contextlib
import gc
import hashlib
import json
import logging
import pathlib
import re
import shutil
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.tree_util import keystr

from attgconv_jax.models.arrays import FORMER_NAMES
from experiments.run.processes import is_first, wait_for_others
from experiments.run.runtime import reason, writing

KEPT = 2


class Checkpoints:
    """The checkpoints of one run, a folder a step; the newest two are kept.

    A checkpoint appears whole or not at all. It carries a digest of every array, so that damage on the disk cannot
    pass for a state. Leaving the context waits for what is being written.

    Args:
      directory: made if needed.
      read_only: leaves the directory as it is, also what another process is writing.
    """

    def __init__(self, directory: pathlib.Path, *, read_only: bool = False):
        self.directory = directory.absolute()
        self.read_only = read_only
        if not read_only:
            self.directory.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=None if read_only else KEPT,
                enable_async_checkpointing=not read_only,
                cleanup_tmp_directories=not read_only,
                create=not read_only,
                read_only=read_only,
            ),
            item_names=("arrays", "record"),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, error, trace):
        with contextlib.suppress(Exception) if error else writing(self.directory, Exception):
            self._manager.close()

    def save(self, step: int, state: Any, record: dict[str, Any]) -> None:
        """Copies a state from the device and writes it in the background, with a record for JSON.

        Raises:
          OSError: this checkpoint or the one before cannot be written.
        """
        arrays = _arrays(state)
        record = record | {"digest": _digest(arrays, record)}
        args = ocp.args.Composite(arrays=ocp.args.StandardSave(arrays), record=ocp.args.JsonSave(record))
        # Orbax passes on whatever the file system and its own parts raise.
        with writing(self.directory, Exception):
            self._manager.save(step, args=args, force=True)

    def wait(self) -> None:
        """Waits for what is being written; an `OSError` if it cannot be."""
        with writing(self.directory, Exception):
            self._manager.wait_until_finished()

    def restore(self, template: Any) -> tuple[Any, dict[str, Any]] | None:
        """The newest state that can be read, and its record; None if there is no checkpoint yet.

        A damaged checkpoint is set aside, with a warning, and the one before is read.

        Args:
          template: a state of the same shapes, whose leaves say which are keys of random streams.

        Raises:
          ValueError: there are checkpoints, and all are damaged, now or at an earlier start; or the newest is whole but
            of another kind than the template, as under other versions or settings of JAX.
          OSError: a checkpoint is there and may not be read.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                arrays, record = self._read(step)
            except (MemoryError, PermissionError):
                raise
            except Exception as error:  # damage shows as any error, from JSON, Orbax or tensorstore
                damage = reason(error)
            else:
                if not self.read_only:
                    # What the first process has set aside meanwhile is none of the others' checkpoints either.
                    wait_for_others("restored")
                    self._manager.reload()
                return _state(arrays, template, self.directory / str(step)), record
            _collect_failed_tasks()
            if (self.directory / str(step)).is_dir():  # else another process has made room
                self._set_aside(step, damage)
        if steps or list(self.directory.parent.glob("damaged-*")):
            raise ValueError(
                f"{self.directory} holds no checkpoint that can be read; delete {self.directory.parent} to start anew"
            )
        return None

    def _set_aside(self, step, damage):
        message = f"the checkpoint of step {step} is damaged ({damage})"
        if not self.read_only and is_first():
            aside = self.directory.with_name(f"damaged-{step}")
            shutil.rmtree(aside, ignore_errors=True)
            (self.directory / str(step)).rename(aside)
            message += f"; moved to {aside}"
        warnings.warn(message, stacklevel=3)

    def _read(self, step):
        """Arrays and record as they were saved."""
        items = ocp.args.Composite(arrays=ocp.args.StandardRestore(), record=ocp.args.JsonRestore())
        with warnings.catch_warnings():
            # Orbax would rather be told where to put the arrays; NumPy's have no place.
            warnings.filterwarnings("ignore", message="Sharding info not provided")
            stored = self._manager.restore(step, args=items)
        arrays, record = {name: np.asarray(array) for name, array in stored.arrays.items()}, dict(stored.record)
        if record.pop("digest", None) != _digest(arrays, record):
            raise ValueError("its digest does not fit its arrays")
        return arrays, record


def _collect_failed_tasks():
    """Collects, in silence, the tasks that Orbax leaves in its event loop when a file is damaged.

    Else they complain whenever the garbage collector finds them, in the middle of anything.
    """
    logger, disabled = logging.getLogger("asyncio"), logging.getLogger("asyncio").disabled
    logger.disabled = True
    try:
        gc.collect()
    finally:
        logger.disabled = disabled


def _arrays(state):
    """The leaves by name, as NumPy arrays, or Orbax also stores on which devices they were and looks for the same.

    Copies, for the next step is given the state's own memory to write to.
    """
    leaves = jax.tree.leaves_with_path(state)
    return {keystr(path): np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf) for path, leaf in leaves}


def _state(arrays, template, path):
    """The arrays in the template's tree, and its random streams' keys among them."""
    expected = _arrays(template)
    arrays = {_name_of_now(name, expected): array for name, array in arrays.items()}
    stored, wanted = ({(name, a.shape, a.dtype) for name, a in named.items()} for named in (arrays, expected))
    wrong = {name for name, *_ in stored ^ wanted}
    if wrong:
        raise ValueError(
            f"{path} is of another program: {len(wrong)} of its arrays do not fit, {sorted(wrong)[0]} for one. "
            "Continue with the versions in run.json and JAX's settings of then (jax_enable_x64, jax_default_prng_impl)"
        )
    return jax.tree.map_with_path(lambda path, leaf: _like(arrays[keystr(path)], leaf), template)


def _name_of_now(name, expected):
    """The name of an array that version 0.1.0 called otherwise."""
    for former, now in FORMER_NAMES.items():
        former, now = ("".join(f"['{part}']" for part in path.split(".")) for path in (former, now))  # noqa: PLW2901
        candidate = re.sub(re.escape(former) + r"(?!\[)", lambda _, now=now: now, name)
        if name not in expected and candidate in expected:
            return candidate
    return name


def _like(array, leaf):
    if _is_key(leaf):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
    return jnp.asarray(array)


def _is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _digest(arrays, record):
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
