import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from starlette.types import Message, Receive, Scope, Send
from tests.api.live import Live, head_of, live, rest_of

from penstock.api.protocol import guarded
from penstock.api.zero_copy import EXTENSION
from penstock.core.limits import Limits

SIZE = 12_000_000
DATA = os.urandom(SIZE)
GET = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
Answer = Callable[[int, Receive, Send], Awaitable[None]]


class Site:
    """An application that answers as a test tells it, with a descriptor of the file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.answer: Answer | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert EXTENSION in scope["extensions"]
        assert self.answer is not None
        descriptor = os.open(self._file, os.O_RDONLY)
        try:
            await self.answer(descriptor, receive, send)
        finally:
            os.close(descriptor)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """The application over a file on a real disk."""
    file = tmp_path / "file"
    file.write_bytes(DATA)
    return Site(file)


@pytest.fixture
async def served(site: Site) -> AsyncIterator[Live]:
    """The running server."""
    async with live(site, guarded(Limits())) as running:
        yield running


def start(length: int) -> Message:
    """The head of an answer."""
    headers = [(b"content-length", str(length).encode())]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def part(file: int, offset: int, count: int, **more: object) -> Message:
    """A part of a file as a part of the body."""
    return {"type": EXTENSION, "file": file, "offset": offset, "count": count, **more}


async def test_files_and_bytes_come_in_their_order(site: Site, served: Live) -> None:
    """Bytes that still wait in the transport come before the file that was sent after them."""
    before, after = DATA[:8_000_000], b"the end"

    async def answer(file: int, _receive: Receive, send: Send) -> None:
        await send(start(len(before) + 5_000_000 + len(after) + 10))
        await send({"type": "http.response.body", "body": before, "more_body": True})
        await send(part(file, 1_000_000, 5_000_000, more_body=True))
        await send({"type": "http.response.body", "body": after, "more_body": True})
        await send(part(file, SIZE - 10, 10))

    site.answer = answer
    with await served.silent_client(GET) as client:
        await head_of(client)
        body = await rest_of(client)
    assert body == before + DATA[1_000_000:6_000_000] + after + DATA[-10:]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_file_beyond_the_length_is_not_sent(
    site: Site, served: Live, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """More than Content-Length, or any body for HEAD, is a bug of ours: the connection is cut."""

    async def answer(file: int, _receive: Receive, send: Send) -> None:
        await send(start(9 if method == "GET" else 10))
        await send(part(file, 0, 10))

    site.answer = answer
    with await served.silent_client(GET.replace("GET", method)) as client:
        await head_of(client)
        assert await rest_of(client) == b""
    assert "longer than the Content-Length" in caplog.text


async def test_nothing_is_sent_to_nobody(site: Site, served: Live) -> None:
    """A client that is gone before the file, or while bytes before it wait, is left alone."""
    ended = []
    for size in (0, SIZE):

        async def answer(file: int, receive: Receive, send: Send, size: int = size) -> None:
            await send(start(SIZE + size))
            await send({"type": "http.response.body", "body": DATA[:size], "more_body": True})
            if not size:
                while (await receive())["type"] != "http.disconnect":
                    pass
            await send(part(file, 0, SIZE))
            ended.append(size)

        site.answer = answer
        with await served.silent_client(GET) as client:
            await head_of(client)
        await served.done()
    assert ended == [0, SIZE]


async def test_a_reset_is_seen_while_nothing_is_read(site: Site, served: Live) -> None:
    """While the next request waits nothing is read, and yet the end of the client is seen."""
    ended = []

    async def answer(file: int, _receive: Receive, send: Send) -> None:
        await send(start(SIZE))
        await send(part(file, 0, SIZE))
        ended.append(True)

    site.answer = answer
    request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    with await served.silent_client(request * 2) as client:
        await head_of(client)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await served.done()
    assert ended == [True]


async def test_a_descriptor_is_not_used_after_its_end(site: Site, served: Live) -> None:
    """Cancelled again and again, sending ends only when no thread has the descriptors any more."""

    async def answer(file: int, _receive: Receive, send: Send) -> None:
        await send(start(SIZE))
        task = asyncio.create_task(_send(send, part(file, 0, SIZE)))
        await asyncio.sleep(0)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        with suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()

    site.answer = answer
    with await served.silent_client(GET) as client:
        await head_of(client)
        body = await rest_of(client)
    assert len(body) < SIZE
    assert DATA.startswith(body)


async def _send(send: Send, message: Message) -> None:
    await send(message)


async def test_a_connection_never_holds_small_answers_back(site: Site, served: Live) -> None:
    """Nagle's algorithm is off, also for a listener that does not name its protocol."""
    option = socket.IPPROTO_TCP, socket.TCP_NODELAY
    found = []

    async def answer(_file: int, _receive: Receive, send: Send) -> None:
        (connection,) = served.connections()
        found.append(connection.transport.get_extra_info("socket").getsockopt(*option))
        await send(start(0))
        await send({"type": "http.response.body"})

    site.answer = answer
    with await served.silent_client(GET) as client:
        await head_of(client)
    assert found == [1]
