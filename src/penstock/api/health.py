"""Is the process alive, and can it do its work?"""

from collections.abc import Awaitable, Callable

from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.api.answers import json_answer
from penstock.blobs.room import Room

Ping = Callable[[], Awaitable[None]]


class Health:
    """`/healthz` says that the process answers, `/readyz` that it can accept a job."""

    def __init__(self, ping: Ping, room: Room) -> None:
        self._ping = ping
        self._room = room

    def routes(self) -> list[Route]:
        """Return the routes; neither needs a key nor tells anything about tenants."""
        return [Route("/healthz", self.alive), Route("/readyz", self.ready)]

    async def alive(self, _request: Request) -> Response:
        """Always 200 while the event loop turns."""
        return json_answer({"status": "ok"})

    async def ready(self, _request: Request) -> Response:
        """200, or 503 naming the check that failed."""
        checks = {"database": "ok", "disk": "ok"}
        try:
            await self._ping()
        except (SQLAlchemyError, OSError):
            checks["database"] = "does not answer"
        if await self._room.is_full():
            checks["disk"] = "full"
        good = all(state == "ok" for state in checks.values())
        status = 200 if good else 503
        return json_answer({"status": "ok" if good else "unavailable", "checks": checks}, status)
