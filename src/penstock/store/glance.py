"""Reads of one row from SQLite without a change of thread.

The asynchronous driver hands each call (begin, execute, fetch, end) to a thread and back: about
ten changes of thread for a row that is found in 50 microseconds. Each change waits for a core, and
while uploads keep the cores busy that is what a small request takes its time for: two milliseconds
idle, twenty under two uploads. Found on the event loop, the row takes a quarter of one. Whoever
must wait, because a commit holds the file, goes the long way: nothing here ever waits for a lock.

Only for queries that an index answers with one row: a longer one would hold everybody up.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import sqlalchemy as sa

from penstock.store.database import prepare_connection, sqlite_url

NO_VALUES: Final[Mapping[str, object]] = MappingProxyType({})


class Glance:
    """One connection, used on the event loop only."""

    def __init__(self, path: Path) -> None:
        self._engine = sa.create_engine(
            sqlite_url(path),
            # Each statement is a transaction of its own and leaves no lock behind.
            isolation_level="AUTOCOMMIT",
            poolclass=sa.StaticPool,
            connect_args={"check_same_thread": False},
            hide_parameters=True,
        )
        sa.event.listen(self._engine, "connect", _prepare)
        # Opened at start-up, because opening may wait for a lock.
        self._engine.connect().close()

    def row(
        self, query: sa.Select[Any], values: Mapping[str, object] = NO_VALUES
    ) -> Mapping[Any, Any] | None:
        """Return the row, or None if there is none.

        Raises SQLAlchemy's `OperationalError` at once if the file is locked or cannot be read.
        """
        with self._engine.connect() as connection:
            return connection.execute(query, values).mappings().first()

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()


def _prepare(connection: Any, record: object) -> None:  # noqa: ANN401  # a DB-API connection
    prepare_connection(connection, record)
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout=0")
    cursor.close()
