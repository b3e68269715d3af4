"""How a call meets the fault rules: late, refused, cut off, or answered."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, Literal, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from penstock.emulator.faults import Then
from penstock.emulator.refusals import StorageRefusal, VertexRefusal

# The name under which the server's protocol (server.py) offers to cut the connection.
ABORT_EXTENSION: Final = "penstock.emulator.abort"
Way = Literal["abort", "fin", "rst"]
"""Cut at once, close in order after what was written, or reset."""
_WAYS: Final[dict[str, Way]] = {"fin": "fin", "rst": "rst"}
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
    502: "UNAVAILABLE",
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

    def __init__(self, way: Way = "abort") -> None:
        super().__init__()
        self._way = way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Cut the connection and wait until the server has noticed it."""
        del send
        await abort_connection(scope, receive, self._way)


class Truncated(Response):
    """The head and half of the body of an answer, then the end of the connection."""

    def __init__(self, whole: Response) -> None:
        super().__init__()
        self._whole = whole

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what is sent, then close in order: what was written still arrives."""
        whole = self._whole
        body = bytes(whole.body)
        head = {"status": whole.status_code, "headers": whole.raw_headers}
        await send({"type": "http.response.start", **head})
        half = body[: len(body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        await abort_connection(scope, receive, "fin")


class Hanging(Response):
    """No answer for a while, then no connection; a client that gives up ends it earlier."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for the client to leave, at most so long."""
        del send
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({leaving}, timeout=self._seconds)
            is_gone = leaving.done()
        finally:
            leaving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await leaving
        if not is_gone:
            await abort_connection(scope, receive, "fin")


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def abort_connection(scope: Scope, receive: Receive, way: Way = "abort") -> None:
    """Cut the connection of this request.

    It needs `penstock.emulator.server`; under another server it raises RuntimeError.
    """
    extension = scope.get("extensions", {}).get(ABORT_EXTENSION)
    if extension is None:
        raise RuntimeError("this server cannot cut connections: run penstock.emulator.server")
    extension["abort"](way)
    # Returning earlier would make uvicorn answer 500 for us.
    await _left(receive)


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
    instead = None if then.after else _instead(then, "before", refuse)
    if instead is not None:
        return instead
    response = await act()
    if then.drop == "after" and then.drop_by == "truncation":
        return Truncated(response)
    return _instead(then, "after", refuse) or response


def _instead(
    then: Then, moment: Literal["before", "after"], refuse: Callable[[Then], Response]
) -> Response | None:
    """What the client gets instead of the answer, if the rule strikes at this moment."""
    if then.drop == moment:
        return Dropped(_WAYS.get(then.drop_by or "", "abort"))
    if then.after != (moment == "after"):
        return None
    if then.hang_seconds is not None:
        return Hanging(then.hang_seconds)
    # A status in the middle of a body is ordered by `body_faults`.
    ordered = then.status is not None and then.status_after_bytes is None
    return refuse(then) if ordered or then.body is not None else None


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
        return with_retry_after(render(ordered_storage_refusal(status)), then)

    return refuse


def ordered_storage_refusal(status: int) -> StorageRefusal:
    """An ordered status with the words that both storage APIs have for it."""
    reasons = {
        403: "forbidden",
        404: "notFound",
        412: "conditionNotMet",
        429: "rateLimitExceeded",
        500: "backendError",
        503: "backendError",
    }
    codes = {
        403: "AccessDenied",
        404: "NoSuchKey",
        412: "PreconditionFailed",
        429: "SlowDown",
        503: "ServiceUnavailable",
    }
    reason, code = reasons.get(status, "ordered"), codes.get(status, "InternalError")
    return StorageRefusal(status, reason, "Ordered by a rule.", xml_code=code)


async def drain(request: Request) -> None:
    """Read a body to its end, so that an early answer does not reset the connection."""
    async for _chunk in request.stream():
        pass
