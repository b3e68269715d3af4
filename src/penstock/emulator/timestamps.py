"""The emulator's time: microseconds since the epoch, and how Google writes them."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from penstock.emulator.database import Database

SECOND_US = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class EmulatorClock:
    """The injected clock plus an offset that the control API can increase.

    The offset is stored, so that after a restart no job lies in the future.
    """

    def __init__(self, clock: Callable[[], float], database: Database) -> None:
        self._clock = clock
        self._database = database
        self._lock = threading.Lock()
        self._offset_us = int(database.setting("clock_offset_us") or "0")

    def now_us(self) -> int:
        """Now, in microseconds since the epoch."""
        return round(self._clock() * SECOND_US) + self._offset_us

    def advance(self, seconds: float) -> int:
        """Move forward by `seconds` and give the new now in microseconds."""
        with self._lock:
            self._offset_us += round(seconds * SECOND_US)
            self._database.set_setting("clock_offset_us", str(self._offset_us))
        return self.now_us()


def moment(at_us: int) -> datetime:
    """The aware UTC datetime of a time in microseconds, exact (no float on the way)."""
    return _EPOCH + timedelta(microseconds=at_us)


def rfc3339(at_us: int) -> str:
    """`2026-11-22T09:00:00.123456Z`, as Vertex and Cloud Storage answer it."""
    return moment(at_us).isoformat(timespec="microseconds").replace("+00:00", "Z")


def row_time(at_us: int) -> str:
    """`2026-11-22T09:12:16.826+00:00`, as `processed_time` of an output row has it."""
    return moment(at_us).isoformat(timespec="milliseconds")


def http_date(at_us: int) -> str:
    """`Sun, 22 Nov 2026 09:00:00 GMT`, for Last-Modified."""
    return format_datetime(moment(at_us), usegmt=True)


def parse_rfc3339(text: str) -> int:
    """Microseconds since the epoch of an RFC 3339 time; ValueError if it is none."""
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError(f"the time {text!r} has no zone")
    return (parsed - _EPOCH) // timedelta(microseconds=1)
