"""Who is who: the only file that picks implementations and hands them to each other."""

import asyncio
import fcntl
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx2
import sqlalchemy as sa
from starlette.applications import Starlette

from penstock.api.app import create_app
from penstock.api.auth import Authenticator
from penstock.api.downloads import Downloads
from penstock.api.health import Health
from penstock.api.jobs import JobDoor
from penstock.api.links import Links
from penstock.api.openapi import Reference
from penstock.api.request_queue import RequestQueue
from penstock.api.request_queue_record import Renderer
from penstock.api.uploads import Uploads
from penstock.blobs.bucket import Bucket
from penstock.blobs.fetch import Web
from penstock.blobs.partial import Partials
from penstock.blobs.room import Room, RoomLimits
from penstock.blobs.source import Sources
from penstock.blobs.source_uri import AllowList
from penstock.blobs.spool import Spool
from penstock.clock import Clock, SystemClock
from penstock.core.job import OrgId
from penstock.core.key import key_id_of, new_key
from penstock.errors import ConfigurationError
from penstock.keyring import Keyring, Purpose
from penstock.lifecycle.accept import Phase
from penstock.lifecycle.durable import Engine
from penstock.lifecycle.ports import CancelWatch, Ports
from penstock.lifecycle.prune import prune_orphans
from penstock.providers.credentials import FixedToken, GoogleToken
from penstock.providers.vertex import TIMEOUT_SECONDS, Token, Vertex
from penstock.receive.receiver import Receiver
from penstock.settings import Settings, catalogue
from penstock.store.database import prepare_connection, sqlite_url, supply_subsec
from penstock.store.store import Store
from penstock.store.tenants import Key

DATABASE_FILE: Final = "penstock.db"
ENGINE_FILE: Final = "engine.db"
"""The engine's own tables have a file of their own, so that its writes do not wait for ours."""

DEFAULT_ORG: Final = OrgId("default")
DEFAULT_USER: Final = "owner"
ALIAS_ID: Final = "dev-key"


class Server:
    """One process with API and lifecycle, from settings to a running application."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self.settings = settings
        self._clock = clock or SystemClock()
        check(settings)
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        self._lock = lock_directory(settings.data_dir)
        self._keyring = Keyring.open(settings.secret, settings.data_dir)
        self.store = Store.open(settings.data_dir / DATABASE_FILE)
        self._spool = Spool(settings.data_dir, is_counted=settings.spool_bytes_max > 0)
        self._http = httpx2.AsyncClient(timeout=TIMEOUT_SECONDS)
        self._aliases: dict[str, str] = {}
        self.authenticator = Authenticator(
            self.store.tenants, self._keyring.key(Purpose.API_KEYS), self._clock, self._aliases
        )
        self._token = _token(settings)
        self._receiver = Receiver(settings.limits, settings.receive_processes_max)
        self.engine = self._engine()
        self.app = self._app()

    async def first_key(self) -> str | None:
        """Make the first key of a new server and return it, to be shown once; else None."""
        if await self.store.tenants.has_keys():
            return None
        text = new_key()
        await add_key(self.store, self.authenticator, text, "bootstrap", self._clock.now())
        return text

    async def permit(self, text: str, name: str) -> None:
        """Let a key in that the operator chose; it need not have our form."""
        if key_id_of(text) is None:
            self._aliases[self.authenticator.digest(text)] = ALIAS_ID
        await add_key(self.store, self.authenticator, text, name, self._clock.now())

    async def close(self) -> None:
        """Let go of everything."""
        await self._receiver.end()
        await self._http.aclose()
        await self.store.close()
        os.close(self._lock)

    def _engine(self) -> Engine:
        settings = self.settings
        watch = CancelWatch(self.store.jobs, self._clock, settings.timing.cancel_check_seconds)
        ports = Ports(
            clock=self._clock,
            jobs=self.store.jobs,
            spool=self._spool,
            bucket=self._bucket(settings.vertex.bucket),
            bucket_prefix=settings.vertex.prefix.strip("/"),
            provider=Vertex(
                settings.vertex.project, self._token, self._http, settings.vertex.base_url or None
            ),
            location=settings.vertex.location,
            models=catalogue(settings),
            limits=settings.limits,
            timing=settings.timing,
            alarm=watch,
        )
        self._ports = ports
        system_database = sa.create_engine(
            sqlite_url(settings.data_dir / ENGINE_FILE), isolation_level="SERIALIZABLE"
        )
        sa.event.listen(system_database, "connect", _prepare_engine_connection)
        concurrency = {
            Phase.PREPARE: settings.prepare_concurrency,
            Phase.RUN: settings.jobs_in_flight_max,
            Phase.COLLECT: settings.collect_concurrency,
        }
        return Engine(ports, self.store.workers, watch, system_database, concurrency)

    def _bucket(self, name: str) -> Bucket:
        url = self.settings.vertex.storage_url
        return Bucket(name, url, self._token, self._http, self._clock)

    def _sources(self) -> Sources:
        settings = self.settings
        folder = settings.vertex.prefix.strip("/")
        own = f"gs://{settings.vertex.bucket}/" + (f"{folder}/" if folder else "")
        allowed = AllowList(settings.sources_allowed, private=own)
        web = Web(settings.limits, self._clock, ssl.create_default_context())
        return Sources(allowed, self._bucket, web)

    def _app(self) -> Starlette:
        settings = self.settings
        links = Links(self._keyring.key(Purpose.DOWNLOADS), self._clock, settings.download_seconds)
        room = Room(self._spool.measure, self._clock, _room_limits(settings))
        door = JobDoor(
            jobs=self.store.jobs,
            spool=self._spool,
            room=room,
            receiver=self._receiver,
            clock=self._clock,
            limits=settings.limits,
            models=self._ports.models,
            default_model=settings.default_model,
            sources=self._sources(),
            accepted=self.engine.nudge,
        )
        renderer = Renderer(links, settings.public_url)
        queue = RequestQueue(door, self.authenticator, renderer)
        self._uploads = Uploads(door, Partials(settings.data_dir), self.authenticator, renderer)
        downloads = Downloads(self.store.jobs, self._spool, links, settings.limits)
        health = Health(self.store.ping, room)
        reference = Reference(door)
        parts = (queue, self._uploads, downloads, health, reference)
        routes = [route for part in parts for route in part.routes()]
        return create_app(routes, self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self._receiver.begin()
        # Before anything is accepted: an upload in progress would look like an orphan.
        await prune_orphans(self._ports)
        # The lock on the directory says that every other executor of this database is dead.
        await self.engine.begin(alone=True)
        sweeping = asyncio.create_task(self._uploads.keep_swept())
        try:
            yield
        finally:
            sweeping.cancel()
            await asyncio.wait({sweeping})
            await self.engine.end()
            await self.close()


async def add_key(
    store: Store, authenticator: Authenticator, text: str, name: str, now: float
) -> Key:
    """Store a key for the default organisation, unless it is there already."""
    await store.tenants.ensure_org(DEFAULT_ORG, "default", now)
    await store.tenants.ensure_user(DEFAULT_USER, DEFAULT_ORG, "owner", now)
    key = Key(
        id=key_id_of(text) or ALIAS_ID,
        org_id=DEFAULT_ORG,
        user_id=DEFAULT_USER,
        name=name,
        digest=authenticator.digest(text),
        created_at=now,
    )
    known = await store.tenants.key(key.id)
    if known is None or known.digest != key.digest:
        await store.tenants.put_key(key)
    return key


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
    """Raise `ConfigurationError` for settings with which no job could ever run."""
    vertex = settings.vertex
    for name, value in (("project", vertex.project), ("bucket", vertex.bucket)):
        if not value:
            raise ConfigurationError(
                f"vertex.{name} is not set.",
                hint=f"Set PENSTOCK_VERTEX_{name.upper()}, or use `penstock dev` without an "
                "account.",
            )
    loopback = {"127.0.0.1", "::1", "localhost"}
    if settings.host not in loopback and not settings.allow_public_bind:
        raise ConfigurationError(
            f"host is {settings.host}, which others can reach, and this server speaks plain HTTP.",
            hint="Put a TLS proxy in front and set PENSTOCK_ALLOW_PUBLIC_BIND=true.",
        )


def _room_limits(settings: Settings) -> RoomLimits:
    return RoomLimits(
        spool_bytes_max=settings.spool_bytes_max,
        disk_free_bytes_min=settings.disk_free_bytes_min,
        uploads_concurrency_max=settings.uploads_concurrency_max,
        uploads_waiting_max=settings.uploads_waiting_max,
        upload_wait_seconds_max=settings.upload_wait_seconds_max,
    )


def _token(settings: Settings) -> Token:
    if settings.vertex.access_token:
        return FixedToken(settings.vertex.access_token.reveal())
    return GoogleToken(settings.vertex.credentials_file)


def _prepare_engine_connection(connection: object, record: object) -> None:
    # IMMEDIATE makes writers wait for each other; DEFERRED ones would fail on upgrade of the lock.
    connection.isolation_level = "IMMEDIATE"  # type: ignore[attr-defined]  # sqlite3's own name
    prepare_connection(connection, record)
    supply_subsec(connection)
