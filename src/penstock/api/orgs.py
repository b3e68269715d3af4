"""Organisations over HTTP: the operator's people see and change all, others see their own."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.api.admin import BASE, Admin, after, checked_id, checked_name, id_of, second
from penstock.api.answers import json_answer
from penstock.api.bodies import read_json
from penstock.core.access import Scope
from penstock.core.ids import new_id
from penstock.core.job import OrgId
from penstock.core.quotas import checked_overrides
from penstock.errors import InvalidRequest
from penstock.store.orgs import Org, OrgChange, no_org


class OrgBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a new organisation is to be."""

    name: str
    id: str | None = None
    owner_id: str | None = None
    """A known user who is to be its first owner."""


class OrgChangeBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to change; what is left out stays."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    suspended: bool | msgspec.UnsetType = msgspec.UNSET
    quotas: dict[str, int] | msgspec.UnsetType = msgspec.UNSET


class OrgRoutes:
    """The endpoints; each authenticates first and only then reads."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._orgs = admin.store.orgs

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(f"{BASE}/orgs", self.list, methods=["GET"]),
            Route(f"{BASE}/orgs", self.create, methods=["POST"]),
            Route(f"{BASE}/orgs/{{org_id}}", self.get, methods=["GET"]),
            Route(f"{BASE}/orgs/{{org_id}}", self.change, methods=["PATCH"]),
        ]

    async def list(self, request: Request) -> Response:
        """Return a page of all organisations."""
        await self._admin.authenticator.principal(request, Scope.ORGS_READ)
        limit = self._admin.limit(request)
        found = await self._orgs.page(after(request) or "", limit)
        is_full = len(found) == limit
        return json_answer(
            {"orgs": [_record(one) for one in found], "next": found[-1].id if is_full else None}
        )

    async def get(self, request: Request) -> Response:
        """Return one organisation; to most callers there is only their own."""
        principal = await self._admin.authenticator.identify(request)
        is_operator = Scope.ORGS_READ in principal.scopes
        if not is_operator:
            principal.require(Scope.USAGE_READ)
        org_id = id_of(request, "org_id", no_org)
        if not is_operator and org_id != principal.org_id:
            raise no_org()
        return json_answer(_record(await self._orgs.get(OrgId(org_id))))

    async def create(self, request: Request) -> Response:
        """Make an organisation."""
        admin = self._admin
        async with admin.changing(request, Scope.ORGS_WRITE, "org.create") as principal:
            body = await read_json(request, OrgBody, admin.limits.admin_body_bytes_max)
            now = admin.clock.now()
            org = Org(
                id=OrgId(new_id("org") if body.id is None else checked_id(body.id)),
                name=checked_name(body.name),
                created_at=now,
            )
            owner_id = None if body.owner_id is None else checked_id(body.owner_id)
            most = admin.limits.orgs_max
            await self._orgs.create(org, owner_id, principal.actor, now, most)
        return json_answer(_record(org), 201)

    async def change(self, request: Request) -> Response:
        """Rename, suspend or resume an organisation, or set its quotas."""
        admin = self._admin
        async with admin.changing(request, Scope.ORGS_WRITE, "org.update", "org_id") as principal:
            org_id = OrgId(id_of(request, "org_id", no_org))
            body = await read_json(request, OrgChangeBody, admin.limits.admin_body_bytes_max)
            org = await self._orgs.update(org_id, _change(body), principal.actor, admin.clock.now())
        return json_answer(_record(org))


def _change(body: OrgChangeBody) -> OrgChange:
    change = OrgChange(
        name=checked_name(body.name) if isinstance(body.name, str) else body.name,
        suspended=body.suspended,
        quotas=checked_overrides(body.quotas) if isinstance(body.quotas, dict) else body.quotas,
    )
    if change == OrgChange():
        raise InvalidRequest(
            "The body changes nothing.",
            code="invalid_body",
            hint="Send some of name, suspended and quotas.",
        )
    return change


def _record(org: Org) -> dict[str, Any]:
    return {
        "id": org.id,
        "name": org.name,
        "created_at": second(org.created_at),
        "suspended_at": second(org.suspended_at),
        "quotas": msgspec.Raw((org.quotas or "{}").encode()),
    }
