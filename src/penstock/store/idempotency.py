"""Idempotency keys: who works on one, and which job came of it.

A key belongs to an organisation and a route. Whoever uses it first gets a claim on it, with a token
that he made up, before he reads the body. The claim becomes a memory in the transaction of the job,
which is guarded by the token: of two who believe that the key is theirs one commits. Whoever stays
silent for too long is taken for dead; the next one takes the key over with a token and a job id of
his own, so that not even the files of the two can mix.

On Postgres the times are the server's, as those of `workers` are: the clocks of several machines
differ. On SQLite there is one machine, whose clock is passed in.
"""

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.job import Job, JobId, OrgId
from penstock.errors import Conflict
from penstock.store import tables
from penstock.store.connections import Connections


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The right to make the job of a key."""

    org_id: OrgId
    route: str
    key: str
    job_id: JobId
    """Of the job, should there be one."""
    token: str


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What a key stands for."""

    job_id: JobId
    fingerprint: str


class InFlight(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody else works on it."""

    seconds_left: float
    """Until he is taken for dead, unless he gives another sign of life."""


class Idempotency:
    """Queries on keys; one instance per engine."""

    def __init__(self, engine: Connections) -> None:
        self._engine = engine

    async def claim(
        self, claim: Claim, at: float, lost_seconds: float
    ) -> Claim | Memory | InFlight:
        """Return the claim if the key is free or its claimant is lost, else what is with it."""
        keys = tables.idempotency.c
        async with self._engine.begin() as connection:
            now = self._now(at)
            made = await connection.execute(
                _insert(connection)
                .values(**msgspec.structs.asdict(claim), created_at=now, seen_at=now)
                .on_conflict_do_nothing()
                .returning(keys.token)
            )
            if made.first() is not None:
                return claim
            silent_seconds = now - keys.seen_at
            look = sa.select(
                keys.job_id, keys.fingerprint, silent_seconds.label("silent_seconds")
            ).where(*_same_key(claim))
            row = (await connection.execute(look.with_for_update())).first()
            if row is None:
                # Released between the two statements; the next try finds it free.
                return InFlight(seconds_left=0.0)
            if row.fingerprint is not None:
                return Memory(job_id=JobId(row.job_id), fingerprint=row.fingerprint)
            if row.silent_seconds < lost_seconds:
                return InFlight(seconds_left=lost_seconds - row.silent_seconds)
            await connection.execute(
                tables.idempotency.update()
                .where(*_same_key(claim))
                .values(job_id=claim.job_id, token=claim.token, created_at=now, seen_at=now)
            )
        return claim

    async def beat(self, claim: Claim, at: float) -> None:
        """Give a sign of life; one that comes too late changes nothing."""
        async with self._engine.begin() as connection:
            await connection.execute(
                tables.idempotency.update().where(*_mine(claim)).values(seen_at=self._now(at))
            )

    async def release(self, claim: Claim) -> None:
        """Forget a claim of which nothing came; one that was kept or lost stays as it is.

        Waits for a commit of ours that may still be on its way.
        """
        async with self._engine.begin() as connection:
            await connection.execute(tables.idempotency.delete().where(*_mine(claim)))

    async def prune(self, kept_seconds: float, at: float) -> int:
        """Remove the keys that were first used longer ago; return how many."""
        keys = tables.idempotency.c
        async with self._engine.at_length().begin() as connection:
            gone = await connection.execute(
                tables.idempotency.delete().where(
                    keys.created_at < self._now(at) - kept_seconds,
                    keys.seen_at < self._now(at) - kept_seconds,
                )
            )
        return gone.rowcount

    def _now(self, at: float) -> sa.ColumnElement[float]:
        if self._engine.has_a_clock:
            return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)
        return sa.literal(at, sa.Double)


async def remember(connection: AsyncConnection, claim: Claim, job: Job, fingerprint: str) -> None:
    """Write down in the transaction of the job what the key stands for from now on.

    Raises `Conflict` if the claim was lost: then this job must not be.
    """
    kept = await connection.execute(
        tables.idempotency.update()
        .where(*_mine(claim))
        .values(job_id=job.id, fingerprint=fingerprint)
    )
    if kept.rowcount != 1:
        raise Conflict(
            "Another request with this Idempotency-Key took over, because this one gave no sign "
            "of life.",
            code="idempotency_lost",
            hint="Send it again with the same key: you get the job of the other one.",
            retry_after_seconds=1,
        )


def _insert(connection: AsyncConnection) -> sqlite.Insert | postgresql.Insert:
    # The same words for both databases, of which SQLAlchemy has none of its own.
    if connection.dialect.name == "sqlite":
        return sqlite.insert(tables.idempotency)
    return postgresql.insert(tables.idempotency)


def _same_key(claim: Claim) -> tuple[sa.ColumnElement[bool], ...]:
    keys = tables.idempotency.c
    return keys.org_id == claim.org_id, keys.route == claim.route, keys.key == claim.key


def _mine(claim: Claim) -> tuple[sa.ColumnElement[bool], ...]:
    keys = tables.idempotency.c
    return *_same_key(claim), keys.token == claim.token, keys.fingerprint.is_(None)
