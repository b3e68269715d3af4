"""`GET /requests/{id}/output`: the output for a key, and with `?partial=true` what there is so far.

The first such call for a job that runs writes down that somebody wants a look (`lifecycle/peek`)
and is answered 202 and when to come again; later ones get the newest look. A wish changes nothing
that anybody sees, so it needs no right to write and no row in the audit log, and there is one at a
time and job, at most every `partial_seconds_min`.
"""

import math
from http import HTTPStatus
from typing import Any, Final

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.api.answers import json_answer
from penstock.api.auth import Authenticator
from penstock.api.downloads import Downloads
from penstock.api.jobs import JobDoor
from penstock.api.request_queue import BASES
from penstock.clock import Clock
from penstock.core.access import Scope
from penstock.core.job import Job
from penstock.core.look import Look, look_of
from penstock.core.state import STATUS_WORDS, TERMINAL, JobState
from penstock.errors import Conflict, InvalidRequest
from penstock.fault import fault
from penstock.settings import Timing
from penstock.store.looks import Looks

LINES_FINISHED: Final = "X-Penstock-Lines-Finished"
LINES_TOTAL: Final = "X-Penstock-Lines-Total"
TAKEN_AT: Final = "X-Penstock-Taken-At"

_NOTHING_YET: Final = {
    JobState.RUNNING: "The provider is asked for what it has; come again.",
    JobState.COLLECTING: "The provider has ended the job; its output is being put together.",
}
"""Why there is no look, by where the job is; before that nothing can have been finished."""

_NOT_BEGUN: Final = "The provider has not got the job yet, so no line can have been finished."
_NONE_OFFERED: Final = "The provider has offered no finished line so far."


_PARAMETERS: Final = frozenset({("partial", "true"), ("partial", "false"), ("images", "links")})


class Wishes:
    """Has jobs looked at that somebody wants to see."""

    def __init__(self, looks: Looks, clock: Clock, timing: Timing) -> None:
        self._looks = looks
        self._clock = clock
        self._timing = timing

    async def ask(self, job: Job) -> None:
        """Write down that somebody wants a look at the job, if it is one that can have any."""
        if job.state is not JobState.RUNNING or job.output_name is not None:
            return
        now, seconds = self._clock.now(), self._timing.partial_seconds_min
        await self._looks.wish(job.org_id, job.id, now, seconds)
        fault("partial.wished")

    def seconds_until_next(self, job: Job) -> int:
        """Return when it is worth to ask again: after the next poll that may look."""
        now = self._clock.now()
        poll = min(
            max(self._timing.poll_seconds_min, (now - job.created_at) / 20),
            self._timing.poll_seconds_max,
        )
        due = 0.0 if job.partial_at is None else job.partial_at + self._timing.partial_seconds_min
        return max(1, math.ceil(max(poll, due - now)))


class Outputs:
    """The route."""

    def __init__(
        self, door: JobDoor, authenticator: Authenticator, downloads: Downloads, wishes: Wishes
    ) -> None:
        self._door = door
        self._authenticator = authenticator
        self._downloads = downloads
        self._wishes = wishes

    def routes(self) -> list[Route]:
        """Return the route under both bases; HEAD comes with GET."""
        path = "/requests/{request_id}/output"
        return [Route(base + path, self.get, methods=["GET"]) for base in BASES]

    async def get(self, request: Request) -> Response:
        """Return the output, or what there is of it."""
        principal = await self._authenticator.principal(request, Scope.JOBS_READ)
        job = await self._door.get(principal, request.path_params["request_id"])
        wants_partial, wants_links = _wanted(request.query_params)
        if job.output_sha256 is not None:
            if wants_links:
                return await self._downloads.send_linked(job, request)
            return await self._downloads.send(job, request)
        if job.state in TERMINAL:
            raise Conflict(
                f"The request {job.id} has ended without an output.",
                code="no_output",
                hint="outcome.error and status_detail say why.",
            )
        if not wants_partial:
            raise Conflict(
                f"The request {job.id} has not ended, so its output is not complete.",
                code="not_finished",
                hint="Add ?partial=true for the lines that are finished so far.",
            )
        await self._wishes.ask(job)
        look = look_of(job)
        if look is None:
            return self._nothing_yet(job)
        return await self._downloads.send(job, request, look, about(job, look))

    def _nothing_yet(self, job: Job) -> Response:
        was_asked = job.partial_at is not None and job.state is JobState.RUNNING
        message = _NONE_OFFERED if was_asked else _NOTHING_YET.get(job.state, _NOT_BEGUN)
        value: dict[str, Any] = {
            "request_id": job.id,
            "status": STATUS_WORDS[job.state],
            "status_detail": job.status_detail,
            "message": message,
            "partial": {
                "lines": 0,
                "total": job.line_count,
                "at": None if job.partial_at is None else int(job.partial_at),
            },
        }
        headers = {
            "Retry-After": str(self._wishes.seconds_until_next(job)),
            LINES_FINISHED: "0",
            LINES_TOTAL: str(job.line_count),
        }
        if was_asked:
            headers[TAKEN_AT] = str(int(job.partial_at or 0.0))
        return json_answer(value, HTTPStatus.ACCEPTED, headers)


def about(job: Job, look: Look) -> dict[str, str]:
    """Return the headers that say how much of the job a look shows."""
    return {
        LINES_FINISHED: str(look.lines),
        LINES_TOTAL: str(job.line_count),
        TAKEN_AT: str(int(look.at)),
    }


def _wanted(query: QueryParams) -> tuple[bool, bool]:
    """Return whether partial results are wanted, and links in the place of pictures."""
    for name, text in query.multi_items():
        if (name, text) not in _PARAMETERS:
            raise InvalidRequest(
                f"The parameter {name[:40]!r} is not one of this address, or is wrong.",
                code="invalid_parameter",
                hint="There are partial, which is true or false, and images, which is links.",
            )
    return query.get("partial") == "true", "images" in query
