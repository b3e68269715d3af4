"""Runs the emulator under uvicorn, with a protocol that can cut a connection on request."""

import contextlib
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from penstock.emulator.answering import ABORT_EXTENSION, Way
from penstock.emulator.app import create_app
from penstock.emulator.settings import EmulatorSettings

_SHUTDOWN_SECONDS: Final = 2
_KEEP_ALIVE_SECONDS: Final = 75
_BACKLOG: Final = 2048
_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, for no time."""


class _CuttingProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol that also hands the application a way to cut the connection.

    ASGI has no word for "end this connection without an answer"; raising gives the client a 500.
    """

    def on_message_begin(self) -> None:
        super().on_message_begin()
        extensions = self.scope.setdefault("extensions", {})
        if isinstance(extensions, dict):
            extensions[ABORT_EXTENSION] = {"abort": self._cut}

    def _cut(self, way: Way) -> None:
        connection = self.transport.get_extra_info("socket")
        if way == "fin":
            # In order: what was written leaves first.
            self.transport.close()
            return
        if way == "rst" and connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        self.transport.abort()


class _Server(uvicorn.Server):
    """Says when it is listening."""

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_listening()


def serve(
    settings: EmulatorSettings,
    *,
    host: str,
    port: int,
    exit_with_stdin: bool = False,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Run until a signal comes (or, with `exit_with_stdin`, until standard input ends).

    Port 0 takes a free one; `on_ready` gets the base URL once the server is listening. OSError if
    the port is taken.
    """
    listener = _listen(host, port)
    base_url = _base_url(host, listener)

    def ready() -> None:
        if exit_with_stdin:
            threading.Thread(target=_exit_at_end_of_stdin, daemon=True).start()
        if on_ready is not None:
            on_ready(base_url)

    _make_server(settings, time.time, ready).run(sockets=[listener])


@contextlib.contextmanager
def running(
    settings: EmulatorSettings,
    *,
    clock: Callable[[], float] = time.time,
    host: str = "127.0.0.1",
    port: int = 0,
) -> Iterator[str]:
    """The base URL of an emulator that runs in a thread of this process, for tests."""
    listener = _listen(host, port)
    ready = threading.Event()
    server = _make_server(settings, clock, ready.set)
    thread = threading.Thread(target=server.run, args=([listener],), name="emulator-server")
    thread.start()
    try:
        while not ready.wait(timeout=0.1):
            if not thread.is_alive():
                raise RuntimeError("the emulator did not start; its log says why")
        yield _base_url(host, listener)
    finally:
        server.should_exit = True
        thread.join()


def _make_server(
    settings: EmulatorSettings, clock: Callable[[], float], on_listening: Callable[[], None]
) -> _Server:
    config = uvicorn.Config(
        create_app(settings, clock),
        http=_CuttingProtocol,
        lifespan="on",
        ws="none",
        access_log=False,
        log_level="warning",
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    return _Server(config, on_listening)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(_BACKLOG)
    return listener


def _base_url(host: str, listener: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"


def _exit_at_end_of_stdin() -> None:
    """Leave at once when the parent's end of the pipe closes, even by `kill -9`."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    # The state survives a kill by design, so nothing is lost by not tidying up.
    os._exit(0)
