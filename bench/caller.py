"""Repeats one GET over keep-alive connections, as a process of its own; prints one JSON object.

Without `--per-second` each connection asks again as soon as it has its answer. With it, requests
are due at fixed times and a latency counts from the time when its request was due, so that a
server that stalls cannot hide the requests that nobody could send meanwhile. It ends after
`--seconds`, or, with `--until-stdin-ends`, when its standard input does; then it also prints when
each request was due, on the clock that all processes of a machine share.
"""

import argparse
import asyncio
import json
import math
import sys
import time
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from call import check, content_length, spread

_WARM_SECONDS: Final = 0.5


class Asker(asyncio.Protocol):
    """One connection that asks again and again until the deadline."""

    def __init__(
        self, request: bytes, deadline: float, period_seconds: float, delay_seconds: float
    ) -> None:
        self._request = request
        self._delay_seconds = delay_seconds
        self.deadline = deadline
        self._period_seconds = period_seconds
        self._received = bytearray()
        self._wanted_bytes = 0
        self._due_at = 0.0
        self._transport: asyncio.WriteTransport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.asked: list[tuple[float, float]] = []
        """When each request was due, and how long it took."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask first."""
        if not isinstance(transport, asyncio.WriteTransport):
            raise TypeError("not a stream")
        self._transport = transport
        self._due_at = time.perf_counter() + self._delay_seconds
        asyncio.get_running_loop().call_later(self._delay_seconds, self._ask)

    def data_received(self, data: bytes) -> None:
        """Take the answer; ask again when it is whole."""
        self._received += data
        if not self._wanted_bytes:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._received[:end])
            check(head)
            self._wanted_bytes = end + 4 + content_length(head + b"\r\n")
        if len(self._received) >= self._wanted_bytes:
            self._answered()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the run if the server went away before its end."""
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))

    def _ask(self) -> None:
        self._received.clear()
        self._wanted_bytes = 0
        if self._transport is not None:
            self._transport.write(self._request)

    def _answered(self) -> None:
        now = time.perf_counter()
        self.asked.append((self._due_at, now - self._due_at))
        self._due_at = self._due_at + self._period_seconds if self._period_seconds else now
        if self._due_at >= self.deadline:
            self.done.set_result(None)
            if self._transport is not None:
                self._transport.close()
        elif self._due_at > now:
            asyncio.get_running_loop().call_later(self._due_at - now, self._ask)
        else:
            self._ask()


async def ask(given: argparse.Namespace) -> dict[str, Any]:
    """Ask for the given time; return requests a second and their latencies."""
    address = urlsplit(given.url)
    request = (
        f"GET {given.path} HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Authorization: Bearer {given.key}\r\n\r\n"
    ).encode()
    begun = time.perf_counter()
    seconds = math.inf if given.until_stdin_ends else given.seconds
    deadline = begun + _WARM_SECONDS + seconds
    period_seconds = given.connections / given.per_second if given.per_second else 0.0
    loop = asyncio.get_running_loop()
    askers = []
    for number in range(given.connections):
        # Spread over the period, as clients are that do not know of each other.
        asker = Asker(
            request, deadline, period_seconds, period_seconds * number / given.connections
        )
        await loop.create_connection(partial(_same, asker), address.hostname, address.port)
        askers.append(asker)
    if given.until_stdin_ends:
        loop.add_reader(sys.stdin.fileno(), _end, askers)
    await asyncio.gather(*(asker.done for asker in askers))
    ended = time.perf_counter()
    asked = [each for asker in askers for each in asker.asked]
    if given.until_stdin_ends:
        return {"asked": asked}
    warm_at = begun + _WARM_SECONDS
    took = [seconds for due, seconds in asked if due >= warm_at]
    return {
        "requests": len(took),
        "requests_per_second": round(len(took) / (ended - warm_at), 1),
        **spread(took),
        "caller_cpu_share": round(time.process_time() / (ended - begun), 2),
    }


def _same(asker: Asker) -> Asker:
    return asker


def _end(askers: list[Asker]) -> None:
    asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
    for asker in askers:
        asker.deadline = time.perf_counter()


def main() -> None:
    """Parse, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--per-second", type=float, default=0.0)
    parser.add_argument("--until-stdin-ends", action="store_true")
    print(json.dumps(asyncio.run(ask(parser.parse_args()))))


if __name__ == "__main__":
    main()
