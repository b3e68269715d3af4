"""Rounds: how one ends, and how the next one begins in the same row.

A round takes a number of its own from the attempts, which nothing is ever sent under: so whoever
still knows the job from the round before, and froze there, holds a number that is too low for every
guard. It takes a run of its own as well, because workflows are named by it and those of the round
before have ended.
"""

from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.job import Job, JobId
from penstock.core.options import Selection
from penstock.core.quotas import Asked
from penstock.core.state import SETTLED_FROM, TERMINAL, JobState, sources_of
from penstock.errors import Conflict
from penstock.fault import fault
from penstock.store import tables
from penstock.store.admission import Admission
from penstock.store.audit import Audit, lock_org
from penstock.store.connections import Connections
from penstock.store.idempotency import remember
from penstock.store.ledger import reserve, settle
from penstock.store.moves import (
    Finish,
    Only,
    add_event,
    in_json,
    move,
    move_from,
    result_of,
)
from penstock.store.usage import add_bytes, check

RETRY_FAILED: Final = "retry_failed"
"""The event of a later round that came to nothing, and the error of a job that it leaves failed."""

OF_ONE_ROUND: Final = (
    "provider_input",
    "provider_job",
    "provider_state",
    "provider_state_since",
    "provider_output",
    "running_since",
    "stop_reason",
    "cancel_requested_at",
    "finished_at",
    "error_code",
    "error_message",
    "slow_at",
    "partial_wanted_at",
)
"""What the next one begins without. A look at this one is forgotten with its files."""


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """A round that is to begin."""

    selection: Selection
    lines: int
    """That are to be sent, or a few more."""
    micro_dollars: int | None
    """What is set aside for it; None where the price is not known."""


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """What the end of a round writes."""

    state: JobState
    sources: frozenset[JobState]
    values: dict[str, Any]
    events: tuple[tuple[str, str], ...]
    more_bytes: int


class Rounds:
    """Queries on rounds; part of `Jobs`."""

    _engine: Connections
    _audit: Audit

    async def again(self, job: Job, at: float, ended: Finish, following: Round) -> bool:
        """Write the output of a round and begin the next one, in one transaction.

        False if the job has left COLLECTING or its round, or if its owner wants no more of it.
        """
        only = Only(attempt=job.attempt, is_wanted=True)
        collecting = frozenset({JobState.COLLECTING})
        async with self._engine.begin() as connection:
            if not await move_from(connection, job.id, collecting, result_of(ended), only):
                return False
            more_bytes = (ended.output_bytes or 0) - (job.output_bytes or 0)
            await add_bytes(connection, job.id, more_bytes)
            await settle(connection, job.id, at, ended.spent)
            fault("again.in_transaction")
            values = _begun(job, ended.state, at, following)
            await move(connection, job.id, JobState.ACCEPTED, values, Only(attempt=job.attempt))
            await _open(connection, job, at, following)
        fault("again.committed")
        return True

    async def reopen(self, job: Job, at: float, following: Round, admission: Admission) -> None:
        """Begin another round of a job that has ended, for its owner.

        Raises `QuotaExceeded`, and `Conflict` if somebody else was first.
        """
        async with self._engine.begin() as connection:
            await lock_org(connection, job.org_id)
            if admission.claim is not None:
                await remember(connection, admission.claim, job, admission.fingerprint)
            if admission.quotas.limits_jobs:
                # Its lines and its input were counted when it was submitted.
                asked = Asked(bytes=0, lines=0, micro_dollars=following.micro_dollars or 0)
                await check(connection, job.org_id, admission.quotas, asked, at)
            values = _begun(job, job.state, at, following)
            only = Only(state=job.state, attempt=job.attempt)
            if not await move(connection, job.id, JobState.ACCEPTED, values, only):
                raise Conflict(
                    f"The request {job.id} was retried by somebody else just now.",
                    code="request_running",
                    hint="Wait for its end.",
                )
            await _open(connection, job, at, following)
            fault("reopen.in_transaction")
            if admission.actor is not None:
                detail = {
                    "round": job.round + 1,
                    "lines": following.lines,
                    "outcomes": [str(outcome) for outcome in following.selection.outcomes],
                }
                await self._audit.append(
                    connection, admission.actor, at, "job.retry", job.id, detail
                )
        fault("reopen.committed")


def ending_of(finish: Finish, settled_state: JobState | None, before_bytes: int) -> Ending:
    """Return what an end writes; `settled_state` is that of the row, of later rounds only.

    This is the one place that keeps a later round from losing what the rounds before it brought,
    whoever ends it.
    """
    if settled_state is not None and finish.output_name is None:
        return _nothing(finish, settled_state)
    state, values = finish.state, result_of(finish)
    if settled_state is not None and state is not JobState.SUCCEEDED:
        # It ended early, but with rows: they are in the output, and the job is no worse for it.
        state = settled_state
        values |= _errors(finish, state)
    return Ending(
        state=state,
        sources=sources_of(state) - TERMINAL,
        values=values | {"status_detail": finish.detail},
        events=((state.value, finish.detail),),
        more_bytes=(finish.output_bytes or 0) - before_bytes,
    )


def _nothing(finish: Finish, settled_state: JobState) -> Ending:
    detail = f"The retry came to nothing, and all is as before: {finish.detail}"
    return Ending(
        state=settled_state,
        sources=SETTLED_FROM,
        values={"status_detail": detail, **_errors(finish, settled_state)},
        events=((RETRY_FAILED, finish.detail), (settled_state.value, detail)),
        more_bytes=0,
    )


def _errors(finish: Finish, state: JobState) -> dict[str, str | None]:
    if state is not JobState.FAILED:
        return {"error_code": None, "error_message": None}
    return {
        "error_code": finish.error_code or RETRY_FAILED,
        "error_message": finish.error_message or finish.detail,
    }


def _begun(job: Job, settled_state: JobState, at: float, following: Round) -> dict[str, Any]:
    """Return the values with which the next round of a job begins."""
    return {
        **dict.fromkeys(OF_ONE_ROUND),
        **in_json({"selection": following.selection}),
        "settled_state": settled_state.value,
        "round": job.round + 1,
        "round_began_at": at,
        # Not of what was read before: whoever found the workflow dead may have counted meanwhile.
        "run": tables.jobs.c.run + 1,
        "attempt": job.attempt + 1,
        "reserved_micro_dollars": following.micro_dollars,
        "status_detail": _detail(job, following),
        "updated_at": at,
    }


async def _open(connection: AsyncConnection, job: Job, at: float, following: Round) -> None:
    await reserve(
        connection,
        job.id,
        at,
        org_id=job.org_id,
        round_=job.round + 1,
        attempt=job.attempt + 1,
        lines=following.lines,
        micro_dollars=following.micro_dollars,
    )
    await add_event(connection, job.id, at, "retrying", _detail(job, following))


def _detail(job: Job, following: Round) -> str:
    outcomes = ", ".join(following.selection.outcomes)
    return f"Round {job.round + 1}: {following.lines} lines are sent again ({outcomes})."


class Before(msgspec.Struct, frozen=True, kw_only=True):
    """What the end of a round must know of the row."""

    output_bytes: int = 0
    settled_state: JobState | None = None


async def before_end(connection: AsyncConnection, job_id: JobId) -> Before:
    """Return what the row says, and lock it: no other end can come in between."""
    jobs = tables.jobs.c
    query = sa.select(jobs.output_bytes, jobs.settled_state).where(jobs.id == job_id)
    row = (await connection.execute(query.with_for_update(key_share=True))).first()
    if row is None:
        return Before()
    state = None if row.settled_state is None else JobState(row.settled_state)
    return Before(output_bytes=row.output_bytes or 0, settled_state=state)
