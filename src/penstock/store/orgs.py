"""Organisations: what the people of the operator's organisation make, suspend and limit."""

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.access import OPERATOR_ORG, Actor, Role
from penstock.core.job import OrgId
from penstock.errors import Conflict, NotFound, TooMany
from penstock.store import tables
from penstock.store.audit import Audit, lock_org
from penstock.store.connections import Connections
from penstock.store.database import typed
from penstock.store.users import no_user


class Org(msgspec.Struct, frozen=True, kw_only=True):
    """One organisation."""

    id: OrgId
    name: str
    created_at: float
    suspended_at: float | None = None
    quotas: str | None = None
    """JSON of the quotas that differ from the settings."""


class OrgChange(msgspec.Struct, frozen=True, kw_only=True):
    """What is to become of an organisation; what is left out stays."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    suspended: bool | msgspec.UnsetType = msgspec.UNSET
    quotas: str | msgspec.UnsetType | None = msgspec.UNSET


class Orgs:
    """Queries on organisations; one instance per store.

    Each change is recorded in the log of who makes it, which is the operator's.
    """

    def __init__(self, engine: Connections, audit: Audit) -> None:
        self._engine = engine
        self._reader = engine.for_reading()
        self._audit = audit

    async def get(self, org_id: OrgId) -> Org:
        """Return the organisation; raises `NotFound`."""
        row = await self._reader.row(sa.select(tables.orgs).where(tables.orgs.c.id == org_id))
        if row is None:
            raise no_org()
        return typed(row, Org)

    async def page(self, after: str, limit: int) -> list[Org]:
        """Return organisations by their ids, from the one after `after` on."""
        columns = tables.orgs.c
        query = sa.select(tables.orgs).where(columns.id > after).order_by(columns.id).limit(limit)
        async with self._reader.connect() as connection:
            return [typed(row, Org) for row in (await connection.execute(query)).mappings().all()]

    async def create(
        self, org: Org, owner_id: str | None, actor: Actor, at: float, most: int
    ) -> None:
        """Make an organisation, and a known user its first owner if one is named.

        Raises `Conflict`, `NotFound` for the user, or `TooMany`.
        """
        async with self._engine.begin() as connection:
            # All who make or rename organisations wait here for each other.
            await lock_org(connection, actor.org_id)
            await _check_new(connection, org, most)
            row = msgspec.structs.asdict(org)
            await connection.execute(tables.orgs.insert().values(**row))
            if owner_id is not None:
                known = sa.select(tables.users.c.id).where(tables.users.c.id == owner_id)
                if (await connection.execute(known)).first() is None:
                    raise no_user()
                member = {"org_id": org.id, "user_id": owner_id, "role": Role.OWNER}
                await connection.execute(tables.memberships.insert().values(**member))
            detail = {"name": org.name, "owner": owner_id}
            await self._audit.append(connection, actor, at, "org.create", org.id, detail=detail)

    async def update(self, org_id: OrgId, change: OrgChange, actor: Actor, at: float) -> Org:
        """Change an organisation and return it; raises `Conflict` or `NotFound`.

        From the commit on nobody of a suspended one gets in.
        """
        columns = tables.orgs.c
        async with self._engine.begin() as connection:
            await lock_org(connection, actor.org_id)
            await lock_org(connection, org_id)
            found = await connection.execute(sa.select(tables.orgs).where(columns.id == org_id))
            row = found.mappings().first()
            if row is None:
                raise no_org()
            before = typed(row, Org)
            values = _values(before, change, at)
            if values.get("name", before.name) != before.name:
                await _check_name(connection, values["name"])
            if values:
                await connection.execute(
                    tables.orgs.update().where(columns.id == org_id).values(**values)
                )
            detail = msgspec.to_builtins(change)
            await self._audit.append(connection, actor, at, "org.update", org_id, detail=detail)
        return msgspec.structs.replace(before, **values)


def no_org() -> NotFound:
    """Return the refusal of an organisation that is not there, or not the caller's."""
    return NotFound("There is no such organisation.", hint="GET /api/v1/orgs lists them.")


def _values(before: Org, change: OrgChange, at: float) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if change.name is not msgspec.UNSET:
        values["name"] = change.name
    if change.quotas is not msgspec.UNSET:
        values["quotas"] = change.quotas
    if change.suspended is True and before.suspended_at is None:
        if before.id == OPERATOR_ORG:
            raise Conflict(
                "The operator's organisation cannot be suspended: nobody could resume it.",
                code="operator_organisation",
            )
        values["suspended_at"] = at
    if change.suspended is False:
        values["suspended_at"] = None
    return values


async def _check_new(connection: AsyncConnection, org: Org, most: int) -> None:
    columns = tables.orgs.c
    if (await connection.execute(sa.select(columns.id).where(columns.id == org.id))).first():
        raise Conflict(
            f"There is an organisation {org.id} already.",
            code="id_taken",
            hint="Choose another id, or leave it out to get one.",
        )
    await _check_name(connection, org.name)
    count = await connection.execute(sa.select(sa.func.count()).select_from(tables.orgs))
    if count.scalar_one() >= most:
        raise TooMany(
            f"This server has {most} organisations, as many as it may.",
            code="too_many_organisations",
            hint="Raise limits.orgs_max.",
        )


async def _check_name(connection: AsyncConnection, name: str) -> None:
    columns = tables.orgs.c
    if (await connection.execute(sa.select(columns.id).where(columns.name == name))).first():
        raise Conflict(
            "There is an organisation of that name already.",
            code="name_taken",
            hint="Choose another name.",
        )
