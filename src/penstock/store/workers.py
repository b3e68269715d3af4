"""Heartbeats of the processes that run workflows."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from penstock.store import tables


class Workers:
    """Who is alive; one instance per engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reader = engine.execution_options(penstock_readonly=True)

    async def join(self, executor_id: str, at: float) -> None:
        """Announce a new executor."""
        async with self._engine.begin() as connection:
            await connection.execute(
                tables.workers.insert().values(
                    executor_id=executor_id, started_at=at, heartbeat_at=at
                )
            )

    async def beat(self, executor_id: str, at: float) -> None:
        """Say that the executor is alive; one that was declared lost comes back."""
        async with self._engine.begin() as connection:
            changed = await connection.execute(
                tables.workers.update()
                .where(tables.workers.c.executor_id == executor_id)
                .values(heartbeat_at=at)
            )
            if changed.rowcount == 0:
                await connection.execute(
                    tables.workers.insert().values(
                        executor_id=executor_id, started_at=at, heartbeat_at=at
                    )
                )

    async def silent_since(self, at: float) -> list[str]:
        """Return the executors whose last heartbeat is older than `at`."""
        query = sa.select(tables.workers.c.executor_id).where(tables.workers.c.heartbeat_at < at)
        async with self._reader.connect() as connection:
            return [row[0] for row in await connection.execute(query)]

    async def forget(self, executor_id: str) -> None:
        """Remove an executor whose work was taken over, or that left in order."""
        async with self._engine.begin() as connection:
            await connection.execute(
                tables.workers.delete().where(tables.workers.c.executor_id == executor_id)
            )
