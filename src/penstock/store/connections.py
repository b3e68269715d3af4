"""The connections of one process to its database, and the one place where its failures get a name.

A database that is down, hangs, is full or was switched over is `DatabaseUnavailable` for everybody
above: the API answers 503, a step waits and runs again. What is left of the driver's errors means
that we have a bug or that a row is refused, and passes as it is.
"""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from penstock.errors import DatabaseUnavailable
from penstock.store.glance import Glance
from penstock.store.leftovers import Leftovers

_log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS: Final = 5
"""Postgres is back within a few seconds after a crash; clients that come sooner find nothing."""

CANCEL_SECONDS: Final = 1.0
"""How long the driver may try to cancel a statement that took too long. A server that answers does
it at once and the connection stays good; after this time the connection is given up."""

_SQLITE_FAILURES: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    }
)
"""What the disk or another process does to us; the rest of its OperationalError is our SQL."""

_POSTGRES_FAILURES: Final = frozenset({"25006", "25P03", "25P04"})
"""A server that became a standby, and sessions that it ended: psycopg calls them InternalError."""


class Connections:
    """Opens transactions; an `AsyncEngine` as far as the store uses one."""

    def __init__(
        self,
        engine: AsyncEngine,
        leftovers: Leftovers,
        *,
        seconds_max: float | None = None,
        glance: Glance | None = None,
    ) -> None:
        """Take `seconds_max` for one whole transaction; None waits as long as the driver does."""
        self._engine = engine
        self._seconds_max = seconds_max
        self._glance = glance
        self._leftovers = leftovers

    @property
    def sync_engine(self) -> sa.Engine:
        """The engine below, for its events and its dialect."""
        return self._engine.sync_engine

    @property
    def has_a_clock(self) -> bool:
        """Whether the database has a clock that all processes share."""
        return self.sync_engine.dialect.name != "sqlite"

    def time(self, at: float) -> sa.ColumnElement[float]:
        """Return the time by the clock that all processes share; on SQLite, `at`."""
        return _server_time() if self.has_a_clock else sa.literal(at, sa.Double)

    def for_reading(self) -> "Connections":
        """Return the same for queries of one statement, which take no lock."""
        options: dict[str, Any] = {"penstock_readonly": True}
        if self.has_a_clock:
            # Saves two round trips, and leaves no transaction open where a process freezes.
            options["isolation_level"] = "AUTOCOMMIT"
        engine = self._engine.execution_options(**options)
        return Connections(
            engine, self._leftovers, seconds_max=self._seconds_max, glance=self._glance
        )

    def at_length(self) -> "Connections":
        """Return the same for statements that change any number of rows.

        They are kept off the event loop, on which those of other transactions run.
        """
        engine = self._engine.execution_options(penstock_at_length=True)
        return Connections(
            engine, self._leftovers, seconds_max=self._seconds_max, glance=self._glance
        )

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that is committed at the end; durable when this returns.

        Raises `DatabaseUnavailable`; if that comes from the commit, its outcome is unknown.
        """
        async with _named(), self._bounded(), self._engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection; what is not committed at the end is rolled back."""
        async with _named(), self._bounded(), self._engine.connect() as connection:
            yield connection

    async def row(self, query: sa.Select[Any], **values: object) -> Mapping[Any, Any] | None:
        """Return the one row that an index finds, or None; the quickest way there is.

        A statement that is made once and gets `values` costs a third of one that is made anew.
        """
        if self._glance is not None:
            # Locked by a commit, most likely: the long way waits for it, and names what else it is.
            with suppress(sa.exc.OperationalError):
                return self._glance.row(query, values)
        async with self.connect() as connection:
            found = await connection.execute(query, values)
        row: Mapping[Any, Any] | None = found.mappings().first()
        return row

    async def dispose(self) -> None:
        """Close all connections."""
        if self._glance is not None:
            self._glance.close()
        await self._engine.dispose()
        await self._leftovers.close()

    @asynccontextmanager
    async def _bounded(self) -> AsyncIterator[None]:
        if self._seconds_max is None:
            yield
            return
        # The first cancel makes the driver ask the server to stop, for which it takes its time; the
        # second one makes it let go.
        try:
            async with asyncio.timeout(self._seconds_max):
                async with asyncio.timeout(max(0.0, self._seconds_max - CANCEL_SECONDS)):
                    yield
        except TimeoutError as error:
            raise DatabaseUnavailable(
                "The database took too long.", retry_after_seconds=RETRY_AFTER_SECONDS
            ) from error


def time_of(connection: AsyncConnection, at: float) -> sa.ColumnElement[float]:
    """Return the same within a transaction."""
    is_sqlite = connection.dialect.name == "sqlite"
    return sa.literal(at, sa.Double) if is_sqlite else _server_time()


def _server_time() -> sa.ColumnElement[float]:
    # Of the statement: a time that differs from row to row could use no index.
    return sa.cast(sa.extract("epoch", sa.func.statement_timestamp()), sa.Double)


@asynccontextmanager
async def _named() -> AsyncIterator[None]:
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        if not is_failure(error):
            raise
        # The driver's text names host and reason and never the password, but it is not for clients.
        _log.warning("the database failed: %s", getattr(error, "orig", error))
        raise DatabaseUnavailable(
            "The database does not answer.", retry_after_seconds=RETRY_AFTER_SECONDS
        ) from error


def is_failure(error: sa.exc.SQLAlchemyError) -> bool:
    """Return whether the database failed, and not we or a constraint."""
    if isinstance(error, sa.exc.TimeoutError):
        # All connections were in use for as long as one may wait.
        return True
    if not isinstance(error, sa.exc.DBAPIError):
        return False
    if isinstance(error.orig, sqlite3.Error):
        # An extended code has the plain one in its lowest byte.
        return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in _SQLITE_FAILURES
    return (
        error.connection_invalidated
        or isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError)
        or getattr(error.orig, "sqlstate", None) in _POSTGRES_FAILURES
    )
