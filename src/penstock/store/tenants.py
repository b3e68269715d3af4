"""Organisations, users, memberships and API keys."""

from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.access import ALL, Role
from penstock.core.job import OrgId
from penstock.store import tables
from penstock.store.connections import Connections
from penstock.store.database import typed

MAKING_LOCK: Final = 0x70656E73_74656E61
"""Any number that nobody else takes: advisory locks of Postgres have no names."""


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One API key as stored: the secret itself is nowhere."""

    id: str
    org_id: OrgId
    user_id: str
    name: str
    digest: str
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None
    scopes: str = ALL
    made_by: str | None = None
    successor_id: str | None = None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a user is in an organisation, and how that one stands."""

    role: Role
    suspended_at: float | None
    quotas: str | None
    """JSON of the quotas that differ from the settings."""


class Tenants:
    """Queries on who may do what; one instance per engine."""

    def __init__(self, engine: Connections) -> None:
        self._engine = engine
        self._reader = engine.for_reading()

    async def has_keys(self) -> bool:
        """Return whether any key was ever made; a server without one is new."""
        async with self._reader.connect() as connection:
            row = await connection.execute(sa.select(tables.keys.c.id).limit(1))
            return row.first() is not None

    async def ensure_org(self, org_id: OrgId, name: str, at: float) -> None:
        """Create the organisation unless it exists."""
        async with self._engine.begin() as connection:
            await _make_alone(connection)
            found = await connection.execute(
                sa.select(tables.orgs.c.id).where(tables.orgs.c.id == org_id)
            )
            if found.first() is None:
                await connection.execute(
                    tables.orgs.insert().values(id=org_id, name=name, created_at=at)
                )

    async def ensure_user(self, user_id: str, org_id: OrgId, role: str, at: float) -> None:
        """Create the user and the membership unless they exist."""
        async with self._engine.begin() as connection:
            await _make_alone(connection)
            found = await connection.execute(
                sa.select(tables.users.c.id).where(tables.users.c.id == user_id)
            )
            if found.first() is None:
                await connection.execute(
                    tables.users.insert().values(id=user_id, name=user_id, created_at=at)
                )
            member = await connection.execute(
                sa.select(tables.memberships.c.role).where(
                    tables.memberships.c.org_id == org_id,
                    tables.memberships.c.user_id == user_id,
                )
            )
            if member.first() is None:
                await connection.execute(
                    tables.memberships.insert().values(org_id=org_id, user_id=user_id, role=role)
                )

    async def put_first_key(self, key: Key) -> bool:
        """Store the key if it is the very first; of processes that try at once one gets True."""
        async with self._engine.begin() as connection:
            await _make_alone(connection)
            found = await connection.execute(sa.select(tables.keys.c.id).limit(1))
            if found.first() is not None:
                return False
            await connection.execute(tables.keys.insert().values(**msgspec.structs.asdict(key)))
            return True

    async def put_key(self, key: Key) -> None:
        """Store a key, in place of one with the same id."""
        async with self._engine.begin() as connection:
            await _make_alone(connection)
            await connection.execute(tables.keys.delete().where(tables.keys.c.id == key.id))
            await connection.execute(tables.keys.insert().values(**msgspec.structs.asdict(key)))

    async def key(self, key_id: str) -> Key | None:
        """Return the key by its public id, revoked and expired ones too."""
        row = await self._reader.row(sa.select(tables.keys).where(tables.keys.c.id == key_id))
        return None if row is None else typed(row, Key)

    async def key_with(self, key_id: str, digest: str) -> Key | None:
        """Return the key of this id and digest.

        A known id with another digest takes the same time as one of nobody: no row comes of either.
        """
        row = await self._reader.row(
            sa.select(tables.keys).where(tables.keys.c.id == key_id, tables.keys.c.digest == digest)
        )
        return None if row is None else typed(row, Key)

    async def touch_key(self, key_id: str, at: float) -> None:
        """Record that the key was used."""
        async with self._engine.begin() as connection:
            await connection.execute(
                tables.keys.update().where(tables.keys.c.id == key_id).values(last_used_at=at)
            )

    async def standing(self, org_id: str, user_id: str) -> Standing | None:
        """Return what the user is in the organisation; None if nothing, or there is no such."""
        orgs, members = tables.orgs, tables.memberships
        row = await self._reader.row(
            sa.select(members.c.role, orgs.c.suspended_at, orgs.c.quotas)
            .join_from(members, orgs, orgs.c.id == members.c.org_id)
            .where(members.c.org_id == org_id, members.c.user_id == user_id)
        )
        return None if row is None else typed(row, Standing)


async def _make_alone(connection: AsyncConnection) -> None:
    """Let nobody else make something of ours until the end of the transaction.

    Between a look and an insert another process could insert the same; on SQLite it cannot, because
    a transaction that may write is alone from its beginning.
    """
    if connection.dialect.name != "sqlite":
        await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MAKING_LOCK)))
