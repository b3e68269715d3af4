"""The audit log of an organisation over HTTP."""

import re
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.api.admin import BASE, Admin, whole
from penstock.api.answers import json_answer
from penstock.core.access import Scope
from penstock.errors import InvalidRequest
from penstock.store.audit import NO_HEAD, Entry, Head

_HASH: Final = re.compile(r"[0-9a-f]{64}\Z")
_ACTION: Final = re.compile(r"[a-z_]{1,40}\.[a-z_]{0,40}\Z")


class AuditRoutes:
    """The endpoints."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._audit = admin.store.audit

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(f"{BASE}/audit", self.list, methods=["GET"]),
            Route(f"{BASE}/audit/verify", self.verify, methods=["GET"]),
        ]

    async def list(self, request: Request) -> Response:
        """Return a page of rows, newest first."""
        principal = await self._admin.authenticator.principal(request, Scope.AUDIT_READ)
        limit = self._admin.limit(request)
        before, action = whole(request, "before"), request.query_params.get("action")
        if action is not None and not _ACTION.match(action):
            raise InvalidRequest(
                "The parameter action is not the name of one.",
                code="invalid_parameter",
                hint="Such as key.create; key. stands for all that begin so.",
            )
        rows = await self._audit.page(principal.org_id, before, limit, action)
        is_full = len(rows) == limit
        return json_answer(
            {"rows": [_record(row) for row in rows], "next": rows[-1].number if is_full else None}
        )

    async def verify(self, request: Request) -> Response:
        """Work out the chain again, and tell its head or the first row that is not as written."""
        principal = await self._admin.authenticator.principal(request, Scope.AUDIT_READ)
        rows_max = self._admin.limits.audit_verify_rows_max
        since = _since(request)
        verdict = await self._audit.verify(principal.org_id, since=since, rows_max=rows_max)
        return json_answer({"whole": verdict.broken_at is None, **msgspec.structs.asdict(verdict)})


def _since(request: Request) -> Head:
    """Return where to go on: a row and its hash, as an answer of before had them."""
    after, head = whole(request, "after"), request.query_params.get("head")
    if after is None and head is None:
        return NO_HEAD
    if after is None or head is None or not _HASH.match(head):
        raise InvalidRequest(
            "The parameters after and head belong together: a number and 64 hex digits.",
            code="invalid_parameter",
            hint="Send `rows` and `head` of the last answer, or neither.",
        )
    return after, head


def _record(row: Entry) -> dict[str, Any]:
    # The time as it is, because the hash covers all of it.
    return {**msgspec.structs.asdict(row), "detail": msgspec.Raw(row.detail.encode())}
