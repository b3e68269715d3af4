"""The paper trail for checkers that trust nobody: one JSON line per event, flushed per line."""

import threading
from pathlib import Path
from typing import IO

import orjson

from penstock.emulator.timestamps import EmulatorClock, rfc3339


class EventLog:
    """Appends events to a file, or forgets them when there is no file."""

    def __init__(self, path: Path | None, clock: EmulatorClock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")

    def write(self, event: str, **fields: object) -> None:
        """Append `{"at": …, "event": …, …}`; a line is whole or absent, also after a kill."""
        if self._file is None:
            return
        record = {"at": rfc3339(self._clock.now_us()), "event": event, **fields}
        with self._lock:
            self._file.write(orjson.dumps(record) + b"\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()
