"""How a call meets the fault rules: late, refused, cut off, or answered."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from penstock.emulator.faults import Then
from penstock.emulator.refusals import StorageRefusal, VertexRefusal

# The name under which the server's protocol (server.py) offers to cut the connection.
ABORT_EXTENSION: Final = "penstock.emulator.abort"
_STATUS_WORD: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class RefusalRenderer(Protocol):
    """Gives a storage refusal the shape of one of the two storage APIs."""

    def __call__(self, refusal: StorageRefusal) -> Response:
        """The HTTP answer."""
        ...


class Dropped(Response):
    """No answer: the connection ends without a byte, so the client cannot know what happened."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Cut the connection and wait until the server has noticed it."""
        del send
        await abort_connection(scope, receive)


async def abort_connection(scope: Scope, receive: Receive) -> None:
    """Cut the connection of this request.

    It needs `penstock.emulator.server`; under another server it raises RuntimeError.
    """
    extension = scope.get("extensions", {}).get(ABORT_EXTENSION)
    if extension is None:
        raise RuntimeError("this server cannot cut connections: run penstock.emulator.server")
    extension["abort"]()
    # Returning earlier would make uvicorn answer 500 for us.
    while (await receive())["type"] != "http.disconnect":
        pass


async def under_faults(
    then: Then | None,
    act: Callable[[], Awaitable[Response]],
    refuse: Callable[[Then], Response],
) -> Response:
    """Do `act` unless the rule says otherwise; `refuse` shapes an ordered status."""
    if then is None:
        return await act()
    if then.delay_seconds:
        await asyncio.sleep(then.delay_seconds)
    if then.drop == "before":
        return Dropped()
    ordered = then.status is not None or then.body is not None
    if ordered and not then.after:
        return refuse(then)
    response = await act()
    if then.drop == "after":
        return Dropped()
    return refuse(then) if ordered else response


def with_retry_after(response: Response, then: Then) -> Response:
    """Add the Retry-After header that a rule may ask for, and its body."""
    if then.retry_after is not None:
        response.headers["Retry-After"] = str(then.retry_after)
    return response


def vertex_refusal(then: Then) -> Response:
    """The ordered status in the shape of Vertex, or the ordered body as it is."""
    status = 200 if then.status is None else then.status
    if then.body is not None:
        response = Response(then.body, status, media_type="application/json")
    else:
        word = _STATUS_WORD.get(status, "UNKNOWN")
        response = VertexRefusal(status, word, f"Ordered by a rule: {word}.").response()
    return with_retry_after(response, then)


def storage_refusal(render: RefusalRenderer) -> Callable[[Then], Response]:
    """The same for storage; `render` gives it the shape of the JSON or the XML API."""

    def refuse(then: Then) -> Response:
        status = 200 if then.status is None else then.status
        if then.body is not None:
            return with_retry_after(Response(then.body, status), then)
        reasons = {429: "rateLimitExceeded", 503: "backendError", 500: "backendError"}
        refusal = StorageRefusal(
            status,
            reasons.get(status, "ordered"),
            "Ordered by a rule.",
            xml_code={429: "SlowDown", 503: "ServiceUnavailable"}.get(status, "InternalError"),
        )
        return with_retry_after(render(refusal), then)

    return refuse


async def drain(request: Request) -> None:
    """Read a body to its end, so that an early answer does not reset the connection."""
    async for _chunk in request.stream():
        pass
