"""HTTP/1.1 in as few steps as a measuring client needs, so that it costs little beside the server.

Answers must have a Content-Length, as all of Penstock's but streams have.
"""

import asyncio
import json
import math
import socket
import time
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

BASE: Final = "/api/v1/ie/requestqueue/apikey"
REQUESTS: Final = f"{BASE}/requests"
_SEND_SECONDS_MAX: Final = 600.0


class Call:
    """One keep-alive connection; one request at a time."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, url: str, key: str
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._head = f"Host: {urlsplit(url).netloc}\r\nAuthorization: Bearer {key}\r\n"

    @classmethod
    async def open(cls, url: str, key: str) -> Self:
        """Connect."""
        address = urlsplit(url)
        return cls(*await asyncio.open_connection(address.hostname, address.port), url, key)

    async def __call__(
        self, method: str, path: str, body: bytes = b"", content_type: str = ""
    ) -> bytes:
        """Send one request and return the body of its answer; RuntimeError unless it is 200."""
        head = f"{method} {path} HTTP/1.1\r\n{self._head}"
        if method == "POST":
            head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        self._writer.write(f"{head}\r\n".encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        content = await self._reader.readexactly(content_length(answer))
        check(answer, content)
        return content

    async def json(self, method: str, path: str) -> Any:  # noqa: ANN401  # JSON
        """The same for an answer in JSON."""
        return json.loads(await self(method, path))

    async def close(self) -> None:
        """Disconnect."""
        self._writer.close()
        await self._writer.wait_closed()


def content_length(head: bytes) -> int:
    """Return the announced size of an answer."""
    return int(head.lower().partition(b"\r\ncontent-length:")[2].split(b"\r\n", 1)[0])


def check(head: bytes, content: bytes = b"") -> None:
    """Raise RuntimeError unless an answer is 200."""
    if int(head.split(b" ", 2)[1]) != HTTPStatus.OK:
        raise RuntimeError(f"the server answered {head[:60]!r} {content[:500]!r}")


def send_file(url: str, key: str, file: Path, *, path: str, content_type: str) -> float:
    """Upload a file by `sendfile`; return seconds from the first byte to the answer read."""
    return send(url, key, path, (b"", file, b""), content_type)


def send(
    url: str, key: str, path: str, body: tuple[bytes, Path, bytes], content_type: str
) -> float:
    """Upload a file between two texts, which a form needs; return the seconds."""
    address = urlsplit(url)
    before, file, after = body
    size = len(before) + file.stat().st_size + len(after)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {size}\r\n"
        f"Content-Type: {content_type}\r\nAuthorization: Bearer {key}\r\n"
        "Connection: close\r\n\r\n"
    )
    begun = time.perf_counter()
    with (
        socket.create_connection(
            (str(address.hostname), int(address.port or 0)), _SEND_SECONDS_MAX
        ) as connection,
        file.open("rb") as source,
    ):
        connection.sendall(head.encode() + before)
        connection.sendfile(source)
        connection.sendall(after)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    seconds = time.perf_counter() - begun
    check(answer, answer.partition(b"\r\n\r\n")[2])
    return seconds


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Return median, p99 and the longest, in milliseconds."""
    ordered = sorted(seconds)
    p99 = ordered[max(math.ceil(len(ordered) * 0.99) - 1, 0)]
    return {
        "p50_ms": round(ordered[len(ordered) // 2] * 1000, 2),
        "p99_ms": round(p99 * 1000, 2),
        "max_ms": round(ordered[-1] * 1000, 2),
    }
