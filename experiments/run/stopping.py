"""Ctrl-C and SIGTERM while a network is trained: the step is finished and kept, then the process stops."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A person or the system asked the process to stop; the message says what is left and how to go on."""

    def __init__(self, message: str = "stopped", signum: int = signal.SIGINT):
        super().__init__(message)
        self.signum = signum


@contextlib.contextmanager
def stop_requests() -> Iterator[list[int]]:
    """The signals that came within it, which interrupt nothing; a second one raises a `KeyboardInterrupt` at once.

    Signals that were ignored before are ignored within it, and outside of the main thread nothing changes.
    """
    came: list[int] = []

    def note(signum, frame):
        if came:
            raise KeyboardInterrupt
        came.append(signum)
        # Whatever writes to `sys.stderr` may have been interrupted, and cannot be entered again.
        os.write(2, b"\nstopping after this call of some steps; once more stops at once\n")

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    former = {signum: signal.getsignal(signum) for signum in SIGNALS}
    changed = {signum: handler for signum, handler in former.items() if handler not in (signal.SIG_IGN, None)}
    for signum in changed:
        signal.signal(signum, note)
    try:
        yield came
    finally:
        for signum, handler in changed.items():
            signal.signal(signum, handler)
