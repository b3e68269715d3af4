"""Who is who: the only file that picks implementations and hands them to each other."""

import asyncio
import fcntl
import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx2
import msgspec
from starlette.applications import Starlette

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
from penstock.blobs.open import Access, open_blobs, place_of
from penstock.blobs.partial import Partials
from penstock.blobs.room import Room, RoomLimits
from penstock.blobs.source import Sources
from penstock.blobs.source_uri import AllowList
from penstock.blobs.spool import Spool
from penstock.blobs.store import Blobs
from penstock.clock import Clock, SystemClock
from penstock.core.files import FileRule
from penstock.core.job import OrgId
from penstock.core.key import key_id_of, new_key
from penstock.core.share import share_of
from penstock.directory import make_directory
from penstock.errors import ConfigurationError
from penstock.keyring import Keyring, Purpose
from penstock.lifecycle.accept import Phase
from penstock.lifecycle.deliver import Deliverer, Post
from penstock.lifecycle.durable import Engine
from penstock.lifecycle.ports import CancelWatch, Ports
from penstock.lifecycle.prune import keep_keys_pruned, keep_pruned, prune_orphans
from penstock.lifecycle.turns import Slots
from penstock.lifecycle.watchdog import Watchdog
from penstock.providers.fixed_token import FixedToken
from penstock.providers.vertex import TIMEOUT_SECONDS, Token, Vertex
from penstock.receive.receiver import Receiver
from penstock.settings import Settings, catalogue
from penstock.startup import GOOGLE, LOOPBACK, known_as, needs_google, setting_faults
from penstock.store.history import Pasts
from penstock.store.location import Location, location_of
from penstock.store.store import Store, engine_database
from penstock.store.tenants import Key
from penstock.webhooks.address import Addresses
from penstock.webhooks.secrets import Sealer
from penstock.webhooks.sender import open_sender

DEFAULT_ORG: Final = OrgId("default")
DEFAULT_USER: Final = "owner"
ALIAS_ID: Final = "dev-key"

ONE_FOR_ALL: Final = "Keys and links of one process must hold for the others."


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What every role stands on."""

    settings: Settings
    clock: Clock
    location: Location
    store: Store
    pasts: Pasts
    keyring: Keyring
    spool: Spool
    blobs: Blobs
    http: httpx2.AsyncClient
    token: Token

    def bucket(self, name: str) -> Bucket:
        """Return a bucket of Cloud Storage."""
        url = self.settings.vertex.storage_url
        return Bucket(name, url, self.token, self.http, self.clock)

    async def close(self) -> None:
        """Let go of all of it."""
        await self.http.aclose()
        await self.store.close()


class Front:
    """What takes jobs and shows them: the roles `all` and `api`."""

    def __init__(
        self, ground: Ground, authenticator: Authenticator, accepted: Callable[[], None]
    ) -> None:
        settings = ground.settings
        self.room = Room(ground.spool.measure, ground.clock, _room_limits(settings))
        # Refuses what requests must not name in the provider's hands.
        self._receiver = Receiver(
            settings.limits, settings.receive_processes_max, files=_files(settings)
        )
        clock, usage = ground.clock, ground.store.usage
        door = JobDoor(
            jobs=ground.store.jobs,
            usage=usage,
            audit=ground.store.audit,
            keys=IdempotencyKeys(ground.store.idempotency, clock, settings.limits),
            spool=ground.spool,
            blobs=ground.blobs,
            room=self.room,
            receiver=self._receiver,
            clock=clock,
            limits=settings.limits,
            models=catalogue(settings),
            default_model=settings.default_model,
            quotas=settings.quotas,
            estimates=Estimator(settings.estimates, catalogue(settings), usage),
            sources=_sources(ground),
            explainer=Explainer(ground.store.history, ground.pasts, settings.limits),
            accepted=accepted,
        )
        key = ground.keyring.key(Purpose.DOWNLOADS)
        links = Links(key, ground.clock, settings.download_seconds)
        renderer = Renderer(links, settings.public_url)
        queue = RequestQueue(door, authenticator, renderer)
        self._uploads = Uploads(door, Partials(settings.data_dir), authenticator, renderer)
        downloads = Downloads(ground.store.jobs, ground.blobs, links, renderer, settings.limits)
        tenants = TenantRoutes(ground.store, authenticator, ground.clock, settings.limits)
        webhooks = _webhooks(ground, authenticator)
        used = UsagePage(usage, settings.quotas, authenticator, clock, settings.limits)
        metrics = MetricsPage(
            ground.store.history, ground.pasts, authenticator, settings.waiting, door.models
        )
        wishes = Wishes(ground.store.looks, clock, settings.timing)
        source = LineSource(ground.blobs, settings.limits)
        lines = LineRoutes(door, authenticator, source, wishes)
        images = Images(door, authenticator, source, downloads.slots)
        retries = RetryRoutes(door, authenticator, renderer, source)
        outputs = Outputs(door, authenticator, downloads, wishes)
        jobs = (queue, lines, images, outputs, retries, self._uploads, downloads)
        parts = (*jobs, tenants, webhooks, used, Reference(door))
        self.routes = [route for part in (*parts, metrics) for route in part.routes()]

    def begin(self) -> list[asyncio.Task[None]]:
        """Start to receive; return what runs beside it until it is cancelled."""
        self._receiver.begin()
        return [asyncio.create_task(self._uploads.keep_swept(), name="sweeper")]

    async def end(self) -> None:
        """Stop to receive."""
        await self._receiver.end()


class Back:
    """What moves jobs on: the roles `all` and `worker`."""

    def __init__(self, ground: Ground) -> None:
        settings = ground.settings
        watch = CancelWatch(ground.store.jobs, ground.clock, settings.timing.cancel_check_seconds)
        self._ports = _ports(ground, watch)
        self._idempotency = ground.store.idempotency
        database = engine_database(ground.location)
        slots = _slots(settings)
        self.engine = Engine(self._ports, ground.store.workers, watch, database, slots)
        self._deliverer = Deliverer(_post(ground))
        self._watchdog = Watchdog(ground.store.history, ground.pasts, settings.waiting)
        # The lock on the data directory says that no other process has this SQLite file. A database
        # on a server can have any number of workers.
        self._is_alone = isinstance(ground.location, Path)
        self.is_working = False

    async def begin(self) -> list[asyncio.Task[None]]:
        """Start to work; return what runs beside it until it is cancelled."""
        # Before anything is accepted: an upload in progress would look like an orphan.
        await prune_orphans(self._ports)
        await self.engine.begin(alone=self._is_alone)
        self.is_working = True
        loops = {
            "pruner": keep_pruned(self._ports),
            "key pruner": keep_keys_pruned(self._idempotency, self._ports),
            "deliverer": self._deliverer.run(),
            "watchdog": self._watchdog.run(),
        }
        return [asyncio.create_task(loop, name=name) for name, loop in loops.items()]

    async def end(self) -> None:
        """Stop to work, and leave what is not done to others."""
        self.is_working = False
        await self._deliverer.leave()
        await self.engine.end()


class Server:
    """One process in its role, from settings to a running application."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self.settings = settings
        check(settings)
        make_directory(settings.data_dir)
        self._lock = lock_directory(settings.data_dir)
        self._ground = _ground(settings, clock or SystemClock())
        self.store = self._ground.store
        self._aliases: dict[str, str] = {}
        pepper = self._ground.keyring.key(Purpose.API_KEYS)
        self.authenticator = Authenticator(
            self.store.tenants,
            pepper,
            self._ground.clock,
            self._aliases,
            Rates(settings.quotas),
        )
        self._back = Back(self._ground) if settings.works else None
        self._front = self._made_front() if settings.accepts else None
        self._health = self._made_health()
        routes = [*self._health.routes(), *(self._front.routes if self._front else ())]
        self.app = create_app(routes, self._lifespan, known_as(settings))

    async def first_key(self) -> str | None:
        """Make the first key of a new database and return it, to be shown once; else None.

        Of several processes that start at once one makes it, and none that accepts nothing.
        """
        tenants = self.store.tenants
        if self._front is None or await tenants.has_keys():
            return None
        text, now = new_key(), self._ground.clock.now()
        await ensure_owner(self.store, now)
        made = await tenants.put_first_key(_key(self.authenticator, text, "bootstrap", now))
        return text if made else None

    async def permit(self, text: str, name: str) -> None:
        """Let a key in that the operator chose; it need not have our form."""
        if key_id_of(text) is None:
            self._aliases[self.authenticator.digest(text)] = ALIAS_ID
        await add_key(self.store, self.authenticator, text, name, self._ground.clock.now())

    def leave(self) -> None:
        """Be not ready from now on: the process was asked to end, and soon does."""
        self._health.leave()

    async def close(self) -> None:
        """Let go of everything."""
        if self._front is not None:
            await self._front.end()
        await self._ground.close()
        os.close(self._lock)

    def _made_front(self) -> Front:
        # Without an engine of its own, a worker's look for new jobs finds what was accepted.
        nudge = self._back.engine.nudge if self._back else _nobody
        return Front(self._ground, self.authenticator, nudge)

    def _made_health(self) -> Health:
        back = self._back
        room = self._front.room if self._front else None
        return Health(self.store.ping, room, (lambda: back.is_working) if back else None)

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        beside: list[asyncio.Task[None]] = []
        if self._front is not None:
            beside += self._front.begin()
        if self._back is None:
            await asyncio.to_thread(self._ground.spool.clear_incoming)
        else:
            beside += await self._back.begin()
        try:
            yield
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            if self._back is not None:
                await self._back.end()
            await self.close()


def _nobody() -> None:
    """Wake nobody."""


def _ground(settings: Settings, clock: Clock) -> Ground:
    http = httpx2.AsyncClient(timeout=TIMEOUT_SECONDS)
    token = token_of(settings)
    spool = Spool(settings.data_dir, is_counted=settings.spool_bytes_max > 0)
    access = Access(endpoint=blobs_endpoint(settings), token=token, http=http, clock=clock)
    blobs = open_blobs(settings.blobs_url, spool, access)
    location = location_of(settings)
    keyring = Keyring.open(settings.secret, settings.data_dir)
    store = Store.open(location, keyring.key(Purpose.AUDIT))
    return Ground(
        settings=settings,
        clock=clock,
        location=location,
        store=store,
        pasts=Pasts(store.history, clock, settings.waiting),
        keyring=keyring,
        spool=spool,
        blobs=blobs,
        http=http,
        token=token,
    )


def _ports(ground: Ground, watch: CancelWatch) -> Ports:
    settings = ground.settings
    vertex = settings.vertex
    return Ports(
        clock=ground.clock,
        jobs=ground.store.jobs,
        looks=ground.store.looks,
        spool=ground.spool,
        blobs=ground.blobs,
        bucket=ground.bucket(vertex.bucket),
        bucket_prefix=vertex.prefix.strip("/"),
        provider=Vertex(vertex.project, ground.token, ground.http, vertex.base_url or None),
        location=vertex.location,
        models=catalogue(settings),
        limits=settings.limits,
        timing=settings.timing,
        alarm=watch,
    )


def _post(ground: Ground) -> Post:
    settings = ground.settings
    return Post(
        deliveries=ground.store.deliveries,
        sender=open_sender(_addresses(settings), settings.limits, settings.deliver_concurrency),
        sealer=Sealer(ground.keyring.key(Purpose.WEBHOOKS)),
        clock=ground.clock,
        limits=settings.limits,
        timing=settings.timing,
        concurrency=settings.deliver_concurrency,
    )


def _webhooks(ground: Ground, authenticator: Authenticator) -> WebhookRoutes:
    settings = ground.settings
    admin = Admin(
        store=ground.store,
        authenticator=authenticator,
        clock=ground.clock,
        limits=settings.limits,
    )
    sealer = Sealer(ground.keyring.key(Purpose.WEBHOOKS))
    return WebhookRoutes(admin, sealer, _addresses(settings))


def _addresses(settings: Settings) -> Addresses:
    return Addresses(settings.limits, settings.webhooks_private_allowed)


def _sources(ground: Ground) -> Sources:
    settings = ground.settings
    # Refuses what would let everybody read the jobs of all.
    allowed = AllowList(settings.sources_allowed, private=_own_folders(settings))
    web = Web(settings.limits, ground.clock, ssl.create_default_context())
    return Sources(allowed, ground.bucket, web)


def _files(settings: Settings) -> FileRule:
    return FileRule.of(settings.files_allowed, _own_folders(settings))


def _own_folders(settings: Settings) -> list[str]:
    """Return where in Cloud Storage the inputs and outputs of all tenants lie."""
    vertex = settings.vertex
    places = [f"{GOOGLE}{vertex.bucket}/{vertex.prefix.strip('/')}"] if vertex.bucket else []
    if settings.blobs_url.startswith(GOOGLE):
        places.append(settings.blobs_url)
    return [place.rstrip("/") + "/" for place in places]


def blobs_endpoint(settings: Settings) -> str:
    """Return the address of the object storage behind blobs_url; empty for the service's own."""
    if settings.blobs_url.startswith(GOOGLE) and not settings.blobs_endpoint:
        return settings.vertex.storage_url
    return settings.blobs_endpoint


async def add_key(
    store: Store, authenticator: Authenticator, text: str, name: str, now: float
) -> Key:
    """Store a key for the default organisation, unless it is there already."""
    await ensure_owner(store, now)
    key = _key(authenticator, text, name, now)
    known = await store.tenants.key(key.id)
    if known is None or known.digest != key.digest:
        await store.tenants.put_key(key)
    return key


async def ensure_owner(store: Store, now: float) -> None:
    """Make the operator's organisation and its owner unless they are there."""
    await store.tenants.ensure_org(DEFAULT_ORG, "default", now)
    await store.tenants.ensure_user(DEFAULT_USER, DEFAULT_ORG, "owner", now)


def _key(authenticator: Authenticator, text: str, name: str, now: float) -> Key:
    return Key(
        id=key_id_of(text) or ALIAS_ID,
        org_id=DEFAULT_ORG,
        user_id=DEFAULT_USER,
        name=name,
        digest=authenticator.digest(text),
        created_at=now,
    )


def lock_directory(data_dir: Path) -> int:
    """Hold the data directory for this process until it ends, however it ends."""
    descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise ConfigurationError(
            f"Another Penstock server uses the data directory {data_dir}.",
            hint="Stop it, or set PENSTOCK_DATA_DIR to another directory.",
        ) from error
    return descriptor


def check(settings: Settings) -> None:
    """Raise `ConfigurationError`, naming every reason why no job could run with these settings."""
    faults = list(_faults(settings))
    if faults:
        hints = dict.fromkeys(fault.hint for fault in faults if fault.hint)
        raise ConfigurationError(
            " ".join(fault.message for fault in faults), hint=" ".join(hints) or None
        )


def _faults(settings: Settings) -> Iterator[ConfigurationError]:
    yield from _missing(settings)
    yield from setting_faults(settings)
    for read in (location_of, _blobs_place, _keyring, _addresses, _files):
        try:
            read(settings)
        except ConfigurationError as fault:
            yield fault
    # What a worker answers is no secret and needs no key: Kubernetes asks it over the network.
    if settings.accepts and settings.host not in LOOPBACK and not settings.allow_public_bind:
        yield ConfigurationError(
            f"host is {settings.host}, which others can reach, and this server speaks plain HTTP.",
            hint="Put a TLS proxy in front and set PENSTOCK_ALLOW_PUBLIC_BIND=true.",
        )


def _missing(settings: Settings) -> Iterator[ConfigurationError]:
    vertex = settings.vertex
    # Who takes requests must know the bucket in order to keep it private.
    needed = {"vertex.bucket": vertex.bucket}
    if settings.works:
        needed["vertex.project"] = vertex.project
    for name, value in needed.items():
        if not value:
            yield ConfigurationError(
                f"{name} is not set.",
                hint=f"Set {_variable(name)}, or use `penstock dev` without an account.",
            )
    for name, why in _shared(settings).items():
        if not getattr(settings, name):
            yield ConfigurationError(f"{name} is not set. {why}", hint=f"Set {_variable(name)}.")


def _shared(settings: Settings) -> dict[str, str]:
    """Return what must be the same for several processes, and why; nothing for one alone."""
    whose = f"A process with the role {settings.role} shares it with others."
    if settings.role != "all":
        return {"database_url": whose, "blobs_url": whose, "secret": ONE_FOR_ALL}
    if settings.database_url and settings.blobs_url:
        return {"secret": ONE_FOR_ALL}
    return {}


def _variable(name: str) -> str:
    return "PENSTOCK_" + name.upper().replace(".", "_")


def _blobs_place(settings: Settings) -> None:
    if settings.blobs_url:
        place_of(settings.blobs_url)


def _keyring(settings: Settings) -> None:
    if settings.secret:
        Keyring(settings.secret)


def _slots(settings: Settings) -> dict[Phase, Slots]:
    numbers = {
        Phase.PREPARE: (settings.prepare_concurrency, settings.prepare_concurrency_tenant_max),
        Phase.RUN: (settings.jobs_in_flight_max, settings.jobs_in_flight_tenant_max),
        Phase.COLLECT: (settings.collect_concurrency, settings.collect_concurrency_tenant_max),
    }
    return {
        phase: Slots(whole=whole, each=share_of(whole, each))
        for phase, (whole, each) in numbers.items()
    }


def _room_limits(settings: Settings) -> RoomLimits:
    concurrency, waiting = settings.uploads_concurrency_max, settings.uploads_waiting_max
    return RoomLimits(
        spool_bytes_max=settings.spool_bytes_max,
        disk_free_bytes_min=settings.disk_free_bytes_min,
        uploads_concurrency_max=concurrency,
        uploads_concurrency_tenant_max=share_of(
            concurrency, settings.uploads_concurrency_tenant_max
        ),
        uploads_waiting_max=waiting,
        uploads_waiting_tenant_max=share_of(waiting, settings.uploads_waiting_tenant_max),
        upload_wait_seconds_max=settings.upload_wait_seconds_max,
    )


def token_of(settings: Settings) -> Token:
    """Return where tokens for Google come from."""
    if settings.vertex.access_token:
        return FixedToken(settings.vertex.access_token.reveal())
    if not needs_google(settings):
        return FixedToken("")
    from penstock.providers.credentials import GoogleToken  # noqa: PLC0415  # lazy: 10 MB

    return GoogleToken(settings.vertex.credentials_file)
