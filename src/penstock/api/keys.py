"""API keys over HTTP: one's own with `keys:*`, everybody's together with `users:*`."""

from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.api.admin import BASE, Admin, after, checked_id, checked_name, id_of, second
from penstock.api.answers import json_answer
from penstock.api.auth import Principal
from penstock.api.bodies import read_json
from penstock.core.access import (
    ALL,
    Maker,
    Scope,
    grant,
    grant_again,
    grant_until,
    parse_scopes,
)
from penstock.core.key import key_id_of, new_key
from penstock.errors import InvalidRequest
from penstock.store.keys import no_key
from penstock.store.tenants import Key

OVERLAP_SECONDS: Final = 24 * 3600
"""How long a replaced key works beside its successor, if nothing is said."""


class KeyBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a new key is to be; without scopes it may do all that its maker can give."""

    name: str = ""
    user_id: str | None = None
    scopes: list[str] | None = None
    expires_in_seconds: int | None = None


class RotationBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the old key works beside the new one."""

    overlap_seconds: int = OVERLAP_SECONDS


class KeyRoutes:
    """The endpoints; each authenticates first and only then reads."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._keys = admin.store.keys

    def routes(self) -> list[Route]:
        """Return the routes."""
        one = f"{BASE}/keys/{{key_id}}"
        return [
            Route(f"{BASE}/keys", self.list, methods=["GET"]),
            Route(f"{BASE}/keys", self.create, methods=["POST"]),
            Route(one, self.get, methods=["GET"]),
            Route(one, self.revoke, methods=["DELETE"]),
            Route(f"{one}/rotate", self.rotate, methods=["POST"]),
        ]

    async def list(self, request: Request) -> Response:
        """Return a page of keys, newest first: all that the caller may see."""
        principal = await self._admin.authenticator.principal(request, Scope.KEYS_READ)
        limit = self._admin.limit(request)
        found = await self._keys.page(
            principal.org_id, _seen(principal, Scope.USERS_READ), after(request), limit
        )
        is_full = len(found) == limit
        return json_answer(
            {"keys": [_record(one) for one in found], "next": found[-1].id if is_full else None}
        )

    async def get(self, request: Request) -> Response:
        """Return one key."""
        principal = await self._admin.authenticator.principal(request, Scope.KEYS_READ)
        key_id = id_of(request, "key_id", no_key)
        user_id = _seen(principal, Scope.USERS_READ)
        return json_answer(_record(await self._keys.get(principal.org_id, key_id, user_id)))

    async def create(self, request: Request) -> Response:
        """Make a key; its text is in this answer and nowhere else."""
        admin = self._admin
        async with admin.changing(request, Scope.KEYS_WRITE, "key.create") as principal:
            body = await read_json(request, KeyBody, admin.limits.admin_body_bytes_max)
            now = admin.clock.now()
            text, key = self._new(principal, body, now)
            await self._keys.create(
                principal.org_id, key, principal.actor, now, admin.limits.keys_per_user_max
            )
        return json_answer({**_record(key), "key": text}, 201)

    async def rotate(self, request: Request) -> Response:
        """Make a key that takes the place of another; both work for a while."""
        admin = self._admin
        async with admin.changing(request, Scope.KEYS_WRITE, "key.rotate", "key_id") as principal:
            key_id = id_of(request, "key_id", no_key)
            body = await read_json(request, RotationBody, admin.limits.admin_body_bytes_max)
            overlap = self._seconds("overlap_seconds", body.overlap_seconds, least=0)
            user_id = _seen(principal, Scope.USERS_WRITE)
            old = await self._keys.get(principal.org_id, key_id, user_id)
            now = admin.clock.now()
            text, key = self._successor(principal, old, now)
            ends_at = now + overlap
            await self._keys.rotate(
                principal.org_id,
                key_id,
                key,
                principal.actor,
                ends_at,
                admin.limits.keys_per_user_max,
            )
        return json_answer({**_record(key), "key": text}, 201)

    async def revoke(self, request: Request) -> Response:
        """Revoke a key; the next request with it is refused."""
        admin = self._admin
        async with admin.changing(request, Scope.KEYS_WRITE, "key.revoke", "key_id") as principal:
            key_id = id_of(request, "key_id", no_key)
            user_id = _seen(principal, Scope.USERS_WRITE)
            await self._keys.revoke(
                principal.org_id, key_id, user_id, principal.actor, admin.clock.now()
            )
        return Response(status_code=204)

    def _new(self, principal: Principal, body: KeyBody, now: float) -> tuple[str, Key]:
        user_id = principal.user_id if body.user_id is None else checked_id(body.user_id)
        if user_id != principal.user_id:
            principal.require(Scope.USERS_WRITE)
        maker = _maker(principal, user_id)
        wanted = None
        if body.scopes is not None and body.scopes != [ALL]:
            wanted = parse_scopes(body.scopes)
        if wanted is not None and not wanted:
            raise InvalidRequest(
                "A key without a scope could do nothing.",
                code="unknown_scope",
                hint=f"Use some of: {', '.join(Scope)}.",
            )
        ends_at = None
        if body.expires_in_seconds is not None:
            ends_at = now + self._seconds("expires_in_seconds", body.expires_in_seconds, least=1)
        return self._made(
            principal,
            now,
            user_id=user_id,
            name=checked_name(body.name, may_be_empty=True),
            scopes=grant(maker, wanted),
            expires_at=grant_until(maker, ends_at),
        )

    def _successor(self, principal: Principal, old: Key, now: float) -> tuple[str, Key]:
        """Return a key like the old one. Whoever gets its text must be able to make such a one."""
        maker = _maker(principal, old.user_id)
        # It gets the time that the old one had from its beginning, as far as the maker's reaches.
        ends = [maker.expires_at] if maker.expires_at is not None else []
        if old.expires_at is not None:
            ends.append(now + old.expires_at - old.created_at)
        return self._made(
            principal,
            now,
            user_id=old.user_id,
            name=old.name,
            scopes=grant_again(maker, old.scopes),
            expires_at=min(ends, default=None),
        )

    def _made(self, principal: Principal, now: float, **values: Any) -> tuple[str, Key]:  # noqa: ANN401  # the fields of a Key
        text = new_key()
        key = Key(
            id=key_id_of(text) or "",
            org_id=principal.org_id,
            digest=self._admin.authenticator.digest(text),
            created_at=now,
            made_by=principal.user_id,
            **values,
        )
        return text, key

    def _seconds(self, name: str, value: int, least: int) -> int:
        most = self._admin.limits.key_seconds_max
        if not least <= value <= most:
            raise InvalidRequest(
                f"{name} is not between {least} and {most} (key_seconds_max).",
                code="invalid_parameter",
            )
        return value


def _seen(principal: Principal, everybody: Scope) -> str | None:
    """Return whose keys the caller may see or change; None for everybody's."""
    return None if everybody in principal.scopes else principal.user_id


def _maker(principal: Principal, user_id: str) -> Maker:
    return Maker(
        scopes=principal.scopes,
        has_all=principal.key_scopes == ALL and user_id == principal.user_id,
        expires_at=principal.key_expires_at,
    )


def _record(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "user_id": key.user_id,
        "name": key.name,
        "scopes": key.scopes.split(),
        "created_at": second(key.created_at),
        "expires_at": second(key.expires_at),
        "revoked_at": second(key.revoked_at),
        "last_used_at": second(key.last_used_at),
        "made_by": key.made_by,
        "successor_id": key.successor_id,
    }
