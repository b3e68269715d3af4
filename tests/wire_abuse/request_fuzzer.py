"""Requests made of the served OpenAPI document and bent in every place, to the whole server.

Every request is drawn from its own number and the seed, so that one of them can be drawn again;
only the ids that earlier answers gave differ then. The server is the real one, over a real database
and a real spool, called by ASGI in this process; its jobs stay where they are.
"""

import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlencode

import msgspec
from starlette.types import Message
from tests.wire_abuse.bending import HOSTILE, bent_bytes, bent_json, drawn

from penstock.settings import build, emulator_values
from penstock.wiring import Server

SECONDS_MAX: Final = 1.0
WAIT_SECONDS: Final = 30.0
GROWTH_BYTES_MAX: Final = 64 * 1024 * 1024
WARM_SHARE: Final = 10
"""Memory is compared with that after a tenth of the requests: by then every route was warm."""
LOOK_EVERY: Final = 200
IDS_MAX: Final = 200
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "FOO")
NOBODY: Final = "http://127.0.0.1:9"
HOST: Final = "127.0.0.1"
PROBE: Final = "/readyz"
"""It says 503 truthfully: nothing of the lifecycle runs here."""

Json = dict[str, Any]


class Operation(msgspec.Struct, frozen=True):
    """One operation of the document."""

    method: str
    path: str
    parameters: list[Json]
    contents: dict[str, Json]
    schemas: Json


class Bent(msgspec.Struct, frozen=True):
    """One request as the server gets it."""

    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    chunks: list[bytes]


class Report(msgspec.Struct):
    """What came of all."""

    requests: int = 0
    statuses: Counter[int] = msgspec.field(default_factory=Counter)
    operations: Counter[str] = msgspec.field(default_factory=Counter)
    slowest_seconds: float = 0.0
    findings: list[str] = []
    warm_bytes: int = 0
    grown_bytes: int = 0


def operations(document: Json) -> list[Operation]:
    """Every operation of the document, with what it refers to."""
    found = []
    shared = document["components"]
    for path, item in document["paths"].items():
        common = item.get("parameters", [])
        for method, one in item.items():
            if method == "parameters":
                continue
            parameters = [_meant(shared, each) for each in [*common, *one.get("parameters", [])]]
            contents = one.get("requestBody", {}).get("content", {})
            schemas = shared["schemas"]
            found.append(Operation(method.upper(), path, parameters, contents, schemas))
    return found


def _meant(shared: Json, value: Json) -> Json:
    reference = value.get("$ref")
    if reference is None:
        return value
    *_, kind, name = reference.split("/")
    meant: Json = shared[kind][name]
    return meant


class Fuzzer:
    """Draws requests, sends them, and judges the answers."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._seed = seed
        self._server: Server | None = None
        self._lives = 0
        self._reached: dict[str, int] = {}
        """What each plain list answers to whoever owns the server, when it is new."""
        self._key = ""
        self._keys: set[str] = set()
        self._operations: list[Operation] = []
        self._ids: list[str] = []
        self.report = Report()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the server, and close it with the block."""
        try:
            await self._open()
            yield
        finally:
            await self._close()

    async def _open(self) -> None:
        """Begin with an empty server, and a key that owns it."""
        self._lives += 1
        values = {
            "data_dir": str(self._folder / f"data-{self._lives}"),
            "vertex": emulator_values(NOBODY),
            "disk_free_bytes_min": 0,
        }
        self._server = Server(build(values))
        self._key = await self._server.first_key() or ""
        self._keys = {self._key}
        self._ids = []
        answer = await self._send(Bent("GET", "/openapi.json", b"", self._good(), []))
        self._operations = operations(json.loads(answer[1]))
        self._reached = await self._reach()

    async def _close(self) -> None:
        if self._server is not None:
            await self._server.close()
            self._server = None

    async def play(self, count: int) -> Report:
        """Send so many requests."""
        for number in range(count):
            await self.one(number)
            if number % LOOK_EVERY == 0:
                await self._look()
            if number == count // WARM_SHARE:
                self.report.warm_bytes = resident_bytes()
        self.report.grown_bytes = resident_bytes() - self.report.warm_bytes
        if self.report.grown_bytes > GROWTH_BYTES_MAX:
            self.report.findings.append(f"memory grew by {self.report.grown_bytes} bytes")
        return self.report

    async def one(self, number: int) -> None:
        """Draw, send and judge one request."""
        rng = random.Random(f"{self._seed}:{number}")  # noqa: S311  # seeded on purpose
        operation = rng.choice(self._operations)
        bent = self._drawn(rng, operation)
        report = self.report
        begun = time.perf_counter()
        try:
            status, body = await asyncio.wait_for(self._send(bent), WAIT_SECONDS)
        except Exception as error:  # noqa: BLE001  # whatever gets out of the application is a finding
            report.findings.append(f"#{number} {error!r}: {bent}"[:2_000])
            return
        seconds = time.perf_counter() - begun
        report.requests += 1
        report.statuses[status] += 1
        report.operations[f"{operation.method} {operation.path}"] += 1
        report.slowest_seconds = max(report.slowest_seconds, seconds)
        wrong = self._judged(bent, status, body)
        if seconds > SECONDS_MAX:
            wrong = f"took {seconds:.1f} s"
        if wrong:
            report.findings.append(f"#{number} {wrong}: {bent}"[:2_000])
        if status < 300:
            self._learn(body)

    def _judged(self, bent: Bent, status: int, body: bytes) -> str:
        """Return what is wrong with an answer; nothing, mostly."""
        if status >= 500 and not (status == 503 and bent.path == PROBE):
            return f"{status} {body[:300]!r}"
        if b"Traceback (most recent" in body:
            return "a traceback is told"
        if any(key.encode() in body for key in self._keys):
            return "a key is told"
        if status >= 400 and body and bent.method != "HEAD":
            told = json.loads(body) if body.startswith(b"{") else {}
            if bent.path != PROBE and not told.get("code"):
                return f"{status} without a code {body[:300]!r}"
        return ""

    # -- drawing -------------------------------------------------------------------------------

    def _drawn(self, rng: random.Random, operation: Operation) -> Bent:
        method = operation.method if rng.random() < 0.9 else rng.choice(METHODS)
        path = self._path(rng, operation)
        headers, query = self._fields(rng, operation)
        body = b""
        if operation.contents and rng.random() < 0.95:
            kind, body = self._body(rng, operation)
            headers.append((b"content-type", kind))
        elif rng.random() < 0.1:
            body = bent_bytes(rng, b'{"a": 1}')
        chunks = list(_pieces(rng, body))
        if rng.random() < 0.8:
            headers.append((b"content-length", str(len(body)).encode()))
        elif chunks:
            headers.append((b"transfer-encoding", b"chunked"))
        return Bent(method, path, query, headers, chunks)

    def _path(self, rng: random.Random, operation: Operation) -> str:
        path = operation.path
        for parameter in operation.parameters:
            if parameter["in"] == "path":
                known = self._ids and rng.random() < 0.6
                value = rng.choice(self._ids) if known else rng.choice(HOSTILE)
                path = path.replace(
                    "{" + parameter["name"] + "}", quote(value, "", errors="surrogatepass")
                )
        if rng.random() < 0.03:
            path = "/" + _on_the_wire(bent_bytes(rng, path.encode())).replace("?", "")
        return path

    def _fields(
        self, rng: random.Random, operation: Operation
    ) -> tuple[list[tuple[bytes, bytes]], bytes]:
        headers = self._credentials(rng)
        query: list[tuple[str, str]] = []
        for parameter in operation.parameters:
            # Most fields of the head end a request early: whose it is, what it depends on.
            often = 0.1 if parameter["in"] == "header" else 0.3
            if parameter["in"] == "path" or rng.random() > (parameter.get("required") or often):
                continue
            value = drawn(rng, parameter.get("schema", {}), operation.schemas)
            text = value if isinstance(value, str) else json.dumps(value)
            if rng.random() < 0.3:
                text = rng.choice(HOSTILE) if not self._ids else rng.choice([*HOSTILE, *self._ids])
            if parameter["in"] == "query":
                query.append((parameter["name"], text))
            else:
                name = parameter["name"].lower().encode("latin-1")
                headers.append((name, _field_value(text)))
        unknown = range(rng.choice((0, 0, 0, 0, 1, 3)))
        query += [(rng.choice(HOSTILE)[:50], rng.choice(HOSTILE)) for _ in unknown]
        raw = urlencode(query, errors="surrogatepass").encode()
        if rng.random() < 0.1:
            raw = bent_bytes(rng, raw)
        return headers, _on_the_wire(raw).encode()

    def _credentials(self, rng: random.Random) -> list[tuple[bytes, bytes]]:
        headers = self._good()
        chance = rng.random()
        if chance < 0.1:
            return headers[:1]
        if chance < 0.2:
            return [headers[0], (b"authorization", bent_bytes(rng, headers[1][1])[:4_000])]
        return headers

    def _body(self, rng: random.Random, operation: Operation) -> tuple[bytes, bytes]:
        kind = rng.choice(list(operation.contents))
        content = operation.contents[kind]
        value = content.get("example")
        if value is None or rng.random() < 0.3:
            value = drawn(rng, content.get("schema", {}), operation.schemas)
        if rng.random() < 0.5:
            value = bent_json(rng, value)
        body = _encoded(kind, value)
        if rng.random() < 0.3:
            body = bent_bytes(rng, body)
        shown = kind if kind != "multipart/form-data" else f"{kind}; boundary=cut"
        return shown.encode(), body

    # -- the server ----------------------------------------------------------------------------

    def _good(self) -> list[tuple[bytes, bytes]]:
        return [(b"host", HOST.encode()), (b"authorization", b"Bearer " + self._key.encode())]

    async def _look(self) -> None:
        """Begin anew if the key opens less than it did: nothing more would be reached with it."""
        if await self._reach() != self._reached:
            await self._close()
            await self._open()

    async def _reach(self) -> dict[str, int]:
        paths = [
            one.path for one in self._operations if one.method == "GET" and "{" not in one.path
        ]
        answers = [await self._send(Bent("GET", path, b"", self._good(), [])) for path in paths]
        return {path: status for path, (status, _) in zip(paths, answers, strict=True)}

    def _learn(self, body: bytes) -> None:
        """Keep the ids of an answer, so that later requests meet what is there."""
        try:
            told = json.loads(body)
        except ValueError:
            return
        for value in _texts(told):
            if value not in self._ids:
                self._ids.append(value)
        del self._ids[:-IDS_MAX]

    async def _send(self, bent: Bent) -> tuple[int, bytes]:
        if self._server is None:
            raise RuntimeError("the server does not run")
        chunks = list(bent.chunks) or [b""]
        said: list[Message] = []

        async def receive() -> Message:
            if not chunks:
                return {"type": "http.disconnect"}
            body = chunks.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(chunks)}

        async def send(message: Message) -> None:
            said.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": bent.method,
            # As the protocol reads it; `_path` wrote it as it stands on the wire.
            "path": unquote(bent.path),
            "raw_path": bent.path.encode("latin-1", "replace"),
            "query_string": bent.query,
            "root_path": "",
            "scheme": "http",
            "headers": bent.headers,
            "client": ("127.0.0.1", 1),
            "server": (HOST, 2),
            "state": {},
        }
        await self._server.app(scope, receive, send)
        return said[0]["status"], b"".join(each.get("body", b"") for each in said[1:])


def resident_bytes() -> int:
    """What this process holds in memory now."""
    status = Path("/proc/self/statm").read_text("ascii")
    return int(status.split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _texts(value: Any) -> Iterator[str]:  # noqa: ANN401  # JSON
    if isinstance(value, dict):
        for name, member in value.items():
            if isinstance(member, str) and (name == "id" or name.endswith("_id")):
                yield member
            yield from _texts(member)
    elif isinstance(value, list):
        for member in value:
            yield from _texts(member)


def _on_the_wire(raw: bytes) -> str:
    """Return a part of a target as the protocol lets it through: visible ASCII, no fragment."""
    kept = range(33, 127)
    return "".join(chr(one) if one in kept and one != 35 else f"%{one:02X}" for one in raw)


def _field_value(text: str) -> bytes:
    """Return what a field can hold: the protocol refuses anything else before the application."""
    raw = text.encode("utf-8", "surrogatepass")[:2_000]
    return bytes(byte for byte in raw if byte >= 32 and byte != 127).strip()


def _encoded(kind: str, value: Any) -> bytes:  # noqa: ANN401  # JSON
    if kind == "multipart/form-data" and isinstance(value, dict):
        return b"".join(_part(name, text) for name, text in value.items()) + b"--cut--\r\n"
    if isinstance(value, str) and "json" not in kind.removeprefix("application/jsonl"):
        return value.encode("utf-8", "surrogatepass")
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _part(name: str, value: Any) -> bytes:  # noqa: ANN401  # JSON
    text = value if isinstance(value, str) else json.dumps(value)
    file = '; filename="x.jsonl"' if name == "file" else ""
    head = f'--cut\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return (head + text + "\r\n").encode("utf-8", "surrogatepass")


def _pieces(rng: random.Random, body: bytes) -> Sequence[bytes]:
    if not body or rng.random() < 0.7:
        return [body] if body else []
    cuts = sorted(rng.randrange(len(body) + 1) for _ in range(rng.randrange(1, 4)))
    return [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
