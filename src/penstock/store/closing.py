"""A connection to SQLite that leaves no lock behind when it is closed.

When the caller of a statement is cancelled, the connection is closed. But SQLite keeps a closed one
alive as long as one of its statements is, and Python keeps that until the garbage collector comes
by: meanwhile its transaction, or a query that was not read to its end, holds up every other writer.
So the statements are ended and the transaction is rolled back first.
"""

import asyncio
import sqlite3
import weakref
from pathlib import Path
from typing import Any, Final

import aiosqlite

_ROWS_AT_ONCE: Final = 64
"""The driver's own default."""


class _Tidy(sqlite3.Connection):
    """A connection that knows its cursors."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, check_same_thread=False)
        self._cursors: weakref.WeakSet[sqlite3.Cursor] = weakref.WeakSet()

    def cursor(self, factory: Any = sqlite3.Cursor) -> Any:  # noqa: ANN401  # two overloads
        """Return a new cursor; the driver's short cuts come by here, too."""
        made = super().cursor(factory)
        self._cursors.add(made)
        return made

    def undo(self) -> None:
        """End all statements and the transaction."""
        for cursor in list(self._cursors):
            cursor.close()
        if self.in_transaction:
            self.rollback()


class Closing(aiosqlite.Connection):
    """The driver's connection, which ends its transaction before it ends."""

    _stopped: asyncio.Future[None] | None = None

    async def close(self) -> None:
        """Roll back and close."""
        self._undo_first()
        await super().close()

    def stop(self) -> asyncio.Future[None] | None:
        """Roll back and close, without waiting for it."""
        # The thread ends at the first time, and would never get to a second one.
        if self._running:
            self._undo_first()
            self._stopped = super().stop()
        return self._stopped

    async def end(self) -> None:
        """Close it, unless somebody has, and wait until its thread has nothing more to say."""
        if self._running:
            await self.close()
        if self._thread.is_alive():
            # Of one that was still being opened, too.
            self.stop()
        # It answers through the event loop that it was stopped in, which must not end before it.
        stopped = self._stopped
        if stopped is not None and stopped.get_loop() is asyncio.get_running_loop():
            await stopped

    def _undo_first(self) -> None:
        # The driver's thread does one thing after the other.
        self._tx.put_nowait((None, self._undo))

    def _undo(self) -> None:
        if isinstance(self._connection, _Tidy):
            self._connection.undo()


def new_connection(path: Path) -> Closing:
    """Return a connection to a file, which is opened when it is awaited."""
    connection = Closing(lambda: _Tidy(path), _ROWS_AT_ONCE)
    # A thread of a connection that somebody forgot must not keep the process alive.
    connection._thread.daemon = True  # noqa: SLF001  # as SQLAlchemy does it
    return connection
