"""Ways to bring a job into a state, and to look behind the store's back."""

import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from tests.fake_clock import START

from penstock.core.bill import Spent
from penstock.core.job import Attempt, Counts, Job, JobId
from penstock.core.state import TERMINAL, JobState
from penstock.store import tables
from penstock.store.database import typed
from penstock.store.jobs import Finish
from penstock.store.store import Store
from penstock.store.tenants import Key

PROVIDER_JOB = "projects/p/locations/global/batchPredictionJobs/7"
SPENT = Spent(lines=2, prompt_tokens=10, output_tokens=25, micro_dollars=42)
COUNTS = Counts(ok=2, error=1, prompt_tokens=10, candidates_tokens=20, thoughts_tokens=5)


def attempt(job_id: JobId, number: int = 1, **changes: Any) -> Attempt:  # noqa: ANN401 - fields
    """An intent of a job."""
    values: dict[str, Any] = {
        "job_id": job_id,
        "number": number,
        "intent_at": START + number,
        "input_uri": f"gs://b/{job_id}/a{number}/input.jsonl",
        "output_prefix": f"gs://b/{job_id}/a{number}",
        "label": str(job_id),
    }
    return Attempt(**{**values, **changes})


def finish(state: JobState = JobState.SUCCEEDED, **changes: Any) -> Finish:  # noqa: ANN401 - fields
    """An end with two good lines."""
    values: dict[str, Any] = {
        "state": state,
        "detail": "The end.",
        "counts": COUNTS,
        "cost_micro_dollars": 42,
        "output_bytes": 9,
        "output_sha256": "f" * 64,
        "spent": SPENT,
    }
    if "cost_micro_dollars" in changes:
        cost = changes["cost_micro_dollars"]
        values["spent"] = msgspec.structs.replace(SPENT, micro_dollars=cost)
        if cost is None and changes.get("counts", COUNTS) is None:
            values["spent"] = None
    return Finish(**{**values, **changes})


async def bring(store: Store, job: Job, state: JobState) -> JobId:
    """Add a job and lead it to a state by the moves of the lifecycle."""
    await store.jobs.add(job)
    if state in {JobState.FAILED, JobState.CANCELLED}:
        assert await store.jobs.finish(job.id, START, finish(state, counts=None))
        return job.id
    order = [each for each in JobState if each not in TERMINAL] + [JobState.SUCCEEDED]
    for each in order[1 : order.index(state) + 1]:
        await _step(store, job.id, each)
    return job.id


async def _step(store: Store, job_id: JobId, to: JobState) -> None:
    if to is JobState.SUBMITTING:
        done = await store.jobs.intend(attempt(job_id))
    elif to is JobState.RUNNING:
        done = await store.jobs.record_provider_job(job_id, 1, PROVIDER_JOB, START, only_input=None)
    elif to is JobState.SUCCEEDED:
        done = await store.jobs.finish(job_id, START, finish())
    else:
        done = await store.jobs.move(job_id, to, START)
    assert done


def look(store: Store, query: str, *values: object) -> list[tuple[Any, ...]]:
    """What a connection of its own reads from the database of a store, or does to it."""
    url = store._engine.sync_engine.url
    if url.database is not None and url.get_backend_name() == "sqlite":
        return rows(Path(url.database), query, *values)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        found = connection.exec_driver_sql(query.replace("?", "%s"), values)
        return [tuple(row) for row in found] if found.returns_rows else []


async def all_keys(store: Store) -> list[Key]:
    """Every key that is stored, of whomever, in the order of their identifiers."""
    async with store._engine.for_reading().connect() as connection:
        found = await connection.execute(sa.select(tables.keys).order_by(tables.keys.c.id))
        return [typed(row, Key) for row in found.mappings()]


def rows(path: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    """What a connection of its own reads from a SQLite file."""
    connection = sqlite3.connect(path)
    try:
        with connection:
            connection.execute("PRAGMA foreign_keys=ON")
            return connection.execute(query, values).fetchall()
    finally:
        connection.close()
