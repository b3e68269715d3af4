"""Looks at the outputs of running jobs: who wants one, and where the newest is.

Five columns of `jobs`. A wish is the tenant's and changes nothing that anybody sees; what came of
it is written by the lifecycle, guarded in the WHERE: a process that was frozen with an older look
must not put it in the place of a newer one, nor into a job that has moved on.
"""

import sqlalchemy as sa

from penstock.core.job import Job, JobId, OrgId
from penstock.core.look import Look
from penstock.core.state import JobState
from penstock.store import tables
from penstock.store.connections import Connections

_COLUMNS = tables.jobs.c


class Looks:
    """Queries on looks; one instance per engine."""

    def __init__(self, engine: Connections) -> None:
        self._engine = engine

    async def wish(self, org_id: OrgId, job_id: str, at: float, seconds_min: float) -> bool:
        """Commit that somebody wants a look; False if it is too early for another one, or too late.

        A wish that waits already is as good as a new one, so then nothing is written either; one
        that nobody fulfilled in all that time is forgotten. That of a job that was cut into shards
        is one of each of them.
        """
        waits = sa.and_(
            _COLUMNS.partial_wanted_at.is_not(None),
            _COLUMNS.partial_wanted_at > sa.func.coalesce(_COLUMNS.partial_at, 0.0),
            _COLUMNS.partial_wanted_at > at - seconds_min,
        )
        is_due = sa.or_(_COLUMNS.partial_at.is_(None), _COLUMNS.partial_at <= at - seconds_min)
        is_running = _COLUMNS.state == JobState.RUNNING.value
        mine = (_COLUMNS.id == job_id, _COLUMNS.org_id == org_id)
        wanted = tables.jobs.update().values(partial_wanted_at=at)
        async with self._engine.begin() as connection:
            changed = await connection.execute(
                wanted.where(*mine, is_running, sa.not_(waits), is_due)
            )
            if changed.rowcount == 1:
                await connection.execute(wanted.where(_COLUMNS.parent_id == job_id, is_running))
        return changed.rowcount == 1

    async def put(self, job: Job, look: Look) -> bool:
        """Name a look whose files are durable in the place of the one that the job had.

        False if another look, another round or the end of the job was first.
        """
        return await self._change(
            job,
            partial_at=look.at,
            partial_name=look.name,
            partial_index_name=look.index_name,
            partial_lines=look.lines,
        )

    async def see_nothing(self, job: Job, at: float) -> bool:
        """Write that the provider had nothing to read; False where `put` returns it."""
        return await self._change(job, partial_at=at, partial_lines=0)

    async def give_up(self, job_id: JobId) -> None:
        """Forget a wish that could not be fulfilled; who still wants a look asks again."""
        async with self._engine.begin() as connection:
            await connection.execute(
                tables.jobs.update().where(_COLUMNS.id == job_id).values(partial_wanted_at=None)
            )

    async def forget(self, job_id: JobId, name: str) -> None:
        """Take a look whose files are gone out of the row."""
        empty = dict.fromkeys(
            (
                "partial_wanted_at",
                "partial_at",
                "partial_name",
                "partial_index_name",
                "partial_lines",
            )
        )
        async with self._engine.begin() as connection:
            await connection.execute(
                tables.jobs.update()
                .where(
                    _COLUMNS.id == job_id,
                    _COLUMNS.partial_name == name,
                    _COLUMNS.state != JobState.RUNNING.value,
                )
                .values(empty)
            )

    async def _change(self, job: Job, **fields: object) -> bool:
        async with self._engine.begin() as connection:
            changed = await connection.execute(
                tables.jobs.update()
                .where(
                    _COLUMNS.id == job.id,
                    _COLUMNS.state == JobState.RUNNING.value,
                    _COLUMNS.attempt == job.attempt,
                    _COLUMNS.partial_name.is_not_distinct_from(job.partial_name),
                )
                .values(**fields)
            )
        return changed.rowcount == 1
