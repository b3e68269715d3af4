"""The server's side: hands uploads to receiving processes and waits for what they say.

Checking a gigabyte takes seconds of one core. In the server's own process every request would feel
it, because Python runs one thread at a time; and a parser that dies would take the server along.
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import msgspec

from penstock.core.files import ANY_FILE, FileRule
from penstock.core.limits import Limits
from penstock.errors import Unavailable
from penstock.ingest.intake import Accepted
from penstock.ingest.upload import Upload
from penstock.receive.connection import Taken
from penstock.receive.stored import Stored
from penstock.receive.wire import LENGTH, Order, packed, read_reply

END_SECONDS: Final = 5.0
"""How long a process may take to end before it is killed."""

_PROGRAM: Final = (
    "from penstock.late import BACKPORTS, MULTIPART, do_without, put_off; "
    "do_without(BACKPORTS); put_off(MULTIPART); "
    "from penstock.receive.worker import main; main()"
)

# Buffers of a megabyte are given back to the system at every free by default, and come back as page
# faults; the process keeps them. Two arenas, because each thread more would keep one of its own.
_ALLOCATOR: Final = {
    "MALLOC_MMAP_THRESHOLD_": "16777216",
    "MALLOC_TRIM_THRESHOLD_": "16777216",
    "MALLOC_ARENA_MAX": "2",
}


class Lane(Protocol):
    """Takes connections of uploads, one `Order` each."""

    def hand(self, *descriptors: int) -> None:
        """Pass the sockets on; raises `OSError` when nobody is there to take them."""
        ...

    def end(self) -> None:
        """End whoever takes them; blocks."""
        ...


class Process:
    """A lane of its own process (`penstock.receive.worker`)."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._child = subprocess.Popen(  # noqa: S603  # our own module
                # `-P`: what lies in the working directory is not ours to import.
                [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=_environment(),
            )

    def hand(self, *descriptors: int) -> None:
        """Pass the sockets on; raises `OSError` when the process is gone."""
        socket.send_fds(self._control, [b"u"], descriptors)

    def end(self) -> None:
        """Tell the process to end, and see that it does."""
        self._control.close()
        try:
            self._child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


class Receiver:
    """Receives uploads in `lanes_max` lanes; they begin when they are first needed."""

    def __init__(
        self,
        limits: Limits,
        lanes_max: int,
        begin: Callable[[], Lane] = Process,
        files: FileRule = ANY_FILE,
    ) -> None:
        self._limits = limits
        self._files = files
        self._lanes_max = lanes_max
        self._begin = begin
        self._uploads: dict[Lane, int] = {}
        """The lanes, and how many uploads each has."""

    def begin(self) -> None:
        """Begin one lane, so that the first upload need not wait for it."""
        if not self._uploads:
            self._add_lane()

    async def end(self) -> None:
        """End all lanes; uploads in progress are lost."""
        lanes, self._uploads = self._uploads, {}
        await asyncio.gather(*(asyncio.to_thread(lane.end) for lane in lanes))

    async def receive(
        self,
        upload: Upload,
        body: AsyncIterator[bytes] | Taken | Stored,
        input_path: Path,
        index_path: Path,
        problems_path: Path | None = None,
    ) -> Accepted:
        """Check the body and store what it holds in the files, which exist and are empty.

        `problems_path` is for the lines that are put aside. Returns when all are durable. Raises
        what the intake raises, as soon as it is certain, and what the body raises; `Unavailable`
        when the receiving process died.
        """
        order = Order(
            upload=upload,
            limits=self._limits,
            files=self._files,
            input_path=str(input_path),
            index_path=str(index_path),
            problems_path=None if problems_path is None else str(problems_path),
        )
        if isinstance(body, Taken):
            order = msgspec.structs.replace(order, head=body.head, rest_bytes=body.rest_bytes)
            with body.client:
                return await self._receive(order, None, body.client.fileno())
        if isinstance(body, Stored):
            return await self._receive(msgspec.structs.replace(order, stored=body), None)
        return await self._receive(order, body)

    async def _receive(
        self, order: Order, body: AsyncIterator[bytes] | None, *descriptors: int
    ) -> Accepted:
        connection, theirs = socket.socketpair()
        connection.settimeout(0)
        with connection:
            with theirs:
                lane = await self._hand(theirs.fileno(), *descriptors)
            self._uploads[lane] += 1
            try:
                return await _exchange(connection, packed(order), body)
            finally:
                # A lane that was found dead meanwhile is not counted any more.
                if lane in self._uploads:
                    self._uploads[lane] -= 1

    async def _hand(self, *descriptors: int) -> Lane:
        # All lanes may have died since; the one that is begun then is certainly new.
        for _ in range(self._lanes_max + 1):
            lane = self._free_lane()
            try:
                lane.hand(*descriptors)
            except OSError:
                # Whoever was using it has been told by its connection.
                del self._uploads[lane]
                await asyncio.to_thread(lane.end)
            else:
                return lane
        raise _lost()

    def _free_lane(self) -> Lane:
        least = min(self._uploads, key=self._uploads.__getitem__, default=None)
        if least is None or (self._uploads[least] and len(self._uploads) < self._lanes_max):
            return self._add_lane()
        return least

    def _add_lane(self) -> Lane:
        lane = self._begin()
        self._uploads[lane] = 0
        return lane


async def _exchange(
    connection: socket.socket, order: bytes, body: AsyncIterator[bytes] | None
) -> Accepted:
    sending = asyncio.create_task(_send(connection, order, body))
    replying = asyncio.create_task(_read_reply(connection))
    try:
        await asyncio.wait({sending, replying}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            # Raises what the body raised: a client that went away, for one.
            sending.result()
        reply = read_reply(await replying)
    finally:
        for task in (sending, replying):
            task.cancel()
        await asyncio.gather(sending, replying, return_exceptions=True)
    if reply.refusal is not None:
        raise reply.refusal.error()
    if reply.accepted is None:
        raise _lost()
    return reply.accepted


async def _send(connection: socket.socket, order: bytes, body: AsyncIterator[bytes] | None) -> None:
    takes = await _sent(connection, order)
    if body is None:
        return
    async for chunk in body:
        if not takes:
            return
        if chunk:
            takes = await _sent(connection, chunk)
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


async def _sent(connection: socket.socket, data: bytes) -> bool:
    """Send and return True; False if the process is gone, of which the reply's absence tells."""
    try:
        await asyncio.get_running_loop().sock_sendall(connection, data)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


async def _read_reply(connection: socket.socket) -> bytes:
    (length,) = LENGTH.unpack(await _exactly(connection, LENGTH.size))
    return await _exactly(connection, length)


async def _exactly(connection: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < size:
        try:
            piece = await loop.sock_recv(connection, size - len(data))
        except ConnectionResetError as error:
            raise _lost() from error
        if not piece:
            raise _lost()
        data += piece
    return data


def _environment() -> dict[str, str]:
    # The process reads hostile bytes, so it gets our modules and no variable that could be secret.
    return {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **_ALLOCATOR}


def _lost() -> Unavailable:
    return Unavailable(
        "The process that received the upload ended; nothing was stored.",
        code="receiver_lost",
        hint="Send it again.",
        retry_after_seconds=1,
    )
