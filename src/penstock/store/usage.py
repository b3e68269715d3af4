"""What organisations use of their quotas: counted with each job, in its transaction.

One row an organisation and UTC day, the day on which its jobs were accepted: it holds sums over
these jobs, whatever became of them since. Money counts on the day on which a round began, for the
first one that of its job (`store/ledger` writes both); its end gives back what was reserved for it
and adds what it did cost, on the row of that day. So no job is counted twice and none is
forgotten, however often a transaction is tried again.

A new job takes the organisation's lock before it counts. The end of one does not, because it holds
the job already: it waits for the rows of days only, the earlier one first, as the last thing that
it locks.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.estimate import HISTORY_JOBS_MAX, Estimate, Past
from penstock.core.job import Counts, Job, JobId, OrgId
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
from penstock.store.spending import Group, Spending, read_groups

PAST_JOBS_LOOKED_AT: Final = 50
"""Of an organisation, for one estimate."""

NAMED_MAX: Final = 10
"""Jobs that a refusal names."""

_OPEN: Final = tuple(state.value for state in JobState if state not in TERMINAL)

_SUMS: Final = ("jobs", "lines", "bytes", "reserved_micro_dollars", "spent_micro_dollars")
"""Columns of a day."""


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

    async def groups(self, asked: Spending) -> list[Group]:
        """Return what was billed; more groups than `groups_max` means that there are too many."""
        async with self._reader.connect() as connection:
            return await read_groups(connection, asked)

    async def past(self, org_id: OrgId, model: str) -> list[Past]:
        """Return how the organisation's last jobs of the model ended, beside their estimates.

        Among its newest jobs only: who has sent fifty others since is told what anybody is.
        """
        jobs = tables.jobs.c
        newest = (
            sa.select(jobs.id)
            .where(jobs.org_id == org_id)
            .order_by(jobs.created_at.desc(), jobs.id.desc())
            .limit(PAST_JOBS_LOOKED_AT)
            .subquery()
        )
        query = (
            sa.select(jobs.counts, jobs.estimate, jobs.twin_count)
            .join(newest, newest.c.id == jobs.id)
            .where(
                *(jobs.model == model, jobs.finished_at.is_not(None), jobs.parent_id.is_(None)),
                *(jobs.counts.is_not(None), jobs.estimate.is_not(None)),
            )
            .order_by(jobs.created_at.desc(), jobs.id.desc())
            .limit(HISTORY_JOBS_MAX)
        )
        async with self._reader.connect() as connection:
            rows = (await connection.execute(query)).all()
        found = (_past(row.counts, row.estimate, row.twin_count) for row in rows)
        return [one for one in found if one is not None]


def _past(counts_json: str, estimate_json: str, twin_count: int) -> Past | None:
    """Return what a job says of those like it; None if nothing was answered in it."""
    counts = msgspec.json.decode(counts_json, type=Counts)
    estimate = msgspec.json.decode(estimate_json, type=Estimate)
    answered = counts.successful - twin_count
    if answered < 1 or estimate.lines < 1:
        return None
    return Past(
        prompt_tokens=counts.prompt_tokens / answered,
        output_tokens=(counts.candidates_tokens + counts.thoughts_tokens) / answered,
        plain_prompt_tokens=estimate.plain_prompt_tokens / estimate.lines,
        plain_output_tokens=estimate.plain_output_tokens / estimate.lines,
    )


async def check(
    connection: AsyncConnection, org_id: OrgId, quotas: Quotas, asked: Asked, now: float
) -> None:
    """Raise `QuotaExceeded` if the organisation may not have what is asked for as well."""
    over = excess(quotas, await _used(connection, org_id, now), asked, now)
    if over is not None:
        raise refusal(over, now, await _holders(connection, org_id, over, now))


async def count(connection: AsyncConnection, job: Job) -> None:
    """Count a new job; its organisation is locked. Its money is the ledger's business."""
    usage = tables.usage.c
    more = {usage.jobs: 1, usage.lines: job.line_count, usage.bytes: job.input_bytes}
    await _add(connection, job.org_id, day_of(job.created_at), more)


async def add_bytes(connection: AsyncConnection, job_id: JobId, more_bytes: int) -> None:
    """Count what an end of a job stored beyond what it had stored before, or less.

    On the day of the job, so that no day's sum falls below zero. To be called before the round is
    settled: whoever changes two days begins with the earlier one.
    """
    jobs = tables.jobs.c
    found = await connection.execute(
        sa.select(jobs.org_id, jobs.created_at).where(jobs.id == job_id, jobs.parent_id.is_(None))
    )
    job = found.one_or_none()
    if job is not None and more_bytes:
        day = day_of(job.created_at)
        await _add(connection, job.org_id, day, {tables.usage.c.bytes: more_bytes})


async def add_money(
    connection: AsyncConnection, org_id: OrgId, day: int, *, reserved: int = 0, spent: int = 0
) -> None:
    """Count what is reserved, given back or spent of the money of a day."""
    usage = tables.usage.c
    more = {usage.reserved_micro_dollars: reserved, usage.spent_micro_dollars: spent}
    if any(more.values()):
        await _add(connection, org_id, day, more)


async def _add(
    connection: AsyncConnection, org_id: OrgId, day: int, more: Mapping[sa.Column[int], int]
) -> None:
    usage = tables.usage.c
    adding = (
        tables.usage.update()
        .where(usage.org_id == org_id, usage.day == day)
        .values({column: column + number for column, number in more.items()})
    )
    if (await connection.execute(adding)).rowcount == 0:
        is_postgres = connection.dialect.name == "postgresql"
        insert = postgresql.insert if is_postgres else sqlite.insert
        first = {"org_id": org_id, "day": day, **dict.fromkeys(_SUMS, 0)}
        # The round of a job begins without the organisation's lock, so two may make the row.
        await connection.execute(insert(tables.usage).values(**first).on_conflict_do_nothing())
        await connection.execute(adding)


async def _used(connection: AsyncConnection, org_id: OrgId, now: float) -> Used:
    usage, jobs = tables.usage.c, tables.jobs.c
    today, month = usage.day == day_of(now), usage.day >= month_begins(now)
    in_flight = (
        sa.select(sa.func.count())
        .where(jobs.org_id == org_id, jobs.state.in_(_OPEN), jobs.parent_id.is_(None))
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
    began_at = sa.func.coalesce(jobs.round_began_at, jobs.created_at)
    if over.name == "jobs_in_flight":
        return await _reserved_by(connection, org_id, amount=sa.literal(1))
    if over.name == "spend_day":
        return await _reserved_by(connection, org_id, began_at >= day_of(now) * DAY_SECONDS)
    if over.name == "spend_month":
        begins_at = month_begins(now) * DAY_SECONDS
        return await _reserved_by(connection, org_id, began_at >= begins_at)
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
        .where(
            *(jobs.org_id == org_id, jobs.state.in_(_OPEN), jobs.parent_id.is_(None)),
            *(held > 0, *only),
        )
        .order_by(sa.desc("amount"), jobs.created_at, jobs.id)
        .limit(NAMED_MAX)
    )
    rows = await connection.execute(query)
    return tuple(Reservation(request_id=row.id, amount=row.amount) for row in rows)
