"""The users of an organisation over HTTP."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.api.admin import BASE, Admin, after, checked_id, checked_name, id_of, second
from penstock.api.answers import json_answer
from penstock.api.bodies import read_json
from penstock.core.access import Role, Scope
from penstock.errors import InvalidRequest
from penstock.store.users import Member, NewMember, no_user


class UserBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is to join: somebody new with a name, or somebody known by his id."""

    role: Role
    name: str | None = None
    id: str | None = None


class RoleBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a user is to become."""

    role: Role


class UserRoutes:
    """The endpoints; each authenticates first and only then reads."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._users = admin.store.users

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = f"{BASE}/users/{{user_id}}"
        return [
            Route(f"{BASE}/users", self.list, methods=["GET"]),
            Route(f"{BASE}/users", self.add, methods=["POST"]),
            Route(one, self.get, methods=["GET"]),
            Route(one, self.change, methods=["PATCH"]),
            Route(one, self.remove, methods=["DELETE"]),
        ]

    async def list(self, request: Request) -> Response:
        """Return a page of the organisation's users."""
        principal = await self._admin.authenticator.principal(request, Scope.USERS_READ)
        limit = self._admin.limit(request)
        found = await self._users.page(principal.org_id, after(request) or "", limit)
        is_full = len(found) == limit
        return json_answer(
            {"users": [_record(one) for one in found], "next": found[-1].id if is_full else None}
        )

    async def get(self, request: Request) -> Response:
        """Return one user."""
        principal = await self._admin.authenticator.principal(request, Scope.USERS_READ)
        user_id = id_of(request, "user_id", no_user)
        return json_answer(_record(await self._users.get(principal.org_id, user_id)))

    async def add(self, request: Request) -> Response:
        """Let somebody join."""
        admin = self._admin
        async with admin.changing(request, Scope.USERS_WRITE, "user.add") as principal:
            body = await read_json(request, UserBody, admin.limits.admin_body_bytes_max)
            member = await self._users.add(
                principal.org_id,
                _wanted(body),
                principal.actor,
                admin.clock.now(),
                admin.limits.users_per_org_max,
            )
        return json_answer(_record(member), 201)

    async def change(self, request: Request) -> Response:
        """Change what a user is."""
        admin = self._admin
        async with admin.changing(request, Scope.USERS_WRITE, "user.role", "user_id") as principal:
            user_id = id_of(request, "user_id", no_user)
            body = await read_json(request, RoleBody, admin.limits.admin_body_bytes_max)
            member = await self._users.change_role(
                principal.org_id, user_id, body.role, principal.actor, admin.clock.now()
            )
        return json_answer(_record(member))

    async def remove(self, request: Request) -> Response:
        """End a membership; the user's keys of this organisation are dead at once."""
        admin = self._admin
        async with admin.changing(
            request, Scope.USERS_WRITE, "user.remove", "user_id"
        ) as principal:
            user_id = id_of(request, "user_id", no_user)
            await self._users.remove(principal.org_id, user_id, principal.actor, admin.clock.now())
        return Response(status_code=204)


def _wanted(body: UserBody) -> NewMember:
    if (body.name is None) == (body.id is None):
        raise InvalidRequest(
            "Either `name` or `id` is needed.",
            code="invalid_body",
            hint="`name` makes a new user; `id` lets one join whom another organisation knows.",
        )
    if body.id is not None:
        return NewMember(role=body.role, id=checked_id(body.id))
    return NewMember(role=body.role, name=checked_name(body.name or ""))


def _record(member: Member) -> dict[str, Any]:
    return {
        "id": member.id,
        "name": member.name,
        "role": member.role,
        "created_at": second(member.created_at),
    }
