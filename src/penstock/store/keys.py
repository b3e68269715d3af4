"""API keys of an organisation: made, listed, replaced, revoked."""

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.access import Actor
from penstock.core.job import OrgId
from penstock.errors import InvalidRequest, NotFound, TooMany
from penstock.store import tables
from penstock.store.audit import Audit, lock_org
from penstock.store.connections import Connections
from penstock.store.database import typed
from penstock.store.tenants import Key
from penstock.store.users import check_may_manage, no_user, role_of


class Keys:
    """Queries on the keys of organisations; one instance per store."""

    def __init__(self, engine: Connections, audit: Audit) -> None:
        self._engine = engine
        self._reader = engine.for_reading()
        self._audit = audit

    async def get(self, org_id: OrgId, key_id: str, user_id: str | None = None) -> Key:
        """Return a key of the organisation, and of the user if one is given.

        Raises `NotFound` for all others, so that they look alike.
        """
        row = await self._reader.row(_one(org_id, key_id, user_id))
        if row is None:
            raise no_key()
        return typed(row, Key)

    async def page(
        self, org_id: OrgId, user_id: str | None, after: str | None, limit: int
    ) -> list[Key]:
        """Return keys, newest first, of one user or of all, from the one after `after` on."""
        columns = tables.keys.c
        query = sa.select(tables.keys).where(columns.org_id == org_id)
        if user_id is not None:
            query = query.where(columns.user_id == user_id)
        if after is not None:
            last = await self._reader.row(_one(org_id, after, user_id))
            if last is None:
                raise InvalidRequest(
                    "The parameter after is not a key that this list answered.",
                    code="invalid_parameter",
                    hint="Begin again without it.",
                )
            at, key_id = last["created_at"], last["id"]
            query = query.where(
                (columns.created_at < at) | ((columns.created_at == at) & (columns.id < key_id))
            )
        query = query.order_by(columns.created_at.desc(), columns.id.desc()).limit(limit)
        async with self._reader.connect() as connection:
            return [typed(row, Key) for row in (await connection.execute(query)).mappings().all()]

    async def create(self, org_id: OrgId, key: Key, actor: Actor, at: float, most: int) -> None:
        """Store a new key for a user of the organisation whom the actor may manage.

        Raises `NotFound` for the user, `Forbidden` or `TooMany`.
        """
        async with self._engine.begin() as connection:
            await lock_org(connection, org_id)
            await _check_manages(connection, actor, org_id, key.user_id)
            await _check_room(connection, org_id, key.user_id, at, most)
            row = {**msgspec.structs.asdict(key), "org_id": org_id}
            await connection.execute(tables.keys.insert().values(**row))
            detail = _told(key)
            await self._audit.append(connection, actor, at, "key.create", key.id, detail=detail)

    async def rotate(
        self,
        org_id: OrgId,
        key_id: str,
        successor: Key,
        actor: Actor,
        ends_at: float,
        most: int,
    ) -> None:
        """Store the key that takes the place of another one, which works until `ends_at`.

        Raises `NotFound` unless that one is in force, `Forbidden` or `TooMany`. Only one rotation
        of a key succeeds: its successor is to be rotated next.
        """
        columns, at = tables.keys.c, successor.created_at
        async with self._engine.begin() as connection:
            await lock_org(connection, org_id)
            changed = await connection.execute(
                tables.keys.update()
                .where(
                    *_is(org_id, key_id, successor.user_id),
                    columns.successor_id.is_(None),
                    *_in_force(at),
                )
                .values(
                    successor_id=successor.id,
                    # Never later than it was to end anyway.
                    expires_at=sa.case(
                        (columns.expires_at < ends_at, columns.expires_at), else_=ends_at
                    ),
                )
            )
            if changed.rowcount == 0:
                raise no_key()
            await _check_manages(connection, actor, org_id, successor.user_id)
            # Counted after the old key's end was moved: without an overlap there is always room.
            await _check_room(connection, org_id, successor.user_id, at, most)
            row = {**msgspec.structs.asdict(successor), "org_id": org_id}
            await connection.execute(tables.keys.insert().values(**row))
            detail = {**_told(successor), "successor": successor.id, "ends_at": ends_at}
            await self._audit.append(connection, actor, at, "key.rotate", key_id, detail=detail)

    async def revoke(
        self, org_id: OrgId, key_id: str, user_id: str | None, actor: Actor, at: float
    ) -> None:
        """Revoke a key from now on; of one user only, if he is given.

        Raises `NotFound` unless there is one that was not revoked, or `Forbidden`.
        """
        async with self._engine.begin() as connection:
            await lock_org(connection, org_id)
            row = (await connection.execute(_one(org_id, key_id, user_id))).mappings().first()
            key = None if row is None else typed(row, Key)
            if key is None or key.revoked_at is not None:
                raise no_key()
            role = await role_of(connection, org_id, key.user_id)
            if role is not None:
                await check_may_manage(connection, actor, role)
            await connection.execute(
                tables.keys.update().where(*_is(org_id, key_id)).values(revoked_at=at)
            )
            detail = {"user": key.user_id, "name": key.name}
            await self._audit.append(connection, actor, at, "key.revoke", key_id, detail=detail)


def no_key() -> NotFound:
    """Return the refusal of a key that is not there, not the caller's, or not in force."""
    return NotFound("There is no such key in force.", hint="GET /api/v1/keys lists yours.")


def _is(org_id: OrgId, key_id: str, user_id: str | None = None) -> list[sa.ColumnElement[bool]]:
    columns = tables.keys.c
    conditions = [columns.org_id == org_id, columns.id == key_id]
    return conditions if user_id is None else [*conditions, columns.user_id == user_id]


def _one(org_id: OrgId, key_id: str, user_id: str | None) -> sa.Select[tuple[object, ...]]:
    return sa.select(tables.keys).where(*_is(org_id, key_id, user_id))


def _in_force(at: float) -> list[sa.ColumnElement[bool]]:
    columns = tables.keys.c
    return [
        columns.revoked_at.is_(None) | (columns.revoked_at > at),
        columns.expires_at.is_(None) | (columns.expires_at > at),
    ]


def _told(key: Key) -> dict[str, object]:
    return {
        "user": key.user_id,
        "name": key.name,
        "scopes": key.scopes,
        "expires_at": key.expires_at,
    }


async def _check_manages(
    connection: AsyncConnection, actor: Actor, org_id: OrgId, user_id: str
) -> None:
    role = await role_of(connection, org_id, user_id)
    if role is None:
        raise no_user()
    await check_may_manage(connection, actor, role)


async def _check_room(
    connection: AsyncConnection, org_id: OrgId, user_id: str, at: float, most: int
) -> None:
    columns = tables.keys.c
    count = await connection.execute(
        sa.select(sa.func.count()).where(
            columns.org_id == org_id, columns.user_id == user_id, *_in_force(at)
        )
    )
    if count.scalar_one() >= most:
        raise TooMany(
            f"The user has {most} keys in force, as many as he may.",
            code="too_many_keys",
            hint="Revoke one that is not used, or have limits.keys_per_user_max raised.",
        )
