"""Lines about waiting: that programs are compiled or figures computed, how long about, and how long it took."""

import contextlib
import hashlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from experiments.run.processes import is_first
from experiments.run.runtime import describe_device

COMPILING_PER_TRACING = {"cpu": 6.5}
"""By platform, how much longer XLA compiles a training step and its evaluation than JAX traces and lowers them."""

_NAME = "compile-seconds.json"
# Of that many programs the last seconds are kept.
_KEPT = 200


class Wait:
    """A wait for programs to be compiled; `compiling` makes it."""

    def __init__(self, expected: float | None):
        self._began = time.perf_counter()
        self._announced = False
        self.compiling = 0.0
        """Seconds that the programs of `compile` took after they were traced."""
        _say("compiling ...")
        if expected is not None:
            self.expect(expected)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.perf_counter() - self._began

    def expect(self, seconds: float) -> None:
        """Says how long it takes in all, unless that was said before."""
        if not self._announced:
            _say(f" (about {max(1, round(seconds))} s)")
        self._announced = True

    def compile(self, programs: Sequence[Callable[[], jax.stages.Traced]]) -> None:
        """Compiles programs, so that their first calls do not.

        Without a record of an earlier compilation, the time is estimated from the tracing time, on platforms of
        `COMPILING_PER_TRACING`.

        Args:
          programs: trace them: `functools.partial(function.trace, *arguments)` of a function from `jax.jit`.
        """
        before = self.seconds
        lowered = [trace().lower() for trace in programs]
        traced, factor = self.seconds, COMPILING_PER_TRACING.get(jax.default_backend())
        if factor is not None:
            self.expect(traced + factor * (traced - before))
        for program in lowered:
            program.compile()
        self.compiling += self.seconds - traced


@contextlib.contextmanager
def compiling(described: Any = None) -> Iterator[Wait]:
    """Within it programs are compiled: a line on standard error says so, and in the end how many seconds it took.

        compiling ... (about 13 s), compiled in 12.4 s

    What it took the last time under the same description, device and versions is what is expected; after the first run
    the kept time excludes XLA's compilation, which later runs read from JAX's cache. It is kept in the folder of that
    cache, and forgotten with it.

    Args:
      described: what decides the programs, as JSON can hold it; None: it is not kept.
    """
    kept = _Kept(described)
    wait = Wait(kept.seconds)
    try:
        yield wait
    except BaseException:
        _say("\n")
        raise
    seconds = wait.seconds
    _say(f", compiled in {seconds:.1f} s\n")
    kept.keep(seconds - wait.compiling if kept.seconds is None else seconds)


@contextlib.contextmanager
def doing(what: str, expected: float | None = None) -> Iterator[None]:
    """Within it something is computed or drawn: a line on standard error says what, and then how long it took.

        turning 500 test images by 24 angles ... (about 12 s), 12.9 s

    Args:
      what: in words.
      expected: how many seconds it takes; None, or less than one, is not said.
    """
    began = time.perf_counter()
    _say(f"{what} ..." + (f" (about {expected:.0f} s)" if expected is not None and expected >= 1 else ""))
    try:
        yield
    except BaseException:
        _say("\n")
        raise
    _say(f", {time.perf_counter() - began:.1f} s\n")


class _Kept:
    """Seconds by description, in the folder of the compilation cache."""

    def __init__(self, described):
        folder = _folder()
        self.path = None if folder is None or described is None else folder / _NAME
        content = json.dumps([described, describe_device()], sort_keys=True)
        self.name = hashlib.sha256(content.encode()).hexdigest()[:16]
        self.seconds = self._read().get(self.name)

    def keep(self, seconds):
        """Writes what it took; a cache that cannot be written to costs the next run its forecast and nothing else."""
        if self.path is None:
            return
        others = {name: value for name, value in self._read().items() if name != self.name}
        kept = dict(list(others.items())[1 - _KEPT :]) | {self.name: round(seconds, 2)}
        partial = self.path.with_name(f".{_NAME}.{os.getpid()}")
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(kept) + "\n")
            os.replace(partial, self.path)

    def _read(self):
        """What is there; nothing where the file is missing or damaged, for it is a forecast's."""
        try:
            kept = {} if self.path is None else json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        entries = kept.items() if isinstance(kept, dict) else ()
        return {name: seconds for name, seconds in entries if isinstance(seconds, float | int)}


def _folder():
    """That of JAX's compilation cache; None: there is none."""
    folder = jax.config.jax_compilation_cache_dir
    return None if folder is None else pathlib.Path(folder)


def _say(words):
    if not is_first():
        return
    sys.stderr.write(words)
    sys.stderr.flush()
