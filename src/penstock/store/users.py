"""Users: who belongs to an organisation, and as what.

A user may belong to several organisations. What one of them says of him changes nothing in another.
"""

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from penstock.core.access import Actor, Role, may_manage
from penstock.core.ids import is_secret, new_id
from penstock.core.job import OrgId
from penstock.errors import Conflict, Forbidden, NotFound, TooMany
from penstock.store import tables
from penstock.store.audit import Audit, lock_org
from penstock.store.connections import Connections
from penstock.store.database import typed


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A user as one organisation sees him."""

    id: str
    name: str
    role: Role
    created_at: float


class NewMember(msgspec.Struct, frozen=True, kw_only=True):
    """Who is to join an organisation."""

    role: Role
    name: str = ""
    """Of a new user; a known one has one."""
    id: str | None = None
    """Of a known user; from elsewhere than the server itself only one that cannot be guessed."""


class Users:
    """Queries on memberships; one instance per store."""

    def __init__(self, engine: Connections, audit: Audit) -> None:
        self._engine = engine
        self._reader = engine.for_reading()
        self._audit = audit

    async def get(self, org_id: OrgId, user_id: str) -> Member:
        """Return the user; raises `NotFound` for one who does not belong to the organisation."""
        columns = tables.memberships.c
        row = await self._reader.row(
            _members().where(columns.org_id == org_id, columns.user_id == user_id)
        )
        if row is None:
            raise no_user()
        return typed(row, Member)

    async def page(self, org_id: OrgId, after: str, limit: int) -> list[Member]:
        """Return users by their ids, from the one after `after` on."""
        columns = tables.memberships.c
        query = _members().where(columns.org_id == org_id, columns.user_id > after)
        async with self._reader.connect() as connection:
            found = await connection.execute(query.order_by(columns.user_id).limit(limit))
            return [typed(row, Member) for row in found.mappings().all()]

    async def add(
        self, org_id: OrgId, wanted: NewMember, actor: Actor, at: float, most: int
    ) -> Member:
        """Let a new or known user join and return him.

        Raises `Conflict` for a member, `Forbidden`, `NotFound` or `TooMany`. At the server itself
        a new user may be given an id.
        """
        async with self._engine.begin() as connection:
            await lock_org(connection, org_id)
            await check_may_manage(connection, actor, wanted.role)
            if await role_of(connection, org_id, wanted.id or "") is not None:
                raise Conflict("The user belongs to it already.", code="already_member")
            member = await _known_or_new(connection, wanted, actor, at)
            await _check_room(connection, org_id, most)
            row = {"org_id": org_id, "user_id": member.id, "role": wanted.role}
            await connection.execute(tables.memberships.insert().values(**row))
            detail = {"role": wanted.role}
            await self._audit.append(connection, actor, at, "user.add", member.id, detail=detail)
        return member

    async def change_role(
        self, org_id: OrgId, user_id: str, role: Role, actor: Actor, at: float
    ) -> Member:
        """Make a user something else and return him; what his keys may do changes with it.

        Raises `NotFound`, `Forbidden`, or `Conflict` for the last owner.
        """
        columns = tables.memberships.c
        async with self._engine.begin() as connection:
            await lock_org(connection, org_id)
            before = await _managed(connection, actor, org_id, user_id)
            await check_may_manage(connection, actor, role)
            if role is not Role.OWNER:
                await _check_not_last(connection, org_id, user_id, before)
            await connection.execute(
                tables.memberships.update()
                .where(columns.org_id == org_id, columns.user_id == user_id)
                .values(role=role)
            )
            detail = {"from": before, "to": role}
            await self._audit.append(connection, actor, at, "user.role", user_id, detail=detail)
            found = await connection.execute(
                _members().where(columns.org_id == org_id, columns.user_id == user_id)
            )
            return typed(found.mappings().one(), Member)

    async def remove(self, org_id: OrgId, user_id: str, actor: Actor, at: float) -> None:
        """End a membership and revoke the user's keys of the organisation.

        Raises `NotFound`, `Forbidden`, or `Conflict` for the last owner.
        """
        columns, keys = tables.memberships.c, tables.keys.c
        async with self._engine.begin() as connection:
            await lock_org(connection, org_id)
            before = await _managed(connection, actor, org_id, user_id)
            await _check_not_last(connection, org_id, user_id, before)
            # Otherwise they would work again if he ever came back.
            revoked = await connection.execute(
                tables.keys.update()
                .where(keys.org_id == org_id, keys.user_id == user_id, keys.revoked_at.is_(None))
                .values(revoked_at=at)
            )
            await connection.execute(
                tables.memberships.delete().where(
                    columns.org_id == org_id, columns.user_id == user_id
                )
            )
            detail = {"role": before, "keys_revoked": revoked.rowcount}
            await self._audit.append(connection, actor, at, "user.remove", user_id, detail=detail)


def no_user() -> NotFound:
    """Return the refusal of a user who is not there, or belongs to others only."""
    return NotFound("There is no such user.", hint="GET /api/v1/users lists yours.")


async def role_of(connection: AsyncConnection, org_id: OrgId, user_id: str) -> Role | None:
    """Return what a user is in the organisation; None if nothing."""
    columns = tables.memberships.c
    found = await connection.execute(
        sa.select(columns.role).where(columns.org_id == org_id, columns.user_id == user_id)
    )
    role = found.scalar_one_or_none()
    return None if role is None else Role(role)


async def check_may_manage(connection: AsyncConnection, actor: Actor, other: Role) -> None:
    """Raise `Forbidden` unless the actor may change those of this role, as things stand now.

    The role that let him in may be gone since; at the server itself everything may be done.
    """
    if not actor.key_id:
        return
    mine = await role_of(connection, actor.org_id, actor.user_id)
    if mine is None or not may_manage(mine, other):
        raise Forbidden(
            f"Your role may not change that of an {other}."
            if other in (Role.OWNER, Role.ADMIN)
            else f"Your role may not change that of a {other}.",
            code="role_too_low",
            hint="Ask an owner of the organisation.",
        )


def _members() -> sa.Select[tuple[object, ...]]:
    users, members = tables.users, tables.memberships
    return sa.select(users, members.c.role).join_from(
        members, users, users.c.id == members.c.user_id
    )


async def _known_or_new(
    connection: AsyncConnection, wanted: NewMember, actor: Actor, at: float
) -> Member:
    if wanted.id is not None:
        # An id that was chosen on the server could be guessed: the answer to a guess, and the name
        # in it, would tell who belongs to other organisations.
        if actor.key_id and not is_secret(wanted.id):
            raise no_user()
        columns = tables.users.c
        found = await connection.execute(sa.select(tables.users).where(columns.id == wanted.id))
        row = found.mappings().first()
        if row is not None:
            return typed({**row, "role": wanted.role}, Member)
        if actor.key_id:
            raise no_user()
    user = {"id": wanted.id or new_id("usr"), "name": wanted.name, "created_at": at}
    await connection.execute(tables.users.insert().values(**user))
    return typed({**user, "role": wanted.role}, Member)


async def _managed(connection: AsyncConnection, actor: Actor, org_id: OrgId, user_id: str) -> Role:
    """Return the role of a user whom the actor may change."""
    role = await role_of(connection, org_id, user_id)
    if role is None:
        raise no_user()
    await check_may_manage(connection, actor, role)
    return role


async def _check_not_last(
    connection: AsyncConnection, org_id: OrgId, user_id: str, role: Role
) -> None:
    columns = tables.memberships.c
    if role is not Role.OWNER:
        return
    others = await connection.execute(
        sa.select(columns.user_id)
        .where(columns.org_id == org_id, columns.role == Role.OWNER, columns.user_id != user_id)
        .limit(1)
    )
    if others.first() is None:
        raise Conflict(
            "The user is the last owner of the organisation.",
            code="last_owner",
            hint="Make somebody else an owner first.",
        )


async def _check_room(connection: AsyncConnection, org_id: OrgId, most: int) -> None:
    count = await connection.execute(
        sa.select(sa.func.count()).where(tables.memberships.c.org_id == org_id)
    )
    if count.scalar_one() >= most:
        raise TooMany(
            f"The organisation has {most} users, as many as it may.",
            code="too_many_users",
            hint="Remove one who does not work there any more, or have limits.users_per_org_max "
            "raised.",
        )
