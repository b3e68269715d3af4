"""HTTP/1.1 with limits.

uvicorn's httptools protocol never cuts a slow client by itself and takes a header of any size
(reference/reliability.md 0.6). Deadlines and sizes here are those of `core.limits`. A client that
waits because *we* do not read (the disk is slower than its network) is never called slow.

A file goes out by `sendfile`, which uvicorn does not offer: `api/zero_copy` says why and how.
"""

import asyncio
import functools
import socket
import sys
from asyncio.events import TimerHandle
from collections.abc import Mapping
from concurrent.futures import Executor
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from penstock.api.answers import error_answer
from penstock.api.giving_way import giving_way
from penstock.api.takeover import EXTENSION as TAKE_OVER
from penstock.api.takeover import Gentle, taken_from
from penstock.api.zero_copy import EXTENSION, FileSender
from penstock.core.limits import Limits
from penstock.errors import Refused, TooLarge, TooSlow
from penstock.receive.connection import Taken

LINGER_SECONDS: Final = 2.0
"""How long a refused client may go on sending before the connection is cut."""

SENDING_THREADS: Final = 4
"""They wait for the disk, never for a client; more would only queue at the disk instead."""

SENDING_NICENESS: Final = 5

_HEADER_OVERHEAD: Final = 4
"""Colon, space, CR and LF of one header line."""


class HeadersTooLarge(TooLarge):
    """The request line and headers exceed their limit."""

    code = "headers_too_large"
    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


class GuardedProtocol(HttpToolsProtocol):
    """One connection; `limits` and `pool` are set on a subclass by `guarded`."""

    limits = Limits()
    pool: Executor | None = None
    """The threads that send files; without them the application sends bytes."""

    _head_bytes = 0
    _in_head = True
    _is_refused = False
    _window_bytes = 0
    _dropped_bytes_max = 0
    """What a client may go on sending although nobody reads it: the rest of its body."""
    _timer: TimerHandle | None = None
    _files: FileSender | None = None
    _body_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Give the client a deadline for its first headers."""
        super().connection_made(transport)
        _tune(transport.get_extra_info("socket"), self.limits)
        if self.pool is not None and _can_send_files(transport):
            self._files = FileSender(transport, self.pool)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines, and stop what is being sent."""
        self._cancel_timer()
        super().connection_lost(exc)
        if self._files is not None:
            self._files.cut()

    def data_received(self, data: bytes) -> None:
        """Count what arrives before the headers are complete."""
        if self._is_refused:
            self._window_bytes += len(data)
            self._dropped_bytes_max -= len(data)
            return
        if self._in_head:
            self._head_bytes += len(data)
        else:
            self._window_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > self.limits.header_bytes_max:
            self._refuse(self._too_large())

    def on_message_begin(self) -> None:
        """Begin another request on this connection."""
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        """Judge the headers by their own size: they may have come in one read with the body."""
        self._cancel_timer()
        size = len(self.url) + sum(
            len(name) + len(value) + _HEADER_OVERHEAD for name, value in self.headers
        )
        if size > self.limits.header_bytes_max:
            self._refuse(self._too_large())
            return
        self._in_head = False
        self._body_bytes = 0
        super().on_headers_complete()
        self._watch_body()

    def on_body(self, body: bytes) -> None:
        """Pass the body on, unless the request was refused."""
        self._body_bytes += len(body)
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole; the answer may take its time, and then the next head."""
        self._cancel_timer()
        if not self._is_refused:
            super().on_message_complete()
            self._head_bytes = 0
            self._in_head = True

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401  # uvicorn's type is its own
        """Offer the application to send files, and to read the body itself."""
        if self._files is not None:
            app = self._offering(cycle, app, self._files)
            extensions: dict[str, Any] = {TAKE_OVER: functools.partial(self._take_over, cycle)}
            cycle.scope["extensions"] = extensions
        super()._start_asgi_task(cycle, app)

    def _offering(self, cycle: RequestResponseCycle, app: ASGIApp, files: FileSender) -> ASGIApp:
        async def offered(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_any(message: Message) -> None:
                if message["type"] == EXTENSION:
                    await self._send_file(cycle, files, message)
                else:
                    await send(message)

            scope.setdefault("extensions", {})[EXTENSION] = {}
            await app(scope, receive, send_any)

        return offered

    async def _send_file(
        self, cycle: RequestResponseCycle, files: FileSender, message: Mapping[str, Any]
    ) -> None:
        """Send a part of a file as the next bytes of a body of known length."""
        count: int = message["count"]
        if cycle.scope["method"] == "HEAD" or count > cycle.expected_content_length:
            raise RuntimeError("The file is longer than the Content-Length of the answer.")
        await self._drain()
        if cycle.disconnected:
            return
        if not await files.send(message["file"], message["offset"], count):
            cycle.disconnected = True
            return
        cycle.expected_content_length -= count
        more_body = message.get("more_body", False)
        await cycle.send({"type": "http.response.body", "body": b"", "more_body": more_body})

    async def _drain(self) -> None:
        """Wait until the transport has written all, because the file goes past it."""
        self.transport.set_write_buffer_limits(high=0)
        if self.flow.write_paused:
            await self.flow.drain()
        self.transport.set_write_buffer_limits()

    def _take_over(self, cycle: RequestResponseCycle) -> Taken | None:
        length = dict(self.headers).get(b"content-length")
        if length is None or self.cycle is not cycle or self._is_refused:
            return None
        self.flow.pause_reading()
        taken = taken_from(cycle, int(length) - self._body_bytes)
        if taken is not None:
            self._cancel_timer()
            # What comes from now on belongs to a body that this parser does not follow.
            self._is_refused = True
            self._dropped_bytes_max = taken.rest_bytes
            cycle.transport = cast(asyncio.Transport, Gentle(self.transport, self._linger))
        return taken

    def _linger(self) -> None:
        """Close our side, and drop what still comes for a moment.

        Closing at once while the client still sends would reset the connection, and the reset can
        destroy the answer before it is read.
        """
        # A client that reset the connection a moment ago has no side left to close.
        with suppress(OSError):
            self.transport.write_eof()
        self._cancel_timer()
        self._await_end()

    def _await_end(self) -> None:
        self._window_bytes = 0
        self._timer = self.loop.call_later(LINGER_SECONDS, self._check_end)

    def _check_end(self) -> None:
        """Cut the connection, unless its client is on the way to the end of its body.

        Many clients look for an answer only there.
        """
        self._timer = None
        least = self.limits.body_bytes_per_second_min * LINGER_SECONDS
        if self._window_bytes < least or self._dropped_bytes_max <= 0:
            self.transport.close()
        else:
            self._await_end()

    def _expect_head(self) -> None:
        self._in_head = True
        self._cancel_timer()
        self._timer = self.loop.call_later(self.limits.header_seconds_max, self._head_is_late)

    def _head_is_late(self) -> None:
        self._timer = None
        seconds = self.limits.header_seconds_max
        self._refuse(TooSlow(f"The headers took longer than {seconds:g} seconds."))

    def _watch_body(self) -> None:
        self._window_bytes = 0
        self._timer = self.loop.call_later(self.limits.idle_seconds_max, self._check_body)

    def _check_body(self) -> None:
        """Every window of `idle_seconds_max` must bring its share of the least rate."""
        self._timer = None
        least = self.limits.body_bytes_per_second_min * self.limits.idle_seconds_max
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn's annotation denies the None
        # Who waits in line for `100 Continue` sends nothing because we have not asked.
        awaits_us = self.flow.read_paused or (cycle and cycle.waiting_for_100_continue)
        if self._window_bytes < least and not awaits_us:
            self._refuse(
                TooSlow(
                    f"The body came with less than {self.limits.body_bytes_per_second_min} "
                    f"bytes a second over {self.limits.idle_seconds_max:g} seconds.",
                    hint="Send it over a faster or steadier connection.",
                )
            )
        else:
            self._watch_body()

    def _too_large(self) -> HeadersTooLarge:
        return HeadersTooLarge(
            f"The request line and headers exceed {self.limits.header_bytes_max} bytes.",
            hint="Send fewer or shorter headers; input belongs into the body.",
        )

    def _refuse(self, error: Refused) -> None:
        """Answer if nothing was answered yet, and close; the application sees a disconnect."""
        self._is_refused = True
        self._cancel_timer()
        if self.transport.is_closing():
            return
        if not self._may_answer():
            self.transport.close()
            return
        answer = error_answer(error)
        status = HTTPStatus(answer.status_code)
        head = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"content-length: {len(answer.body)}",
            "content-type: application/json",
            "connection: close",
        ]
        self.transport.write("\r\n".join([*head, "", ""]).encode("ascii") + bytes(answer.body))
        self._linger()
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _may_answer(self) -> bool:
        """Tell whether the refusal would be read as the answer to the request that it refuses."""
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn's annotation denies the None
        if cycle is None or cycle.response_complete:
            return True
        # While a head comes in, an unfinished answer is that of an earlier, pipelined request.
        return not self._in_head and not cycle.response_started

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def guarded(limits: Limits) -> type[GuardedProtocol]:
    """Return the protocol class for uvicorn, bound to these limits."""
    pool = giving_way(SENDING_THREADS, "send", SENDING_NICENESS)
    return type("GuardedProtocol", (GuardedProtocol,), {"limits": limits, "pool": pool})


def _can_send_files(transport: asyncio.Transport) -> bool:
    # `sendfile` of other systems has other rules, and nothing may go past TLS.
    return sys.platform == "linux" and transport.get_extra_info("sslcontext") is None


def _tune(connection: socket.socket, limits: Limits) -> None:
    # asyncio does this only to sockets that name their protocol, which those of `create_server` do
    # not. Without it the body of an answer waits until its head is acknowledged: 40 ms a call.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sys.platform == "linux":
        # Only the kernel knows what a client takes: its buffers hold megabytes that look sent to
        # us. It cuts whoever takes nothing for so long.
        milliseconds = int(limits.unread_seconds_max * 1000)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
