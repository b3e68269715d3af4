"""HTTP/1.1 with limits.

uvicorn's httptools protocol never cuts a slow client by itself and takes a header of any size
(reference/reliability.md 0.6). Deadlines and sizes here are those of `core.limits`. A client that
waits because *we* do not read (the disk is slower than its network) is never called slow.
"""

import asyncio
from asyncio.events import TimerHandle
from http import HTTPStatus
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from penstock.api.answers import error_answer
from penstock.core.limits import Limits
from penstock.errors import Refused, TooLarge, TooSlow

LINGER_SECONDS: Final = 2.0
"""How long a refused client may go on sending before the connection is cut."""

_HEADER_OVERHEAD: Final = 4
"""Colon, space, CR and LF of one header line."""


class HeadersTooLarge(TooLarge):
    """The request line and headers exceed their limit."""

    code = "headers_too_large"
    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


class GuardedProtocol(HttpToolsProtocol):
    """One connection; `limits` is set on a subclass by `guarded`."""

    limits = Limits()

    _head_bytes = 0
    _in_head = True
    _is_refused = False
    _window_bytes = 0
    _timer: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Give the client a deadline for its first headers."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        self._cancel_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what arrives before the headers are complete."""
        if self._is_refused:
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
        super().on_headers_complete()
        self._watch_body()

    def on_body(self, body: bytes) -> None:
        """Pass the body on, unless the request was refused."""
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole; the answer may take its time, and then the next head."""
        self._cancel_timer()
        if not self._is_refused:
            super().on_message_complete()
            self._head_bytes = 0
            self._in_head = True

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
        if self._window_bytes < least and not self.flow.read_paused:
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
        # Closing at once while the client still sends would reset the connection, and the reset
        # can destroy the answer before it is read. So only our side is closed, and what still
        # comes is dropped for a moment.
        self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)
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
    return type("GuardedProtocol", (GuardedProtocol,), {"limits": limits})
