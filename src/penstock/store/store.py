"""The store: one engine, the tables' queries grouped by what they are about."""

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from penstock.store.database import migrate, open_sqlite
from penstock.store.jobs import Jobs
from penstock.store.tenants import Tenants
from penstock.store.workers import Workers


class Store:
    """Everything that survives a restart, except bytes."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self.jobs = Jobs(engine)
        self.tenants = Tenants(engine)
        self.workers = Workers(engine)

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Migrate the SQLite file at `path` and open it; blocks, so call it at start-up only."""
        migrate(path)
        return cls(open_sqlite(path))

    async def ping(self) -> None:
        """Raise if the database does not answer; it takes no lock, a long write is no outage."""
        reader = self._engine.execution_options(penstock_readonly=True)
        async with reader.connect() as connection:
            await connection.execute(sa.select(1))

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()
