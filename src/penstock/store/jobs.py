"""Jobs, their attempts and their events.

Every change of state is guarded twice: `core.state` says which moves exist, and the UPDATE repeats
it in its WHERE, so that a stale writer changes no row and is told so by `False`.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.access import Actor
from penstock.core.job import Attempt, Job, JobId, OrgId
from penstock.core.state import TERMINAL, JobState
from penstock.fault import fault
from penstock.store import tables
from penstock.store.admission import ANYBODY, Admission, admit
from penstock.store.audit import Audit, lock_org
from penstock.store.connections import Connections
from penstock.store.database import typed
from penstock.store.deliveries import announce
from penstock.store.ledger import reserve, settle
from penstock.store.lists import OURS, Page, find
from penstock.store.moves import (
    OPEN,
    Finish,
    Only,
    add_event,
    insert,
    job_of,
    job_with,
    move,
    move_from,
)
from penstock.store.rounds import Rounds, before_end, ending_of
from penstock.store.shards import WAITS, Shards, cancel_shards, follow, lock_parent
from penstock.store.usage import add_bytes

__all__ = ["Finish", "Jobs", "Kept", "OpenJob", "Page"]


FOUND_BY_BYTES_MAX: Final = 1_500
"""Of a job's name and labels beside each of its labels: Postgres takes 2,700 in an index."""

# SQLAlchemy's names are no plain strings.
_COLUMNS: Final = tuple(str(column.name) for column in tables.jobs.c)

_OF_ID: Final = sa.select(tables.jobs).where(tables.jobs.c.id == sa.bindparam("job_id"))
_OF_ORG: Final = _OF_ID.where(tables.jobs.c.org_id == sa.bindparam("org_id"), OURS)


class OpenJob(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine needs to know of a job that has not ended."""

    id: JobId
    org_id: OrgId
    state: JobState
    run: int
    priority: int
    updated_at: float


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a job's row says about its files."""

    id: JobId
    state: JobState
    output_name: str | None
    index_name: str | None = None
    partial_name: str | None = None
    partial_index_name: str | None = None
    is_spent: bool = False
    """Whether it is a shard whose parent has an output, so that nobody needs its files any more."""


class Jobs(Rounds, Shards):
    """Queries on jobs; one instance per engine."""

    def __init__(self, engine: Connections, audit: Audit) -> None:
        self._engine = engine
        self._reader = engine.for_reading()
        self._audit = audit

    # -- what the API asks ---------------------------------------------------------------------

    async def add(self, job: Job, admission: Admission = ANYBODY) -> None:
        """Commit a new job with its first event; durable when this returns.

        Raises `QuotaExceeded`, and `Conflict` if another request has its idempotency key by now.
        """
        at = job.created_at
        async with self._engine.begin() as connection:
            await admit(connection, job, admission)
            await connection.execute(insert(job))
            await _label(connection, job)
            await reserve(
                connection,
                job.id,
                at,
                org_id=job.org_id,
                round_=job.round,
                attempt=job.attempt,
                lines=job.line_count,
                micro_dollars=job.reserved_micro_dollars,
            )
            fault("accept.in_transaction")
            await add_event(connection, job.id, at, "accepted", f"{job.line_count} lines")
            if admission.actor is not None:
                await self._audit.append(connection, admission.actor, at, "job.submit", job.id)

    async def is_ruled_out(self, job: Job) -> bool:
        """Return whether an `add` that failed left no row, and none can come of it any more.

        Its commit may still be on the way to the disk of a server that we lost: reading would not
        see it yet. Adding the same row once more waits for it, and is rolled back.
        """
        try:
            async with self._engine.connect() as connection:
                await connection.execute(insert(job))
        except sa.exc.IntegrityError:
            return await self.load(job.id) is None
        return True

    async def get(self, org_id: OrgId, job_id: str) -> Job | None:
        """Return the job if it is this tenant's; an absent and a foreign id look the same."""
        return await self._one(_OF_ORG, job_id=job_id, org_id=org_id)

    async def listed(self, org_id: OrgId, page: Page) -> tuple[list[Job], int]:
        """Return one page of a tenant's jobs, newest first, and how many its filters select."""
        columns = tables.jobs.c
        async with self._reader.connect() as connection:
            found = await find(connection, org_id, page)
            chosen = found.ids.subquery()
            query = (
                sa.select(tables.jobs)
                .join(chosen, columns.id == chosen.c.id)
                .order_by(columns.created_at.desc(), columns.id.desc())
            )
            rows = (await connection.execute(query)).all()
        return [job_with(dict(zip(_COLUMNS, row, strict=True))) for row in rows], found.total

    async def request_cancel(
        self, org_id: OrgId, job_id: str, at: float, actor: Actor | None = None
    ) -> bool:
        """Commit the owner's wish to cancel; False if the job has ended or is not this tenant's."""
        async with self._engine.begin() as connection:
            await lock_org(connection, org_id)
            changed = await connection.execute(
                tables.jobs.update()
                .where(
                    tables.jobs.c.id == job_id,
                    tables.jobs.c.org_id == org_id,
                    OURS,
                    tables.jobs.c.state.in_(OPEN),
                    tables.jobs.c.cancel_requested_at.is_(None),
                )
                .values(cancel_requested_at=at, updated_at=at, status_detail="Cancel requested.")
            )
            if changed.rowcount == 1:
                await add_event(connection, job_id, at, "cancel_requested", "")
                await cancel_shards(connection, job_id, at)
            found = await connection.execute(
                sa.select(tables.jobs.c.state).where(
                    tables.jobs.c.id == job_id,
                    tables.jobs.c.org_id == org_id,
                    OURS,
                    tables.jobs.c.state.in_((*OPEN, JobState.CANCELLED.value)),
                )
            )
            row = found.first()
            # Asking twice is as good as once, and both were asked.
            if row is not None and actor is not None:
                await self._audit.append(connection, actor, at, "job.cancel", job_id)
            return row is not None and row.state in OPEN

    # -- what the lifecycle asks ---------------------------------------------------------------

    async def load(self, job_id: str) -> Job | None:
        """Return the job whoever owns it; for the lifecycle only."""
        return await self._one(_OF_ID, job_id=job_id)

    async def linked(self, job_id: str) -> Job | None:
        """Return the job of a signed download, unless its organisation is suspended."""
        orgs = tables.orgs
        query = (
            sa.select(tables.jobs)
            .join(orgs, orgs.c.id == tables.jobs.c.org_id)
            .where(tables.jobs.c.id == job_id, orgs.c.suspended_at.is_(None), OURS)
        )
        return await self._one(query)

    async def open_jobs(self) -> list[OpenJob]:
        """Return every job that has not ended, oldest change first; shards, too.

        Not those that wait for their shards: nobody has anything to do for them.
        """
        columns = tables.jobs.c
        names = OpenJob.__struct_fields__
        query = (
            sa.select(*(columns[name] for name in names))
            .where(columns.state.in_(OPEN), sa.not_(WAITS))
            .order_by(columns.updated_at)
        )
        async with self._reader.connect() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [typed(row, OpenJob) for row in rows]

    async def cancel_requested(self) -> set[JobId]:
        """Return the ids of open jobs whose owner wants them cancelled."""
        query = sa.select(tables.jobs.c.id).where(
            tables.jobs.c.state.in_(OPEN), tables.jobs.c.cancel_requested_at.is_not(None)
        )
        async with self._reader.connect() as connection:
            return {JobId(row[0]) for row in await connection.execute(query)}

    async def kept(self, job_ids: Sequence[str]) -> dict[str, Kept]:
        """Return what is known of these jobs' files, by id; jobs without a row are not in it."""
        columns = tables.jobs.c
        parents = tables.jobs.alias()
        # A later round of the parent has an output to begin with.
        is_spent = sa.or_(parents.c.state.not_in(OPEN), parents.c.round > 1)
        query = (
            sa.select(
                columns.id,
                columns.state,
                columns.output_name,
                columns.index_name,
                columns.partial_name,
                columns.partial_index_name,
                sa.func.coalesce(is_spent, sa.false()).label("is_spent"),
            )
            .join_from(tables.jobs, parents, parents.c.id == columns.parent_id, isouter=True)
            .where(columns.id.in_(job_ids))
        )
        async with self._reader.connect() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return {row["id"]: typed(row, Kept) for row in rows}

    async def move(
        self,
        job_id: JobId,
        to: JobState,
        at: float,
        *,
        only_attempt: int | None = None,
        only_input: str | None = None,
        only_from: JobState | None = None,
        **fields: Any,  # noqa: ANN401
    ) -> bool:
        """Move the job to a state that is not terminal; False if it may not go there any more.

        `only_attempt` is for writers that act on what they know of one attempt: a process that was
        frozen with it must change nothing once another attempt has begun. With `only_input` it must
        change nothing either once the attempt is fenced, which gives the job another input.
        `only_from` is for those that know of one state, where others lead to the target, too.
        """
        detail = fields.get("status_detail", "")
        async with self._engine.begin() as connection:
            moved = await move(
                connection,
                job_id,
                to,
                {"updated_at": at, **fields},
                Only(state=only_from, attempt=only_attempt, input=only_input),
            )
            if moved:
                await add_event(connection, job_id, at, to.value, detail)
        return moved

    async def note(
        self,
        job_id: JobId,
        at: float,
        *,
        only_from: JobState | None = None,
        only_attempt: int | None = None,
        **fields: Any,  # noqa: ANN401
    ) -> bool:
        """Write what is known of an open job (`status_detail`, `provider_state` …).

        With `only_from` it is written only while the job is still there, and with `only_attempt`
        only in the same attempt, so in the same round: what somebody saw before he froze must not
        stand in a job that has moved on. False if it has.
        """
        states = frozenset(JobState) - TERMINAL if only_from is None else frozenset({only_from})
        only = Only(attempt=only_attempt)
        async with self._engine.begin() as connection:
            return await move_from(connection, job_id, states, {"updated_at": at, **fields}, only)

    async def next_run(
        self, job_id: JobId, run: int, at: float, detail: str, *, only_from: JobState
    ) -> bool:
        """Count one more start of the job's phase; False if somebody else counted it first.

        Or if the job has left the state in which its workflow was found dead: that one has ended
        because it was done, and its successor works already.
        """
        async with self._engine.begin() as connection:
            changed = await connection.execute(
                tables.jobs.update()
                .where(
                    tables.jobs.c.id == job_id,
                    tables.jobs.c.run == run,
                    tables.jobs.c.state == only_from.value,
                )
                .values(run=run + 1, updated_at=at)
            )
            if changed.rowcount == 1:
                await add_event(connection, job_id, at, "restarted", detail)
        return changed.rowcount == 1

    async def intend(self, attempt: Attempt) -> bool:
        """Commit the intent to create a provider job, before the create is sent.

        False if the job is not PREPARED any more, or in another round: then nobody may send
        anything.
        """
        async with self._engine.begin() as connection:
            moved = await move(
                connection,
                attempt.job_id,
                JobState.SUBMITTING,
                {"attempt": attempt.number, "updated_at": attempt.intent_at},
                Only(state=JobState.PREPARED, attempt=attempt.number - 1),
            )
            if moved:
                await connection.execute(
                    tables.attempts.insert().values(**msgspec.structs.asdict(attempt))
                )
                await add_event(
                    connection,
                    attempt.job_id,
                    attempt.intent_at,
                    "intent",
                    f"attempt {attempt.number}",
                )
        return moved

    async def record_provider_job(
        self,
        job_id: JobId,
        number: int,
        name: str,
        at: float,
        *,
        only_input: str | None,
        adopted_in: int | None = None,
    ) -> bool:
        """Commit the name of the provider job that attempt `number` made, and move to RUNNING.

        Only while the attempt is the newest and the job's input is `only_input`: another worker may
        have fenced it meanwhile. One that is adopted may be of an older attempt; then `adopted_in`
        is the newest that its finder knows of, and the guard holds for that.
        """
        async with self._engine.begin() as connection:
            moved = await move(
                connection,
                job_id,
                JobState.RUNNING,
                {
                    "provider_job": name,
                    "provider_state": "JOB_STATE_PENDING",
                    "provider_state_since": at,
                    "status_detail": "The provider has the job.",
                    "updated_at": at,
                },
                Only(
                    state=JobState.SUBMITTING,
                    attempt=number if adopted_in is None else adopted_in,
                    input=only_input,
                ),
            )
            if moved:
                await connection.execute(
                    tables.attempts.update()
                    .where(tables.attempts.c.job_id == job_id, tables.attempts.c.number == number)
                    .values(provider_job=name)
                )
                kind = "created" if adopted_in is None else "adopted"
                await add_event(connection, job_id, at, kind, name)
        return moved

    async def fence(self, job_id: JobId, number: int, at: float, provider_input: str) -> bool:
        """Record that the attempt's input is moved away, so that a late create of it runs nothing.

        False if the attempt is settled already; then its input must stay where it is.
        """
        async with self._engine.begin() as connection:
            changed = await connection.execute(
                tables.jobs.update()
                .where(
                    tables.jobs.c.id == job_id,
                    tables.jobs.c.state == JobState.SUBMITTING.value,
                    tables.jobs.c.attempt == number,
                )
                .values(provider_input=provider_input, updated_at=at)
            )
            if changed.rowcount == 0:
                return False
            await connection.execute(
                tables.attempts.update()
                .where(tables.attempts.c.job_id == job_id, tables.attempts.c.number == number)
                .values(fenced_at=at)
            )
            await add_event(connection, job_id, at, "fenced", f"attempt {number}")
        return True

    async def attempts(self, job_id: JobId) -> list[Attempt]:
        """Return the job's attempts, oldest first."""
        query = (
            sa.select(tables.attempts)
            .where(tables.attempts.c.job_id == job_id)
            .order_by(tables.attempts.c.number)
        )
        async with self._reader.connect() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [typed(row, Attempt) for row in rows]

    async def finish(
        self, job_id: JobId, at: float, finish: Finish, *, only_attempt: int | None = None
    ) -> bool:
        """Write terminal state, result and ledger in one transaction; False if already ended.

        A later round that has nothing to show leaves the job as it was before it.
        """
        async with self._engine.begin() as connection:
            parent_id = await lock_parent(connection, job_id)
            before = await before_end(connection, job_id)
            ending = ending_of(finish, before.settled_state, before.output_bytes)
            moved = await move_from(
                connection,
                job_id,
                ending.sources,
                {
                    "state": ending.state.value,
                    "updated_at": at,
                    "finished_at": at,
                    **ending.values,
                },
                Only(attempt=only_attempt),
            )
            if moved:
                for kind, detail in ending.events:
                    await add_event(connection, job_id, at, kind, detail)
                if parent_id is None:
                    await announce(connection, job_id, at)
                fault("finish.in_transaction")
                await add_bytes(connection, job_id, ending.more_bytes)
                await settle(connection, job_id, at, finish.spent)
                if parent_id is not None:
                    await follow(connection, parent_id, at)
        fault("finish.committed")
        return moved

    async def event(self, job_id: JobId, at: float, kind: str, detail: str) -> None:
        """Append one event to the job's history."""
        async with self._engine.begin() as connection:
            await add_event(connection, job_id, at, kind, detail)

    async def events(self, job_id: JobId) -> Sequence[tuple[str, str]]:
        """Return (kind, detail) of the job's history, oldest first."""
        query = (
            sa.select(tables.events.c.kind, tables.events.c.detail)
            .where(tables.events.c.job_id == job_id)
            .order_by(tables.events.c.id)
        )
        async with self._reader.connect() as connection:
            return [(row[0], row[1]) for row in await connection.execute(query)]

    # -- shared ---------------------------------------------------------------------------------

    async def _one(self, query: sa.Select[Any], **values: str) -> Job | None:
        row = await self._reader.row(query, **values)
        return None if row is None else job_of(row)


async def _label(connection: AsyncConnection, job: Job) -> None:
    """Let lists find a new job by its labels."""
    if not job.labels:
        return
    labels = msgspec.json.encode(job.labels).decode()
    is_short = len(f"{job.name or ''}{labels}".encode()) <= FOUND_BY_BYTES_MAX
    every = {
        "job_id": job.id,
        "org_id": job.org_id,
        "created_at": job.created_at,
        "state": job.state,
        "name": job.name if is_short else None,
        "labels": labels if is_short else None,
    }
    rows = [{**every, "key": key, "value": value} for key, value in job.labels.items()]
    await connection.execute(tables.job_labels.insert(), rows)
