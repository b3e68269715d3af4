"""A connection to SQLite that changes threads seldom, and leaves no lock behind when it is closed.

The driver hands every call to a thread and back, four for each statement: cursor, execute, fetch
and close. A change of thread costs more than what most statements do, and under load each waits for
a core. So only what may have to wait goes there: BEGIN IMMEDIATE, which queues behind other
writers; COMMIT, which waits for readers and the disk; and queries outside of such a transaction,
which a commit holds up, or which are long. What comes between BEGIN IMMEDIATE and COMMIT finds the
file its own and the pages in memory, takes some ten microseconds, and is done on the event loop.

When the caller of a statement is cancelled, the connection is closed. But SQLite keeps a closed one
alive as long as one of its statements is, and Python keeps that until the garbage collector comes
by: meanwhile its transaction, or a query that was not read to its end, holds up every other writer.
So the statements are ended and the transaction is rolled back first.
"""

import asyncio
import sqlite3
import weakref
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiosqlite
from aiosqlite.context import contextmanager

_ROWS_AT_ONCE: Final = 64
"""The driver's own default."""

BEGIN_READING: Final = "BEGIN"
BEGIN_WRITING: Final = "BEGIN IMMEDIATE"


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


class _AtOnce(aiosqlite.Cursor):
    """A cursor that has read all rows when a statement is executed."""

    _conn: "Closing"
    _rows: list[Any]

    async def execute(self, sql: str, parameters: Iterable[Any] | None = None) -> "_AtOnce":
        """Execute a statement and read what it returns."""
        self._rows = await self._conn.run(sql, partial(_all_rows, self._cursor, sql, parameters))
        return self

    async def executemany(self, sql: str, parameters: Iterable[Any]) -> "_AtOnce":
        """Execute a statement once for each of the parameters."""
        await self._conn.run(sql, partial(self._cursor.executemany, sql, parameters))
        return self

    async def fetchall(self) -> list[Any]:
        """Return what was read."""
        return self._rows

    async def close(self) -> None:
        """Let go of the statement, which has ended."""
        self._cursor.close()


def _all_rows(cursor: sqlite3.Cursor, sql: str, parameters: Iterable[Any] | None) -> list[Any]:
    # The driver takes an iterable where it needs a sequence or a mapping.
    cursor.execute(sql, () if parameters is None else parameters)  # type: ignore[arg-type]
    return cursor.fetchall()


class Closing(aiosqlite.Connection):
    """The driver's connection, which ends its transaction before it ends."""

    is_brief = True
    """Whether the statements of the transaction are short enough for the event loop."""

    _stopped: asyncio.Future[None] | None = None
    _is_writing = False
    """Whether the transaction was begun by BEGIN IMMEDIATE."""
    _handed_over = 0
    _handed_back = 0

    @contextmanager
    async def cursor(self) -> aiosqlite.Cursor:
        """Return a cursor; making one touches nothing that the thread could be working on."""
        if not self._running:
            raise ValueError("Connection closed")
        return _AtOnce(self, self._conn.cursor())

    async def run(self, sql: str, work: Callable[[], Any]) -> Any:  # noqa: ANN401  # as the driver
        """Execute a statement here if it cannot have to wait, else in the thread."""
        if self._is_idle and (sql == BEGIN_READING or (self._is_ours and self.is_brief)):
            return work()
        result = await self._execute(work)
        if sql == BEGIN_WRITING:
            self._is_writing = True
        return result

    async def commit(self) -> None:
        """Commit, unless there is nothing to commit."""
        if self._has_transaction:
            await super().commit()
            self._is_writing = False

    async def rollback(self) -> None:
        """Roll back, unless there is nothing to roll back."""
        if not self._has_transaction:
            return
        if self._is_idle and not self._is_writing:
            # Of a reader: no more than letting go of the file.
            self._conn.rollback()
        else:
            await super().rollback()
            self._is_writing = False

    @property
    def _is_idle(self) -> bool:
        """Whether the thread has nothing to do, so that nobody else uses the connection.

        It may have: who awaited a call may have been cancelled, and the call goes on.
        """
        return self._handed_over == self._handed_back and self._running

    @property
    def _is_ours(self) -> bool:
        """Whether nobody else can have a lock on the file that a statement would wait for."""
        return self._is_writing and self._conn.in_transaction

    @property
    def _has_transaction(self) -> bool:
        return not self._is_idle or self._conn.in_transaction

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        self._handed_over += 1
        execute: Callable[..., Awaitable[Any]] = super()._execute
        return await execute(self._counted, fn, *args, **kwargs)

    def _counted(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        # In the thread, which alone counts these.
        try:
            return fn(*args, **kwargs)
        finally:
            self._handed_back += 1

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
