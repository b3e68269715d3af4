"""Heartbeats of the processes that run workflows.

On Postgres the times are the server's: the clocks of several machines differ, and one that is ahead
must not take the living for dead. On SQLite there is one machine, whose clock is passed in.
"""

import sqlalchemy as sa

from penstock.store import tables
from penstock.store.connections import Connections


class Workers:
    """Who is alive; one instance per engine."""

    def __init__(self, engine: Connections) -> None:
        self._engine = engine
        self._reader = engine.for_reading()

    async def join(self, executor_id: str, at: float) -> None:
        """Announce a new executor."""
        async with self._engine.begin() as connection:
            await connection.execute(self._insert(executor_id, at))

    async def beat(self, executor_id: str, at: float) -> float:
        """Say that the executor is alive; one that was declared lost comes back.

        Returns the time that stands there now, by the clock that all processes share.
        """
        columns = tables.workers.c
        update = (
            tables.workers.update()
            .where(columns.executor_id == executor_id)
            .values(heartbeat_at=self._now(at))
        )
        async with self._engine.begin() as connection:
            beaten = await connection.execute(update.returning(columns.heartbeat_at))
            row = beaten.first()
            if row is None:
                insert = self._insert(executor_id, at).returning(columns.heartbeat_at)
                row = (await connection.execute(insert)).one()
        return float(row[0])

    async def leave(self, executor_id: str, silent_seconds: float) -> None:
        """Have the executor look as if its last heartbeat were so much older."""
        columns = tables.workers.c
        async with self._engine.begin() as connection:
            await connection.execute(
                tables.workers.update()
                .where(columns.executor_id == executor_id)
                .values(heartbeat_at=columns.heartbeat_at - silent_seconds)
            )

    async def silent_since(self, at: float) -> list[str]:
        """Return the executors whose last heartbeat is older than `at`, by the shared clock."""
        query = sa.select(tables.workers.c.executor_id).where(tables.workers.c.heartbeat_at < at)
        async with self._reader.connect() as connection:
            return [row[0] for row in await connection.execute(query)]

    async def forget(self, executor_id: str) -> None:
        """Remove an executor whose work was taken over, or that left in order."""
        async with self._engine.begin() as connection:
            await connection.execute(
                tables.workers.delete().where(tables.workers.c.executor_id == executor_id)
            )

    def _insert(self, executor_id: str, at: float) -> sa.Insert:
        now = self._now(at)
        return tables.workers.insert().values(
            executor_id=executor_id, started_at=now, heartbeat_at=now
        )

    def _now(self, at: float) -> sa.ColumnElement[float]:
        if self._engine.has_a_clock:
            return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)
        return sa.literal(at, sa.Double)
