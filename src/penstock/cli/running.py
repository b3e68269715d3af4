"""Run the server until a signal; used by `serve` and `dev`."""

import asyncio
import gc
import resource
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Final

import uvicorn

from penstock.api.protocol import guarded
from penstock.errors import ConfigurationError
from penstock.startup import known_as
from penstock.wiring import Server

SWITCH_SECONDS: Final = 0.0005
"""How long a thread that prepares a job may keep Python's lock from a request that waits; with the
usual 5 ms, a request that changes threads a few times takes tens of them."""

COLLECT_AFTER: Final = (700, 10, 100)
"""New objects until the youngest are looked at, and looks until the next older ones are, too. Only
the last differs from what Python begins with."""

DESCRIPTORS_MORE: Final = 1_000
"""Beside one a connection: downloads, uploads, the database and the engine."""

SHUTDOWN_SECONDS: Final = 10
"""How long requests in progress may take to end; uploads that do not are sent again anyway."""

Ready = Callable[[str], Awaitable[None]]


class _Announcing(uvicorn.Server):
    """uvicorn, telling when it listens."""

    def __init__(
        self, config: uvicorn.Config, url: str, on_ready: Ready, on_exit: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._url = url
        self._on_ready = on_ready
        self._on_exit = on_exit

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End in order; uvicorn would raise the signal again and hide that it did."""
        del frame
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
        self._on_exit()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then announce; a start that failed announces nothing."""
        await super().startup(sockets)
        if self.started:
            collect_rarely()
            await self._on_ready(self._url)


def run(server: Server, on_ready: Ready) -> bool:
    """Serve until SIGINT or SIGTERM; return whether it had started at all."""
    sys.setswitchinterval(SWITCH_SECONDS)
    settings = server.settings
    allow_descriptors(settings.limits.connections_max + DESCRIPTORS_MORE)
    listener = _listen(settings.host, settings.port)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    config = uvicorn.Config(
        server.app,
        http=guarded(settings.limits, is_https=known_as(settings).is_https),
        ws="none",
        # uvloop brought a tenth at 16 MB of installed size; the standard loop is never the limit.
        loop="asyncio",
        # Our own log line has no query string, which holds signatures.
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    url = f"http://{host}:{listener.getsockname()[1]}"
    announcing = _Announcing(config, url, on_ready, server.leave)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(announcing.serve(sockets=[listener]))
    return announcing.started


def collect_rarely() -> None:
    """Let the garbage collector look at what is new, and seldom at what has stayed.

    A look at everything takes 0.1 s in which nobody is answered, and a few hundred connections
    that come and go made it look every few seconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def allow_descriptors(wanted: int) -> None:
    """Let this process open so many files, as far as it may: shells often allow 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise ConfigurationError(
            f"Cannot listen on {host}:{port}: {error.strerror}.",
            hint="Another program may use the port; choose one with --port.",
        ) from error
