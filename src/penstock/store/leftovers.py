"""The driver's connections that are open when a store is closed, whoever forgot them.

A task that is cancelled twice, or while a connection is being made, lets go of one that the pool
knows no more of: a server's own time limits do it, and its end. Postgres would keep a session for
each, and the driver of SQLite a thread that answers a loop which is gone.
"""

from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakSet

from penstock.store.closing import Closing

if TYPE_CHECKING:
    import psycopg  # not where the database is SQLite

Opened: TypeAlias = "Closing | psycopg.AsyncConnection[Any]"


class Leftovers:
    """Knows each connection that an engine opened, for as long as there is one."""

    def __init__(self) -> None:
        self._opened: WeakSet[Opened] = WeakSet()

    def add(self, connection: Opened) -> None:
        """Remember one that is being opened."""
        self._opened.add(connection)

    async def close(self) -> None:
        """Close what is open, and return when nothing of it is left."""
        for connection in list(self._opened):
            if isinstance(connection, Closing):
                await connection.end()
            else:
                await connection.close()
