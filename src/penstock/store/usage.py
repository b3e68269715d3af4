"""What organisations use of their quotas: counted with each job, in its transaction.

One row an organisation and UTC day, the day on which its jobs were accepted: it holds sums over
these jobs, whatever became of them since. A job's end gives back what was reserved for it and adds
what it did cost, on the row of its own day. So no job is counted twice and none is forgotten,
however often a transaction is tried again.

A new job takes the organisation's lock before it counts. The end of one does not, because it holds
the job already: it waits for the row of the day only, as the last thing that it locks.
"""

from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.job import Job, JobId, OrgId
from penstock.core.quotas import (
    DAY_SECONDS,
    Asked,
    Excess,
    Quotas,
    Used,
    day_of,
    excess,
    month_begins,
    refusal,
)
from penstock.core.state import TERMINAL, JobState
from penstock.errors import Reservation
from penstock.store import tables
from penstock.store.connections import Connections
from penstock.store.database import typed

NAMED_MAX: Final = 10
"""Jobs that a refusal names."""

_OPEN: Final = tuple(state.value for state in JobState if state not in TERMINAL)


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the jobs that were accepted on one day."""

    day: int
    jobs: int
    lines: int
    bytes: int
    reserved_micro_dollars: int
    spent_micro_dollars: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that an organisation uses."""

    used: Used
    reserved_by: tuple[Reservation, ...]
    """Jobs that have not ended, with the micro-dollars that are reserved for them."""
    days: tuple[Day, ...]
    """Of this month, those on which there were jobs."""


class Usage:
    """Looks at what is used; one instance per store."""

    def __init__(self, engine: Connections) -> None:
        self._reader = engine.for_reading()

    async def look(self, org_id: OrgId, quotas: Quotas, asked: Asked, now: float) -> None:
        """Raise `QuotaExceeded` if one more job would be too much as it stands now.

        Only the transaction of the job knows for certain; this one spares the body.
        """
        if not quotas.limits_jobs:
            return
        async with self._reader.connect() as connection:
            await check(connection, org_id, quotas, asked, now)

    async def report(self, org_id: OrgId, now: float) -> Report:
        """Return what the organisation uses."""
        usage = tables.usage.c
        this_month = (
            sa.select(
                usage.day,
                usage.jobs,
                usage.lines,
                usage.bytes,
                usage.reserved_micro_dollars,
                usage.spent_micro_dollars,
            )
            .where(usage.org_id == org_id, usage.day >= month_begins(now))
            .order_by(usage.day)
        )
        async with self._reader.connect() as connection:
            used = await _used(connection, org_id, now)
            reserved_by = await _reserved_by(connection, org_id)
            rows = (await connection.execute(this_month)).mappings().all()
        days = tuple(typed(row, Day) for row in rows)
        return Report(used=used, reserved_by=reserved_by, days=days)


async def check(
    connection: AsyncConnection, org_id: OrgId, quotas: Quotas, asked: Asked, now: float
) -> None:
    """Raise `QuotaExceeded` if the organisation may not have what is asked for as well."""
    over = excess(quotas, await _used(connection, org_id, now), asked, now)
    if over is not None:
        raise refusal(over, now, await _holders(connection, org_id, over, now))


async def count(connection: AsyncConnection, job: Job) -> None:
    """Count a new job; its organisation is locked."""
    usage = tables.usage.c
    day = day_of(job.created_at)
    more = {
        usage.jobs: 1,
        usage.lines: job.line_count,
        usage.bytes: job.input_bytes,
        usage.reserved_micro_dollars: job.reserved_micro_dollars or 0,
    }
    added = await connection.execute(
        tables.usage.update()
        .where(usage.org_id == job.org_id, usage.day == day)
        .values({column: column + number for column, number in more.items()})
    )
    if added.rowcount == 0:
        first = {column.name: number for column, number in more.items()}
        await connection.execute(
            tables.usage.insert().values(org_id=job.org_id, day=day, spent_micro_dollars=0, **first)
        )


async def settle(
    connection: AsyncConnection, job_id: JobId, cost_micro_dollars: int | None, output_bytes: int
) -> None:
    """Count the end of a job that was just moved to it: what was reserved for it is free again."""
    jobs, usage = tables.jobs.c, tables.usage.c
    found = await connection.execute(
        sa.select(jobs.org_id, jobs.created_at, jobs.reserved_micro_dollars).where(
            jobs.id == job_id
        )
    )
    job = found.one()
    await connection.execute(
        tables.usage.update()
        .where(usage.org_id == job.org_id, usage.day == day_of(job.created_at))
        .values(
            {
                usage.reserved_micro_dollars: usage.reserved_micro_dollars
                - (job.reserved_micro_dollars or 0),
                usage.spent_micro_dollars: usage.spent_micro_dollars + (cost_micro_dollars or 0),
                usage.bytes: usage.bytes + output_bytes,
            }
        )
    )


async def _used(connection: AsyncConnection, org_id: OrgId, now: float) -> Used:
    usage, jobs = tables.usage.c, tables.jobs.c
    today, month = usage.day == day_of(now), usage.day >= month_begins(now)
    in_flight = (
        sa.select(sa.func.count())
        .where(jobs.org_id == org_id, jobs.state.in_(_OPEN))
        .scalar_subquery()
    )
    sums = sa.select(
        in_flight.label("jobs_in_flight"),
        _sum(usage.bytes).label("bytes_stored"),
        _sum(usage.lines, today).label("lines_day"),
        _sum(usage.spent_micro_dollars, today).label("spent_day_micro_dollars"),
        _sum(usage.reserved_micro_dollars, today).label("reserved_day_micro_dollars"),
        _sum(usage.spent_micro_dollars, month).label("spent_month_micro_dollars"),
        _sum(usage.reserved_micro_dollars, month).label("reserved_month_micro_dollars"),
    ).where(usage.org_id == org_id)
    row = (await connection.execute(sums)).mappings().one()
    # Postgres adds big integers up to a decimal number.
    return Used(**{str(name): int(value) for name, value in row.items()})


def _sum(
    column: sa.ColumnElement[int], when: sa.ColumnElement[bool] | None = None
) -> sa.ColumnElement[Any]:
    counted = column if when is None else sa.case((when, column), else_=0)
    return sa.func.coalesce(sa.func.sum(counted), 0)


async def _holders(
    connection: AsyncConnection, org_id: OrgId, over: Excess, now: float
) -> tuple[Reservation, ...]:
    jobs = tables.jobs.c
    if over.name == "jobs_in_flight":
        return await _reserved_by(connection, org_id, amount=sa.literal(1))
    if over.name == "spend_day":
        return await _reserved_by(connection, org_id, jobs.created_at >= day_of(now) * DAY_SECONDS)
    if over.name == "spend_month":
        begins_at = month_begins(now) * DAY_SECONDS
        return await _reserved_by(connection, org_id, jobs.created_at >= begins_at)
    return ()


async def _reserved_by(
    connection: AsyncConnection,
    org_id: OrgId,
    *only: sa.ColumnElement[bool],
    amount: sa.ColumnElement[int] | None = None,
) -> tuple[Reservation, ...]:
    jobs = tables.jobs.c
    held = jobs.reserved_micro_dollars if amount is None else amount
    query = (
        sa.select(jobs.id, held.label("amount"))
        .where(jobs.org_id == org_id, jobs.state.in_(_OPEN), held > 0, *only)
        .order_by(sa.desc("amount"), jobs.created_at, jobs.id)
        .limit(NAMED_MAX)
    )
    rows = await connection.execute(query)
    return tuple(Reservation(request_id=row.id, amount=row.amount) for row in rows)
