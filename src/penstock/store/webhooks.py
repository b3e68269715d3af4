"""Endpoints of webhooks: who made them, where they are, how they stand.

Each change is written with its row of the audit log. A disabled endpoint keeps what was not
delivered: it waits without a time, and goes on when the endpoint is enabled.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.access import Actor
from penstock.core.job import OrgId
from penstock.errors import TooMany
from penstock.store import tables
from penstock.store.audit import Audit, lock_org
from penstock.store.connections import Connections
from penstock.store.database import typed

_endpoints = tables.webhooks.c
_deliveries = tables.deliveries.c


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint."""

    id: str
    org_id: OrgId
    url: str
    events: str
    secret: str
    """Sealed."""
    created_at: float
    created_by: str
    old_secret: str | None = None
    old_secret_until: float | None = None
    failing_since: float | None = None
    disabled_at: float | None = None
    disabled_reason: str | None = None


class Webhooks:
    """Queries on endpoints; one instance per store."""

    def __init__(self, engine: Connections, audit: Audit) -> None:
        self._engine = engine
        self._reader = engine.for_reading()
        self._audit = audit

    async def add(self, actor: Actor, webhook: Webhook, webhooks_max: int) -> None:
        """Commit a new endpoint; raises `TooMany` if the organisation has enough."""
        async with self._engine.begin() as connection:
            await lock_org(connection, actor.org_id)
            count = sa.select(sa.func.count()).select_from(tables.webhooks)
            found = await connection.execute(count.where(*_of(actor.org_id)))
            if found.scalar_one() >= webhooks_max:
                raise TooMany(
                    f"The organisation has {webhooks_max} webhooks, as many as it may have.",
                    code="too_many_webhooks",
                    hint="Remove one, or have the operator raise limits.webhooks_max.",
                )
            row = msgspec.structs.asdict(webhook)
            at = webhook.created_at
            await self._audit.append(
                connection, actor, at, "webhook.create", webhook.id, detail=_told(row)
            )
            await connection.execute(tables.webhooks.insert().values(**row))

    async def all(self, org_id: OrgId) -> list[Webhook]:
        """Return the organisation's endpoints, oldest first."""
        query = sa.select(tables.webhooks).where(*_of(org_id))
        query = query.order_by(_endpoints.created_at, _endpoints.id)
        async with self._reader.connect() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [_webhook(row) for row in rows]

    async def get(self, org_id: OrgId, webhook_id: str) -> Webhook | None:
        """Return the endpoint if it is this organisation's and was not removed."""
        row = await self._reader.row(
            sa.select(tables.webhooks).where(_endpoints.id == webhook_id, *_of(org_id))
        )
        return None if row is None else _webhook(row)

    async def change(
        self, actor: Actor, webhook_id: str, at: float, values: Mapping[str, Any]
    ) -> Webhook | None:
        """Change the `url`, the `events` or both; None if there is no such endpoint."""
        async with self._changing(actor, webhook_id) as (connection, webhook):
            if webhook is None:
                return None
            await self._audit.append(
                connection, actor, at, "webhook.update", webhook_id, detail=_told(values)
            )
            await _update(connection, webhook_id, values)
            return msgspec.structs.replace(webhook, **values)

    async def rotate(
        self, actor: Actor, webhook_id: str, at: float, sealed: str, until: float
    ) -> Webhook | None:
        """Give it another secret; the one that it had signs as well until then."""
        async with self._changing(actor, webhook_id) as (connection, webhook):
            if webhook is None:
                return None
            values = {
                "secret": sealed,
                "old_secret": webhook.secret,
                "old_secret_until": until,
            }
            await self._audit.append(connection, actor, at, "webhook.rotate", webhook_id)
            await _update(connection, webhook_id, values)
            return msgspec.structs.replace(webhook, **values)

    async def enable(self, actor: Actor, webhook_id: str, at: float) -> Webhook | None:
        """Let it have what waited for it, from now on; None if there is no such endpoint."""
        async with self._changing(actor, webhook_id) as (connection, webhook):
            if webhook is None:
                return None
            await self._audit.append(connection, actor, at, "webhook.enable", webhook_id)
            values = {"failing_since": None, "disabled_at": None, "disabled_reason": None}
            await _update(connection, webhook_id, values)
            await connection.execute(
                tables.deliveries.update()
                .where(
                    _deliveries.webhook_id == webhook_id,
                    _deliveries.next_at.is_(None),
                    _deliveries.delivered_at.is_(None),
                    _deliveries.given_up_at.is_(None),
                )
                .values(next_at=self._engine.time(at))
            )
            return msgspec.structs.replace(webhook, **values)

    async def remove(self, actor: Actor, webhook_id: str, at: float) -> bool:
        """Remove it; what it did not get is given up. False if there is no such endpoint."""
        async with self._changing(actor, webhook_id) as (connection, webhook):
            if webhook is None:
                return False
            await self._audit.append(connection, actor, at, "webhook.delete", webhook_id)
            gone = {"deleted_at": at, "secret": "", "old_secret": None}
            await _update(connection, webhook_id, gone)
            await connection.execute(
                tables.deliveries.update()
                .where(
                    _deliveries.webhook_id == webhook_id,
                    _deliveries.delivered_at.is_(None),
                    _deliveries.given_up_at.is_(None),
                )
                .values(next_at=None, given_up_at=at, last_error="the webhook was removed")
            )
            return True

    @asynccontextmanager
    async def _changing(
        self, actor: Actor, webhook_id: str
    ) -> AsyncIterator[tuple[AsyncConnection, Webhook | None]]:
        """Open a transaction in which nobody else of the organisation changes anything."""
        # Deliveries without number may wait for an endpoint that is removed or enabled again.
        async with self._engine.at_length().begin() as connection:
            await lock_org(connection, actor.org_id)
            mine = sa.select(tables.webhooks).where(_endpoints.id == webhook_id)
            # Its deliveries' results lock it before they lock themselves; so does every change.
            locked = mine.where(*_of(actor.org_id)).with_for_update(key_share=True)
            row = (await connection.execute(locked)).mappings().first()
            yield connection, None if row is None else _webhook(row)


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the audit log says of a change: of an address no more than its host."""
    # The rest is a secret with some receivers.
    detail = {name: values[name] for name in ("events",) if name in values}
    if "url" in values:
        detail["host"] = urlsplit(values["url"]).netloc
    return detail


def _of(org_id: OrgId) -> tuple[sa.ColumnElement[bool], ...]:
    return _endpoints.org_id == org_id, _endpoints.deleted_at.is_(None)


def _webhook(row: Mapping[Any, Any]) -> Webhook:
    return typed(row, Webhook)


async def _update(connection: AsyncConnection, webhook_id: str, values: Mapping[str, Any]) -> None:
    await connection.execute(
        tables.webhooks.update().where(_endpoints.id == webhook_id).values(**values)
    )
