"""Shards: jobs of their own that answer a range of another one's lines, and that no tenant sees.

A parent waits for them without anybody waiting for it: the last shard that ends moves it on, in the
transaction of its end, and a cancel of the parent is written to all of them in its own. So there is
no moment in which one of the two knows what the other does not, and no worker's slot is held.
"""

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.job import SHARDS, Job, JobId
from penstock.core.state import JobState
from penstock.fault import fault
from penstock.store import tables
from penstock.store.connections import Connections
from penstock.store.moves import OPEN, Only, add_event, insert, job_of, move

_jobs = tables.jobs.c

WAITS: Final = sa.and_(
    _jobs.state == JobState.RUNNING.value, _jobs.provider_job.startswith(SHARDS, autoescape=True)
)
"""A parent whose shards have not ended."""


class Shards:
    """Queries on shards; part of `Jobs`."""

    _engine: Connections
    _reader: Connections

    async def begin_shards(
        self, parent: Job, shards: Sequence[Job], at: float, *, twin_count: int
    ) -> bool:
        """Store the shards of a job and let it wait for them; False if it has left ACCEPTED."""
        detail = f"Cut into {len(shards)} provider jobs."
        async with self._engine.begin() as connection:
            values = {
                "provider_job": f"{SHARDS}{len(shards)}",
                "twin_count": twin_count,
                "status_detail": detail,
                "updated_at": at,
            }
            only = Only(state=JobState.ACCEPTED, attempt=parent.attempt)
            if not await move(connection, parent.id, JobState.RUNNING, values, only):
                return False
            # What was wished before this lock belongs to the shards as well.
            query = sa.select(_jobs.cancel_requested_at).where(_jobs.id == parent.id)
            wished_at = (await connection.execute(query)).scalar_one()
            for shard in shards:
                await connection.execute(insert(shard).values(cancel_requested_at=wished_at))
                lines = f"lines {shard.first_line} to {shard.last_line}"
                await add_event(connection, shard.id, at, shard.state.value, lines)
            fault("shards.in_transaction")
            await add_event(connection, parent.id, at, "sharded", detail)
            await add_event(connection, parent.id, at, JobState.RUNNING.value, detail)
        fault("shards.begun")
        return True

    async def shards_of(self, parent_id: JobId) -> list[Job]:
        """Return the shards of a job in the order of their lines."""
        query = (
            sa.select(tables.jobs)
            .where(_jobs.parent_id == parent_id)
            .order_by(_jobs.first_line, _jobs.id)
        )
        async with self._reader.connect() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [job_of(row) for row in rows]


async def lock_parent(connection: AsyncConnection, job_id: JobId) -> JobId | None:
    """Return the parent of a shard with its row locked, or None if the job is no shard.

    To be called before the shard's own row is locked, as a cancel does it, and so that of two
    shards that end at once the second one sees the end of the first.
    """
    query = sa.select(_jobs.parent_id).where(_jobs.id == job_id)
    parent_id = (await connection.execute(query)).scalar_one_or_none()
    if parent_id is not None:
        await connection.execute(
            sa.select(_jobs.id).where(_jobs.id == parent_id).with_for_update(key_share=True)
        )
    return parent_id


async def follow(connection: AsyncConnection, parent_id: JobId, at: float) -> None:
    """Move the parent on if this was the last of its shards to end; its row is locked."""
    mine = _jobs.parent_id == parent_id
    looked = sa.select(
        sa.func.count(sa.case((_jobs.state.in_(OPEN), 1))).label("open"),
        sa.func.min(_jobs.running_since).label("running_since"),
    ).where(mine)
    shards = (await connection.execute(looked)).one()
    if shards.open:
        return
    values = {
        "running_since": shards.running_since,
        "status_detail": "All provider jobs have ended; putting their answers together.",
        "updated_at": at,
    }
    moved = await move(
        connection, parent_id, JobState.COLLECTING, values, Only(state=JobState.RUNNING)
    )
    if moved:
        await add_event(
            connection, parent_id, at, JobState.COLLECTING.value, values["status_detail"]
        )


async def cancel_shards(connection: AsyncConnection, parent_id: str, at: float) -> None:
    """Pass the wish to cancel a job on to its shards; its row is locked."""
    await connection.execute(
        tables.jobs.update()
        .where(
            _jobs.parent_id == parent_id,
            _jobs.state.in_(OPEN),
            _jobs.cancel_requested_at.is_(None),
        )
        .values(cancel_requested_at=at, updated_at=at, status_detail="Cancel requested.")
    )
