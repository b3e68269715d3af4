"""The request-queue API: the dialect that Penstock exists for.

Every route answers under both bases, because one public client leaves `apikey` out. The shapes are
those that existing clients read; `api/request_queue_record.py` renders them.
"""

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
from penstock.api.naming import read_naming
from penstock.api.options import is_validation, read_options
from penstock.api.pages import cursor_after, read_page
from penstock.api.request_queue_record import Renderer, model_detail
from penstock.api.takeover import RequestBody
from penstock.api.validate import examine
from penstock.api.validate import shown as report_shown
from penstock.core.access import Scope
from penstock.core.job import Job
from penstock.core.models import REQUEST_QUEUE_MODEL
from penstock.errors import NotFound
from penstock.store.idempotency import Claim, Memory

BASES: Final = ("/api/v1/ie/requestqueue/apikey", "/api/v1/ie/requestqueue")

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
            naming=read_naming(request.query_params, self._door.limits),
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
        page = read_page(request.query_params, self._door.limits)
        if page is None:
            return json_answer({"requests": [], "total": 0})
        jobs, total = await self._door.page(principal, page)
        answer: dict[str, Any] = {
            "requests": [self._renderer.record(job, request) for job in jobs],
            "total": total,
        }
        if len(jobs) == page.limit:
            answer["next_cursor"] = cursor_after(jobs[-1], page)
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
