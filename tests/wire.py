"""A server that answers what a test tells it, over a real socket, and remembers what it got."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD"]
Answer = Callable[[Request], Response]


class Wire:
    """What the server got, and how it answers."""

    def __init__(self, answer: Answer) -> None:
        self.requests: list[Request] = []
        self.bodies: list[bytes] = []
        self.answer = answer
        self.url = ""

    def app(self) -> Starlette:
        """The application: one route for everything."""
        return Starlette(routes=[Route("/{path:path}", self._handle, methods=METHODS)])

    async def _handle(self, request: Request) -> Response:
        self.bodies.append(await request.body())
        self.requests.append(request)
        return self.answer(request)


@contextmanager
def wire(answer: Answer) -> Iterator[Wire]:
    """A running server with this answer."""
    made = Wire(answer)
    with serving(made.app()) as url:
        made.url = url
        yield made


@contextmanager
def serving(app: ASGIApp, http: type[asyncio.Protocol] | str = "auto") -> Iterator[str]:
    """The base URL of an application that uvicorn serves in a thread, its lifespan included."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        http=http,
        lifespan="on",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        # Connections that are not closed by then stay open, and fail whatever test comes next.
        timeout_graceful_shutdown=30,
    )
    server = _Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        while not server.listening.wait(timeout=0.1):
            if not thread.is_alive():
                raise RuntimeError("the server did not start")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


class _Server(uvicorn.Server):
    """Says when it is listening."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.listening.set()


@contextmanager
def cutting() -> Iterator[tuple[str, list[bytes]]]:
    """A server that reads one request a connection and hangs up; and the heads that it got."""
    listener = socket.create_server(("127.0.0.1", 0))
    heads: list[bytes] = []

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                heads.append(connection.recv(65_536))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heads
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
