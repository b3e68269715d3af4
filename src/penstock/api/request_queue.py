"""The request-queue API: the dialect that Penstock exists for.

Every route answers under both bases, because one public client leaves `apikey` out. The shapes are
those that existing clients read; `api/request_queue_record.py` renders them.
"""

import base64
import binascii
import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.api.answers import Promise, json_answer
from penstock.api.audited import audited
from penstock.api.auth import Authenticator, Principal
from penstock.api.doors import read_head, read_priority
from penstock.api.idempotency import REPLAYED, read_key
from penstock.api.jobs import JobDoor, Terms
from penstock.api.options import is_validation, read_options
from penstock.api.request_queue_record import Renderer, model_detail
from penstock.api.takeover import RequestBody
from penstock.api.validate import examine
from penstock.api.validate import shown as report_shown
from penstock.core.access import Scope
from penstock.core.job import Job
from penstock.core.models import REQUEST_QUEUE_MODEL
from penstock.core.state import states_of
from penstock.errors import InvalidRequest, NotFound
from penstock.store.idempotency import Claim, Memory
from penstock.store.jobs import Page

BASES: Final = ("/api/v1/ie/requestqueue/apikey", "/api/v1/ie/requestqueue")
PAGE_LIMIT: Final = 50
PAGE_LIMIT_MAX: Final = 200
_OFFSET_MAX: Final = 10_000_000
_STATUSES: Final = ("queued", "processing", "success", "failed", "cancelled")

Endpoint = Callable[[Request], Awaitable[Response]]


class RequestQueue:
    """The endpoints; each authenticates first and only then reads."""

    def __init__(self, door: JobDoor, authenticator: Authenticator, renderer: Renderer) -> None:
        self._door = door
        self._authenticator = authenticator
        self._renderer = renderer

    def routes(self) -> list[Route]:
        """Return the routes under both bases."""
        table: tuple[tuple[str, str, Endpoint], ...] = (
            ("POST", "/requests", self.submit),
            ("GET", "/requests", self.list),
            ("GET", "/requests/{request_id}", self.get),
            ("DELETE", "/requests/{request_id}", self.cancel),
            ("POST", "/requests/{request_id}/cancel", self.cancel),
            ("GET", "/models", self.models),
            ("GET", "/models/{model_id}", self.model),
        )
        return [
            Route(base + path, endpoint, methods=[method])
            for base in BASES
            for method, path, endpoint in table
        ]

    async def submit(self, request: Request) -> Response:
        """Accept a job; 200 means that its bytes and its row are durable."""
        principal = await self._authenticator.identify(request)
        if is_validation(request.query_params):
            principal.require(Scope.JOBS_WRITE)
            return await self._validate(request, principal)
        async with self._audited(principal, "job.submit"):
            principal.require(Scope.JOBS_WRITE)
            key = read_key(request.headers)
            async with self._door.keys.held(principal.org_id, key) as held:
                job = await self._accept(request, principal, held)
        headers = {}
        if isinstance(held, Memory):
            now, told = self._door.clock.now(), {"replayed": True}
            await self._door.audit.done(principal.actor, now, "job.submit", job.id, told)
            headers[REPLAYED] = "true"
        return Promise(self._renderer.record(job, request), headers)

    async def _validate(self, request: Request, principal: Principal) -> Response:
        """Judge a submission, of which nothing is kept or counted."""
        upload = read_head(request.headers, request.query_params)
        terms = self._terms(request, None)
        found = await examine(self._door, principal, upload, RequestBody(request), terms)
        most = self._door.limits.quarantine_lines_max
        return json_answer(report_shown(found, terms.options, most))

    async def _accept(
        self, request: Request, principal: Principal, held: Claim | Memory | None
    ) -> Job:
        upload = read_head(request.headers, request.query_params)
        terms = self._terms(request, held)
        return await self._door.accept(principal, upload, RequestBody(request), terms)

    def _terms(self, request: Request, held: Claim | Memory | None) -> Terms:
        """Return what the head of a submission says of its job."""

        async def still_wanted() -> None:
            if await request.is_disconnected():
                raise ClientDisconnect

        return Terms(
            priority=read_priority(request.headers),
            held=held,
            options=read_options(request.query_params),
            still_wanted=still_wanted,
        )

    def _audited(
        self, principal: Principal, action: str, target: str = ""
    ) -> AbstractAsyncContextManager[None]:
        return audited(self._door.audit, self._door.clock, principal, action, target)

    async def get(self, request: Request) -> Response:
        """Return one record."""
        principal = await self._authenticator.principal(request, Scope.JOBS_READ)
        job = await self._door.get(principal, request.path_params["request_id"])
        record = self._renderer.record(job, request)
        explained = await self._door.explainer.explain(job)
        return json_answer(record if explained is None else {**record, **explained})

    async def list(self, request: Request) -> Response:
        """Return a page of records, newest first."""
        principal = await self._authenticator.principal(request, Scope.JOBS_READ)
        page = _page(request)
        if page is None:
            return json_answer({"requests": [], "total": 0})
        jobs, total = await self._door.page(principal, page)
        answer: dict[str, Any] = {
            "requests": [self._renderer.record(job, request) for job in jobs],
            "total": total,
        }
        if len(jobs) == page.limit:
            answer["next_cursor"] = _cursor(jobs[-1].created_at, jobs[-1].id)
        return json_answer(answer)

    async def cancel(self, request: Request) -> Response:
        """Ask for a cancel; asking again is fine."""
        principal = await self._authenticator.identify(request)
        request_id = request.path_params["request_id"]
        async with self._audited(principal, "job.cancel", request_id):
            principal.require(Scope.JOBS_WRITE)
            job = await self._door.cancel(principal, request_id)
        return json_answer(self._renderer.record(job, request))

    async def models(self, request: Request) -> Response:
        """List the one model of the queue, with its parameters and prices."""
        principal = await self._authenticator.principal(request, Scope.JOBS_READ)
        detail = model_detail(principal.org_id, self._door)
        return json_answer({"model_ids": [REQUEST_QUEUE_MODEL], "models": [detail]})

    async def model(self, request: Request) -> Response:
        """Return the detail of the queue's model; its name is compared without regard to case."""
        principal = await self._authenticator.principal(request, Scope.JOBS_READ)
        wanted = request.path_params["model_id"]
        if wanted.lower() != REQUEST_QUEUE_MODEL.lower():
            raise NotFound("There is no such model.", hint=f"The model is {REQUEST_QUEUE_MODEL}.")
        return json_answer(model_detail(principal.org_id, self._door))


def _page(request: Request) -> Page | None:
    """Read the filters; None if they select nothing that could exist."""
    query = request.query_params
    states = None
    status = query.get("status")
    if status is not None:
        states = states_of(status)
        if not states:
            raise InvalidRequest(
                f"The status {status[:40]!r} does not exist.",
                code="invalid_parameter",
                hint=f"Use one of: {', '.join(_STATUSES)}.",
            )
    # A large page is clamped and not refused: the answer says what it holds.
    limit = min(_whole(query.get("limit"), "limit", PAGE_LIMIT, 1), PAGE_LIMIT_MAX)
    offset = min(_whole(query.get("offset"), "offset", 0, 0), _OFFSET_MAX)
    cursor = query.get("cursor")
    before = None if cursor is None else _read_cursor(cursor)
    model = query.get("model_id") or query.get("model")
    if model is not None and model.lower() != REQUEST_QUEUE_MODEL.lower():
        return None
    return Page(states=states, limit=limit, offset=offset, before=before)


def _whole(text: str | None, name: str, default: int, least: int) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 12) or int(text) < least:  # noqa: PLR2004
        raise InvalidRequest(
            f"The parameter {name} is not a whole number of at least {least}.",
            code="invalid_parameter",
        )
    return int(text)


def _cursor(created_at: float, job_id: str) -> str:
    # Hex keeps every bit of the time; decimal text would skip or repeat a job on a tie.
    return base64.urlsafe_b64encode(f"{created_at.hex()} {job_id}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[float, str]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        created_at, _, job_id = text.partition(" ")
        before = float.fromhex(created_at)
    except (binascii.Error, ValueError, OverflowError) as error:
        raise _bad_cursor() from error
    if not math.isfinite(before):
        raise _bad_cursor()
    return before, job_id


def _bad_cursor() -> InvalidRequest:
    return InvalidRequest(
        "The cursor is not one that a list answered.",
        code="invalid_parameter",
        hint="Begin again without a cursor.",
    )
