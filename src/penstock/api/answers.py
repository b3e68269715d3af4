"""Answers that every dialect shares: JSON, errors, headers."""

import logging
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from penstock.errors import (
    InternalError,
    MethodNotAllowed,
    NotFound,
    PenstockError,
    QuotaExceeded,
    Refused,
)
from penstock.fault import fault

_log = logging.getLogger(__name__)

SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""On every answer that does not set its own."""

HSTS: Final = {"Strict-Transport-Security": "max-age=31536000; includeSubDomains"}
"""On every answer of a server whose public address is https: a year, as ASVS asks."""


def json_answer(
    value: object, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Return a JSON answer."""
    return Response(
        msgspec.json.encode(value), status, headers=headers, media_type="application/json"
    )


class Promise(Response):
    """A JSON answer that promises something; a process may die in the middle of it."""

    def __init__(self, value: object, headers: dict[str, str] | None = None) -> None:
        super().__init__(msgspec.json.encode(value), headers=headers, media_type="application/json")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send head and body apart."""
        del scope, receive
        status, headers = self.status_code, self.raw_headers
        await send({"type": "http.response.start", "status": status, "headers": headers})
        fault("accept.half_answered")
        await send({"type": "http.response.body", "body": self.body})


def error_answer(error: PenstockError) -> Response:
    """Render an error: one client reads the string `error`, another one `message`."""
    body: dict[str, Any] = {
        "error": error.message,
        "message": error.message,
        "code": error.error_code,
        "details": [msgspec.to_builtins(problem) for problem in error.problems],
    }
    if error.problems_total:
        body["details_total"] = error.problems_total
    if error.hint:
        body["hint"] = error.hint
    if isinstance(error, QuotaExceeded):
        body["quota"] = msgspec.to_builtins(error.quota)
    headers = {}
    if error.status == 401:  # noqa: PLR2004
        headers["WWW-Authenticate"] = 'Bearer realm="penstock"'
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    return json_answer(body, error.status, headers)


async def on_refusal(_request: Request, error: Exception) -> Response:
    """Answer an error of ours."""
    if not isinstance(error, PenstockError):
        raise error
    if not isinstance(error, Refused):
        _log.error("%s: %s", error.error_code, error.message)
    return error_answer(error)


async def on_http(request: Request, error: Exception) -> Response:
    """Answer what the router refuses, in our shape."""
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == 404:  # noqa: PLR2004
        return error_answer(NotFound("There is no such route.", hint="GET /docs lists them all."))
    if error.status_code == 405:  # noqa: PLR2004
        answer = error_answer(MethodNotAllowed("The route does not take this method."))
        answer.headers["Allow"] = ", ".join(sorted(_methods_of(request.scope)))
        return answer
    return error_answer(Refused(str(error.detail), code="http_error"))


def _methods_of(scope: Scope) -> set[str]:
    """Return all methods of a path; the router tells only those of the first route that fits."""
    return {
        method
        for route in scope["router"].routes
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE
        for method in route.methods or ()
    }


async def on_disconnect(_request: Request, _error: Exception) -> Response:
    """Nobody is there to read this; the upload was discarded where it was read."""
    return Response(status_code=499)


def bug_answer() -> Response:
    """Answer an error that nobody expected, without a word about its inside."""
    return error_answer(
        InternalError(
            "Penstock failed unexpectedly; this is our fault.",
            hint="Tell the operator the X-Request-ID of this answer.",
        )
    )


HANDLERS: Final = {
    PenstockError: on_refusal,
    HTTPException: on_http,
    ClientDisconnect: on_disconnect,
}
