"""A bell for the threads that take workflows off the engine's queues: whoever puts one there rings.

The engine looks at each queue at an interval, so that a job waits for half of one before each of
its phases, and an idle server asks its database several times a second for nothing. With a bell the
interval can be long: it is only for what other processes put there.
"""

import logging
import threading
from collections.abc import Callable
from typing import Final

from penstock.clock import monotonic

_log = logging.getLogger(__name__)

GATHER_SECONDS: Final = 0.1
"""Between two looks, at least: of a hundred jobs that come at the same time each would ring."""


class Bell(threading.Event):
    """Set for good when there is nothing to wait for any more; until then waits can be cut short.

    It is an `Event` because that is what the engine's loop waits with.
    """

    def __init__(self, gather_seconds: float = GATHER_SECONDS) -> None:
        super().__init__()
        self._gather_seconds = gather_seconds
        self._rung = threading.Event()
        self._looked_at = monotonic() - gather_seconds

    def ring(self) -> None:
        """End the wait that goes on, or the next one."""
        self._rung.set()

    def set(self) -> None:
        """End this wait and all that come."""
        super().set()
        self._rung.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until somebody rings; return whether it was for good."""
        if self.is_set():
            return True
        self._rung.wait(timeout)
        super().wait(max(0.0, self._looked_at + self._gather_seconds - monotonic()))
        # Before the look: who rings while it goes on may have come too late for it.
        self._rung.clear()
        self._looked_at = monotonic()
        return self.is_set()


def listen(bell: Bell, serve: Callable[[Bell], None], pause_seconds: float) -> None:
    """Serve until the bell is set; the engine's loop may end of itself, and begins anew then."""
    while not bell.is_set():
        try:
            serve(bell)
        except Exception:  # noqa: BLE001  # a loop's boundary: logged, and tried again
            # A missed look costs a moment; a dead thread would leave the queue to nobody.
            _log.exception("looking for work failed; trying again")
        bell.wait(pause_seconds)
