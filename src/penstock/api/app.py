"""The ASGI application: routes, error handlers, and what surrounds every request."""

import logging
import re
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from penstock.api.answers import HANDLERS, HSTS, SECURITY_HEADERS, bug_answer
from penstock.api.hosts import HostCheck, KnownAs
from penstock.api.rates import RATE_STATE

_log = logging.getLogger("penstock.http")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


class Surround:
    """Gives each request an id, a log line and the security headers."""

    def __init__(self, app: ASGIApp, *, is_https: bool = False) -> None:
        self._app = app
        # Over plain HTTP browsers must ignore it, so only who is reached by TLS says it.
        self._headers = {**SECURITY_HEADERS, **(HSTS if is_https else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI event stream."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        started_at = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers.update(scope["state"].get(RATE_STATE, {}))
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            _log.exception("unexpected error in request %s", request_id)
            if status != 0:
                # Half an answer is out; cutting the connection is the only honest end.
                raise
            await bug_answer()(scope, receive, send_with_headers)
        finally:
            # The path without its query: download links carry their signature there.
            _log.info(
                "%s %s %d %.1f ms %s",
                scope["method"],
                scope["path"][:200],
                status,
                (time.perf_counter() - started_at) * 1000,
                request_id,
            )


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            if _REQUEST_ID.match(text):
                return str(text)
    return uuid.uuid4().hex


def create_app(
    routes: Sequence[BaseRoute],
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]],
    known_as: KnownAs | None = None,
) -> Starlette:
    """Return the application for a set of routes; `lifespan` surrounds its serving.

    Without `known_as` it answers to any name, which is for tests of its parts.
    """
    around = [Middleware(Surround, is_https=known_as is not None and known_as.is_https)]
    if known_as is not None:
        around.append(Middleware(HostCheck, known_as.names))
    app = Starlette(
        routes=list(routes),
        exception_handlers=HANDLERS,
        middleware=around,
        lifespan=lifespan,
    )
    # A redirect to the path with a slash would drop a body that was already sent.
    app.router.redirect_slashes = False
    return app
