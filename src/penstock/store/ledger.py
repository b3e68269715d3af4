"""What money did, entry by entry: set aside for a round, billed, and given back.

`reserved` is written when a round of a job begins, `usage` and `refunded` when it ends, each once
a round and in the transaction of the change. What was reserved is either given back or was billed:
`reserved - refunded = min(usage, reserved)`, and a `usage` above its reservation is an overrun.
The same transactions keep the sums of the day in `usage`, on the day on which the round began.

A round of a model without a price has nothing reserved, and its usage has no amount. Shards have
no entries: their parent has.
"""

from typing import Any, TypedDict, Unpack

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.bill import Spent
from penstock.core.entry import EntryKind
from penstock.core.job import JobId, OrgId
from penstock.core.quotas import day_of
from penstock.store import tables
from penstock.store.usage import add_money


class Reserved(TypedDict):
    """What is set aside for one round."""

    org_id: OrgId
    round_: int
    attempt: int
    lines: int
    """That are to be sent."""
    micro_dollars: int | None
    """None where nobody knows the price: then nothing is set aside."""


async def reserve(
    connection: AsyncConnection, job_id: JobId, at: float, **held: Unpack[Reserved]
) -> None:
    """Set aside what a round of a job is expected to cost; `at` is when the round begins."""
    amount = held["micro_dollars"]
    if amount is None:
        return
    await _enter(
        connection,
        EntryKind.RESERVED,
        at,
        job_id=job_id,
        org_id=held["org_id"],
        round=held["round_"],
        attempt=held["attempt"],
        lines=held["lines"],
        micro_dollars=amount,
    )
    await add_money(connection, held["org_id"], day_of(at), reserved=amount)


async def settle(
    connection: AsyncConnection, job_id: JobId, at: float, spent: Spent | None
) -> None:
    """Bill the round that ends, and give back what it left of its reservation.

    To be called after the job's row was moved, which is the lock: so an end counts once.
    """
    jobs, ledger = tables.jobs.c, tables.ledger.c
    query = (
        sa.select(
            jobs.org_id,
            jobs.parent_id,
            jobs.round,
            jobs.attempt,
            jobs.created_at,
            jobs.round_began_at,
            ledger.at.label("reserved_at"),
            ledger.micro_dollars.label("reserved"),
        )
        .join_from(
            tables.jobs,
            tables.ledger,
            sa.and_(
                ledger.job_id == jobs.id,
                ledger.round == jobs.round,
                ledger.kind == EntryKind.RESERVED.value,
            ),
            isouter=True,
        )
        .where(jobs.id == job_id)
    )
    job = (await connection.execute(query)).one()
    if job.parent_id is not None:
        return
    entry = {
        "job_id": job_id,
        "org_id": job.org_id,
        "round": job.round,
        "attempt": job.attempt,
    }
    billed = 0
    if spent is not None:
        billed = spent.micro_dollars or 0
        await _enter(
            connection,
            EntryKind.USAGE,
            at,
            **entry,
            lines=spent.lines,
            prompt_tokens=spent.prompt_tokens,
            output_tokens=spent.output_tokens,
            micro_dollars=spent.micro_dollars,
        )
    if job.reserved is not None:
        left = max(0, job.reserved - billed)
        await _enter(connection, EntryKind.REFUNDED, at, **entry, micro_dollars=left)
    began_at = job.reserved_at or job.round_began_at or job.created_at
    await add_money(
        connection, job.org_id, day_of(began_at), reserved=-(job.reserved or 0), spent=billed
    )


async def _enter(
    connection: AsyncConnection,
    kind: EntryKind,
    at: float,
    **values: Any,  # noqa: ANN401  # whatever the columns hold
) -> None:
    nothing = {"lines": 0, "prompt_tokens": 0, "output_tokens": 0}
    await connection.execute(
        tables.ledger.insert().values({**nothing, **values, "kind": kind.value, "at": at})
    )
