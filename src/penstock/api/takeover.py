"""Lets a receiving process read the rest of a request's body from the connection itself.

Bytes that pass the server cost it half as much as checking them costs the process that does it, and
every other request waits for them. So for a large body the protocol stops reading, and gives the
socket and what has come so far to whoever asks by the extension in the ASGI scope. The answer goes
out as ever; then the connection is closed, because this side's parser has not seen the body's end.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from typing import Final

from starlette.requests import Request
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from penstock.receive.connection import Taken
from penstock.receive.stored import Stored

EXTENSION: Final = "penstock.take_over"
"""In the scope's extensions: a function without parameters that returns `Taken`, or None."""

REST_BYTES_MIN: Final = 262_144
"""Less than this is read by the server: it is about to come, and the connection lives on."""


class Gentle:
    """The transport as an answer sees it: closing it lets the client read the answer first."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport = transport
        self.close = close

    def write(self, data: bytes) -> None:
        """Send the bytes."""
        self._transport.write(data)

    def is_closing(self) -> bool:
        """Tell whether the connection is at its end."""
        return self._transport.is_closing()


class RequestBody:
    """The body of a request: its chunks, or the connection that they come from."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._request.stream()

    def take_over(self) -> Taken | None:
        """Return the connection in the middle of the body, if that is possible and worth it.

        Then there are no chunks any more.
        """
        extensions = self._request.scope.get("extensions", {})
        take: Callable[[], Taken | None] = extensions.get(EXTENSION, lambda: None)
        return take()


class StoredBody:
    """A body that came in pieces: its chunks, or the file that has it."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the chunks; each is read in a thread."""
        with closing(self._stored.chunks()) as chunks:
            while chunk := await asyncio.to_thread(next, chunks, b""):
                yield chunk

    def take_over(self) -> Stored:
        """Return the file."""
        return self._stored


def taken_from(cycle: RequestResponseCycle, rest_bytes: int) -> Taken | None:
    """Return what a reader of the body's rest needs; reading has to be paused."""
    transport: asyncio.Transport = cycle.transport
    if cycle.disconnected or not cycle.more_body or rest_bytes < REST_BYTES_MIN:
        return None
    if cycle.waiting_for_100_continue:
        transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        cycle.waiting_for_100_continue = False
    head = bytes(cycle.body)
    cycle.body.clear()
    cycle.keep_alive = False
    return Taken(client=transport.get_extra_info("socket").dup(), head=head, rest_bytes=rest_bytes)
