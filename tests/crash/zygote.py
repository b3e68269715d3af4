"""A process that has imported everything, and of which each server is a fork.

Importing costs a server a second of CPU; a fork costs milliseconds, so that thousands of real
servers can be killed. What is forked then runs the real command line with its own environment,
arguments and group. Threads, event loops and the engine are made after the fork, which is checked.

Orders come as JSON lines on standard input, events go to standard output:

    {"number": 7, "arguments": ["serve", …], "environment": {…}, "folder": "…", "broken": ""}
    -> {"number": 7, "pid": 4711}
    -> {"number": 7, "status": 9}          as `os.waitpid` says it
"""

import ctypes
import gc
import json
import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tests.crash import broken, preforked, strike, warm

_STILL_THERE: Final = 36
"""PR_SET_CHILD_SUBREAPER: a dead server's children become ours, so that none stays a zombie."""


class Zygote:
    """The loop of the process; it has one thread."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._wake, waker = os.pipe()
        for end in (self._wake, waker):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> None:
        """Fork what is ordered until the orders end."""
        text = b""
        while True:
            ready, _, _ = select.select([0, self._wake], [], [])
            if self._wake in ready:
                os.read(self._wake, 4096)
                self._bury()
            if 0 not in ready:
                continue
            data = os.read(0, 65536)
            if not data:
                self._end_all()
                return
            *lines, text = (text + data).split(b"\n")
            for line in lines:
                order = json.loads(line)
                if "learn" in order:
                    warm.learn(Path(order["learn"]))
                    gc.collect()
                    gc.freeze()
                else:
                    self._fork(order)

    def _fork(self, order: dict[str, Any]) -> None:
        threads = list(Path("/proc/self/task").iterdir())
        if len(threads) != 1:
            raise RuntimeError(f"the zygote has {len(threads)} threads, so it must not fork")
        pid = os.fork()
        if pid == 0:
            become(order)
        self._numbers[pid] = order["number"]
        say(number=order["number"], pid=pid)

    def _bury(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                number = self._numbers.pop(pid, None)
                if number is not None:
                    say(number=number, status=status)

    def _end_all(self) -> None:
        for pid in self._numbers:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def say(**event: int) -> None:
    """Tell the harness."""
    os.write(1, json.dumps(event).encode() + b"\n")


def become(order: dict[str, Any]) -> None:
    """Be the ordered process; never returns."""
    code = 70
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        folder = Path(order["folder"])
        _redirect(folder / order["said"], folder / order["log"])
        os.environ.clear()
        os.environ.update(order["environment"])
        plan = os.environ.pop(strike.VARIABLE, None)
        strike.launch(json.loads(plan) if plan else None, folder / f"site-{order['number']}")
        if order["prefork"]:
            preforked.install()
        if order["broken"]:
            broken.BROKEN[order["broken"]]()
        code = warm.command(order["arguments"])
        sys.stdout.flush()
        if order["modules"]:
            warm.tell(folder / order["modules"])
    finally:
        # Not through the interpreter's exit: what the zygote registered there is not ours.
        os._exit(code)


def _redirect(said: Path, log: Path) -> None:
    os.close(0)
    os.open(os.devnull, os.O_RDONLY)
    for number, path in ((1, said), (2, log)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)


def main() -> None:
    """Be the zygote."""
    ctypes.CDLL(None).prctl(_STILL_THERE, 1, 0, 0, 0)
    warm.load()
    # What is here is shared by all forks; collecting it would copy every page.
    gc.collect()
    gc.freeze()
    say(number=0, pid=os.getpid())
    Zygote().run()


if __name__ == "__main__":
    main()
