"""The files of one upload, hashed and written by a thread of their own.

Hashing and writing let go of Python's lock, so they cost the thread that checks the lines nothing
but the wait when the disk is slower. One thread and half a megabyte at a time: smaller pieces or a
second thread lose more to handing the lock over than they win.
"""

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from penstock.blobs.part import Part

PIECE_BYTES: Final = 524_288
"""Written at once."""

SYNC_BYTES: Final = 16 * 1024 * 1024
"""Written before the disk is asked to hold it. Whoever syncs anything else meanwhile, such as the
database, waits for what this file has in the page cache; so it must never be much."""

AHEAD: Final = 2
"""Pieces that may wait for the disk. More are memory of each upload, and make none faster."""


class Files:
    """A `Sink` into files that exist; the last one is for lines that are put aside.

    An input that is there already, whole and durable, is only hashed.
    """

    def __init__(
        self,
        input_path: Path,
        index_path: Path,
        problems_path: Path | None = None,
        *,
        is_input_there: bool = False,
    ) -> None:
        self._is_input_there = is_input_there
        paths = [path for path in (input_path, index_path, problems_path) if path is not None]
        self._parts: list[Part] = []
        try:
            self._parts.extend(Part(path, create=False) for path in paths)
        except OSError:
            self._close()
            raise
        self._input, self._index = self._parts[:2]
        self._problems = bytearray()
        self._hash = hashlib.sha256()
        self._collected: list[bytes] = []
        self._collected_bytes = 0
        self._pending: deque[Future[None]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="files")
        self._unsynced_bytes = 0
        self._syncing: Future[None] | None = None
        self._sync_thread = ThreadPoolExecutor(1, thread_name_prefix="sync")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the files; what is not on disk yet is wanted only if `sync` was called."""
        self._thread.shutdown(cancel_futures=True)
        self._sync_thread.shutdown()
        self._close()

    def _close(self) -> None:
        for part in self._parts:
            part.close()

    def write(self, block: bytes) -> None:
        """Take a block; raises `StorageFull` when an earlier one could not be written."""
        self._collected.append(block)
        self._collected_bytes += len(block)
        if self._collected_bytes >= PIECE_BYTES:
            self._hand_over()

    def write_index(self, rows: bytes) -> None:
        """Take rows of the index."""
        self._pending.append(self._thread.submit(self._index.write, rows))

    def write_problem(self, row: bytes) -> None:
        """Take the row of a line that is put aside."""
        self._problems += row
        if len(self._problems) >= PIECE_BYTES:
            self._hand_over_problems()

    def sha256(self) -> str:
        """Wait for the thread and return the hash of the input."""
        self._hand_over()
        self._hand_over_problems()
        while self._pending:
            self._pending.popleft().result()
        return self._hash.hexdigest()

    def sync(self) -> None:
        """Make all files durable."""
        if self._syncing is not None:
            self._syncing.result()
        for part in self._parts:
            part.sync()

    def _hand_over(self) -> None:
        piece = b"".join(self._collected)
        self._collected.clear()
        self._collected_bytes = 0
        self._pending.append(self._thread.submit(self._store, piece))
        while len(self._pending) > AHEAD:
            self._pending.popleft().result()

    def _hand_over_problems(self) -> None:
        if self._problems:
            rows = bytes(self._problems)
            self._problems.clear()
            self._pending.append(self._thread.submit(self._parts[-1].write, rows))

    def _store(self, piece: bytes) -> None:
        self._hash.update(piece)
        if self._is_input_there:
            return
        self._input.write(piece)
        self._unsynced_bytes += len(piece)
        if self._unsynced_bytes >= SYNC_BYTES:
            self._unsynced_bytes = 0
            if self._syncing is not None:
                # A disk that is slower than the sender slows the sender, not everybody else.
                self._syncing.result()
            self._syncing = self._sync_thread.submit(self._input.flush)
