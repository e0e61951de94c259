"""Several processes that train one network together, on one machine or on many, through `jax.distributed`."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Annotated, NoReturn

import jax
import numpy as np
import tyro
from jax.experimental import multihost_utils

from experiments.run.messages import with_options
from experiments.run.stopping import Stopped

HEARTBEAT_SECONDS = 30
"""After which a process that says nothing counts as lost, where no connection broke."""
_LAST_WORDS = "import sys; sys.stdin.read() or sys.stderr.write(sys.argv[1] + '\\n')"

_AGAIN = "give all the same command again, and the run continues at its newest checkpoint"
_LOST = "if another was lost, " + _AGAIN
_DISTRIBUTED = "Train with other processes, which SLURM, Kubernetes, MPI or a TPU names, or --coordinator."
_DEVICES = "Devices that share every batch. Default: one; with other processes all of them."


@dataclasses.dataclass(frozen=True)
class Processes:
    """Which processes and devices train a network. They change its numbers by rounding alone."""

    distributed: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help=_DISTRIBUTED)] = False
    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT", help="Where process 0 is reached.")] = None
    process: Annotated[int | None, tyro.conf.arg(help="The number of this process, from 0.")] = None
    processes: Annotated[int | None, tyro.conf.arg(help="How many there are.")] = None
    devices: Annotated[int | None, tyro.conf.arg(help=_DEVICES)] = None

    def __post_init__(self):
        named = {name: getattr(self, name) for name in ("coordinator", "process", "processes")}
        missing = [name for name, value in named.items() if value is None]
        if missing and len(missing) < len(named):
            raise ValueError(
                f"coordinator, process and processes go together, and there is no {' and no '.join(missing)}: "
                "for instance --coordinator 10.0.0.1:1234 --process 0 --processes 2"
            )
        if missing:
            return
        host, _, port = self.coordinator.rpartition(":")
        if not (host and port.isdigit() and 0 < int(port) < 2**16):
            raise ValueError(f"coordinator must be HOST:PORT, such as 10.0.0.1:1234, got {self.coordinator}")
        if self.processes < 1:
            raise ValueError(f"processes must be at least 1, got {self.processes}")
        if not 0 <= self.process < self.processes:
            raise ValueError(f"process must be in 0 to {self.processes - 1}, for {self.processes}, got {self.process}")


@contextlib.contextmanager
def joined(options: Processes) -> Iterator[None]:
    """Within it this process trains with others; it does nothing where none are asked for.

    JAX must not have looked for devices yet. What other processes than the first print is dropped, but for errors; and
    where one fails, or is killed, all end.

    Raises:
      ValueError: nothing names the other processes.
      OSError: they cannot be reached.
    """
    if not options.distributed and options.coordinator is None:
        yield
        return
    _initialize(options)
    if jax.process_count() == 1:
        yield
        return
    watcher = _leave_last_words()
    try:
        with contextlib.redirect_stdout(sys.stdout if is_first() else open(os.devnull, "w")):
            yield
        # Here, and not in the shutdown, whose patience ends after five minutes, while one process writes the report.
        wait_for_others("the end")
    except (jax.errors.JaxRuntimeError, TimeoutError) as error:
        _end(watcher, f"this process failed, or another has ended or cannot be reached: {_first_line(error)}; {_LOST}")
    except (ValueError, OSError, FloatingPointError) as error:
        # The others wait for this one, and shall not wait for its end as well.
        _end(watcher, with_options(" ".join(str(error).split())))
    except KeyboardInterrupt as stop:
        if _leave(seconds=5):
            watcher.communicate(b"done")
            raise
        # It came to this process alone.
        signum = stop.signum if isinstance(stop, Stopped) else signal.SIGINT
        _end(watcher, str(stop) or f"stopped; {_AGAIN}", 128 + signum)
    except Exception as error:
        traceback.print_exc()
        _end(watcher, _first_line(error) if str(error) else type(error).__name__, 1)
    _leave()
    watcher.communicate(b"done")


def _leave(seconds: float | None = None) -> bool:
    """Leaves the other processes together with them; whether they came within so many seconds."""
    leaving = threading.Thread(target=jax.distributed.shutdown, daemon=True)
    leaving.start()
    leaving.join(seconds)
    return not leaving.is_alive()


def _initialize(options):
    # Or it would take SIGTERM, which stops a run at a checkpoint here.
    jax.config.update("jax_enable_preemption_service", False)
    named = dict(coordinator_address=options.coordinator, num_processes=options.processes, process_id=options.process)
    if options.coordinator is not None:
        named |= dict(cluster_detection_method="deactivate")
    try:
        jax.distributed.initialize(**named, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except ValueError as error:
        raise ValueError(
            f"nothing names the processes that train together ({error}): start them under SLURM, Kubernetes or MPI, or "
            "give each --coordinator HOST:PORT --process I --processes N"
        ) from error
    except RuntimeError as error:
        raise OSError(f"the other processes cannot be reached: {_first_line(error)}") from error


def is_first() -> bool:
    """Whether this process writes what a run leaves behind."""
    return jax.process_index() == 0


def wait_for_others(where: str) -> None:
    """Waits until all processes are there; it has a name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def first_then_others(action: Callable[[], None]) -> None:
    """Has the first process act before the others do."""
    if is_first():
        action()
    wait_for_others("the first has acted")
    if not is_first():
        action()


def of_all(*numbers: float) -> np.ndarray:
    """Some numbers of every process, `[process, number]`, in each of them."""
    own = np.array(numbers, np.float64)[None]
    if jax.process_count() == 1:
        return own
    # As they are: without 64 bits JAX would round them.
    gathered = multihost_utils.process_allgather(own.view(np.uint32))
    return gathered.reshape(-1, 2 * len(numbers)).view(np.float64)


def _leave_last_words():
    """Starts what says so when this process is cut off, as JAX does to all when the first process is lost."""
    number, count = jax.process_index(), jax.process_count()
    message = f"error: process {number} of {count} was cut off: killed, or another ended, whose error says why; {_LOST}"
    command = [sys.executable, "-I", "-S", "-c", _LAST_WORDS, message]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def _end(watcher, message, code=2) -> NoReturn:
    watcher.communicate(b"done")
    print(f"error: process {jax.process_index()} of {jax.process_count()}: {message}", file=sys.stderr, flush=True)
    os._exit(code)


def _first_line(error):
    return str(error).strip().splitlines()[0][:200]
