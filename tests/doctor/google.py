"""The emulator as the doctor meets it, straight or through somebody who changes what is said."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from tests.emulator.driver import Emulator
from tests.wire import Answer

from penstock.blobs.bucket import Bucket
from penstock.doctor.google import Google
from penstock.doctor.lab import Lab, Pace
from penstock.providers.fixed_token import FixedToken
from penstock.providers.vertex import Vertex
from penstock.settings import EMULATOR_TOKEN, Secret, VertexSettings

RUN = "0a1b2c3d"
PACE = Pace(patience_seconds=7_200.0, list_seconds=30.0)
HOP_BY_HOP = {"connection", "content-length", "transfer-encoding", "host", "content-encoding"}

Change = Callable[[str, Any], Any]
"""Given the path of a call and the JSON of its answer, returns what is said instead."""


class EmulatorsClock:
    """The clock of the emulator, which nobody but sleepers moves."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def now(self) -> float:
        """Return seconds since the Unix epoch."""
        return self._emulator.clock.now

    async def sleep(self, seconds: float) -> None:
        """Let so much time pass there."""
        self._emulator.clock.now += seconds


def vertex_settings(url: str, **values: str) -> VertexSettings:
    """Return the settings that `penstock dev` uses."""
    given = {"project": "penstock-emulator", "bucket": "penstock", "base_url": url, **values}
    known = {**given, "storage_url": url}
    return msgspec.structs.replace(
        msgspec.convert(known, VertexSettings), access_token=Secret(EMULATOR_TOKEN)
    )


@asynccontextmanager
async def google_at(url: str, **values: str) -> AsyncIterator[Google]:
    """The doctor's calls to what stands at this address."""
    async with httpx2.AsyncClient(timeout=20) as http:
        yield Google(vertex_settings(url, **values), FixedToken(EMULATOR_TOKEN), http)


@asynccontextmanager
async def lab_at(url: str, emulator: Emulator, prefix: str = "penstock") -> AsyncIterator[Lab]:
    """A run of the doctor, on the emulator's time."""
    settings, token = vertex_settings(url), FixedToken(EMULATOR_TOKEN)
    clock = EmulatorsClock(emulator)
    async with httpx2.AsyncClient(timeout=20) as http:
        yield Lab(
            Google(settings, token, http),
            Vertex(settings.project, token, http, url),
            Bucket(settings.bucket, url, token, http, clock),
            clock,
            run=RUN,
            prefix=prefix,
        )


def relay(emulator: Emulator, change: Change, drop: tuple[str, ...] = ()) -> Answer:
    """Pass calls on to the emulator without these parameters, and change JSON that comes back.

    Rows of an output are JSON, too: each is given to `change` by itself. Objects in XML are passed
    as they are.
    """
    http = emulator.http

    def answer(request: Request) -> Response:
        asked = request.query_params.multi_items()
        kept = httpx2.QueryParams([one for one in asked if one[0] not in drop])
        path = request.scope["raw_path"].decode("latin-1")
        headers = {name: value for name, value in request.headers.items() if name != "host"}
        body = bodies(request)
        said = http.request(
            request.method, path, params=kept or None, headers=headers, content=body
        )
        content = said.content
        if "json" in said.headers.get("Content-Type", ""):
            content = json.dumps(change(path, said.json())).encode()
        elif "alt=media" in str(request.url.query):
            rows = [change(path, json.loads(row)) for row in content.splitlines()]
            content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        back = {
            name: value for name, value in said.headers.items() if name.lower() not in HOP_BY_HOP
        }
        return Response(content, said.status_code, back)

    return answer


def bodies(request: Request) -> bytes:
    """Return what `tests.wire` has read of the body already."""
    found: bytes = getattr(request, "_body", b"")
    return found
