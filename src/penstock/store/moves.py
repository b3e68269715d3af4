"""What every transaction on jobs is made of: a guarded move, an event, a row in and out."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.bill import Bill, Spent
from penstock.core.job import Counts, Job, JobId
from penstock.core.state import TERMINAL, JobState, sources_of
from penstock.store import tables

OPEN: Final = tuple(state.value for state in JobState if state not in TERMINAL)

_JSON: Final = ("payload", "counts", "options", "selection", "bill", "estimate", "labels")
"""Columns that hold JSON."""


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is written with a terminal state, in its transaction."""

    state: JobState
    detail: str
    counts: Counts | None = None
    cost_micro_dollars: int | None = None
    output_bytes: int | None = None
    output_sha256: str | None = None
    output_name: str | None = None
    """Which file of the job is the output; each run that collects writes one of its own."""
    index_name: str | None = None
    """The row index that belongs to it."""
    bill: Bill | None = None
    """Of all rounds, as `counts` and `cost_micro_dollars` are."""
    spent: Spent | None = None
    """Of the round that ends; None if nothing was paid in it."""
    error_code: str | None = None
    error_message: str | None = None


class Only(msgspec.Struct, frozen=True, kw_only=True):
    """What a writer knows of the job; where it is no longer so, nothing is written."""

    state: JobState | None = None
    attempt: int | None = None
    input: str | None = None
    is_wanted: bool = False
    """Whether nobody may have asked for its cancel."""


async def move(
    connection: AsyncConnection,
    job_id: JobId,
    to: JobState,
    values: Mapping[str, Any],
    only: Only,
) -> bool:
    """Move the job to a state to which it may go from where it is; False if it may not."""
    sources = sources_of(to) if only.state is None else sources_of(to) & {only.state}
    return await move_from(connection, job_id, sources, {"state": to.value, **values}, only)


async def move_from(
    connection: AsyncConnection,
    job_id: JobId,
    sources: frozenset[JobState],
    values: Mapping[str, Any],
    only: Only,
) -> bool:
    """Write values to a job in one of these states; False if it is in none of them."""
    jobs = tables.jobs.c
    guards = [jobs.id == job_id, jobs.state.in_([state.value for state in sources])]
    if only.attempt is not None:
        guards.append(jobs.attempt == only.attempt)
    if only.input is not None:
        guards.append(jobs.provider_input == only.input)
    if only.is_wanted:
        guards.append(jobs.cancel_requested_at.is_(None))
    changed = await connection.execute(tables.jobs.update().where(*guards).values(**values))
    return changed.rowcount == 1


async def add_event(
    connection: AsyncConnection, job_id: str, at: float, kind: str, detail: str
) -> None:
    """Append one event to the job's history."""
    await connection.execute(
        tables.events.insert().values(job_id=job_id, at=at, kind=kind, detail=detail)
    )


def insert(job: Job) -> sa.Insert:
    """Return the statement that stores a new job."""
    return tables.jobs.insert().values(**in_json(msgspec.structs.asdict(job)))


def in_json(values: dict[str, Any]) -> dict[str, Any]:
    """Return values of a job's row with JSON in the columns that hold it."""
    return {
        name: msgspec.json.encode(value).decode() if name in _JSON and value is not None else value
        for name, value in values.items()
    }


def job_of(row: Mapping[Any, Any]) -> Job:
    """Return the job of a row of its table."""
    return job_with({str(name): value for name, value in row.items()})


def job_with(values: dict[str, Any]) -> Job:
    """Return the job of these values of a row, which are the job's from now on."""
    for name in _JSON:
        if values[name] is None:
            del values[name]
        else:
            values[name] = msgspec.json.decode(values[name])
    return msgspec.convert(values, Job)


def result_of(finish: Finish) -> dict[str, Any]:
    """Return what a round's end says of its output, as values of the row."""
    values = msgspec.structs.asdict(finish)
    for name in ("state", "detail", "spent"):
        del values[name]
    return in_json(values)
