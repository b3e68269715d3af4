"""The first receiving process of a server, forked before the server begins.

Starting one anew costs 0.2 s of CPU for its imports, at each of thousands of starts. The code that
runs in it is the real one, over the same socket; only how it came to be differs. Servers whose
children are to be killed alone get the real thing instead (`prefork: false`).
"""

import os
import select
import socket
import subprocess
import sys
from typing import Any, Final

from penstock.receive import receiver, worker


class Forked:
    """As much of a `subprocess.Popen` as `penstock.receive.receiver` uses."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self._ours.close()
            _be_worker(theirs)
        theirs.close()

    def take(self, descriptor: int) -> None:
        """Give the process its socket; it begins with that."""
        socket.send_fds(self._ours, [b"s"], [descriptor])
        self._ours.close()

    def wait(self, timeout: float | None = None) -> int:
        """Return when it has ended; raise what `subprocess` raises if it does not."""
        end = select.poll()
        descriptor = os.pidfd_open(self.pid)
        end.register(descriptor, select.POLLIN)
        try:
            if not end.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired("receiving process", timeout or 0)
        finally:
            os.close(descriptor)
        return os.waitpid(self.pid, 0)[1]

    def kill(self) -> None:
        """End it."""
        os.kill(self.pid, 9)


class _Subprocess:
    """Stands for the module `subprocess` in the receiver: the first child is there already."""

    DEVNULL: Final = subprocess.DEVNULL
    TimeoutExpired: Final = subprocess.TimeoutExpired

    def __init__(self) -> None:
        self._first: Forked | None = Forked()

    def Popen(self, command: list[str], **options: Any) -> Any:  # noqa: ANN401, N802  # as the real one
        """Return the child that is there, or start one."""
        first, self._first = self._first, None
        if first is None:
            return subprocess.Popen(command, **options)
        first.take(options["pass_fds"][0])
        return first


def install() -> None:
    """Fork it, and have the receiver find it."""
    vars(receiver)["subprocess"] = _Subprocess()


def _be_worker(theirs: socket.socket) -> None:
    """Wait for the socket, and be the process; never returns."""
    code = 70
    try:
        _, descriptors, _, _ = socket.recv_fds(theirs, 1, 1)
        theirs.close()
        code = 0
        if descriptors:
            sys.argv = ["penstock.receive.worker", str(descriptors[0])]
            worker.main()
    finally:
        os._exit(code)
