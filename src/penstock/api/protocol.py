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
from typing import Any, Final, Protocol, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from penstock.api.answers import HSTS, SECURITY_HEADERS, error_answer
from penstock.api.framing import ExpectationFailed, HttpInvalid, check_head, length_of
from penstock.api.giving_way import giving_way
from penstock.api.takeover import EXTENSION as TAKE_OVER
from penstock.api.takeover import Gentle, taken_from
from penstock.api.zero_copy import EXTENSION, FileSender
from penstock.core.limits import Limits
from penstock.errors import InvalidRequest, PenstockError, TooBusy, TooLarge, TooSlow
from penstock.receive.connection import Taken

LINGER_SECONDS: Final = 2.0
"""How long a refused client may go on sending before the connection is cut."""

SENDING_THREADS: Final = 4
"""They wait for the disk, never for a client; more would only queue at the disk instead."""

SENDING_NICENESS: Final = 5

UNREAD_BYTES_MAX: Final = 1024 * 1024
"""A rest of a body that is longer is not read once its request has its answer."""

_HEAD_READ_BYTES: Final = 65_536
"""Read at once while a head is expected: requests that come in one piece are all kept."""

_BODY_READ_BYTES: Final = 262_144

_LAST_BYTES_MAX: Final = 65_536
"""Read in all of a body that is not wanted: enough to see that its sender hangs up."""

_LAST_READ_BYTES: Final = 16_384

_HEADER_OVERHEAD: Final = 4
"""Colon, space, CR and LF of one header line."""

_CHUNK_OVERHEAD: Final = 16
"""What one chunk needs around it, and some more."""


class _Reading(Protocol):
    """What asyncio's transport of a plain socket has."""

    max_size: int


class HeadersTooLarge(TooLarge):
    """The request line and headers exceed their limit."""

    code = "headers_too_large"
    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


class GuardedProtocol(HttpToolsProtocol):
    """One connection; what stands first here is set on a subclass by `guarded`."""

    limits = Limits()
    headers_of_ours: Mapping[str, str] = SECURITY_HEADERS
    """On the answers that are given before the application knows of a request."""
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
    _framed_bytes = 0
    """What came since the head, the body and the marks of its chunks."""
    _chunks = 0
    _is_left_unread = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Give the client a deadline for its first headers."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections_max:
            self._turn_away()
            return
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
            self._framed_bytes += len(data)
            self._stop_reading()
            return
        if self._in_head:
            self._head_bytes += len(data)
        else:
            self._window_bytes += len(data)
            self._framed_bytes += len(data)
        super().data_received(data)
        self._check_head_bytes()
        self._check_chunks()

    def eof_received(self) -> None:
        """Tell who ends in the middle of a body; the transport closes behind what was written."""
        if self._in_head or self._is_refused or not self._may_answer():
            return
        self._refuse(
            InvalidRequest(
                f"The body was cut after {self._body_bytes} bytes.",
                code="truncated_body",
                hint="The upload was cut, or the Content-Length is too large; send it again.",
            )
        )

    def _check_head_bytes(self) -> None:
        """Judge what came since the last request, which need not be the begin of another one."""
        if self._is_refused or not self._in_head:
            return
        if self._head_bytes > self.limits.header_bytes_max:
            self._refuse(self._too_large())
            return
        is_watched = self._timer is not None or self.timeout_keep_alive_task is not None
        if not is_watched and not self._is_answering():
            # An empty line ends the wait for another request and begins none.
            self._expect_head()

    def _check_chunks(self) -> None:
        """Judge what came around the chunks of a body.

        The parser keeps an endless extension or field behind the body to itself, byte by byte.
        """
        if self._is_refused or self._in_head:
            return
        most = self.limits.chunk_overhead_bytes_max + _CHUNK_OVERHEAD * self._chunks
        if self._framed_bytes - self._body_bytes > most:
            self._refuse(HttpInvalid("There is too much around the chunks of the body."))

    # What follows is called by the parser. It goes on to the end of what came, so that a refused
    # request may have others behind it, which nobody may see.

    def on_message_begin(self) -> None:
        """Begin another request on this connection."""
        if not self._is_refused:
            super().on_message_begin()
            self._expect_head()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        if not self._is_refused:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head; one behind the body would pass for one of the head."""
        if self._is_refused:
            return
        if self._in_head:
            super().on_header(name, value)
        else:
            self._refuse(
                HttpInvalid(
                    "Fields stand behind the body.", hint="Send all fields before the body."
                )
            )

    def on_headers_complete(self) -> None:
        """Judge the headers by their own size: they may have come in one read with the body."""
        if self._is_refused:
            return
        self._cancel_timer()
        try:
            self._check_head()
        except (HeadersTooLarge, HttpInvalid, ExpectationFailed) as error:
            self._refuse(error)
            return
        self._in_head = False
        self._body_bytes = self._framed_bytes = self._chunks = 0
        super().on_headers_complete()
        if self.parser.should_upgrade():
            # The parser has stopped for good, whatever protocol was asked for.
            self.cycle.keep_alive = False
        if self._has_long_body():
            # Not before the application asks for it: it may not even let the client in.
            self.flow.pause_reading()
        self._read_at_once(_BODY_READ_BYTES)
        self._watch_body()

    def on_chunk_header(self) -> None:
        """Count the chunks of a body."""
        self._chunks += 1

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

    def on_response_complete(self) -> None:
        """Begin the next request; read on only if there is none, and if what comes is wanted."""
        super().on_response_complete()
        if self.pipeline:
            self.flow.pause_reading()
        self._stop_reading()

    def _stop_reading(self) -> None:
        """Read no more of a body that nobody wants, once it has shown that it goes on."""
        if self._is_left_unread and self._framed_bytes > _LAST_BYTES_MAX - _LAST_READ_BYTES:
            self.flow.pause_reading()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, in our shape; the parser's own words tell nobody anything."""
        del msg
        if not self._is_refused:
            self._refuse(HttpInvalid("What came is not a request in HTTP/1.1."))

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: an Upgrade is an offer, which nobody has to take."""

    def _check_head(self) -> None:
        """Raise what is wrong with the head."""
        size = len(self.url) + sum(
            len(name) + len(value) + _HEADER_OVERHEAD for name, value in self.headers
        )
        if size > self.limits.header_bytes_max:
            raise self._too_large()
        if len(self.pipeline) >= self.limits.pipelined_max:
            raise HttpInvalid("Too many requests came before the answer to the first.")
        method, version = self.parser.get_method(), self.parser.get_http_version()
        check_head(method, self.url, version, self.headers)

    def _has_long_body(self) -> bool:
        length = length_of(self.headers)
        return length is None or length > UNREAD_BYTES_MAX

    def _read_at_once(self, most_bytes: int) -> None:
        if hasattr(self.transport, "max_size"):
            cast(_Reading, self.transport).max_size = most_bytes

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401  # uvicorn's type is its own
        """Offer the application to send files, and to read the body itself."""
        if cycle.more_body and self._has_long_body():
            app = self._ending_early(cycle, app)
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

    def _ending_early(self, cycle: RequestResponseCycle, app: ASGIApp) -> ASGIApp:
        """Close after an answer that comes before the end of a long body."""

        async def ending(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_any(message: Message) -> None:
                is_first = message["type"] == "http.response.start"
                if is_first and cycle.more_body and not self._is_refused:
                    self._is_refused = self._is_left_unread = True
                    self._framed_bytes = max(self._framed_bytes, self._body_bytes)
                    self._read_at_once(_LAST_READ_BYTES)
                    cycle.keep_alive = False
                    cycle.transport = cast(asyncio.Transport, Gentle(self.transport, self._linger))
                await send(message)

            await app(scope, receive, send_any)

        return ending

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
        self._read_at_once(_HEAD_READ_BYTES)
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

    def _turn_away(self) -> None:
        """Close at once: whoever comes beyond the limit may not cost more than this answer."""
        self._is_refused = True
        most = self.limits.connections_max
        error = TooBusy(
            f"There are {most} connections, which is the most.",
            code="too_many_connections",
            hint="Try again in a moment, and keep connections open for more requests.",
            retry_after_seconds=1,
        )
        self.transport.write(_bytes_of(error, self.headers_of_ours))
        self.transport.close()

    def _refuse(self, error: PenstockError) -> None:
        """Answer if nothing was answered yet, and close; the application sees a disconnect.

        An earlier request whose answer is still to come gets it before.
        """
        self._is_refused = True
        self._cancel_timer()
        if self.transport.is_closing():
            return
        if not self._may_answer():
            if self._in_head and self._is_answering() and not self.pipeline:
                self._end_with_answer()
            else:
                self.transport.close()
            return
        self.transport.write(_bytes_of(error, self.headers_of_ours))
        self._linger()
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _end_with_answer(self) -> None:
        """Let the request before what is refused have its answer, as the last one.

        What is refused may be the rest of its own body, behind a Content-Length that is too small.
        """
        self.cycle.keep_alive = False
        self.cycle.transport = cast(asyncio.Transport, Gentle(self.transport, self._linger))

    def _may_answer(self) -> bool:
        """Tell whether the refusal would be read as the answer to the request that it refuses."""
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn's annotation denies the None
        if cycle is None or cycle.response_complete:
            # A body that still comes after its answer gets no second one.
            return self._in_head
        # While a head comes in, or requests wait in line, an unfinished answer is an earlier
        # request's.
        return not self._in_head and not cycle.response_started and not self.pipeline

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn's annotation denies the None
        return cycle is not None and not cycle.response_complete

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def guarded(limits: Limits, *, is_https: bool = False) -> type[GuardedProtocol]:
    """Return the protocol class for uvicorn, bound to these limits."""
    bound = {
        "limits": limits,
        "headers_of_ours": {**SECURITY_HEADERS, **(HSTS if is_https else {})},
        "pool": giving_way(SENDING_THREADS, "send", SENDING_NICENESS),
    }
    return type("GuardedProtocol", (GuardedProtocol,), bound)


def _bytes_of(error: PenstockError, headers: Mapping[str, str]) -> bytes:
    """Return a refusal as it goes out, the last answer of its connection."""
    answer = error_answer(error)
    status = HTTPStatus(answer.status_code)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in {**headers, **answer.headers}.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + bytes(answer.body)


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
