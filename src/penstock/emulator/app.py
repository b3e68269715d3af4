"""The emulator as one ASGI application on one base URL.

/v1 and /v1beta1 are Vertex, /storage, /upload and /download are the JSON API of Cloud Storage,
/token serves service-account keys, /emulator/v1 is our own control API, and everything else is the
XML API: `/{bucket}/{object}`.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.emulator.account import AccountApi
from penstock.emulator.control import ControlApi
from penstock.emulator.database import Database
from penstock.emulator.faults import Faults
from penstock.emulator.jobs import JobEngine
from penstock.emulator.log import EventLog
from penstock.emulator.named import parse_file
from penstock.emulator.objects import ObjectStore
from penstock.emulator.refusals import json_response
from penstock.emulator.settings import EmulatorSettings
from penstock.emulator.storage_json import JsonApi
from penstock.emulator.storage_xml import XmlApi
from penstock.emulator.timestamps import EmulatorClock
from penstock.emulator.uploads import upload_kinds
from penstock.emulator.vertex import VertexApi

__all__ = ["EmulatorSettings", "create_app"]

_ANY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


def create_app(settings: EmulatorSettings, clock: Callable[[], float] = time.time) -> Starlette:
    """The emulator over `settings.data_dir`; `clock` gives seconds since the epoch.

    State is opened here, the job engine runs between ASGI startup and shutdown. Rules that drop
    connections need the server of `penstock.emulator.server`.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    rules = () if settings.faults_path is None else parse_file(settings.faults_path.read_bytes())
    database = Database(settings.data_dir / "state.sqlite3")
    emulator_clock = EmulatorClock(clock, database)
    log = EventLog(settings.log_path, emulator_clock)
    store = ObjectStore(settings.data_dir, database, emulator_clock, log)
    if store.bucket_created_us(settings.bucket) is None:
        store.create_bucket(settings.bucket)
    faults = Faults(database, log)
    for rule in rules:
        faults.add(rule)
    engine = JobEngine(settings, database, store, faults, emulator_clock, log)
    parts, resumable = upload_kinds(settings.data_dir, database, store, emulator_clock)
    vertex = VertexApi(settings, database, engine, faults, emulator_clock)
    json_api = JsonApi(settings, store, resumable, faults, engine.growing)
    xml_api = XmlApi(store, parts, faults, engine.growing)
    control = ControlApi(settings, database, engine, faults, emulator_clock)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        engine.start()
        try:
            yield
        finally:
            engine.stop()
            log.close()
            database.close()

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/healthz", _healthz),
            Route("/token", _token, methods=["POST"]),
            *control.routes(),
            *AccountApi(settings, faults).routes(),
            Route("/v1/{rest:path}", vertex.handle, methods=_ANY_METHOD),
            Route("/v1beta1/{rest:path}", vertex.handle, methods=_ANY_METHOD),
            Route("/storage/v1/{rest:path}", json_api.handle, methods=_ANY_METHOD),
            Route("/download/storage/v1/{rest:path}", json_api.handle, methods=_ANY_METHOD),
            Route("/upload/storage/v1/{rest:path}", json_api.handle_upload, methods=_ANY_METHOD),
            Route("/{rest:path}", xml_api.handle, methods=_ANY_METHOD),
        ],
    )


async def _healthz(request: Request) -> Response:
    del request
    return json_response({"status": "ok"})


async def _token(request: Request) -> Response:
    """The token endpoint of a service-account key whose `token_uri` points here."""
    del request
    return json_response(
        {"access_token": "emulator-token", "expires_in": 3599, "token_type": "Bearer"}
    )
