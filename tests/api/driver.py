"""The API over a real store and spool, without the engine behind it."""

import hashlib
import json
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import sqlalchemy as sa
from starlette.applications import Starlette
from tests.fake_clock import START
from tests.ingest.naive import FILES

from penstock.api.admin import Admin
from penstock.api.app import create_app
from penstock.api.auth import Authenticator
from penstock.api.downloads import Downloads
from penstock.api.estimates import Estimator
from penstock.api.health import Health
from penstock.api.idempotency import IdempotencyKeys
from penstock.api.images import Images
from penstock.api.jobs import JobDoor
from penstock.api.line_source import LineSource
from penstock.api.lines import LineRoutes
from penstock.api.links import Links
from penstock.api.metrics import MetricsPage
from penstock.api.openapi import Reference
from penstock.api.partial import Outputs, Wishes
from penstock.api.rates import Rates
from penstock.api.request_queue import RequestQueue
from penstock.api.request_queue_record import Renderer
from penstock.api.retry import RetryRoutes
from penstock.api.tenants import TenantRoutes
from penstock.api.uploads import Uploads
from penstock.api.usage import UsagePage
from penstock.api.waiting import Explainer
from penstock.api.webhooks import WebhookRoutes
from penstock.blobs.bucket import Bucket
from penstock.blobs.fetch import Web
from penstock.blobs.local import LocalBlobs
from penstock.blobs.partial import Partials
from penstock.blobs.room import Room, RoomLimits
from penstock.blobs.source import Sources
from penstock.blobs.source_uri import AllowList
from penstock.blobs.spool import OUTPUT, Spool
from penstock.blobs.store import Blobs
from penstock.clock import Clock
from penstock.core.job import Counts, Job, JobId, OrgId
from penstock.core.key import key_id_of, new_key
from penstock.core.limits import Limits
from penstock.core.models import DEFAULT_MODEL, SEED_CATALOGUE, Model
from penstock.core.quotas import Estimates, Quotas
from penstock.core.state import JobState
from penstock.core.waiting import WaitingRules
from penstock.receive.receiver import Receiver
from penstock.receive.worker import serve
from penstock.settings import Timing
from penstock.store import tables
from penstock.store.admission import ANYBODY, Admission
from penstock.store.history import Pasts
from penstock.store.jobs import Finish, Jobs
from penstock.store.store import Store
from penstock.store.tenants import Key
from penstock.webhooks.address import Addresses
from penstock.webhooks.secrets import Sealer

BASE = "/api/v1/ie/requestqueue/apikey"
QUOTAS = Quotas()
PEPPER = b"p" * 32
LINK_KEY = b"l" * 32
WEBHOOK_KEY = b"w" * 32
PRIVATE_HOOKS = "http://127.0.0.1:9000/"
"""Where webhooks may go beside the public internet."""
TLS = ssl.create_default_context()
ROOM_LIMITS = RoomLimits(
    spool_bytes_max=0,
    disk_free_bytes_min=256 * 1024 * 1024,
    uploads_concurrency_max=32,
    uploads_concurrency_tenant_max=32,
    uploads_waiting_max=200,
    uploads_waiting_tenant_max=200,
    upload_wait_seconds_max=20,
)
COUNTS = Counts(ok=2, error=1, prompt_tokens=10, candidates_tokens=20, thoughts_tokens=5)


class Api:
    """The application and what it stands on."""

    def __init__(
        self,
        store: Store,
        spool: Spool,
        clock: Clock,
        limits: Limits,
        public_url: str = "",
        sources: Sources | None = None,
        room: Room | None = None,
        blobs: Blobs | None = None,
        quotas: Quotas = QUOTAS,
        models: Mapping[str, Model] = SEED_CATALOGUE,
    ) -> None:
        self.store = store
        self.spool = spool
        self.blobs = blobs or LocalBlobs(spool)
        self.accepted = 0
        rates = Rates(quotas)
        self.authenticator = Authenticator(store.tenants, PEPPER, clock, rates=rates)
        self.links = Links(LINK_KEY, clock, 3600)
        room = room or Room(spool.measure, clock, ROOM_LIMITS)
        pasts = Pasts(store.history, clock, WaitingRules())
        door = JobDoor(
            jobs=store.jobs,
            usage=store.usage,
            audit=store.audit,
            keys=IdempotencyKeys(store.idempotency, clock, limits),
            spool=spool,
            blobs=self.blobs,
            room=room,
            receiver=Receiver(limits, 2, InThread, FILES),
            clock=clock,
            limits=limits,
            models=models,
            default_model=DEFAULT_MODEL,
            quotas=quotas,
            estimates=Estimator(Estimates(), models, store.usage),
            sources=sources or Sources(AllowList(()), no_bucket, Web(limits, clock, TLS)),
            explainer=Explainer(store.history, pasts, limits),
            accepted=self._count,
        )
        self.line_source = LineSource(self.blobs, limits)
        wishes = Wishes(store.looks, clock, Timing())
        renderer = Renderer(self.links, public_url)
        self.downloads = Downloads(store.jobs, self.blobs, self.links, renderer, limits)
        slots = self.downloads.slots
        queue = RequestQueue(door, self.authenticator, renderer)
        self.partials = Partials(spool.scratch("", "").parents[1])
        self.uploads = Uploads(door, self.partials, self.authenticator, renderer)
        self.app = create_app(
            [
                *queue.routes(),
                *LineRoutes(door, self.authenticator, self.line_source, wishes).routes(),
                *RetryRoutes(door, self.authenticator, renderer, self.line_source).routes(),
                *Images(door, self.authenticator, self.line_source, slots).routes(),
                *Outputs(door, self.authenticator, self.downloads, wishes).routes(),
                *self.uploads.routes(),
                *self.downloads.routes(),
                *Health(store.ping, room).routes(),
                *TenantRoutes(store, self.authenticator, clock, limits).routes(),
                *UsagePage(store.usage, quotas, self.authenticator, clock, limits).routes(),
                *self._webhooks(clock, limits).routes(),
                *MetricsPage(
                    store.history, pasts, self.authenticator, WaitingRules(), models
                ).routes(),
                *Reference(door).routes(),
            ],
            self._lifespan,
        )

    def _webhooks(self, clock: Clock, limits: Limits) -> WebhookRoutes:
        admin = Admin(
            store=self.store, authenticator=self.authenticator, clock=clock, limits=limits
        )
        return WebhookRoutes(admin, Sealer(WEBHOOK_KEY), Addresses(limits, [PRIVATE_HOOKS]))

    def _count(self) -> None:
        self.accepted += 1

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        yield
        await self.store.close()

    def client(self, key: str = "") -> httpx2.AsyncClient:
        """A client of the application, with a key or without one."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=self.app),
            base_url="http://penstock.test",
            headers=headers,
        )


async def permit(store: Store, org: str, **changes: Any) -> str:  # noqa: ANN401 - fields of a Key
    """Make a key for the user of an organisation."""
    text = new_key()
    key = Key(
        id=key_id_of(text) or "",
        org_id=OrgId(org),
        user_id=f"{org}-user",
        name="test",
        digest=Authenticator(store.tenants, PEPPER, NoTime()).digest(text),
        created_at=START,
    )
    await store.tenants.put_key(msgspec.structs.replace(key, **changes))
    return text


def no_bucket(name: str) -> Bucket:
    """The buckets of a server that allows none."""
    raise AssertionError(f"nobody allowed {name}")


class InThread:
    """A lane without a process: the same code serves the connection, and coverage sees it."""

    def hand(self, *descriptors: int) -> None:
        sockets = [socket.socket(fileno=os.dup(descriptor)) for descriptor in descriptors]
        threading.Thread(target=serve, args=sockets).start()

    def end(self) -> None:
        """Threads end with their connections."""


class Scripted(Jobs):
    """Jobs that wait or fail around the commit when a test asks for it."""

    before: Callable[[], Awaitable[None]] | None = None
    after: Callable[[], Awaitable[None]] | None = None

    async def add(self, job: Job, admission: Admission = ANYBODY) -> None:
        """Commit the job between what the test wants."""
        if self.before is not None:
            await self.before()
        await super().add(job, admission)
        if self.after is not None:
            await self.after()


class NoTime:
    """A clock for what needs none."""

    def now(self) -> float:
        return START

    async def sleep(self, seconds: float) -> None:
        raise AssertionError(f"nobody waits {seconds} seconds here")


def lines(count: int) -> str:
    """A good input of so many lines."""
    request = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
    return "".join(
        json.dumps({"key": f"k{number}", "request": request}) + "\n" for number in range(count)
    )


def submission(input_data: str, **payload: object) -> dict[str, object]:
    """The body of a submission."""
    return {
        "model": "Gemini-batch-inference",
        "payload": {"model": DEFAULT_MODEL, **payload, "input_data": input_data},
    }


def files(root: Path) -> list[str]:
    """Every file below a folder."""
    return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]


async def job_ids(store: Store) -> set[str]:
    """The ids of all jobs, whoever owns them and however they ended."""
    async with store._engine.connect() as connection:
        return {row[0] for row in await connection.execute(sa.select(tables.jobs.c.id))}


async def ended(
    api: Api,
    job: Job,
    state: JobState = JobState.SUCCEEDED,
    output: bytes | None = None,
    **more: Any,  # noqa: ANN401 - fields of a Finish
) -> JobId:
    """Store a job that has ended, with its output if it has one."""
    await api.store.jobs.add(
        msgspec.structs.replace(job, state=JobState.COLLECTING, provider_job="projects/p/x/y/7")
    )
    if output is not None:
        part = api.spool.begin(job.id, OUTPUT)
        part.write(output)
        more.setdefault("output_name", OUTPUT)
        await api.blobs.commit(job.id, {more["output_name"]: part})
        more["output_sha256"] = hashlib.sha256(output).hexdigest()
        more["output_bytes"] = len(output)
    finish = Finish(**{"state": state, "detail": "The end.", **more})
    assert await api.store.jobs.finish(job.id, START + 9, finish)
    return job.id


def every_integer(values: Iterable[object]) -> bool:
    """Whether all values are integers, and none is a bool."""
    return all(type(value) is int for value in values)
