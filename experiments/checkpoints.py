"""Checkpoints of a run: Orbax, asynchronous, atomic, and checked when they are read."""

import errno
import hashlib
import json
import logging
import os
import pathlib
import shutil
import sys
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

KEPT = 2


class Checkpoints:
    """The checkpoints of one run, a folder a step; the newest two are kept.

    A checkpoint appears whole or not at all. It carries a digest of every array, so that damage on the disk cannot
    pass for a state. Use it as a context manager: leaving it waits for what is being written.

    Args:
      directory: to hold them; made if needed.

    Raises:
      OSError: the directory cannot be made or written to.
    """

    def __init__(self, directory: pathlib.Path):
        self.directory = directory.absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=KEPT, enable_async_checkpointing=True, cleanup_tmp_directories=True
            ),
            item_names=("arrays", "record"),
        )

    def __enter__(self) -> "Checkpoints":
        """Itself."""
        _hold_back_logs()
        return self

    def __exit__(self, kind, error, trace):
        """Waits for what is being written."""
        try:
            self._manager.close()
        except Exception as failure:
            if error is None:
                raise self._not_written(failure) from failure

    def save(self, step: int, state: Any, record: dict[str, Any]) -> None:
        """Copies a state from the device and writes it in the background.

        Args:
          step: names the checkpoint.
          state: any pytree of arrays, keys of random streams included.
          record: what else to keep, as JSON can hold it.

        Raises:
          OSError: this checkpoint or the one before cannot be written.
        """
        arrays = _arrays(state)
        args = ocp.args.Composite(
            arrays=ocp.args.StandardSave(arrays),
            record=ocp.args.JsonSave(record | {"digest": _digest(arrays, record)}),
        )
        try:
            self._manager.save(step, args=args, force=True)
        except Exception as failure:  # Orbax passes on whatever the file system and its own parts raise
            raise self._not_written(failure) from failure

    def wait(self) -> None:
        """Waits for what is being written.

        Raises:
          OSError: it cannot be written.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as failure:
            raise self._not_written(failure) from failure

    def restore(self, template: Any) -> tuple[Any, dict[str, Any]] | None:
        """The newest state that can be read, and its record; None if there is none yet.

        A damaged checkpoint is set aside, with a warning, and the one before is read.

        Args:
          template: a state of the same shapes, whose arrays give types and places.

        Raises:
          ValueError: there are checkpoints, and all are damaged.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                return self._read(step, template)
            except Exception as error:  # damage shows as any error, from JSON, Orbax or tensorstore
                aside = self.directory.with_name(f"damaged-{step}")
                shutil.rmtree(aside, ignore_errors=True)
                (self.directory / str(step)).rename(aside)
                said = f"the checkpoint of step {step} is damaged ({_reason(error)}); moved to {aside}"
                warnings.warn(said, stacklevel=2)
                self._manager.reload()
        if steps:
            raise ValueError(
                f"{self.directory} holds no checkpoint that can be read; delete {self.directory.parent} to start anew"
            )
        return None

    def _read(self, step, template):
        expected = _arrays(template)
        stored = self._manager.restore(
            step,
            args=ocp.args.Composite(arrays=ocp.args.StandardRestore(expected), record=ocp.args.JsonRestore()),
        )
        arrays, record = stored.arrays, dict(stored.record)
        if record.pop("digest", None) != _digest(arrays, record):
            raise ValueError("its digest does not fit its arrays")
        for name, array in expected.items():
            if arrays[name].shape != array.shape or arrays[name].dtype != array.dtype:
                raise ValueError(
                    f"{name} is {arrays[name].dtype} {arrays[name].shape}, not {array.dtype} {array.shape}"
                )
        state = {name: _like(arrays[name], leaf) for name, leaf in _named(template)}
        return jax.tree.unflatten(jax.tree.structure(template), list(state.values())), record

    def _not_written(self, failure):
        return OSError(
            f"cannot write a checkpoint to {self.directory}: {_reason(failure)}; make room, then give the same command "
            "again"
        )


def _hold_back_logs():
    """Keeps Orbax from writing pages on a failure that we say in a line.

    For good: writes beside a failed one end later, after Orbax has closed its event loop, even at the process' end.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if getattr(sys.unraisablehook, "ignores_stragglers", False):
        return
    say = sys.unraisablehook

    def hook(unraisable):
        if str(unraisable.exc_value) != "Event loop is closed":
            say(unraisable)

    hook.ignores_stragglers = True
    sys.unraisablehook = hook


def _reason(failure):
    """What the system said, which Orbax and tensorstore wrap in a page."""
    said = str(failure) or type(failure).__name__
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
    known = [os.strerror(code) for code in codes if os.strerror(code) in said]
    return known[0] if known else said.strip().splitlines()[0][:100]


def _named(state):
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree.leaves_with_path(state)]


def _arrays(state):
    """The leaves by name, as NumPy arrays, or Orbax also stores on which devices they were and looks for the same.

    Copies, for the next step is given the state's own memory to write to.
    """
    return {name: np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf) for name, leaf in _named(state)}


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
