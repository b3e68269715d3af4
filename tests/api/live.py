"""The API behind a real socket in the test's own loop, so that a test can look inside."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

PATIENCE_SECONDS = 20.0


class Live:
    """A running server."""

    def __init__(self, server: uvicorn.Server, port: int) -> None:
        self._state = server.server_state
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def buffered_bytes(self) -> int:
        """The most that a connection holds in this process's memory."""
        return max(one.transport.get_write_buffer_size() for one in self.connections())

    def connections(self) -> list[HttpToolsProtocol]:
        """The open connections."""
        return [one for one in self._state.connections if isinstance(one, HttpToolsProtocol)]

    def cancel(self) -> None:
        """Cancel every request in progress, as the end of a shutdown does."""
        for task in self._state.tasks:
            task.cancel()

    async def done(self) -> None:
        """Wait until no request is in progress."""
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=PATIENCE_SECONDS)
        assert not self._state.tasks

    async def silent_client(self, request: str) -> socket.socket:
        """A client that sends its request and has read nothing yet, with a small buffer."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.settimeout(0)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", self.port))
        await loop.sock_sendall(client, request.encode())
        return client


@asynccontextmanager
async def live(app: ASGIApp, http: type[asyncio.Protocol]) -> AsyncIterator[Live]:
    """Serve until the block ends; whoever is still connected then is cut."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http=http, lifespan="off", ws="none", access_log=False, log_config=None
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup([listener])
    running = Live(server, listener.getsockname()[1])
    try:
        yield running
    finally:
        for connection in running.connections():
            connection.transport.abort()
        await running.done()
        await server.shutdown([listener])


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something is so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110  # uvicorn has no event for what we wait for
            await asyncio.sleep(0)


async def head_of(client: socket.socket) -> dict[str, str]:
    """Read an answer's head and nothing behind it; `status` is its first line."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await asyncio.get_running_loop().sock_recv(client, 1)
        assert head
    first, *rest = head.decode().strip().split("\r\n")
    return {"status": first} | {
        name.lower(): value for name, _, value in (line.partition(": ") for line in rest)
    }


async def rest_of(client: socket.socket) -> bytes:
    """Read until the server closes, or resets."""
    received = bytearray()
    while True:
        try:
            block = await asyncio.get_running_loop().sock_recv(client, 1_000_000)
        except ConnectionResetError:
            return bytes(received)
        if not block:
            return bytes(received)
        received += block
