"""A connection to SQLite that leaves no lock behind when it is closed.

When the caller of a statement is cancelled, the connection is closed. But SQLite keeps a closed one
alive as long as one of its statements is, and Python keeps that until the garbage collector comes
by: meanwhile its transaction holds up every other writer. So it is rolled back first.
"""

import asyncio
import sqlite3
from pathlib import Path
from typing import Final

import aiosqlite

_ROWS_AT_ONCE: Final = 64
"""The driver's own default."""


class Closing(aiosqlite.Connection):
    """The driver's connection, which ends its transaction before it ends."""

    async def close(self) -> None:
        """Roll back and close."""
        self._undo_first()
        await super().close()

    def stop(self) -> asyncio.Future[None] | None:
        """Roll back and close, without waiting for it."""
        self._undo_first()
        return super().stop()

    def _undo_first(self) -> None:
        # The driver's thread does one thing after the other.
        self._tx.put_nowait((None, self._undo))

    def _undo(self) -> None:
        if self._connection is not None and self._connection.in_transaction:
            self._connection.rollback()


async def connect(path: Path) -> aiosqlite.Connection:
    """Open a file."""
    connection = Closing(lambda: sqlite3.connect(path, check_same_thread=False), _ROWS_AT_ONCE)
    # A thread of a connection that somebody forgot must not keep the process alive.
    connection._thread.daemon = True  # noqa: SLF001  # as SQLAlchemy does it
    return await connection
