"""What is to be told to webhooks: the outbox, written with what happens to a job, and its readers.

A row is due while `next_at` has passed. Who takes it writes his claim and puts `next_at` to the end
of his lease: should he die, it is due again then, and the same id and body are sent once more.
Times are the database's where it has a clock, because senders on several machines compare them.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.access import Actor
from penstock.core.ids import new_id
from penstock.core.job import JobId, OrgId
from penstock.core.webhook import (
    DELIVERY_PREFIX,
    KIND_OF,
    EndedJob,
    EventKind,
    SlowJob,
    body_of,
    slow_body_of,
    wants,
)
from penstock.errors import Conflict
from penstock.store import tables
from penstock.store.audit import Audit, lock_org
from penstock.store.connections import Connections, time_of
from penstock.store.database import typed

_endpoints = tables.webhooks.c
_columns = tables.deliveries.c
_LIVE: Final = (_endpoints.disabled_at.is_(None), _endpoints.deleted_at.is_(None))


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that somebody should send."""

    id: str
    webhook_id: str
    org_id: str


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that is ours until the end of the lease, and what sending it takes."""

    id: str
    webhook_id: str
    org_id: str
    body: str
    tries: int
    """Before this one."""
    claim: str
    url: str
    secret: str
    """Sealed, as the next one."""
    old_secret: str | None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery as its owner sees it."""

    id: str
    webhook_id: str
    job_id: JobId
    kind: str
    created_at: float
    tries: int
    next_at: float | None
    delivered_at: float | None
    given_up_at: float | None
    last_status: int | None
    last_error: str | None


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """What to write of a try that failed."""

    status: int | None
    error: str
    wait_seconds: float | None
    """Until the next try; None after the last one."""
    is_gone: bool
    """Whether the receiver wants no more."""
    failing_seconds_max: float


class Deliveries:
    """Queries on deliveries; one instance per store."""

    def __init__(self, engine: Connections, audit: Audit) -> None:
        self._engine = engine
        self._reader = engine.for_reading()
        self._audit = audit

    # -- what the sender asks ------------------------------------------------------------------

    async def due(
        self, at: float, *, webhook_max: int, limit: int, not_to: Collection[str] = ()
    ) -> list[Due]:
        """Return what is due, at most `webhook_max` to each endpoint, the organisations in turns.

        So a page has something of everybody, however much waits for one of them. What there is for
        a suspended organisation waits.
        """
        place = sa.func.row_number().over(
            partition_by=_columns.webhook_id, order_by=(_columns.next_at, _columns.id)
        )
        waiting = (
            sa.select(
                _columns.id,
                _columns.webhook_id,
                _columns.org_id,
                _columns.next_at,
                place.label("place"),
            )
            .join(tables.webhooks, _endpoints.id == _columns.webhook_id)
            .join(tables.orgs, tables.orgs.c.id == _columns.org_id)
            .where(
                tables.orgs.c.suspended_at.is_(None),
                _columns.next_at <= self._engine.time(at),
                _columns.webhook_id.not_in(not_to),
                *_LIVE,
            )
            .subquery()
        )
        turn = sa.func.row_number().over(
            partition_by=waiting.c.org_id,
            order_by=(waiting.c.place, waiting.c.next_at, waiting.c.id),
        )
        query = (
            sa.select(waiting.c.id, waiting.c.webhook_id, waiting.c.org_id)
            .where(waiting.c.place <= webhook_max)
            .order_by(turn, waiting.c.next_at, waiting.c.id)
            .limit(limit)
        )
        async with self._reader.connect() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [typed(row, Due) for row in rows]

    async def claim(
        self, ids: Sequence[str], claim: str, at: float, lease_seconds: float
    ) -> list[Claimed]:
        """Take those of the deliveries that nobody else took meanwhile, for the lease."""
        now = self._engine.time(at)
        async with self._engine.begin() as connection:
            # Somebody else's are left to him: two that wait for each other's would never end.
            free = (
                sa.select(_columns.id)
                .where(_columns.id.in_(ids), _columns.next_at <= now)
                .with_for_update(skip_locked=True)
            )
            taken = (await connection.execute(free)).scalars().all()
            until = now + lease_seconds
            await connection.execute(
                tables.deliveries.update()
                .where(_columns.id.in_(taken))
                .values(claim=claim, next_at=until)
            )
            is_old_good = _endpoints.old_secret_until > now
            query = (
                sa.select(
                    _columns.id,
                    _columns.webhook_id,
                    _columns.org_id,
                    _columns.body,
                    _columns.tries,
                    _columns.claim,
                    _endpoints.url,
                    _endpoints.secret,
                    sa.case((is_old_good, _endpoints.old_secret)).label("old_secret"),
                )
                .join(tables.webhooks, _endpoints.id == _columns.webhook_id)
                .where(_columns.id.in_(taken), *_LIVE)
            )
            rows = (await connection.execute(query)).mappings().all()
        return [typed(row, Claimed) for row in rows]

    async def release(self, deliveries: Sequence[Claimed], at: float) -> None:
        """Give back what was not sent to its end; others need not wait for the lease."""
        async with self._engine.begin() as connection:
            for each in deliveries:
                await connection.execute(
                    tables.deliveries.update()
                    .where(
                        _columns.id == each.id,
                        _columns.claim == each.claim,
                        _columns.next_at.is_not(None),
                    )
                    .values(next_at=self._engine.time(at), claim=None)
                )

    async def delivered(self, delivery: Claimed, at: float, status: int | None) -> None:
        """Record that the receiver has it, whoever may have claimed it meanwhile."""
        async with self._engine.begin() as connection:
            await connection.execute(
                tables.webhooks.update()
                .where(_endpoints.id == delivery.webhook_id, _endpoints.failing_since.is_not(None))
                .values(failing_since=None)
            )
            await connection.execute(
                tables.deliveries.update()
                .where(_columns.id == delivery.id, _columns.delivered_at.is_(None))
                .values(
                    delivered_at=self._engine.time(at),
                    given_up_at=None,
                    next_at=None,
                    tries=_columns.tries + 1,
                    last_status=status,
                    last_error=None,
                    claim=None,
                )
            )

    async def failed(self, delivery: Claimed, at: float, failure: Failure) -> str | None:
        """Record a try that failed; return why its endpoint is disabled now, if it is.

        Nothing is written to a delivery that somebody else claimed meanwhile: it is his.
        """
        now = self._engine.time(at)
        # An endpoint that is disabled stops all that waits for it.
        async with self._engine.at_length().begin() as connection:
            endpoint = (
                await connection.execute(
                    tables.webhooks.update()
                    .where(_endpoints.id == delivery.webhook_id)
                    .values(failing_since=sa.func.coalesce(_endpoints.failing_since, now))
                    .returning(
                        _endpoints.disabled_at,
                        _endpoints.deleted_at,
                        (now - _endpoints.failing_since).label("seconds"),
                    )
                )
            ).one()
            reason = None
            if endpoint.disabled_at is None:
                reason = _why_disabled(failure, endpoint.seconds)
            is_over = failure.wait_seconds is None or endpoint.deleted_at is not None
            is_paused = endpoint.disabled_at is not None or reason is not None
            next_at = None if is_over or is_paused else now + failure.wait_seconds
            await connection.execute(
                tables.deliveries.update()
                .where(_columns.id == delivery.id, _columns.claim == delivery.claim)
                .values(
                    next_at=next_at,
                    given_up_at=now if is_over else None,
                    tries=_columns.tries + 1,
                    last_status=failure.status,
                    last_error=failure.error,
                    claim=None,
                )
            )
            if reason is not None:
                await _disable(connection, delivery.webhook_id, now, reason)
        return reason

    # -- what the API asks ---------------------------------------------------------------------

    async def page(
        self, org_id: OrgId, webhook_id: str, after: str | None, limit: int
    ) -> list[Delivery]:
        """Return deliveries to the organisation's endpoint, newest first, after one of them."""
        mine = (_columns.webhook_id == webhook_id, _columns.org_id == org_id)
        query = sa.select(tables.deliveries).where(*mine)
        if after is not None:
            other = tables.deliveries.alias()
            at = sa.select(other.c.created_at).where(other.c.id == after).scalar_subquery()
            query = query.where(
                sa.tuple_(_columns.created_at, _columns.id) < sa.tuple_(at, sa.literal(after))
            )
        query = query.order_by(_columns.created_at.desc(), _columns.id.desc()).limit(limit)
        async with self._reader.connect() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [typed(row, Delivery) for row in rows]

    async def replay(
        self, actor: Actor, webhook_id: str, delivery_id: str, at: float
    ) -> Delivery | None:
        """Have it sent again, from now on and with all its tries; None if there is no such.

        Raises `Conflict` for an endpoint that is disabled.
        """
        now = self._engine.time(at)
        mine = (
            _columns.id == delivery_id,
            _columns.webhook_id == webhook_id,
            _columns.org_id == actor.org_id,
        )
        async with self._engine.begin() as connection:
            await lock_org(connection, actor.org_id)
            query = (
                sa.select(_endpoints.disabled_at)
                .join(tables.deliveries, _endpoints.id == _columns.webhook_id)
                .where(*mine, _endpoints.deleted_at.is_(None))
                .with_for_update(key_share=True, of=tables.webhooks)
            )
            endpoint = (await connection.execute(query)).first()
            if endpoint is None:
                return None
            if endpoint.disabled_at is not None:
                raise Conflict(
                    f"The webhook {webhook_id} is disabled.",
                    code="webhook_disabled",
                    hint="Enable it; then it gets what waits for it.",
                )
            await self._audit.append(connection, actor, at, "webhook.replay", delivery_id)
            changed = await connection.execute(
                tables.deliveries.update()
                .where(*mine)
                .values(next_at=now, tries=0, delivered_at=None, given_up_at=None)
                .returning(tables.deliveries)
            )
            return typed(changed.mappings().one(), Delivery)


async def announce(connection: AsyncConnection, job_id: JobId, at: float) -> None:
    """Put the end of a job into the outbox, in the transaction that writes it."""

    def news(row: Mapping[Any, Any]) -> tuple[EventKind, str]:
        values = _decoded({name: row[column] for name, column in _TOLD.items()})
        ended = msgspec.convert(values, EndedJob)
        return KIND_OF[ended.state], body_of(ended)

    await _tell(connection, job_id, at, news)


async def announce_slow(connection: AsyncConnection, job_id: JobId, at: float, reason: str) -> None:
    """Put into the outbox that a job takes long, in the transaction that says so in its row."""

    def news(row: Mapping[Any, Any]) -> tuple[EventKind, str]:
        values = _decoded({name: row[column] for name, column in _TOLD_SLOW.items()})
        slow = msgspec.convert({**values, "slow_at": at, "reason": reason}, SlowJob)
        return EventKind.JOB_SLOW, slow_body_of(slow)

    await _tell(connection, job_id, at, news)


async def _tell(
    connection: AsyncConnection,
    job_id: JobId,
    at: float,
    news: Callable[[Mapping[Any, Any]], tuple[EventKind, str]],
) -> None:
    jobs = tables.jobs.c
    query = (
        sa.select(_endpoints.id, _endpoints.events, tables.jobs)
        .join(tables.jobs, _endpoints.org_id == jobs.org_id)
        .where(jobs.id == job_id, *_LIVE)
        .set_label_style(sa.LABEL_STYLE_TABLENAME_PLUS_COL)
    )
    for row in (await connection.execute(query)).mappings().all():
        kind, body = news(row)
        if not wants(row[_endpoints.events], kind):
            continue
        await connection.execute(
            tables.deliveries.insert().values(
                id=new_id(DELIVERY_PREFIX),
                webhook_id=row[_endpoints.id],
                org_id=row[jobs.org_id],
                job_id=job_id,
                kind=kind,
                round=row[jobs.round],
                body=body,
                created_at=at,
                next_at=time_of(connection, at),
            )
        )


_TOLD: Final = {name: tables.jobs.c[name] for name in EndedJob.__struct_fields__}
_TOLD_SLOW: Final = {
    name: tables.jobs.c[name]
    for name in SlowJob.__struct_fields__
    if name not in {"slow_at", "reason"}
}


def _decoded(values: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of a row with those decoded that hold JSON."""
    return {
        name: msgspec.json.decode(value) if name in {"counts", "labels"} and value else value
        for name, value in values.items()
    }


def _why_disabled(failure: Failure, failing_seconds: float) -> str | None:
    if failure.is_gone:
        return "It answered 410 Gone."
    if failing_seconds >= failure.failing_seconds_max:
        hours = failure.failing_seconds_max / 3600
        return f"No delivery worked for {hours:g} hours; the last one: {failure.error}."
    return None


async def _disable(
    connection: AsyncConnection, webhook_id: str, now: sa.ColumnElement[float], reason: str
) -> None:
    await connection.execute(
        tables.webhooks.update()
        .where(_endpoints.id == webhook_id)
        .values(disabled_at=now, disabled_reason=reason)
    )
    # What waits for it costs no look while it is disabled.
    await connection.execute(
        tables.deliveries.update()
        .where(_columns.webhook_id == webhook_id, _columns.next_at.is_not(None))
        .values(next_at=None)
    )
