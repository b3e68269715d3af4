"""Is the process alive, and can it do its work?"""

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.api.answers import json_answer
from penstock.blobs.room import Room
from penstock.errors import DatabaseUnavailable

Ping = Callable[[], Awaitable[None]]

GOOD: Final = "ok"


class Health:
    """`/healthz` says that the process answers, `/readyz` that it can do the work of its role.

    A process that accepts jobs has `room`; one that works on jobs says whether it `works`.
    """

    def __init__(
        self, ping: Ping, room: Room | None = None, works: Callable[[], bool] | None = None
    ) -> None:
        self._ping = ping
        self._room = room
        self._works = works
        self._is_leaving = False

    def routes(self) -> list[Route]:
        """Return the routes; neither needs a key nor tells anything about tenants."""
        return [Route("/healthz", self.alive), Route("/readyz", self.ready)]

    def leave(self) -> None:
        """Be not ready from now on: the process was asked to end."""
        self._is_leaving = True

    async def alive(self, _request: Request) -> Response:
        """Always 200 while the event loop turns."""
        return json_answer({"status": GOOD})

    async def ready(self, _request: Request) -> Response:
        """200, or 503 naming the check that failed."""
        checks = await self._checks()
        good = all(state == GOOD for state in checks.values())
        status = 200 if good else 503
        return json_answer({"status": GOOD if good else "unavailable", "checks": checks}, status)

    async def _checks(self) -> dict[str, str]:
        checks = {"database": await self._database()}
        if self._room is not None:
            checks["disk"] = "full" if await self._room.is_full() else GOOD
        if self._works is not None:
            checks["engine"] = GOOD if self._works() else "does not run"
        if self._is_leaving:
            checks["process"] = "is ending"
        return checks

    async def _database(self) -> str:
        try:
            await self._ping()
        except DatabaseUnavailable:
            return "does not answer"
        return GOOD
