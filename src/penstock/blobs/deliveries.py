"""Lets obstore's threads come out of Python before the interpreter ends.

obstore tells an event loop its results from threads of its own, by calling Python. One that is
still in there when the interpreter ends does not get its lock back; Python ends such a thread,
which Rust takes for a fault and aborts the process: exit code 134, behind work that was all done
(PyO3/pyo3-async-runtimes, issue 40). The library has no end that could be waited for, so what is
waited for are threads in Python that Python has not started.
"""

import atexit
import sys
import threading
from typing import Final

SECONDS_MAX: Final = 1.0
"""A call into an event loop takes microseconds; a thread that stays longer does something else."""

_TURNS: Final = 1_000


def finish_at_exit() -> None:
    """Wait for them at the end of the process; saying so twice is the same as once."""
    atexit.unregister(finish)
    atexit.register(finish)


def finish() -> None:
    """Wait until no thread is in Python that it has not started."""
    never = threading.Event()
    for _ in range(_TURNS):
        if not _strangers():
            return
        never.wait(SECONDS_MAX / _TURNS)


def _strangers() -> set[int]:
    known = {thread.ident for thread in threading.enumerate()}
    return sys._current_frames().keys() - known  # noqa: SLF001  # documented, whatever its name
