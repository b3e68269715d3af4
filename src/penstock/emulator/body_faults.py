"""What goes wrong with the body of an upload while it comes in."""

import asyncio
from typing import Final

from starlette.requests import Request
from starlette.types import Message, Receive

from penstock.emulator.answering import abort_connection, ordered_storage_refusal
from penstock.emulator.faults import Then

TAKEN: Final = "penstock.emulator.body_taken"
"""In the scope of a request whose body only the copy with faults may read."""
_HERE: Final = ("cut_after_bytes", "status_after_bytes", "stall_seconds")


def with_body_faults(request: Request, then: Then | None) -> Request:
    """The same request, whose body suffers what the rule orders."""
    if then is None:
        return request
    if not then.corrupt and all(getattr(then, name) is None for name in _HERE):
        return request
    request.scope[TAKEN] = True
    return Request(request.scope, _Suffering(request, then))


def is_refused_unread(then: Then) -> bool:
    """Whether a status is ordered without a look at the body, which is then read for nothing."""
    return then.status is not None and not then.after and then.status_after_bytes is None


class _Suffering:
    """An ASGI `receive` that counts the bytes and strikes once."""

    def __init__(self, request: Request, then: Then) -> None:
        self._request = request
        self._receive: Receive = request.receive
        self._then = then
        self._seen_bytes = 0
        self._is_over = False

    async def __call__(self) -> Message:
        """The next message."""
        message = await self._receive()
        body = message.get("body", b"")
        self._seen_bytes += len(body)
        if self._is_over or message["type"] != "http.request" or not body:
            return message
        return await self._strike(message, body)

    async def _strike(self, message: Message, body: bytes) -> Message:
        then = self._then
        if then.corrupt:
            self._is_over = True
            middle = len(body) // 2
            flipped = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
            return {**message, "body": flipped}
        if then.stall_seconds is not None and self._seen_bytes > then.stall_after_bytes:
            self._is_over = True
            await asyncio.sleep(then.stall_seconds)
        if then.cut_after_bytes is not None and self._seen_bytes > then.cut_after_bytes:
            self._is_over = True
            await abort_connection(self._request.scope, self._receive)
            return {"type": "http.disconnect"}
        if then.status_after_bytes is not None and self._seen_bytes > then.status_after_bytes:
            self._is_over = True
            # Read to its end, or the client would see a reset instead of the answer.
            while message.get("more_body", False):
                message = await self._receive()
            raise ordered_storage_refusal(then.status or 503)
        return message
