"""What the routes of organisations, users, keys and the audit log have in common."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from penstock.api.audited import audited
from penstock.api.auth import Authenticator, Principal
from penstock.clock import Clock
from penstock.core.access import Scope
from penstock.core.limits import Limits
from penstock.errors import InvalidRequest, NotFound
from penstock.store.store import Store

BASE: Final = "/api/v1"
PAGE: Final = 50
NAME_CHARS_MAX: Final = 100

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")

Endpoint = Callable[[Request], Awaitable[Response]]


class Admin(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that these routes need of the server."""

    store: Store
    authenticator: Authenticator
    clock: Clock
    limits: Limits

    @asynccontextmanager
    async def changing(
        self, request: Request, scope: Scope, action: str, thing: str = ""
    ) -> AsyncIterator[Principal]:
        """Let in who may do the action, and record the refusal of whatever happens inside.

        `thing` is the member of the path that names what is to be changed.
        """
        principal = await self.authenticator.identify(request)
        target = request.path_params[thing] if thing else ""
        async with audited(self.store.audit, self.clock, principal, action, target):
            principal.require(scope)
            yield principal

    def limit(self, request: Request) -> int:
        """Return how many things the caller wants on a page; more than a page has is cut."""
        return min(whole(request, "limit") or PAGE, self.limits.page_max)


def id_of(request: Request, name: str, absent: Callable[[], NotFound]) -> str:
    """Return an id of the path; what cannot be an id raises the same as an id of nobody."""
    text: str = request.path_params[name]
    if not _ID.match(text):
        raise absent()
    return text


def checked_id(text: str) -> str:
    """Return an id that a client chose; raises `InvalidRequest`."""
    if not _ID.match(text):
        raise InvalidRequest(
            "An id has 1 to 64 letters, digits, dots, dashes, underscores and @; the first is a "
            "letter or digit.",
            code="invalid_id",
        )
    return text


def checked_name(text: str, *, may_be_empty: bool = False) -> str:
    """Return a name without what could move a cursor or be refused by a database."""
    if not text.isprintable() or text != text.strip() or len(text) > NAME_CHARS_MAX:
        raise InvalidRequest(
            f"A name has at most {NAME_CHARS_MAX} printable characters and no blanks around it.",
            code="invalid_name",
        )
    if not text and not may_be_empty:
        raise InvalidRequest("The name is empty.", code="invalid_name")
    return text


def after(request: Request) -> str | None:
    """Return the id after which the page begins."""
    text = request.query_params.get("after")
    return None if text is None else checked_id(text)


def whole(request: Request, name: str) -> int | None:
    """Return a whole number of at least 1 from the query; None if it is left out."""
    text = request.query_params.get(name)
    if text is None:
        return None
    # No longer than a bigint may be.
    if not (text.isascii() and text.isdigit() and len(text) <= 18) or int(text) < 1:  # noqa: PLR2004
        raise InvalidRequest(
            f"The parameter {name} is not a whole number of at least 1.",
            code="invalid_parameter",
        )
    return int(text)


def second(at: float | None) -> int | None:
    """Return a time as clients read it everywhere: whole seconds since the epoch."""
    return None if at is None else int(at)
